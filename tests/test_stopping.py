"""Early stopping: after patience, by several metrics, and from what is on disk alone."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import bigram  # noqa: F401
from test_retention import corpus, quiet, records, settings  # noqa: F401

from aurljax import checkpoint
from aurljax.errors import UserError
from aurljax.survival.stopping import Stopping
from aurljax.train import train

VALUES = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, float("nan")]), max_size=12)


def ends(metric, patience, values):
    """The number of values after which a run of one metric is over, or None; by definition, not by counting."""
    for n in range(patience, len(values) + 1):
        lower = [-v if metric.startswith("-") else v for v in values[:n] if v == v]
        recent = [-v if metric.startswith("-") else v for v in values[n - patience : n] if v == v]
        earlier = lower[: len(lower) - len(recent)]
        if not recent or (earlier and min(recent) >= min(earlier)):
            return n
    return None


@given(VALUES, st.integers(1, 4), st.sampled_from(["valid_x", "-valid_x"]))
def test_a_run_is_over_when_the_last_measurements_were_no_better_than_those_before(values, patience, metric):
    stopping, found = Stopping((metric,), patience), None
    for n, value in enumerate(values, 1):
        stopping.update({"valid_x": value})
        if stopping.over and found is None:
            found = n
    assert found == ends(metric, patience, values)


@given(VALUES, VALUES)
def test_of_several_metrics_all_must_stand_still(a, b):
    rows = [{"valid_a": v} for v in a] + [{"valid_b": v, "other": 0.0} for v in b]
    both = Stopping(("valid_a", "-valid_b"), 2, rows)
    assert both.over == (Stopping(("valid_a",), 2, rows).over and Stopping(("-valid_b",), 2, rows).over)


def test_nothing_heeded_never_ends():
    assert not Stopping((), 1, [{"valid_loss": 1.0}] * 9).over


def stands_still(corpus, **run):  # noqa: F811
    """Evaluated at each step, with so high a learning rate that nothing gets better for long."""
    given = {"eval_every": 1, "eval_batches": 1, "steps": 40, "stop_on": ["valid_loss"], "patience": 3}
    return settings(corpus, run=given | run, optim={"learning_rate": 3.0, "ema": 0.0})


def test_a_run_ends_early_and_again_where_it_was_and_goes_on_with_more_patience(corpus, tmp_path):  # noqa: F811
    progress = quiet()
    c = stands_still(corpus)
    outcome = train(c, tmp_path / "run", progress=progress)
    losses = [r["valid_loss"] for r in records(tmp_path / "run") if "valid_loss" in r]
    assert outcome.step == ends("valid_loss", 3, losses) < 40 and not outcome.stopped
    assert f"ended at step {outcome.step}: valid_loss did not improve in 3 measurements" in progress.stream.getvalue()
    assert checkpoint.describe(tmp_path / "run").step == outcome.step
    before = records(tmp_path / "run")
    assert train(c, tmp_path / "run", progress=progress).step == outcome.step
    assert records(tmp_path / "run") == before and "is reached; valid_loss did not" in progress.stream.getvalue()

    longer = dataclasses.replace(c, run=dataclasses.replace(c.run, patience=5))
    last = train(longer, tmp_path / "run", progress=quiet()).step  # interrupted by the first end, in effect
    assert last > outcome.step and train(longer, tmp_path / "whole", progress=quiet()).step == last
    assert records(tmp_path / "run") == records(tmp_path / "whole")


def test_names_that_are_never_measured_are_refused(corpus, tmp_path):  # noqa: F811
    for name, words in (
        ("loss", "run.stop_on=loss must be a metric"),
        ("", "empty name"),
        ("sample_x", "sample_every"),
    ):
        with pytest.raises(UserError, match=words):
            stands_still(corpus, stop_on=[name])
    with pytest.raises(UserError, match="no metric valid_lose was measured at step 1; there are valid_accuracy"):
        train(stands_still(corpus, stop_on=["valid_loss", "valid_lose"]), tmp_path, progress=quiet())
