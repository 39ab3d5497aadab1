"""The schedule that falls on a plateau: when and how far, again alike when resumed, beside rollbacks, anew in a stage."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import bigram  # noqa: F401
from test_recovery import diverging
from test_stages import settings as staged
from test_train import corpus, final_state, interrupt, quiet, records, resumed_is_whole, settings  # noqa: F401

from aurljax import config, state
from aurljax.errors import UserError
from aurljax.sections import Optim
from aurljax.survival.plateau import Plateau
from aurljax.train import train

WORSE = {"schedule": "plateau", "metric": "-valid_loss", "patience": 2, "factor": 0.5}  # the loss falls: never better


def scales(values, patience, factor, least):
    """What the rate is multiplied by after each value; by definition: so many since the best or the last fall."""
    found, since, best, scale = [], 0, math.inf, np.float32(1)
    for value in values:
        since = 0 if value < best else since + 1
        best = min(best, value) if value == value else best
        if since == patience:
            since, scale = 0, np.float32(max(float(scale) * factor, np.float32(least)))
        found.append(float(scale))
    return found


def at(scale: float) -> state.State:
    return state.State({}, (), {}, jnp.int32(0), None, state.guard() | {"scale": jnp.float32(scale)}, {})


VALUES = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, float("nan")]), max_size=12)


@given(VALUES, st.integers(1, 3), st.sampled_from([0.0, 0.1, 0.3, 1.0]), st.integers(0, 12))
def test_the_scale_falls_by_definition_and_from_records_alike(values, patience, least, cut):
    o = Optim(schedule="plateau", metric="-valid_x", patience=patience, factor=0.5, end_factor=least)
    plateau, now, found = Plateau(o), at(1), []
    for n, value in enumerate(values):
        if n == cut:  # begun again, from what is on disk
            plateau = Plateau(o, [{"step": i, "valid_x": v} for i, v in enumerate(values[:n])] + [{"loss": 1.0}])
        now = plateau.update(now, n, {"valid_x": value, "valid_y": 0.0}, quiet())
        now = plateau.update(now, n, {}, quiet())  # a step without measurements
        found.append(float(now.guard["scale"]))
    assert found == scales([-v for v in values], patience, 0.5, least)


def test_a_rate_below_the_least_stays_and_nothing_is_said():
    o = Optim(schedule="plateau", patience=1, factor=0.5, end_factor=0.1)
    for scale, then in ((1.0, 0.5), (0.15, 0.1), (0.1, 0.1), (0.0625, 0.0625)):
        plateau, progress = Plateau(o, [{"valid_loss": 1.0}]), quiet()
        found = plateau.update(at(scale), 7, {"valid_loss": 1.0}, progress)
        assert float(found.guard["scale"]) == np.float32(then)
        assert bool(progress.stream.getvalue()) == (then < scale)
    assert Plateau(dataclasses.replace(o, schedule="cosine")).heeded == ()


def rates(workdir):
    return {r["step"]: r["learning_rate"] for r in records(workdir) if "loss" in r}


RUN = {"eval_every": 1, "eval_batches": 1, "checkpoint_every": 4}


def test_a_run_follows_its_metric(corpus, tmp_path):  # noqa: F811
    """A learning rate so high that the held-out loss stands still now and then."""
    o = {"schedule": "plateau", "patience": 1, "factor": 0.25, "end_factor": 0.01, "learning_rate": 1.0, "ema": 0.0}
    progress = quiet()
    train(settings(corpus, run=RUN, optim=o), tmp_path, progress=progress)
    values = [r["valid_loss"] for r in records(tmp_path) if "valid_loss" in r]
    found = scales(values, 1, 0.25, 0.01)
    assert min(found) < 1
    rise = [0.5, *[1.0] * 11]  # of the warm-up
    assert list(rates(tmp_path).values()) == pytest.approx([r * s for r, s in zip(rise, [1.0, *found], strict=False)])
    fell = found.index(0.25) + 1
    said = f"step {fell}: valid_loss did not improve in 1 measurements; learning rate x 0.25"
    assert said in progress.stream.getvalue() and said in (tmp_path / "log.txt").read_text()
    assert progress.stream.getvalue().count("learning rate x") == len(set(found)) - 1


@pytest.mark.parametrize("stop", [2, 3, 4, 7])
def test_stopped_and_resumed_falls_at_the_same_steps(corpus, tmp_path, stop):  # noqa: F811
    """Also where it was stopped between two measurements of one plateau, and at the step of a fall."""
    c = settings(corpus, run=RUN, optim=WORSE)
    resumed_is_whole(c, tmp_path, stop)
    ends = [0.5 ** (n // 2) for n in range(12)]  # measured at every step, the first is the best
    found = rates(tmp_path / "whole")
    assert [found[n] / found[2] for n in range(2, 13)] == pytest.approx([max(e, 0.1) for e in (1, 1, *ends[2:11])])


@pytest.mark.parametrize("stop", [0, 8, 9, 10])
def test_going_back_keeps_the_lower_rate_and_lowers_it(corpus, tmp_path, monkeypatch, stop):  # noqa: F811
    """Three bad steps after the checkpoint of step 4, seen at step 9; falls at 3, 5, 7, 9 and 11."""
    c = diverging(monkeypatch, corpus, run=RUN, optim=WORSE | {"end_factor": 0.0})
    progress = quiet()
    if stop:
        cut = dataclasses.replace(c, run=dataclasses.replace(c.run, sample_every=stop))
        assert train(cut, tmp_path, interrupt, quiet()).step == stop
    train(c, tmp_path, progress=progress)
    found = rates(tmp_path)
    assert found[4] == pytest.approx(0.01) and found[5] == found[4]
    assert found[8] == pytest.approx(0.02 / 8) and found[10] == pytest.approx(0.02 / 32)  # one for the going back
    said = progress.stream.getvalue()
    assert "going back to " not in said if stop >= 9 else "learning rate x 0.0625 (1 of 2)" in said


def test_a_stage_falls_for_itself(corpus, tmp_path):  # noqa: F811
    run = RUN | {"steps": 6, "checkpoint_every": 0}
    progress = quiet()
    train(staged(corpus, *[{"run": run, "optim": {"warmup": 0, **WORSE}}] * 2), tmp_path, progress=progress)
    found = list(rates(tmp_path).values())
    assert found[:6] == found[6:] == pytest.approx([1e-3 * s for s in (1, 1, 1, 0.5, 0.5, 0.25)])


@pytest.mark.parametrize(
    ("optim", "run", "words"),
    [
        ({}, {"eval_every": 0}, "optim.metric=valid_loss is never measured; set run.eval_every"),
        ({"metric": "-sample_entropy"}, {}, "optim.metric=-sample_entropy is never measured; set run.sample_every"),
        ({"metric": ""}, {}, "optim.metric= must be a metric that begins with valid_ or sample_"),
        ({"patience": 0}, {}, "optim.patience=0 must be at least 1"),
        ({"factor": 1.0}, {}, "optim.factor=1.0 must be above 0 and below 1"),
        ({"optimizer": "schedule_free"}, {}, "set optim.schedule=constant"),
    ],
)
def test_what_cannot_work_is_refused(optim, run, words):
    tree = {"optim": {"schedule": "plateau"} | optim, "run": {"eval_every": 4} | run}
    with pytest.raises(UserError, match=words):
        config.from_dict(tree)


def test_a_metric_that_is_not_there_is_named(corpus, tmp_path):  # noqa: F811
    with pytest.raises(UserError, match="no metric valid_lose was measured at step 1; there are valid_accuracy"):
        train(settings(corpus, run=RUN, optim=WORSE | {"metric": "valid_lose"}), tmp_path, progress=quiet())
