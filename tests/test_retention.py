"""Which checkpoints stay, and which is the best: never deleted, named only when it is on disk, found by its name."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import bigram  # noqa: F401
from test_checkpoint import META, filled, on, parts, same
from test_train import corpus, quiet, records, settings  # noqa: F401

from aurljax import checkpoint, state
from aurljax.errors import UserError
from aurljax.survival.clock import Clock
from aurljax.survival.retention import Best, Retention
from aurljax.train import train


@given(st.sets(st.integers(0, 99), min_size=1), st.integers(1, 5), st.integers(0, 7), st.sets(st.integers(0, 99)))
def test_newest_every_mth_and_pinned_stay_and_nothing_else(steps, keep, every, pinned):
    found = Retention(keep, every, pinned).should_preserve([SimpleNamespace(step=s) for s in sorted(steps)])
    stay = {s for s, kept in zip(sorted(steps), found, strict=True) if kept}
    assert stay == {s for s in steps if s in sorted(steps)[-keep:] or s in pinned or (every and s % every == 0)}


def saved(workdir, metric, values, keep=1, every=0):
    """Checkpoints 1, 2, ... with these values of a metric (None: not measured); the steps on disk after each."""
    p, left = parts(), []
    with on(), checkpoint.Checkpoints(workdir, keep, META, every, metric) as checkpoints:
        for step, value in enumerate(values, 1):
            checkpoints.save(filled(p, step), step, None if value is None else {"valid_x": value})
            checkpoints.wait()
            left.append(checkpoint.steps(workdir / "checkpoints"))
    return left


@pytest.mark.parametrize(("metric", "values"), [("valid_x", [5.0, 2.0, None, 3.0, 1.0, 4.0]),
                                                ("-valid_x", [1.0, 4.0, None, 3.0, 5.0, 2.0])])  # fmt: skip
def test_the_best_and_the_last_are_never_deleted(tmp_path, metric, values):
    left = saved(tmp_path, metric, values)
    assert left == [[1], [1, 2], [2, 3], [2, 4], [2, 5], [5, 6]]  # one that is beaten goes with the save after
    p = parts()
    with on():
        assert same(filled(p, 5), checkpoint.load_state(tmp_path / "checkpoints" / "best", state.abstract(p)))
        assert same(filled(p, 6), checkpoint.load_state(tmp_path, state.abstract(p)))
    with on(), checkpoint.Checkpoints(tmp_path, 1, META, 0, metric) as checkpoints:  # the next run knows it
        assert not checkpoints.improves({"valid_x": values[3]}) and not checkpoints.improves({"valid_x": float("nan")})
        checkpoints.save(filled(p, 7), 7)
    assert checkpoint.steps(tmp_path / "checkpoints") == [5, 7]


def test_every_mth_stays(tmp_path):
    assert saved(tmp_path, "", [None] * 7, keep=2, every=3)[-1] == [3, 6, 7]


def test_a_run_killed_before_the_best_was_named_names_it(tmp_path):
    saved(tmp_path, "valid_x", [3.0, 2.0], keep=2)
    best = tmp_path / "checkpoints" / "best"
    best.write_text(json.dumps(Best(1, "valid_x", 3.0)._asdict()))
    with checkpoint.Checkpoints(tmp_path, 2, META, 0, "valid_x"):
        assert checkpoint.find(best).name == "2"
    best.write_text("{")  # unreadable: as if there were none
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoint.find(best)
    with checkpoint.Checkpoints(tmp_path, 2, META, 0, "valid_x"):
        assert checkpoint.find(best).name == "2"


def test_a_run_saves_each_step_that_is_best(corpus, tmp_path):  # noqa: F811
    train(settings(corpus, run={"best": "valid_loss", "eval_every": 2, "checkpoint_every": 0, "keep": 1}), tmp_path,
          progress=quiet())  # fmt: skip
    losses = {r["step"]: r["valid_loss"] for r in records(tmp_path) if "valid_loss" in r}
    found = checkpoint.describe(tmp_path / "checkpoints" / "best")
    assert found.step == min(losses, key=losses.get) and found.metadata["metrics"]["valid_loss"] == min(losses.values())


def test_a_metric_that_is_never_measured_is_refused(corpus, tmp_path):  # noqa: F811
    for best, every, words in (("loss", 4, "must be a metric that begins"), ("valid_loss", 0, "set run.eval_every")):
        with pytest.raises(UserError, match=words):
            settings(corpus, run={"best": best, "eval_every": every})
    with pytest.raises(UserError, match="no metric valid_lose was measured at step 4; there are valid_accuracy"):
        train(settings(corpus, run={"best": "valid_lose"}), tmp_path, progress=quiet())


def test_checkpoints_by_time(corpus, tmp_path, monkeypatch):  # noqa: F811
    """A clock that rings at once, asked at every other step."""
    c = settings(corpus, run={"checkpoint_every": 0, "checkpoint_minutes": 1e-9, "keep": 9, "log_every": 2, "steps": 6})
    train(c, tmp_path / "a", progress=quiet())
    assert checkpoint.steps(tmp_path / "a" / "checkpoints") == [2, 4, 6]
    train(
        dataclasses.replace(c, run=dataclasses.replace(c.run, checkpoint_minutes=9.0)), tmp_path / "b", progress=quiet()
    )
    assert checkpoint.steps(tmp_path / "b" / "checkpoints") == [6]
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock, never = Clock(2), Clock(0)
    now[0] = 119.0
    assert not clock.due()
    now[0] = 120.0
    assert clock.due() and not never.due()
    clock.reset()
    assert not clock.due()
