"""The decoder: what it may see, that every way of computing it agrees, on every mesh."""

import functools
import re
import zlib
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aurljax import losses, params
from aurljax import mesh as meshes
from aurljax.errors import UserError
from aurljax.models import Inputs, decoder, family, intervals
from aurljax.models.cache import grow
from aurljax.models.heads import Turns, join, rotary, rotary_pitch, split_heads
from aurljax.models.transformer import unrolled

DECODER = family("decoder")
CONFIG = DECODER.config(
    vocab=37, features=(("beat", 5), ("bar", 7)), d_model=32, layers=2, heads=8, kv_heads=4, d_ff=48
)
PITCHED = replace(CONFIG, features=(*CONFIG.features, ("last", 25), ("above", 25)), pitch_ids=(5, 24),
                  pitch_features=("last", "above"))  # fmt: skip
TIMED = replace(CONFIG, features=(*CONFIG.features, ("elapsed", 0)), rotary_time=0.5)
EVERY = replace(PITCHED, features=(*PITCHED.features, ("elapsed", 0)), d_model=64, window=10, rotary_pitch=0.5,
                rotary_time=0.25, rotary_values=True, interval_head=True)  # fmt: skip
ROWS, T = 8, 24


class Batch(NamedTuple):
    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    features: dict


def pack(lengths=(T,), seed=0, rows=ROWS):
    """Rows of random pieces of these lengths, one after another, padded to T."""
    rng = np.random.default_rng(seed)
    segments = np.concatenate([np.full(n, i + 1) for i, n in enumerate(lengths)] + [np.zeros(T - sum(lengths), int)])
    positions = np.concatenate([np.arange(n) for n in (*lengths, T - sum(lengths))])
    ids = rng.integers(1, 37, (rows, T + 1))

    def tile(x, dtype=np.int32):
        return np.tile(x.astype(dtype), (rows, 1))

    features = {name: rng.integers(0, size, (rows, T)).astype(np.int32) for name, size in PITCHED.features}
    features["elapsed"] = np.sort(rng.integers(0, 400, (rows, T)).astype(np.int32))
    return Batch(
        ids[:, :-1].astype(np.int32),
        ids[:, 1:].astype(np.int32),
        tile(segments > 0, np.float32),
        tile(segments),
        tile(positions),
        features,
    )


def create(config):
    """Weights drawn with numpy, by path and stacked alike: initialisation is tested elsewhere and slow to compile."""
    spec = DECODER.spec(replace(config, scan=False))
    params.check(spec)

    def draw(path, p):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        return np.ones(p.shape, "f") if p.init == "ones" else (p.scale * rng.normal(size=p.shape)).astype("f")

    weights = jax.tree_util.tree_map_with_path(draw, spec, is_leaf=params.is_param)
    if config.scan:
        layers = weights["body"]["layers"]
        weights["body"]["layers"] = jax.tree.map(
            lambda *w: np.stack(w), *(layers[str(i)] for i in range(config.layers))
        )
    return jax.tree.map(lambda w, x: jax.device_put(w, x.sharding), weights, params.abstract(DECODER.spec(config)))


@functools.partial(jax.jit, static_argnums=0)
def logits(config, weights, batch, cache=None, key=None):
    inputs = Inputs(batch.tokens, batch.positions, batch.features, batch.segments)
    return DECODER.apply(config, weights, inputs, cache=cache, key=key)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient(config, weights, batch, key=None):
    return jax.value_and_grad(lambda w: DECODER.loss(config, w, batch, key, 0), has_aux=True)(weights)


def forward(config, weights, batch):
    return np.asarray(logits(config, weights, meshes.place(batch))[0])


def on_one(config, batch, weights=None):
    with meshes.use(meshes.make()):
        return forward(config, create(config) if weights is None else weights, batch)


@pytest.fixture
def single():
    with meshes.use(meshes.make()) as m:
        yield m


def part(batch, rows=slice(None), slots=slice(None)):
    return jax.tree.map(lambda x: x[rows, slots], batch)


# ---- what it may see ------------------------------------------------------------------------------------------------


def test_no_output_before_a_changed_token_moves(single):
    weights, batch = create(CONFIG), pack()
    before = forward(CONFIG, weights, batch)
    for t in (0, 9, T - 1):
        for changed in (
            batch._replace(tokens=batch.tokens.copy()),
            batch._replace(features={**batch.features, "bar": batch.features["bar"].copy()}),
        ):
            leaf = changed.tokens if changed.features is batch.features else changed.features["bar"]
            leaf[:, t] = (leaf[:, t] + 1) % 7
            after = forward(CONFIG, weights, changed)
            np.testing.assert_array_equal(after[:, :t], before[:, :t])
            assert np.all(np.abs(after - before)[:, t:].max(-1) > 1e-6)


def test_a_window_hides_what_lies_before_it(single):
    """Of one layer, a changed token moves its own output and those of the window - 1 slots behind it, and no others; of
    two layers as many again."""
    batch = pack()
    for layers in (1, 2):
        config = replace(CONFIG, layers=layers, window=5)
        weights = create(config)
        changed = batch._replace(tokens=batch.tokens.copy())
        changed.tokens[:, 9] = (changed.tokens[:, 9] + 1) % 37
        moved = np.abs(forward(config, weights, changed) - forward(config, weights, batch)).max((0, 2)) > 0
        assert np.flatnonzero(moved).tolist() == list(range(9, 10 + 4 * layers))


def test_a_model_that_copies_its_input_has_a_high_loss(single):
    """Blocks that add nothing leave the tied embedding of the input: it names the input, which is never the target."""
    weights, batch = create(CONFIG), pack()
    for layer in weights["body"]["layers"].values():
        layer["attention"]["out"] *= 0
        layer["mlp"]["down"] *= 0
    for name, _ in CONFIG.features:
        weights["embed"][f"feature_{name}"] *= 0
    np.testing.assert_array_equal(forward(CONFIG, weights, batch).argmax(-1), batch.tokens)
    distinct = batch._replace(targets=(batch.tokens % 36) + 1)

    def nats(batch):
        (total, aux), _ = loss_and_gradient(CONFIG, weights, meshes.place(batch))
        return total / aux.metrics["weight"], aux.metrics["accuracy"]

    assert nats(distinct)[0] > np.log(37) and nats(distinct)[1] == 0
    assert nats(batch._replace(targets=batch.tokens))[0] < 1


def test_a_packed_row_is_its_pieces_alone(single):
    weights = create(CONFIG)
    lengths = (11, 11)
    batch = pack(lengths)
    packed, at = forward(CONFIG, weights, batch), 0
    for n in lengths:
        alone = part(batch, slots=slice(at, at + n))
        np.testing.assert_allclose(packed[:, at : at + n], forward(CONFIG, weights, alone), atol=1e-5)
        at += n
    merged = forward(CONFIG, weights, batch._replace(segments=np.ones_like(batch.segments)))
    assert np.abs(merged - packed)[:, 11:22].max() > 1e-3


def test_positions_are_relative_and_matter(single):
    weights, batch = create(CONFIG), pack()
    out = forward(CONFIG, weights, batch)
    moved = forward(CONFIG, weights, batch._replace(positions=batch.positions + 100))
    np.testing.assert_allclose(out, moved, atol=2e-5)
    assert np.abs(out - forward(CONFIG, weights, batch._replace(positions=batch.positions * 2))).max() > 1e-3


def test_a_row_in_a_batch_is_the_row_alone(single):
    weights, batch = create(CONFIG), pack()
    out = forward(CONFIG, weights, batch)
    for row in (0, ROWS - 1):
        np.testing.assert_allclose(out[row], forward(CONFIG, weights, part(batch, slice(row, row + 1)))[0], atol=1e-5)


# ---- every parameter and option does something ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, tie_embeddings=False), EVERY],
    ids=["tied", "untied", "pitched"],
)  # fmt: skip
def test_every_parameter_has_a_gradient(config, single):
    _, gradient = loss_and_gradient(config, create(config), meshes.place(pack()))
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(g).all() and np.abs(g).max() > 0, path


def test_a_single_key_head_is_one_repeated(single):
    """Four key heads of the same weights compute the same, and a gradient of one is the sum of theirs."""
    one, four = replace(CONFIG, kv_heads=1, heads=4), replace(CONFIG, kv_heads=4, heads=4)
    weights, batch = create(one), meshes.place(pack())

    def spread(tree):
        queries, key, value = np.split(tree["attention"]["qkv"], [4, 5], 2)  # [d, 1, ., w]
        parts = [queries.swapaxes(1, 2), *(np.repeat(x, 4, 1) for x in (key, value))]
        return tree | {"attention": tree["attention"] | {"qkv": np.concatenate(parts, 2)}}

    def gathered(tree):
        queries, key, value = np.split(tree["attention"]["qkv"], [1, 2], 2)
        parts = [queries.swapaxes(1, 2), *(x.sum(1, keepdims=True) for x in (key, value))]
        return np.concatenate(parts, 2)

    layers = {i: spread(jax.tree.map(np.asarray, w)) for i, w in weights["body"]["layers"].items()}
    repeated = jax.tree.map(jnp.asarray, weights | {"body": weights["body"] | {"layers": layers}})
    (loss, _), gradient = loss_and_gradient(one, weights, batch)
    (other, _), others = loss_and_gradient(four, repeated, batch)
    np.testing.assert_allclose(loss, other, rtol=1e-6)
    for i, w in gradient["body"]["layers"].items():
        expected = gathered(jax.tree.map(np.asarray, others["body"]["layers"][i]))
        np.testing.assert_allclose(w["attention"]["qkv"], expected, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        dict(rope_theta=100.0),
        dict(rope_period=4.0),
        dict(kv_heads=2),
        dict(heads=4),
        dict(tie_embeddings=False),
        dict(dtype="bfloat16"),
        dict(d_ff=64),
        dict(layers=2),
        dict(features=()),
        dict(window=8),
    ],
    ids=str,
)
def test_every_size_and_option_changes_the_output(change):
    small = replace(CONFIG, layers=1)
    base, other = on_one(small, pack()), on_one(replace(small, **change), pack())
    assert np.abs(base - other).max() > 1e-4


def test_dropout_needs_a_key_and_follows_it(single):
    config = replace(CONFIG, dropout=0.2)
    weights, batch = create(config), meshes.place(pack())
    plain, a, b, again = (
        np.asarray(logits(config, weights, batch, None, k)[0])
        for k in (None, jax.random.key(1), jax.random.key(2), jax.random.key(1))
    )
    np.testing.assert_array_equal(plain, forward(CONFIG, weights, pack()))
    np.testing.assert_array_equal(a, again)
    assert min(np.abs(a - b).max(), np.abs(a - plain).max()) > 1e-2
    scanned = replace(config, scan=True)
    np.testing.assert_allclose(a, logits(scanned, create(scanned), batch, None, jax.random.key(1))[0], atol=1e-5)


@pytest.mark.parametrize(
    "change", [dict(rotary_pitch=0.5), dict(rotary_pitch=0.5, rotary_values=True), dict(interval_head=True)], ids=str
)
def test_what_is_reckoned_in_intervals_is_the_same_in_every_key(change, single):
    """With what knows absolute pitches taken away, music a third higher has its probabilities a third higher."""
    config = replace(PITCHED, layers=1, heads=2, kv_heads=2, tie_embeddings=False, pitch_inputs=False, **change)
    first, count = config.pitch_ids
    weights, batch = create(config), pack()
    weights["head"] = weights["head"].at[:, first : first + count].set(weights["head"][:, first, None])

    def music(up, seed=0):
        rng = np.random.default_rng(seed)
        pitch, last, above = (rng.integers(0, count - 3, (ROWS, T)).astype(np.int32) for _ in range(3))
        none = rng.random((ROWS, T)) < 0.2
        features = {"last": last + up, "above": np.where(none, count, above + up).astype(np.int32)}
        return batch._replace(tokens=np.where(none, 3, first + pitch + up).astype(np.int32),
                              features=batch.features | features)  # fmt: skip

    low, high = (forward(config, weights, music(up)) for up in (0, 3))
    pitches = slice(first, first + count - 3)
    moved = slice(first + 3, first + count)
    np.testing.assert_allclose(low[..., pitches], high[..., moved], atol=2e-5)
    np.testing.assert_allclose(low[..., :first], high[..., :first], atol=2e-5)
    assert np.abs(low - forward(config, weights, music(0, seed=1))).max() > 1e-3


def test_what_time_turns_depends_on_differences_of_time_alone(single):
    """Half of the pairs turned by time: shifted in time all stays, stretched it does not."""
    weights, batch = create(TIMED), pack()

    def at(times):
        return forward(TIMED, weights, batch._replace(features=batch.features | {"elapsed": times.astype(np.int32)}))

    elapsed = batch.features["elapsed"]
    np.testing.assert_allclose(at(elapsed), at(elapsed + 5000), atol=5e-4)
    assert np.abs(at(elapsed) - at(elapsed * 2)).max() > 1e-2


def test_the_interval_head_scores_intervals():
    rng = np.random.default_rng(0)
    w, h = rng.normal(size=(6, 2, 2 * 20 + 1)).astype("f"), rng.normal(size=(2, 5, 6)).astype("f")
    base = rng.integers(-1, 24, (2, 5, 2))
    with meshes.use(meshes.make()):
        found = np.asarray(jax.jit(intervals.logits, static_argnums=(3, 4, 5, 6))(w, h, base, 5, 24, 37, "float32"))
    expected = np.zeros((2, 5, 37))
    for at in np.ndindex(2, 5):
        for kind, b in enumerate(base[at]):
            for p in range(max(0, b - 20), min(24, b + 21) * (b >= 0)):
                expected[at][5 + p] += h[at] @ w[:, kind, p - b + 20]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_written_by_hand_are_those_of_what_they_compute(single):
    rng = np.random.default_rng(0)
    x, start = rng.normal(size=(2, 5, 47)).astype("f"), rng.integers(0, 24, (2, 5))
    weigh = rng.normal(size=(2, 5, 24)).astype("f")
    plain = intervals._shifted.fun
    expected = jax.grad(lambda x: (plain(x, start, 24, 47) * weigh).sum())(x)
    np.testing.assert_allclose(jax.grad(lambda x: (intervals.shifted(x, start, 24) * weigh).sum())(x), expected)

    x, weigh = rng.normal(size=(2, 5, 3, 4, 8)).astype("f"), rng.normal(size=(4, 2, 5, 8)).astype("f")
    pitch = rng.integers(-1, 24, (3, 2, 5, 1))
    angles = tuple(
        join(rotary(np.tile(np.arange(5), (2, 1)), 4, 100.0), rotary_pitch(jnp.asarray(p), 2)) for p in pitch
    )

    def total(split):
        def of(x):
            q, k, v = split(x, Turns(*angles))
            return (q * weigh[0][:, None]).sum() + (k * weigh[1][:, None]).sum() + (v**2 * weigh[2][:, None]).sum()

        return jax.grad(of)(x)

    np.testing.assert_allclose(total(split_heads), total(split_heads.fun), atol=1e-5)


def test_what_is_left_out_in_training_is_left_out_whole(single):
    """Embeddings of ids and features, and the blocks of a row."""
    key, batch = jax.random.key(0), meshes.place(pack())
    config = replace(PITCHED, input_dropout=0.5)
    tables = {
        name: jnp.eye(size, 32) for name, size in [("tokens", 37)] + [(f"feature_{n}", s) for n, s in config.features]
    }
    inputs = Inputs(batch.tokens, batch.positions, batch.features, batch.segments)
    h = np.asarray(decoder._embedded(config, tables, inputs, key)) / 32**0.5
    assert set(np.unique(h.round(3))) <= set(range(0, 11, 2)) and 0.4 < (h.sum() / 2) / (5 * ROWS * T) < 0.6
    weights = create(CONFIG)
    plain = forward(CONFIG, weights, pack())
    out = np.asarray(logits(replace(CONFIG, layers=1, layer_dropout=0.6), weights, batch, None, key)[0])
    one = forward(replace(CONFIG, layers=1), weights, pack())
    bare = jax.tree.map(lambda x: x * 0, weights["body"]["layers"])
    none = forward(replace(CONFIG, layers=1), weights | {"body": weights["body"] | {"layers": bare}}, pack())
    kept = np.abs(out - none).max((1, 2)) > 1e-3
    assert 0 < kept.sum() < ROWS and np.abs(out - one).max() > 1e-3 and plain.shape == out.shape


# ---- ways of computing that must agree ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "shape"),
    [(dict(remat=True), (1, 1)), (dict(scan=True), (1, 1)), (dict(scan=True, remat=True), (4, 2))],
    ids=str,
)
def test_scan_and_remat_change_nothing(change, shape):
    """Loss and gradients from the same weights; the stacked gradient is the separate ones."""
    (loss, aux), gradient = alone()
    config = replace(CONFIG, **change)
    with meshes.use(meshes.make(*shape)):
        (other, _), g = loss_and_gradient(config, create(config), meshes.place(pack((10, 12))))
        g = {**g, "body": unrolled(config, g["body"])[1]}
    assert aux.metrics["weight"] == ROWS * 22
    np.testing.assert_allclose(loss, other, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max()), gradient, g)


@functools.cache
def alone(config=CONFIG):
    with meshes.use(meshes.make()):
        return jax.device_get(loss_and_gradient(config, create(config), meshes.place(pack((10, 12)))))


@pytest.mark.parametrize(
    "shape",
    [(4, 2), pytest.param((8, 1), marks=pytest.mark.slow), pytest.param((2, 4), marks=pytest.mark.slow)],
    ids=str,
)
def test_every_mesh_computes_the_same(shape):
    (loss, aux), gradient = alone(EVERY)
    with meshes.use(meshes.make(*shape)):
        weights = create(EVERY)
        (other, other_aux), g = loss_and_gradient(EVERY, weights, meshes.place(pack((10, 12))))
        assert jax.tree.map(jax.typeof, g) == jax.tree.map(jax.typeof, weights)
    np.testing.assert_allclose(loss, other, rtol=1e-5)
    np.testing.assert_allclose(*(x.metrics["accuracy"] for x in (aux, other_aux)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max()), gradient, g)


@pytest.mark.parametrize("model", [CONFIG, EVERY],
                         ids=["plain", "every"])  # fmt: skip
@pytest.mark.parametrize("rows", [1, ROWS])
def test_cached_decoding_is_the_full_forward(rows, model, mesh):
    """Left-padded prompts of uneven lengths, prefilled, then one token at a time through a cache that grows."""
    if rows == 1 and mesh.size > 1:
        pytest.skip("one row is not divided")
    config = replace(model, scan=True)
    trained = create(config)
    full = np.asarray(logits(config, trained, meshes.place(pack(rows=rows)))[0])
    config, weights = DECODER.prepare(config, trained)
    lengths = np.arange(rows) % 6 + 3
    prompt, batch = lengths.max(), pack(rows=rows)
    shift = prompt - lengths

    def padded(x):
        return np.stack([np.concatenate([np.zeros(s, x.dtype), row])[:T] for s, row in zip(shift, x, strict=True)])

    ragged = jax.tree.map(padded, batch)
    cache = DECODER.init_cache(config, rows, prompt + 4).replace(start=meshes.place(shift.astype(np.int32)))
    outs, at = [], 0
    for n in (prompt, *[1] * (T - prompt)):
        if at + n > cache.length:
            cache = jax.jit(grow, static_argnums=1)(cache, T)
        out, cache = logits(config, weights, meshes.place(part(ragged, slots=slice(at, at + n))), cache)
        outs.append(np.asarray(out))
        at += n
    cached = np.concatenate(outs, 1)
    for row, s in enumerate(shift):
        np.testing.assert_allclose(cached[row, s:], full[row, : T - s], atol=1e-4)


def test_bfloat16_products_have_bfloat16_operands_and_float32_sums(single):
    """Every product of the program, forward and backward; and the results come close to float32's."""
    config = replace(CONFIG, dtype="bfloat16")
    weights, batch = create(config), meshes.place(pack())
    text = loss_and_gradient.lower(config, weights, batch).as_text()
    types = re.findall(
        r"stablehlo\.dot_general.*: \(tensor<[\dx]*(\w+)>, tensor<[\dx]*(\w+)>\) -> tensor<[\dx]*(\w+)>", text
    )
    assert len(types) >= 3 * 7 and set(types) == {("bf16", "bf16", "f32")}
    (low, _), g_low = loss_and_gradient(config, weights, batch)
    (high, _), g_high = loss_and_gradient(CONFIG, weights, batch)
    np.testing.assert_allclose(low, high, rtol=2e-3)
    for a, b in zip(jax.tree.leaves(g_low), jax.tree.leaves(g_high), strict=True):
        assert a.dtype == jnp.float32 and np.linalg.norm(a - b) < 0.05 * np.linalg.norm(b)


def test_cross_entropy_is_minus_the_log_probability():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(5, 11)).astype("f"), rng.integers(0, 11, 5)

    def plain(x):
        return -jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], -1)[:, 0]

    nats, correct = losses.cross_entropy(x, t)
    np.testing.assert_allclose(nats, plain(x), rtol=1e-5)
    np.testing.assert_array_equal(correct, x.argmax(-1) == t)
    weigh = np.arange(5.0)
    np.testing.assert_allclose(
        jax.grad(lambda x: (losses.cross_entropy(x, t)[0] * weigh).sum())(x),
        jax.grad(lambda x: (plain(x) * weigh).sum())(x),
        atol=1e-6,
    )


# ---- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(kv_heads=3), "kv_heads = 3: must divide heads = 8"),
        (dict(d_model=40), "d_model = 40: must be a multiple of .* the nearest is 48|32"),
        (dict(dtype="float16"), "choose one of float32, bfloat16"),
        (dict(attention="flash"), "choose one of auto, xla, blocks, splash"),
        (dict(dropout=1.0), "dropout = 1.0"),
        (dict(rotary_values=True), "rotary_values: set rotary_pitch"),
        (dict(rope_period=1.0), "rope_period = 1.0"),
        (dict(layer_dropout=1.0), "layer_dropout = 1.0"),
        (dict(input_dropout=-0.1), "input_dropout = -0.1"),
        (dict(rotary_pitch=0.5), "rotary_pitch: this codec tells of no pitches"),
        (dict(interval_head=True), "interval_head: this codec tells of no pitches"),
        (dict(rotary_time=0.5), "rotary_time: this codec tells no musical time"),
        (dict(rotary_time=1.0), "rotary_time = 1.0"),
        (dict(rotary_time=0.5, rotary_pitch=0.5), "rotary_time \\+ rotary_pitch = 1: must be below 1"),
        (dict(layers=0), "layers = 0"),
        (dict(window=1), "window = 1: must be at least 2 slots, or 0 for all"),
        (dict(vocab=1), "vocab = 1"),
    ],
    ids=str,
)
def test_impossible_configs_are_refused_with_the_reason(change, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(CONFIG, **change)


def test_unknown_families_and_conditions_are_refused():
    with pytest.raises(UserError, match="did you mean 'decoder'"):
        family("decodr")
    with meshes.use(meshes.make()), pytest.raises(UserError, match="takes no condition"):
        DECODER.apply(CONFIG, {}, None, condition=1)


def test_a_mesh_that_does_not_divide_is_refused():
    with meshes.use(meshes.make(2, 4)), pytest.raises(UserError, match="heads = 2 cannot be cut into 4"):
        params.check(DECODER.spec(replace(CONFIG, kv_heads=2)))
    with meshes.use(meshes.make(4)), pytest.raises(UserError, match="rows.* = 3 .* nearest that works is 4"):
        DECODER.init_cache(CONFIG, 3, 8)
