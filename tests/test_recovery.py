"""Spikes are skipped; a run that skips without end goes back to its last good checkpoint, again exactly when resumed."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import BIGRAM, BigramConfig, bigram, bigram_config, random_batch  # noqa: F401
from test_step import VOCAB, new, on, run, tree_equal
from test_train import corpus, final_state, interrupt, quiet, records, resumed_is_whole, settings  # noqa: F401

from aurljax import checkpoint, config, models, optim, sections, state
from aurljax import mesh as meshes
from aurljax.errors import UserError
from aurljax.train import train

MARK = 7


def marked(c, params, batch, key, step):
    """The bigram's loss, a hundred times as large where a batch's first position is marked."""
    total, aux = BIGRAM.loss(c, params, batch, key, step)
    return total * jnp.where(batch.positions.max() == MARK, 100.0, 1.0), aux


def unsteady(start, stop, factor):
    """A bigram family whose loss is multiplied from step `start` until `stop`."""

    def loss(c, params, batch, key, step):
        total, aux = BIGRAM.loss(c, params, batch, key, step)
        return (total if step is None else total * jnp.where((step >= start) & (step < stop), factor, 1.0)), aux

    return dataclasses.replace(BIGRAM, loss=loss)


def parts(**guard) -> config.Parts:
    family = dataclasses.replace(BIGRAM, loss=marked)
    return config.Parts(bigram_config(guard=guard, optim={"clip": 0.0}), None, family, BigramConfig(VOCAB))


def batches(count, *spikes):
    """Batches, some of them marked."""
    for i in range(count):
        batch = random_batch(i, VOCAB)
        yield batch._replace(positions=np.full_like(batch.positions, MARK * (i in spikes)))


def test_a_spike_is_skipped_once_there_is_a_mean_to_compare_it_with():
    with on(4, 2):
        now, log = run(parts(spike=10.0, after=3), batches(6, 0, 3, 4))
        norms = [m["grad_norm"] for m in log]
        assert [m["skipped"] for m in log] == [0, 0, 0, 0, 0, 0]  # the first raised the mean
        now, log = run(parts(spike=10.0, after=3), batches(6, 3, 4))
        assert [m["in_a_row"] for m in log] == [0, 0, 0, 1, 2, 0] and log[3]["grad_norm"] > 10 * np.mean(norms[1:3])
        accepted = [m["grad_norm"] for m in log if m["in_a_row"] == 0]
        assert float(now.guard["norm"]) == pytest.approx(np.mean(accepted), rel=1e-5)
        before, _ = run(parts(spike=10.0, after=3), batches(3))
        kept = jax.tree.map(np.asarray, (before.params, before.opt_state))
        after, _ = run(parts(spike=10.0, after=3), list(batches(6, 3, 4))[3:5], before)
        assert tree_equal(kept, (after.params, after.opt_state))
        for other in (parts(spike=0.0, after=3), parts(spike=10.0, after=9)):
            assert run(other, batches(6, 3, 4))[1][-1]["skipped"] == 0


@pytest.mark.parametrize("optimizer", sections.OPTIMIZERS)
def test_the_scale_is_that_of_the_learning_rate(optimizer):
    """Half the scale is half the rate, to the last bit: a power of two."""
    ends, rates = [], []
    for scale, rate in ((0.5, 0.02), (1.0, 0.01)):
        schedule = "constant" if optimizer == "schedule_free" else "cosine"
        p = bigram_config(optim={"learning_rate": rate, "optimizer": optimizer, "schedule": schedule})
        p = config.Parts(p, None, BIGRAM, BigramConfig(VOCAB))
        with on(1, 1):
            start = new(p)
            start = start.replace(guard=start.guard | {"scale": jnp.float32(scale)})
            end, log = run(p, batches(3), start)
        ends.append(end.params)
        rates.append([m["learning_rate"] for m in log])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *ends)
    np.testing.assert_allclose(*rates, rtol=1e-6)


def diverging(monkeypatch, corpus, start=6, stop=9, factor=float("nan"), guard=(), **sections):  # noqa: F811
    """A config whose family is `unsteady`: by default three bad steps after the checkpoint of step 4."""
    monkeypatch.setitem(models.FAMILIES, "bigram", unsteady(start, stop, factor))
    return settings(corpus, guard={"patience": 2, "after": 2} | dict(guard), **sections)


def skipped(workdir):
    return {r["step"]: (r["skipped"], r["in_a_row"]) for r in records(workdir) if "loss" in r}


@pytest.mark.parametrize("factor", [float("nan"), 1e6])
def test_a_run_that_skips_without_end_goes_back(corpus, tmp_path, monkeypatch, factor):  # noqa: F811
    c = diverging(monkeypatch, corpus, factor=factor, optim={"clip": 0.0})
    progress = quiet()
    assert train(c, tmp_path / "run", progress=progress).step == 12
    said = progress.stream.getvalue()
    assert re.search(
        r"step 9: 2 updates in a row were skipped.*going back to .*/4, learning rate x 0.5 \(1 of 2\)", said
    )
    found = skipped(tmp_path / "run")
    assert found[8] == (2, 2) and found[10] == (5, 0)  # steps 5 to 9 left no trace
    rate = optim.schedule(c.optim, c.run.steps)
    rates = {r["step"]: r["learning_rate"] for r in records(tmp_path / "run") if "loss" in r}
    assert rates[10] == pytest.approx(0.5 * float(rate(4))) and rates[5] == pytest.approx(float(rate(4)))
    with meshes.use(meshes.make(4, 2)):
        last = checkpoint.load_state(tmp_path / "run", state.abstract(config.build(c)))
        assert (int(last.guard["rollbacks"]), float(last.guard["scale"]), int(last.guard["anchor"])) == (1, 0.5, 12)


@pytest.mark.parametrize("stop", [5, 8, 9, 10])
def test_going_back_is_the_same_when_resumed(corpus, tmp_path, monkeypatch, stop):  # noqa: F811
    """Stopped before, in the middle of, at and after the step that goes back."""
    c = diverging(monkeypatch, corpus)
    resumed_is_whole(c, tmp_path, stop)


def test_without_a_checkpoint_a_run_goes_back_to_its_beginning(corpus, tmp_path, monkeypatch):  # noqa: F811
    progress = quiet()
    c = diverging(monkeypatch, corpus, run={"checkpoint_every": 0})
    train(c, tmp_path, progress=progress)
    assert "going back to the beginning, learning rate x 0.5" in progress.stream.getvalue()
    assert skipped(tmp_path)[10] == (9, 0)


def test_the_checkpoint_to_go_back_to_stays(corpus, tmp_path, monkeypatch):  # noqa: F811
    """Those made while updates are skipped push it out of the newest, not out of the folder."""
    progress = quiet()
    run_ = {"checkpoint_every": 1, "keep": 1}
    train(diverging(monkeypatch, corpus, guard={"patience": 3}, run=run_), tmp_path, progress=progress)
    assert "going back to " in progress.stream.getvalue() and "/6, learning rate" in progress.stream.getvalue()


def test_a_run_that_went_back_in_vain_gives_up_in_words(corpus, tmp_path, monkeypatch):  # noqa: F811
    c = diverging(monkeypatch, corpus, start=5, stop=99, run={"steps": 30, "checkpoint_every": 4})
    words = (
        r"step \d+: 2 updates in a row were skipped.* after going back 2 times with the learning rate x 0.25; lower opt"
    )
    with pytest.raises(UserError, match=words):
        train(c, tmp_path, progress=quiet())
    with pytest.raises(UserError, match=words):  # and again when started again
        train(c, tmp_path, progress=quiet())
    with pytest.raises(UserError, match="step 8: 2 updates in a row were skipped, their loss .*exploding; lower"):
        train(
            diverging(monkeypatch, corpus, start=5, stop=99, guard={"rollbacks": 0}),
            tmp_path / "none",
            progress=quiet(),
        )


@pytest.mark.parametrize(
    "guard", [{"spike": 0.5}, {"backoff": 0.0}, {"backoff": 1.5}, {"patience": 0}, {"rollbacks": -1}]
)
def test_impossible_guards_are_refused(guard):
    with pytest.raises(UserError, match=f"guard.{next(iter(guard))}="):
        bigram_config(guard=guard)
