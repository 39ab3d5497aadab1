"""The step: accumulation, meshes, guard, averaging, optimizer partition, weight decay, frozen weights."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import BIGRAM, BigramConfig, bigram, bigram_config, random_batch  # noqa: F401

from aurljax import config, optim, params, sections, state, step
from aurljax import mesh as meshes
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.params import is_param

VOCAB = 24


def parts(**sections) -> config.Parts:
    return config.Parts(bigram_config(**sections), None, BIGRAM, BigramConfig(VOCAB))


@functools.lru_cache
def compiled(p: config.Parts):
    """(key -> new state, training step), compiled once for all tests that use the same parts."""
    return jax.jit(lambda key: state.create(p, key)), step.train_step(p)


def new(p: config.Parts) -> state.State:
    return compiled(p)[0](jax.random.key(p.config.seed))


def run(p: config.Parts, batches, start=None):
    """(last state, metrics of each step as floats)."""
    train_step, now, log = compiled(p)[1], start or new(p), []
    for batch in batches:
        now, metrics = train_step(now, meshes.place(batch))
        log.append({k: float(v) for k, v in metrics.items()})
    return now, log


def on(*shape: int):
    return meshes.use(meshes.make(*shape))


def tree_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_accumulated_is_the_full_batch(mesh):
    """Parts of unequal weight, so that a mean of means would differ. Sums differ in order alone: 1e-6."""
    batches = [random_batch(i, VOCAB) for i in range(2)]
    (full, metrics), (cut, same) = (run(parts(optim={"accumulation": count}), batches) for count in (1, 4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), full.params, cut.params)
    for a, b in zip(metrics, same, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_loss_and_gradient_are_means_over_the_weight():
    """A batch beside a copy of itself is the same batch."""
    batch = random_batch(0, VOCAB)
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), batch)
    with on(1, 1):
        one, two = (run(parts(), [b])[1][0] for b in (batch, twice))
    assert two["weight"] == 2 * one["weight"] == 2 * batch.weights.sum()
    assert one | {"weight": 0} == pytest.approx(two | {"weight": 0}, rel=1e-5)


SHAPES = ((4, 2), (8, 1), (2, 4), (2, 2, 2), (1, 1, 8))  # data, model, replica
SLOW = [pytest.param(m, s, marks=pytest.mark.slow) for m in ("bigram", "decoder") for s in SHAPES]


@pytest.mark.parametrize(("model", "shape"), [("bigram", (2, 2, 2)), *SLOW])
def test_losses_agree_on_meshes(model, shape):
    """Reductions over devices differ in order alone: 1e-5."""
    decoder = DecoderConfig(vocab=VOCAB, d_model=32, layers=2, heads=4, kv_heads=4, d_ff=64)
    p = parts() if model == "bigram" else parts()._replace(family=DECODER, model=decoder)
    batches, losses = [random_batch(i, VOCAB) for i in range(4)], []
    for ways in ((1, 1), shape):
        with on(*ways):
            losses.append([m["loss"] for m in run(p, batches)[1]])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_repeating_pattern_is_learned():
    batch = random_batch(0, VOCAB)
    pattern = np.resize(np.random.default_rng(0).permutation(VOCAB), 17).astype(np.int32)
    batch = batch._replace(tokens=np.tile(pattern[:-1], (16, 1)), targets=np.tile(pattern[1:], (16, 1)))
    with on(1, 1):
        _, log = run(parts(optim={"learning_rate": 0.05}), [batch] * 30)
    assert log[-1]["loss"] < 0.3 * log[0]["loss"] and log[-1]["accuracy"] > log[0]["accuracy"]


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(mesh):
    p = parts(optim={"ema": 0.5})
    good = random_batch(0, VOCAB)
    bad = good._replace(weights=np.where(np.arange(16) == 3, np.nan, good.weights).astype(np.float32))
    before, _ = run(p, [good])
    kept = jax.tree.map(np.asarray, (before.params, before.opt_state, before.ema))
    after, log = run(p, [bad, bad], before)
    assert tree_equal(kept, (after.params, after.opt_state, after.ema))
    assert [m["skipped"] for m in log] == [1, 2] and [m["in_a_row"] for m in log] == [1, 2]
    assert int(after.step) == 3
    after, log = run(p, [good], after)
    assert (log[0]["skipped"], log[0]["in_a_row"]) == (2, 0) and not tree_equal(kept[0], after.params)
    schedule = optim.schedule(p.config.optim, p.config.run.steps)
    assert log[0]["learning_rate"] == pytest.approx(float(schedule(1)))  # two of four steps were updates


def test_a_run_compiles_one_step(mesh):
    traces = itertools.count()

    def counted(*args):
        next(traces)
        return BIGRAM.loss(*args)

    p = parts()._replace(family=type(BIGRAM)(**{**vars(BIGRAM), "loss": counted}))
    run(p, [random_batch(i, VOCAB) for i in range(4)])
    assert next(traces) == 1


def test_abstract_state_has_the_types_of_the_state(mesh):
    p = parts(optim={"ema": 0.5})
    made, after = new(p), run(p, [random_batch(0, VOCAB)])[0]
    abstract = state.abstract(p)
    for other in (made, after):
        assert jax.tree.structure(abstract) == jax.tree.structure(other)
        for a, b in zip(jax.tree.leaves(abstract), jax.tree.leaves(other), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert a.sharding is None or a.sharding.is_equivalent_to(jax.typeof(b).sharding, a.ndim)


def test_averages_follow_their_formula():
    p = parts(optim={"ema": 0.5})
    with on(1, 1):
        now, history = new(p), []
        expected = jax.tree.map(np.asarray, now.params)
        for i in range(12):
            now, _ = run(p, [random_batch(i, VOCAB)], now)
            kept = min(0.5, (1 + i) / (10 + i))
            expected = jax.tree.map(lambda a, b, k=kept: k * a + (1 - k) * np.asarray(b), expected, now.params)
            history.append(kept)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), now.ema, expected)
        assert history[0] == 0.1 and history[-1] == 0.5
        assert tree_equal(now.weights["head"], now.ema["head"])


def test_frozen_entries_stay_and_have_no_optimizer_state():
    p = parts(optim={"ema": 0.5})
    with on(1, 1):
        first = new(p)
        first = first.replace(**jax.tree.map(np.asarray, {"params": first.params, "frozen": first.frozen}))
        last, log = run(p, [random_batch(0, VOCAB)] * 3)
        assert set(last.frozen) == {"teacher"} and "teacher" not in last.params
        assert tree_equal(first.frozen, last.frozen) and not tree_equal(first.params, last.params)
        leaves = jax.tree_util.tree_leaves_with_path((last.opt_state, last.ema))
        assert not any("teacher" in jax.tree_util.keystr(path) for path, _ in leaves)
        other = new(p).replace(frozen=jax.tree.map(jnp.zeros_like, last.frozen))
        assert run(p, [random_batch(0, VOCAB)], other)[1][0]["loss"] != log[0]["loss"]


def test_each_label_has_an_optimizer_of_its_own():
    """With a gradient in one label alone, the weights of the other do not move, decay aside."""
    p = parts(optim={"weight_decay": 0.0, "warmup": 0})
    spec, labels, _ = state.split(p)
    with on(1, 1):
        weights = jax.tree.map(lambda p: jnp.ones(p.shape), spec, is_leaf=is_param)
        tx = state.optimizer(p)
        update = jax.jit(lambda grads: tx.update(grads, tx.init(weights), weights)[0])
        for label in ("main", "bias"):
            updates = update(jax.tree.map(lambda w, a, x=label: np.full(w.shape, float(a == x)), weights, labels))
            moved = jax.tree.map(lambda u: bool(np.any(np.asarray(u))), updates)
            assert moved == jax.tree.map(lambda a, x=label: a == x, labels)


@pytest.mark.parametrize("optimizer", sections.OPTIMIZERS)
def test_decay_shrinks_matrices_and_nothing_else(optimizer):
    p = parts(optim={"warmup": 0, "learning_rate": 0.5, "optimizer": optimizer, "schedule": "constant"})
    spec = {"layer": params.stacked({"w": params.Param((4, 4), (None, None)), "scale": params.Param((4,), (None,))}, 3)}
    labels = jax.tree.map(lambda _: "main", spec, is_leaf=is_param)
    with on(1, 1):
        weights = jax.tree.map(lambda s: np.ones(s.shape, np.float32), spec, is_leaf=is_param)
        tx = optim.make(p.config.optim, 10, spec, labels)
        updates, _ = jax.jit(lambda w: tx.update(jax.tree.map(jnp.zeros_like, w), tx.init(w), w))(weights)
    np.testing.assert_allclose(updates["layer"]["w"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["layer"]["scale"], 0)


def test_clipping_bounds_the_first_moment():
    with on(1, 1):
        for clip, norm in ((0.5, 0.5), (0.0, 100.0)):
            p = parts(optim={"clip": clip, "b1": 0.0, "weight_decay": 0.0})
            spec = {"w": params.Param((4,), (None,))}
            tx = optim.make(p.config.optim, 10, spec, {"w": "main"})
            weights, grads = {"w": np.zeros(4, np.float32)}, {"w": np.full(4, 50, np.float32)}
            _, after = jax.jit(lambda g, w, tx=tx: tx.update(g, tx.init(w), w))(grads, weights)
            moments = [x for x in jax.tree.leaves(after) if x.shape == (4,)]
            assert np.linalg.norm(moments[0]) == pytest.approx(norm)


@pytest.mark.parametrize(("name", "half"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1), ("plateau", 1)])
def test_the_schedule_rises_peaks_and_ends_where_it_says(name, half):
    run = {"steps": 110, "eval_every": 1}
    o = bigram_config(optim={"schedule": name, "warmup": 10, "learning_rate": 2.0}, run=run).optim
    rate = optim.schedule(o, 110)
    assert [float(rate(n)) for n in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert float(rate(60)) == pytest.approx(2 * half)
    assert float(rate(110)) == pytest.approx(2.0 if half == 1 else 0.2) == pytest.approx(float(rate(500)))


def test_evaluation_is_the_loss_before_the_update(mesh):
    p = parts()
    batches = [random_batch(i, VOCAB) for i in range(2)]
    now = new(p)
    sums = [step.eval_step(p)(now.weights, meshes.place(b)) for b in batches]
    found = step.means(jax.tree.map(lambda *s: sum(s), *sums))
    weight = [float(x["weight"]) for x in sums]
    losses = [run(p, [b])[1][0]["loss"] for b in batches]
    assert float(found["loss"]) == pytest.approx(np.average(losses, weights=weight), rel=1e-5)
    assert float(found["weight"]) == sum(weight)
