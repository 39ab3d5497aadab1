"""Stages of a run and weights to begin with: a stage is a run of its own that begins with the weights before it."""

import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest
from runs import bigram, bigram_config, make_corpus  # noqa: F401
from test_train import corpus, interrupt, quiet, records  # noqa: F401

from aurljax import checkpoint, config, inspection, plan, stages, state
from aurljax import mesh as meshes
from aurljax.errors import UserError
from aurljax.fields import changed, merge
from aurljax.records import metrics
from aurljax.records.progress import Progress
from aurljax.train import train

RUN = {"log_every": 1, "eval_every": 3, "eval_batches": 1, "keep": 9}
PRE = {"run": {"steps": 6}, "optim": {"ema": 0.9, "warmup": 1}}
FINE = {"run": {"steps": 5}, "optim": {"learning_rate": 0.005, "warmup": 2}, "data": {"transpose": [0, 3]}}


def settings(corpus, *given, **sections) -> config.Config:  # noqa: F811
    """A run with these stages, named a, b, ..."""
    named = [{"name": name} | stage for name, stage in zip("abc", given, strict=False)]
    sections["run"] = RUN | sections.get("run", {})
    sections["data"] = {"corpus": corpus, "length": 32} | sections.get("data", {})
    return bigram_config(mesh={"data": 4, "model": 2}, seed=7, stages=named, **sections)


def alone(c: config.Config, number: int, **run) -> config.Config:
    """A stage of a run as a run of its own."""
    one = c.stages[number][1]
    return dataclasses.replace(one, run=dataclasses.replace(one.run, **run))


def weights(path, c):
    with meshes.use(meshes.make(4, 2)):
        loaded = checkpoint.load_state(path, state.abstract(config.build(c)))
        return [np.asarray(x) for x in jax.tree.leaves((loaded.params, loaded.opt_state, loaded.ema))]


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):  # noqa: F811
    """Two stages that nothing disturbed."""
    from runs import BIGRAM

    from aurljax import models

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "bigram", BIGRAM)
        folder, c, progress = tmp_path_factory.mktemp("whole"), settings(corpus, PRE, FINE), quiet()
        assert train(c, folder, progress=progress).step == 11
    return folder, c, progress.stream.getvalue()


def test_a_stage_is_a_run_that_begins_with_the_weights_of_the_one_before(whole, tmp_path):
    folder, c, said = whole
    train(alone(c, 0), tmp_path / "a", progress=quiet())
    train(alone(c, 1, init=str(tmp_path / "a")), tmp_path / "b", progress=quiet())
    first, second = ([r for r in records(tmp_path / name) if "loss" in r] for name in "ab")
    rows = [{k: v for k, v in r.items() if k != "stage"} for r in records(folder) if "loss" in r]
    assert rows == first + [r | {"step": r["step"] + 6} for r in second]
    assert [r["stage"] for r in records(folder) if "loss" in r] == [1] * 6 + [2] * 5
    for a, b in zip(weights(folder, c.stages[1][1]), weights(tmp_path / "b", c.stages[1][1]), strict=True):
        np.testing.assert_array_equal(a, b)
    # The weights that generation would take, here averaged ones, and another order of the data.
    assert second[0]["loss"] < first[0]["loss"] and second[0]["learning_rate"] == pytest.approx(0.0025)
    assert "stage 2 of 2, b: steps 7 to 11" in said and f"beginning with the weights of {folder}/checkpoints/6" in said


@pytest.mark.parametrize("at", [(2,), (6,), (9,), (3, 6, 8, 11)])
def test_interrupted_in_a_stage_or_between_two_and_resumed_is_uninterrupted(whole, tmp_path, at):
    folder, c, _ = whole

    def stop(parts, weights, step, where):
        return interrupt(parts, weights, step, where) if step in at else {"numbers": step}

    every = dataclasses.replace(c, stages=tuple(
        (name, dataclasses.replace(s, run=dataclasses.replace(s.run, sample_every=1))) for name, s in c.stages
    ))  # fmt: skip
    ends = [train(every, tmp_path, stop, quiet()) for _ in range(len(at) + 1)]
    assert [end.step for end in ends] == [*at, 11] and [e.stopped for e in ends[:-1]] == [step < 11 for step in at]
    assert [r for r in records(tmp_path) if "sample_numbers" not in r] == records(folder)
    for a, b in zip(weights(tmp_path, c.stages[1][1]), weights(folder, c.stages[1][1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_stage_that_stops_early_makes_room_for_the_next(corpus, tmp_path):  # noqa: F811
    still = {"learning_rate": 1e-9, "warmup": 0, "weight_decay": 0.0}
    a = {"run": {"steps": 40, "stop_on": ["-valid_accuracy"], "patience": 2, "best": "valid_loss"}, "optim": still}
    b = {"run": {"steps": 6, "best": "valid_loss"}, "optim": {"learning_rate": 0.5, "warmup": 0}}
    c = settings(corpus, a, b)
    assert train(c, tmp_path, progress=quiet()).step == 15  # measured at 3, 6 and 9
    found = checkpoint.describe(tmp_path)
    assert (found.step, found.metadata["stage"]["begin"]) == (15, 9)
    losses = {r["step"]: r["valid_loss"] for r in records(tmp_path) if "valid_loss" in r}
    best = checkpoint.describe(tmp_path / "checkpoints" / "best").step
    assert best == min((12, 15), key=losses.get) and {9, best} <= set(checkpoint.steps(tmp_path / "checkpoints"))
    shutil.rmtree(tmp_path / "checkpoints" / "15")
    before = records(tmp_path)
    assert train(c, tmp_path, progress=quiet()).step == 15 and records(tmp_path) == before


def test_a_stage_goes_back_to_its_own_beginning(corpus, tmp_path, monkeypatch):  # noqa: F811
    from test_recovery import unsteady

    from aurljax import models

    monkeypatch.setitem(models.FAMILIES, "bigram", unsteady(1, 3, float("nan")))  # by the steps of a stage
    guard = {"patience": 2, "backoff": 0.5}
    c = settings(corpus, {"run": {"steps": 4}, "guard": {"patience": 9}}, {"run": {"steps": 8}}, guard=guard)
    progress = Progress(1, io.StringIO())
    assert train(c, tmp_path, progress=progress).step == 12
    assert "going back to the beginning, learning rate x 0.5 (1 of 2)" in progress.stream.getvalue()
    rows = [r for r in records(tmp_path) if "loss" in r]
    assert [r["skipped"] for r in rows] == [0, 1, 2, 2] + [0, 1, 2, 2, 4, 4, 4, 4]
    assert rows[8]["learning_rate"] == pytest.approx(0.5 * rows[4]["learning_rate"])  # the warm-up begins again


def test_what_cannot_work_in_a_later_stage_is_refused_before_the_first(corpus, tmp_path):  # noqa: F811
    folder = tmp_path / "run"
    for given, words in (
        ({"data": {"corpus": "nowhere"}}, "nowhere"),
        ({"data": {"batch": 6}}, "data.batch=6 .*nearest that works is 8"),
        ({"model": {"d_model": 16}}, "stage b: its model has other weights than that of a"),
    ):
        with pytest.raises(UserError, match=words):
            train(settings(corpus, PRE, given), folder, progress=quiet())
    for given, words in (
        ({"mesh": {"data": 1}}, "stage b: mesh is that of the whole run"),
        ({"run": {"init": "x"}}, "stage b: run.init is that of the whole run"),
        ({"optim": {"warmup": 9}, "run": {"steps": 3}}, "stage b: optim.warmup=9 is longer than run.steps=3"),
        ({"optim": {"rate": 9}}, "stage b: unknown config field optim.rate; did you mean"),
        ({"name": "a"}, "stage 2 has the name a; give each a word of its own"),
    ):
        with pytest.raises(UserError, match=words):
            settings(corpus, PRE, given)
    assert not folder.exists()


def test_a_folder_in_a_later_stage_wants_its_stages(whole, corpus):  # noqa: F811
    with pytest.raises(UserError, match=f"{whole[0]} holds a run in its stage 2, b, and the config has 1"):
        train(settings(corpus, PRE), whole[0], progress=quiet())


def test_stages_are_added_to_a_run_and_changed_on_the_command_line(whole, corpus, tmp_path):  # noqa: F811
    """A run without stages is one of one stage."""
    train(dataclasses.replace(whole[1].stages[0][1]), tmp_path / "run", progress=quiet())
    assert train(whole[1], tmp_path / "run", progress=quiet()).step == 11
    assert records(tmp_path / "run")[-1] == records(whole[0])[-1]
    file = tmp_path / "experiment.py"
    tree = {k: v for k, v in config.to_dict(whole[1]).items() if k != "model"}
    file.write_text(f"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({tree!r})\n")
    c = config.load(
        str(file), ["model.d_model=64", "stages.b.run.steps=3", "stages.b.data.augment.slack=0.5", "seed=1"]
    )
    (_, a), (_, b) = c.stages
    assert (a.seed, b.seed, a.run.steps, b.run.steps, b.data.augment.slack) == (1, 2, 6, 3, 0.5)
    assert a.data.augment == c.data.augment and b.optim.learning_rate == 0.005
    with pytest.raises(UserError, match="stages.c.run.steps: the stages of this run are a, b"):
        config.load(str(file), ["stages.c.run.steps=3"])
    with pytest.raises(UserError, match="unknown config field run.stops"):
        config.load(str(file), ["stages.b.run.stops=3"])


def test_a_config_with_stages_survives_json(corpus):  # noqa: F811
    c = settings(corpus, PRE, FINE, {"seed": 3})
    assert config.from_dict(json.loads(json.dumps(config.to_dict(c)))) == c and len({c, c}) == 1
    assert [s.seed for _, s in c.stages] == [7, 8, 3]
    assert config.to_dict(c)["stages"][1] == {"name": "b"} | {
        **FINE,
        "optim": {"learning_rate": 0.005},
    }  # warmup: as usual
    assert [name for name, _ in stages.build(c)] == ["a", "b", "c"]
    a, b = config.to_dict(c.stages[0][1]), config.to_dict(c.stages[1][1])
    assert merge(a, changed(a, b)) == b and changed(a, a) == {}


def test_a_checkpoint_and_a_report_tell_the_stage(whole):
    found = inspection.inspect(whole[0])
    assert inspection.lines(found)[0].endswith(" (stage 2 of 2, b, begun after step 6)")
    assert found["config"]["optim.learning_rate"]["value"] == 0.005  # a checkpoint's config is that of its stage
    assert "step=9/11 " in (whole[0] / "log.txt").read_text() and " stage=2 " in (whole[0] / "log.txt").read_text()
    page = (whole[0] / "report.html").read_text()
    assert "11 of 11" in page and "stage b begins" in page


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"codec": {"options": {"microtiming": True}}},
            "run.init=.*: checkpoint .* was trained on codec score .*, not on",
        ),
        ({"model": {"d_model": 16}}, r"run.init=.*leaf params/bias|embed/tokens is float32\[\d+, 8\].*asks for.*16"),
        ({"run": {"init": "nowhere"}}, "no checkpoint at .*nowhere"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(whole, corpus, tmp_path, sections, words):  # noqa: F811
    run = {"init": str(whole[0])} | sections.pop("run", {})
    with pytest.raises(UserError, match=words):
        train(settings(corpus, run=run, **sections), tmp_path / "run", progress=quiet())
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_though_what_it_began_with_is_gone(whole, corpus, tmp_path):  # noqa: F811
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "old")
    c = settings(corpus, run={"init": str(tmp_path / "old" / "6"), "steps": 3}, optim={"warmup": 1})
    train(c, tmp_path / "run", progress=quiet())
    shutil.rmtree(tmp_path / "old")
    longer = dataclasses.replace(c, run=dataclasses.replace(c.run, steps=5))
    assert train(longer, tmp_path / "run", progress=quiet()).step == 5
    assert metrics.read(tmp_path / "run")[0]["loss"] < metrics.read(whole[0])[0]["loss"]


def test_a_plan_is_of_each_stage(corpus, capsys):  # noqa: F811
    c = settings(corpus, {"run": {"steps": 3}}, {"optim": {"ema": 0.9}}, optim={"warmup": 1})
    plan.run(c, as_json=True)
    a, b = map(json.loads, capsys.readouterr().out.splitlines())
    assert (a["stage"], b["stage"]) == ("a", "b") and a["parameters"] == b["parameters"]
    assert a["average"] == 0 < b["average"]
