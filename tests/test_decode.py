"""Decoding: the cached loop draws what the plain forward pass would, and never an illegal id."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scores import random_score

from aurljax import mesh as meshes
from aurljax import params
from aurljax.decode import groups, loop
from aurljax.decode.sampler import Sampler, sample, uniforms
from aurljax.errors import UserError
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.models.family import Inputs
from aurljax.music.codec import make

CODEC = make("score", microtiming=True)
FULL = make("score", microtiming=True, pedal=True, keys=True, chords=True, infill=True, controls=(("mood", 5),))


def config(codec):
    return DecoderConfig(vocab=len(codec.vocabulary), features=tuple(codec.feature_sizes.items()), d_model=32, layers=2,
                         heads=4, kv_heads=2, d_ff=64)  # fmt: skip


CONFIG = config(CODEC)
START = np.array([CODEC.vocabulary.id("start")], np.int32)


def weights(seed=0, codec=CODEC):
    return params.init(DECODER.spec(config(codec)), jax.random.key(seed))


def keys(rows, seed=1):
    return jnp.stack([jax.random.fold_in(jax.random.key(seed), i) for i in rows])


def plan(most, codec=CODEC, **sampler):
    return loop.Plan(DECODER, config(codec), codec, Sampler(**sampler), most, segments=3)


PLAN = plan(64, temperature=1.3, top_p=0.97)  # two segments of the cache; one plan, so that it is compiled once


def generate(p, prompts, rows, bars=None, seconds=None, w=None):
    ids, start = loop.left_padded(prompts)
    limits = loop.limits(len(prompts), bars, seconds, False)
    return np.asarray(loop.generate(p, weights() if w is None else w, ids, start, keys(rows), *limits))


def prompt(seed, bars=2):
    score = random_score(seed, 40)
    return CODEC.encode(score, (0, bars)) if CODEC.bars(score) > bars else CODEC.encode(score)[:-1]


def teacher(p, prompts, new, rows):
    """What the sampler draws from the plain forward pass over prompt and new ids, and how near each draw was to another."""
    same, total = 0, 0
    forward = jax.jit(lambda w, inputs: DECODER.apply(p.config, w, inputs)[0])
    width = max(len(b) for b in prompts) + new.shape[1]
    for row, begin, ids in zip(rows, prompts, new, strict=True):
        count = int((ids > 0).sum())
        whole = np.concatenate([begin, ids[:count]])
        padded = np.pad(whole, (0, width - len(whole)))
        features = {k: v[None] for k, v in CODEC.features(padded).items()}
        logits = forward(weights(), meshes.place(Inputs(padded[None], np.arange(width)[None], features)))
        logits = meshes.gather(logits, (None, None, None))
        state = CODEC.grammar.init(1)
        for token in begin:
            state = CODEC.grammar.advance(state, np.array([token]))
        state["left"] = np.array([p.most], np.int32)
        random = np.asarray(uniforms(keys([row]), jnp.arange(p.most)))
        for i in range(count):
            legal = CODEC.grammar.allowed(state)
            row_logits = logits[:, len(begin) - 1 + i]
            near = [int(sample(p.sampler, row_logits, jnp.asarray(legal), jnp.asarray(u))[0])
                    for u in (random[i], np.clip(random[i] - 1e-3, 0, 1), np.clip(random[i] + 1e-3, 0, 1))]  # fmt: skip
            assert ids[i] in near
            same, total = same + (ids[i] == near[0]), total + 1
            state = CODEC.grammar.advance(state, ids[i : i + 1])
    assert same >= 0.98 * total > 0


RING = replace(PLAN, config=replace(CONFIG, window=12), segments=1)  # 16 slots, fewer than the prompts are long
PROMPTS = [prompt(seed) for seed in (3, 5, 8, 11)]  # ragged


@pytest.fixture(scope="module", params=[PLAN, RING], ids=["full", "ring"])
def drawn(request):
    with meshes.use(meshes.make()):
        return request.param, generate(request.param, PROMPTS, range(4))


def test_cached_draws_are_those_of_the_forward_pass(drawn):
    assert len({len(p) for p in PROMPTS}) == 4 and min(map(len, PROMPTS)) > 16
    with meshes.use(meshes.make()):
        teacher(drawn[0], PROMPTS, drawn[1], range(4))


def test_a_row_is_the_same_alone_and_unpadded(drawn):
    plan, rows = drawn
    for row in (0, 2) if plan is PLAN else (2,):
        with meshes.use(meshes.make()):
            ids, start = np.asarray(PROMPTS[row])[None], np.zeros(1, np.int32)
            limits = loop.limits(1, None, None, False)
            alone = loop.generate(plan, weights(), ids, start, keys([row]), *limits)
            assert np.array_equal(alone[0], rows[row])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_groups_of_rows_draw_the_same(drawn, count, monkeypatch):
    monkeypatch.setattr(groups, "count", lambda batch: count)
    plan, rows = drawn
    with meshes.use(meshes.make()):
        assert np.array_equal(rows, generate(plan, PROMPTS, range(4)))


@pytest.mark.parametrize(
    ("cores", "batch", "count"), [(1, 64, 1), (2, 7, 1), (2, 8, 2), (2, 9, 1), (4, 8, 2), (4, 18, 3), (64, 64, 16)]
)
def test_each_group_has_a_core(cores, batch, count, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    with meshes.use(meshes.make()):
        assert groups.count(batch) == count
    with meshes.use(meshes.make(2, 1)):
        assert groups.count(batch) == 1


def test_a_mesh_draws_the_same(drawn):
    with meshes.use(meshes.make(4, 2)):
        assert np.array_equal(drawn[1], generate(drawn[0], PROMPTS, range(4)))


def legality(rows, batch, most, codec=CODEC):
    full = 0
    with meshes.use(meshes.make()):
        for seed in range(rows // batch):
            w = weights(seed, codec)
            for row in generate(
                plan(most, codec, temperature=2.0), [START] * batch, range(seed * batch, (seed + 1) * batch), w=w
            ):
                count = int((row > 0).sum())
                ids = np.concatenate([START, row[:count]])
                full += count == most
                assert ids[-1] == codec.vocabulary.id("end")
                score = codec.decode(ids)
                score.check()
                if holes := codec.holes(ids):  # an answer may sound on into a note of the piece: it ends there
                    assert codec.decode(codec.encode(score, holes=holes)) == score
                else:
                    assert np.array_equal(codec.encode(score), ids)
    return full


def test_random_weights_write_legal_music():
    assert legality(1000, 250, 64) >= 100


def test_random_weights_write_legal_music_with_all_there_is():
    assert legality(250, 250, 96, FULL) >= 25


@pytest.mark.slow
def test_ten_thousand_random_weight_samples():
    assert legality(10_000, 500, 96) >= 1000
    assert legality(10_000, 500, 96, FULL) >= 1000


def test_bars_and_seconds():
    with meshes.use(meshes.make()):
        for bars in (1, 3):
            for row in generate(plan(128), [START] * 16, range(16), bars=bars):
                score = CODEC.decode(np.concatenate([START, np.trim_zeros(row, "b")]))
                assert CODEC.bars(score) <= bars
        lengths = []
        for row in generate(plan(128), [START] * 16, range(16), seconds=4.0):
            ids = np.concatenate([START, np.trim_zeros(row, "b")])
            score, layout = CODEC.decode(ids), CODEC.layout(CODEC.decode(ids))
            lengths.append(score.seconds(layout.lines[-2] * 20))  # where the last bar begins
        assert max(lengths) < 4.0 + 1e-3


def test_samplers_keep_what_they_say():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40, 70)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.sort(p, 1)[:, ::-1]
    keep = {
        Sampler(): p > 0,
        Sampler(top_k=5): p >= order[:, 4:5],
        Sampler(min_p=0.1): p >= 0.1 * order[:, :1],
        Sampler(top_p=0.5): p >= np.take_along_axis(order, (np.cumsum(order, 1) < 0.5).sum(1)[:, None], 1),
    }
    u = jnp.linspace(0, 0.999999, 40)
    for sampler, allowed in keep.items():
        draw = jax.jit(jax.vmap(lambda v, sampler=sampler: sample(sampler, jnp.asarray(logits), None, v)))
        drawn = np.asarray(draw(jnp.stack([jnp.roll(u, i) for i in range(40)])))
        assert np.take_along_axis(allowed, drawn.T, 1).all(), sampler
        weight = np.where(allowed, p, 0)
        uniform = np.asarray([np.roll(u, i) for i in range(40)]).T
        cumulative = np.cumsum(weight / weight.sum(1, keepdims=True), 1)
        want = (cumulative[:, None] <= uniform[:, :, None]).sum(-1)
        assert (want == drawn.T).mean() > 0.99  # but for ties within rounding
    assert np.array_equal(sample(Sampler(temperature=0), jnp.asarray(logits), None, u), logits.argmax(1))


def test_drawn_frequencies_are_the_probabilities():
    logits = jnp.asarray(np.random.default_rng(1).normal(0, 1.5, 30), jnp.float32)
    legal = jnp.arange(30) % 3 != 0
    u = jax.random.uniform(jax.random.key(0), (20_000,))
    drawn = sample(Sampler(temperature=0.7), jnp.broadcast_to(logits, (20_000, 30)), legal[None], u)
    p = np.where(legal, np.exp(logits / 0.7), 0)
    p /= p.sum()
    count = np.bincount(drawn, minlength=30)
    assert count[p == 0].sum() == 0
    chi = ((count - 20_000 * p)[p > 0] ** 2 / (20_000 * p[p > 0])).sum()
    assert chi < 45.3  # 19 degrees of freedom, p = .0006


@pytest.mark.parametrize("field", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"min_p": -0.1}, {"top_k": -1}])
def test_impossible_samplers_are_refused(field):
    with pytest.raises(UserError, match=next(iter(field))):
        Sampler(**field)
