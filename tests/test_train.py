"""The loop: exact resuming, what it writes, what it refuses, and that no field of a config is dead."""

import dataclasses
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import bigram, bigram_config, make_corpus  # noqa: F401

from aurljax import checkpoint, config, models, state
from aurljax import mesh as meshes
from aurljax.errors import UserError
from aurljax.records import metrics
from aurljax.records.meter import OURS
from aurljax.records.progress import Progress, clock
from aurljax.train import datasets, same_run, train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def quiet() -> Progress:
    return Progress(1, io.StringIO())


def records(workdir) -> list[dict]:
    """metrics.jsonl without the numbers that time and machine decide."""
    return [{k: v for k, v in r.items() if k not in OURS} for r in metrics.read(workdir)]


def settings(corpus, **sections) -> config.Config:
    run = {"steps": 12, "log_every": 1, "eval_every": 4, "eval_batches": 2, "checkpoint_every": 4}
    sections["run"] = run | sections.get("run", {})
    sections["data"] = {"corpus": corpus, "length": 32, "transpose": [-2, 2]} | sections.get("data", {})
    sections["optim"] = {"warmup": 2, "ema": 0.9, "learning_rate": 0.02} | sections.get("optim", {})
    return bigram_config(mesh={"data": 4, "model": 2}, **sections)


def interrupt(parts, weights, step, folder):
    """A sample function in whose middle somebody presses ctrl-C."""
    signal.raise_signal(signal.SIGINT)
    return {"numbers": step}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A run of twelve steps that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        from runs import BIGRAM

        patch.setitem(models.FAMILIES, "bigram", BIGRAM)
        workdir = tmp_path_factory.mktemp("whole")
        outcome = train(settings(corpus), workdir, progress=quiet())
    return workdir, outcome


def final_state(workdir, c):
    with meshes.use(meshes.make(4, 2)):
        loaded = checkpoint.load_state(workdir, state.abstract(config.build(c)))
        return [np.asarray(jax.random.key_data(x)) if x.dtype.name.startswith("key") else np.asarray(x)
                for x in jax.tree.leaves(loaded)]  # fmt: skip


def resumed_is_whole(c, tmp_path, stop):
    """That a run stopped after a step and begun again is one never stopped: its records, its state to the bit."""
    train(c, tmp_path / "whole", progress=quiet())
    cut = dataclasses.replace(c, run=dataclasses.replace(c.run, sample_every=stop))
    assert train(cut, tmp_path / "parts", interrupt, quiet()).step == stop
    train(c, tmp_path / "parts", progress=quiet())
    assert [r for r in records(tmp_path / "parts") if "sample_numbers" not in r] == records(tmp_path / "whole")
    for a, b in zip(final_state(tmp_path / "parts", c), final_state(tmp_path / "whole", c), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_learns_and_writes_what_it_says(whole):
    workdir, outcome = whole
    assert (outcome.step, outcome.stopped) == (12, False)
    rows = records(workdir)
    assert [r["step"] for r in rows if "loss" in r] == list(range(1, 13))
    assert [r["step"] for r in rows if "valid_loss" in r] == [4, 8, 12]
    losses = [r["loss"] for r in rows if "loss" in r]
    assert losses[-1] < losses[0] and outcome.metrics["loss"] == losses[-1]
    assert {"accuracy", "grad_norm", "learning_rate", "weight", "skipped"} <= set(rows[0])
    assert all(math.isfinite(v) for r in rows for v in r.values())
    assert checkpoint.steps(workdir / "checkpoints") == [8, 12]
    assert config.from_dict(json.loads((workdir / "config.json").read_text())).run.steps == 12
    assert list((workdir / "tensorboard").iterdir())


def test_a_checkpoint_of_a_run_describes_it(whole, corpus):
    found = checkpoint.describe(whole[0])
    parts = config.build(config.from_dict(found.metadata["config"]))
    assert found.step == 12 and parts.config == settings(corpus)
    assert found.metadata["codec"]["fingerprint"] == parts.codec.fingerprint
    assert found.metadata["codec"]["vocabulary"] == len(parts.codec.vocabulary)
    assert found.metadata["data"]["path"] == corpus and [len(d) for d in found.metadata["data"]["corpora"]] == [32]
    assert found.metadata["versions"]["jax"] == jax.__version__


def test_interrupted_and_resumed_is_uninterrupted(whole, corpus, tmp_path):
    """Stopped by a signal at step 6, between two checkpoints; then on to the same bits."""
    c = settings(corpus)
    first = train(dataclasses.replace(c, run=dataclasses.replace(c.run, sample_every=6)), tmp_path, interrupt, quiet())
    assert (first.step, first.stopped, first.metrics["sample_numbers"]) == (6, True, 6)
    assert checkpoint.steps(tmp_path / "checkpoints") == [4, 6]
    assert not [r for r in records(tmp_path) if r["step"] > 6]
    with (tmp_path / "metrics.jsonl").open("a") as file:  # as a kill may leave it
        file.write(json.dumps({"step": 7, "loss": 99.0}) + '\n{"step": 8, "lo')
    second = train(c, tmp_path, progress=quiet())
    assert (second.step, second.stopped) == (12, False)
    assert [r for r in records(tmp_path) if "sample_numbers" not in r] == records(whole[0])
    for a, b in zip(final_state(tmp_path, c), final_state(whole[0], c), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_crash_between_two_records_loses_none(whole, corpus, tmp_path):
    """Metrics are fetched late, but never later than the checkpoint that stands for them."""

    def crash(parts, weights, step, folder):
        raise RuntimeError("crash")

    c = settings(corpus, run={"log_every": 4})
    with pytest.raises(RuntimeError, match="crash"):
        train(dataclasses.replace(c, run=dataclasses.replace(c.run, sample_every=6)), tmp_path, crash, quiet())
    before = records(tmp_path)
    assert before == [r for r in records(whole[0]) if r["step"] == 4]
    train(c, tmp_path, progress=quiet())
    assert records(tmp_path) == [r for r in records(whole[0]) if r["step"] % 4 == 0]


def test_a_finished_run_stays_as_it_is_and_can_be_lengthened(whole, corpus, tmp_path):
    import shutil

    shutil.copytree(whole[0], tmp_path / "run")
    before = records(tmp_path / "run")
    assert train(settings(corpus), tmp_path / "run", progress=quiet()).step == 12
    assert records(tmp_path / "run") == before
    progress = quiet()
    assert train(settings(corpus, run={"steps": 14}), tmp_path / "run", progress=progress).step == 14
    assert records(tmp_path / "run")[: len(before)] == before
    assert "run.steps 12 -> 14" in progress.stream.getvalue()


def test_with_buckets_and_a_mixture_a_run_is_resumed_and_another_corpus_is_said(corpus, tmp_path):
    other = make_corpus(tmp_path / "other", sizes=(3, 8, 64, 5, 7))
    data = {"corpus": other, "mixture": [[corpus, 0.25]], "length": 64, "buckets": [32], "batch": 4}
    batches = datasets(config.build(settings(other, data=data)))[0]
    assert {batches.row_length(step) for step in range(5, 12)} == {32, 64}
    stop = {"run": {"sample_every": 5}, "data": data}
    train(settings(other, data=data), tmp_path / "whole", progress=quiet())
    assert train(settings(other, **stop), tmp_path / "parts", interrupt, quiet()).step == 5
    train(settings(other, data=data), tmp_path / "parts", progress=quiet())
    assert [r for r in records(tmp_path / "parts") if "sample_numbers" not in r] == records(tmp_path / "whole")
    progress, third = quiet(), make_corpus(tmp_path / "third", sizes=(30,))
    changed = settings(other, run={"steps": 13}, data=data | {"mixture": [[third, 0.25]]})
    train(changed, tmp_path / "parts", progress=progress)
    said = progress.stream.getvalue()
    assert f"the corpus {third} is not what step 12 was trained on" in said and said.count("is not what") == 1
    assert "data.mixture" in said


@pytest.mark.slow
@pytest.mark.parametrize("buckets", ["()", "(32,)"])
def test_killed_and_resumed_is_uninterrupted(tmp_path, buckets):
    """kill -9 in the middle of the tiny decoder's run, from the command line's own loop."""
    code = (
        "import sys; from aurljax import config, train;"
        "train.train(config.load('configs/tiny.py', sys.argv[2:]), sys.argv[1])"
    )
    corpus = make_corpus(tmp_path, sizes=(3, 8, 64, 5, 7))
    options = [f"data.corpus={corpus}", "run.steps=300", "run.checkpoint_every=7", "run.log_every=1", "optim.ema=0.9"]
    options.append(f"data.buckets={buckets}")

    def start(name):
        command = [sys.executable, "-c", code, str(tmp_path / name), *options]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "XLA_FLAGS": ""})

    assert start("whole").wait() == 0
    for steps in (20, 120):
        run = start("killed")
        while run.poll() is None and len(metrics.read(tmp_path / "killed")) < steps:
            time.sleep(0.02)
        assert run.poll() is None
        run.kill()
        run.wait()
    assert start("killed").wait() == 0
    assert records(tmp_path / "killed") == records(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_resumed_by_one_are_one_process(corpus, tmp_path):
    """Sums over processes differ in order alone: 1e-5."""
    code = (
        "import sys, runs; from aurljax import cluster, models, train, config; models.FAMILIES['bigram'] = runs.BIGRAM;"
        "index, count, port, workdir, corpus, steps = sys.argv[1:];"
        "count == '1' or cluster.join(f'localhost:{port}', int(count), int(index));"
        "run = {'steps': int(steps), 'log_every': 1, 'eval_every': 5, 'checkpoint_every': 5};"
        "c = runs.bigram_config(mesh={'data': 2, 'model': 2}, data={'corpus': corpus, 'length': 32}, run=run,"
        "optim={'schedule': 'plateau', 'metric': '-valid_loss', 'patience': 1, 'ema': 0.9}); train.train(c, workdir)"
    )
    with socket.socket() as s:
        s.bind(("", 0))
        port = s.getsockname()[1]

    def start(name, steps, count=1):
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        flags = f"--xla_force_host_platform_device_count={4 // count}"
        env = {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        arguments = [str(count), str(port), str(tmp_path / name), corpus, str(steps)]
        return [
            subprocess.Popen([sys.executable, "-c", code, str(i), *arguments], env=env, stderr=subprocess.DEVNULL)
            for i in range(count)
        ]

    assert [p.wait(200) for p in start("one", 12)] == [0]
    assert [p.wait(200) for p in start("two", 10, 2)] == [0, 0]
    assert [p.wait(200) for p in start("two", 12)] == [0]
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    assert one[-1]["learning_rate"] == 0.5 * one[3]["learning_rate"]


def test_every_field_of_a_config_is_read(corpus, tmp_path, monkeypatch):
    """Reads by what builds and runs, not by checks, copies and comparisons of the config itself."""
    read = set()

    def watch(cls, name):
        names = {f.name for f in dataclasses.fields(cls)}
        formal = {"__post_init__", "at_least", "to_dict", "<dictcomp>", "__eq__", "__hash__", "__repr__", "replace"}

        def get(self, field):
            caller = sys._getframe(1).f_code
            if field in names and caller.co_name not in formal and caller.co_filename != dataclasses.__file__:
                read.add((name, field))
            return object.__getattribute__(self, field)

        monkeypatch.setattr(cls, "__getattribute__", get, raising=False)
        return {(name, field) for field in names}

    fields = set().union(*(watch(cls, name) for name, cls in config.SECTIONS.items()))
    fields |= watch(config.Config, "")

    def sample(parts, weights, step, folder):
        return {"count": parts.config.run.samples}

    train(settings(corpus, run={"steps": 4, "sample_every": 2}), tmp_path, sample, quiet())
    assert fields - read == set()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"data": {"corpus": "nowhere"}}, "nowhere"),
        ({"data": {"corpus": ""}}, "data.corpus names no folder"),
        ({"data": {"batch": 6}}, "data.batch=6 .* 4 devices .*nearest that works is 8"),
        ({"data": {"batch": 12}, "optim": {"accumulation": 2}}, "data.batch=12 .*accumulation=2; .*works is 16"),
        ({"model": {"d_model": 6}}, "d_model|embed"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(corpus, tmp_path, sections, words):
    with pytest.raises(UserError, match=words):
        train(settings(corpus, **sections), tmp_path / "run", progress=quiet())
    assert not (tmp_path / "run").exists()


def test_a_missing_split_is_refused(tmp_path):
    corpus = make_corpus(tmp_path, valid=0)
    with pytest.raises(UserError, match="split 'valid'"):
        train(settings(corpus), tmp_path / "run", progress=quiet())


def test_more_devices_than_there_are_is_refused(corpus, tmp_path):
    c = dataclasses.replace(settings(corpus), mesh=config.Mesh(4, 4))
    with pytest.raises(UserError, match="16 devices and there are 8"):
        train(c, tmp_path, progress=quiet())


def test_a_run_goes_on_where_a_field_came_later(corpus):
    parts = config.build(settings(corpus))
    codec = {"name": parts.codec.name, "options": {}, "fingerprint": parts.codec.fingerprint}
    old = config.to_dict(parts.config)
    del old["model"]["d_model"], old["optim"]["b2"]
    same_run(checkpoint.Saved(Path("old"), 1, {}, {"config": old, "codec": codec}), parts, Path("run"))


def test_a_folder_of_another_model_is_refused_and_kept(whole, corpus):
    before = (whole[0] / "config.json").read_text()
    with pytest.raises(UserError, match=r"another model \(model.d_model 8 -> 16\)"):
        train(settings(corpus, model={"d_model": 16}), whole[0], progress=quiet())
    with pytest.raises(UserError, match="trained on codec score .*, not on score"):
        train(settings(corpus, codec={"options": {"microtiming": True}}), whole[0], progress=quiet())
    assert (whole[0] / "config.json").read_text() == before


def test_a_folder_that_cannot_be_written_is_refused(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"{tmp_path / 'file'}"):
        train(settings(corpus), tmp_path / "file" / "run", progress=quiet())


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    texts = []
    for stream in (Terminal(), io.StringIO()):
        progress = Progress(200, stream)
        progress.note("hello")
        progress.update(50, {"loss": 1.23456}, None, None)
        progress.update(100, {"loss": 1.0}, 12345.6, 65.0)
        progress.close()
        texts.append(stream.getvalue())
    bar, lines = texts
    assert lines == "hello\nstep  50/200  loss 1.235\nstep 100/200  loss 1  12,346 tokens/s  1:05 left\n"
    assert bar.count("\r") >= 2 and "############............]" in bar and bar.startswith("hello\n")
    assert [clock(s) for s in (0.4, 59, 60, 3599, 7200)] == ["0 s", "59 s", "1:00", "59:59", "2:00:00"]
