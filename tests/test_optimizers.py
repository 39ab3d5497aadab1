"""Every optimizer: learns on every mesh, resumes exactly, and owns what it should; averages are what they say."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import random_batch

from aurljax import averaging, checkpoint, config, losses, muon, optim, params, sections, state, step
from aurljax import mesh as meshes
from aurljax.errors import UserError
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.models.family import Aux
from aurljax.models.layers import linear, norm
from aurljax.params import Param

VOCAB = 24
TINY = DecoderConfig(vocab=VOCAB, d_model=16, layers=1, heads=2, kv_heads=2, d_ff=32)


def spec(c: DecoderConfig):
    """A bigram with one block, which compiles at once."""
    embed, inside = ("vocab", "embed"), {"up": ("embed", "mlp"), "down": ("mlp", "embed")}
    block = {name: Param((16, 16), axes, scale=0.25) for name, axes in inside.items()}
    return {"table": Param((VOCAB, 16), embed), "block": block, "norm": Param((16,), (None,), "ones")}


def loss(c: DecoderConfig, w, batch, key, step=None):
    h = meshes.take(w["table"], batch.tokens)
    x = jax.nn.silu(linear(h, w["block"]["up"], ("batch", None, "mlp"), "float32"))
    h = norm(h + linear(x, w["block"]["down"], ("batch", None, None), "float32"), w["norm"])
    nats, correct = losses.cross_entropy(linear(h, w["table"].T, ("batch", None, "vocab"), "float32"), batch.targets)
    sums = (jnp.sum(x * batch.weights) for x in (nats, correct, jnp.ones_like(nats)))
    return (metrics := dict(zip(("loss", "accuracy", "weight"), sums, strict=True)))["loss"], Aux(metrics)


SMALL = dataclasses.replace(
    DECODER, spec=spec, loss=loss, labels=lambda c: jax.tree.map(lambda _: "main", spec(c), is_leaf=params.is_param)
)


@functools.lru_cache
def parts(family=SMALL, **values) -> config.Parts:
    fixed = {"warmup": 2, "learning_rate": 0.01, "schedule": "constant"}
    tree = {"optim": fixed | values, "run": {"steps": 110}, "data": {"length": 16, "batch": 8}}
    return config.Parts(config.from_dict(tree), None, family, TINY)


@functools.lru_cache
def train_step(p: config.Parts):
    return step.train_step(p)


def run(p: config.Parts, now: state.State, count: int):
    """`count` steps on one batch -> state, losses."""
    losses = []
    for _ in range(count):
        now, metrics = train_step(p)(now, meshes.place(random_batch(0, VOCAB, rows=8)))
        losses.append(float(metrics["loss"]))
    return now, losses


SLOW = [pytest.param(name, DECODER, marks=pytest.mark.slow, id=f"{name}-decoder") for name in sections.OPTIMIZERS]


@pytest.mark.parametrize(
    ("optimizer", "family"), [pytest.param(name, SMALL, id=name) for name in sections.OPTIMIZERS] + SLOW
)
def test_learns_on_every_mesh_and_resumes_exactly(optimizer, family, tmp_path):
    """A checkpoint goes on to the same bits on its own mesh; on another sums differ in order alone."""
    p, found = parts(family, optimizer=optimizer), []
    for shape in ((1, 1), (4, 2)):
        with meshes.use(meshes.make(*shape)):
            begun = checkpoint.load_state(tmp_path / "1", state.abstract(p)) if found else state.new(p)
            now, losses = run(p, begun, 0 if found else 3)
            with checkpoint.Checkpoints(tmp_path / str(shape[0]), 1, {}) as saver:
                saver.save(now, 3)
            now, rest = run(p, now, 4)
            again, same = run(p, checkpoint.load_state(tmp_path / str(shape[0]), state.abstract(p)), 4)
            assert rest == same
            for a, b in zip(jax.tree.leaves(now.weights), jax.tree.leaves(again.weights), strict=True):
                np.testing.assert_array_equal(a, b)
        found.append(rest)
        assert rest[-1] < 0.95 * (losses or found[0])[0]
    np.testing.assert_allclose(*found, rtol=1e-3 if optimizer == "lion" else 1e-4)  # lion takes signs


@pytest.mark.parametrize("scan", [True, False])
def test_muon_owns_every_matrix_of_the_blocks_and_nothing_else(scan):
    c = DecoderConfig(vocab=VOCAB, d_model=16, layers=2, heads=4, kv_heads=2, d_ff=32, scan=scan, tie_embeddings=False,
                      features=(("beat", 4),), pitch_ids=(0, 8), pitch_features=("beat",), interval_head=True)  # fmt: skip
    spec = DECODER.spec(c)
    owned = muon.owned(spec)
    inside = jax.tree.map(lambda _: True, spec["body"]["layers"], is_leaf=params.is_param)
    for tree in [inside] if scan else inside.values():
        tree["attention"]["norm"] = tree["mlp"]["norm"] = False
    rest = {k: v for k, v in owned.items() if k != "body"}
    assert owned["body"] == {"layers": inside, "norm": False} and not any(jax.tree.leaves(rest))
    assert len(rest) == 3  # embeddings, the head, that of intervals
    leaves = zip(jax.tree.leaves(spec, is_leaf=params.is_param), jax.tree.leaves(owned), strict=True)
    of_muon = [p for p, yes in leaves if yes]
    matrices = sum(int(np.prod(p.shape)) // int(np.prod([p.shape[i] for i in muon.matrix(p)])) for p in of_muon)
    assert matrices == 2 * (4 + 2 * 2 + 4 + 2 + 1)  # a layer: queries, keys and values, outputs, gate and up, down


def test_muon_orthogonalises_each_matrix_for_itself():
    """Singular values of each update are about one (0.5..1.5 by Newton and Schulz), whatever the gradients' sizes."""
    spec = {"up": params.Param((3, 16, 2, 24), ("layers", "embed", None, "mlp")), "bias": params.Param((4,), (None,))}
    labels = dict.fromkeys(spec, "main")
    o = parts(optimizer="muon", weight_decay=0.0, clip=0.0, warmup=0, learning_rate=1.0).config.optim
    rng = np.random.default_rng(0)
    grads = {name: rng.normal(size=p.shape).astype("f") for name, p in spec.items()}
    grads["up"] *= np.array([1e-3, 1, 50], np.float32)[:, None, None, None]
    with meshes.use(meshes.make(4, 2)):
        weights = jax.jit(lambda key: params.init(spec, key))(jax.random.key(0))
        grads = {k: jax.device_put(g, weights[k].sharding) for k, g in grads.items()}
        tx = optim.make(o, 8, spec, labels)
        updates = jax.jit(lambda g, w: tx.update(g, tx.init(w), w)[0])(grads, weights)
    sizes = np.linalg.svd(np.moveaxis(np.asarray(updates["up"]), 2, 1), compute_uv=False)
    assert sizes.shape == (3, 2, 16)
    assert (sizes > 0.3 * muon.RMS * 24**0.5).all() and (sizes < 1.6 * muon.RMS * 24**0.5).all()
    np.testing.assert_allclose(np.abs(updates["bias"]), 1, rtol=1e-3)  # AdamW's first step


def test_schedule_free_generates_with_the_average_of_its_steps():
    """At a constant rate x is the mean of all z."""
    p = parts(optimizer="schedule_free", warmup=0, learning_rate=0.01)
    with meshes.use(meshes.make()):
        now, places = state.new(p), []
        for _ in range(4):
            now, _ = run(p, now, 1)
            ((_, z),) = optax.tree.get_all_with_path(now.opt_state, "z")
            places.append(np.asarray(z["table"]))
            np.testing.assert_allclose(now.weights["table"], np.mean(places, 0), atol=1e-5)
            assert not np.allclose(now.params["table"], now.weights["table"]) or len(places) == 1


def test_the_last_updates_are_averaged_equally():
    """Of 8 updates the last half, 4..7, each as much; before those the newest alone."""
    o, average = parts(swa=0.5).config.optim, {"w": jnp.float32(99)}
    for i in range(8):
        average = averaging.update(o, 8, average, {"w": jnp.float32(i**2)}, (), jnp.int32(i))
        assert float(average["w"]) == pytest.approx(np.mean([k**2 for k in range(4, i + 1)]) if i >= 4 else i**2)
    assert averaging.kept(o) and not averaging.kept(parts().config.optim)


@pytest.mark.parametrize("shape", [(1, 1), (4, 2)])
def test_clipping_by_unit_bounds_each_beside_its_weight(shape):
    spec = {"up": params.Param((16, 2, 8), ("embed", None, "mlp")), "norm": params.Param((16,), (None,), "zeros")}
    with meshes.use(meshes.make(*shape)):
        w = jax.jit(lambda key: params.init(spec, key))(jax.random.key(0))
        g = jax.jit(lambda w: jax.tree.map(lambda x: 0.1 * jnp.ones_like(x), w))(w)
        tx = optim.clip_by_unit(0.05, spec)
        clipped, _ = jax.jit(lambda g, w: tx.update(g, tx.init(w), w))(g, w)
    norms, most = (np.linalg.norm(np.asarray(x["up"]), axis=0) for x in (clipped, w))
    np.testing.assert_allclose(norms, np.minimum(0.4, 0.05 * most), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(clipped["norm"]), 0.05 * 1e-3, rtol=1e-5)


def test_new_schedules_are_what_they_say():
    rate = optim.schedule(parts(schedule="wsd", warmup=10, learning_rate=2.0, fall=0.5).config.optim, 110)
    assert [float(rate(n)) for n in (4, 10, 60, 85, 110)] == pytest.approx([1, 2, 2, 1.1, 0.2])
    rate = optim.schedule(parts(schedule="cyclical", warmup=10, learning_rate=2.0, cycles=4).config.optim, 110)
    assert [float(rate(n)) for n in (10, 35, 60, 85)] == pytest.approx([2] * 4)
    assert float(rate(22.5)) == pytest.approx(1.1) and float(rate(110)) == pytest.approx(0.2)
    assert float(rate(59.99)) == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ema": 0.9, "swa": 0.5}, "optim.ema and optim.swa each keep an average"),
        ({"optimizer": "schedule_free", "schedule": "cosine"}, "set optim.schedule=constant"),
        ({"optimizer": "schedule_free", "b1": 0.0}, "optim.b1=0 must be above 0"),
        ({"fall": 0.0}, "optim.fall=0.0 must be above 0"),
        ({"cycles": 0}, "optim.cycles=0 must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(values, words):
    with pytest.raises(UserError, match=words):
        parts(**values)
