"""What a run survives: kills at any moment, a second run, a full disk, a corpus that goes away."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from killing import settings as killed_settings
from runs import bigram, make_corpus  # noqa: F401
from test_retention import corpus, quiet, records, settings  # noqa: F401
from test_train import ROOT, final_state

from aurljax import checkpoint, cli, config, state
from aurljax import mesh as meshes
from aurljax.data import corpus as corpora
from aurljax.data.corpus import CorpusError
from aurljax.errors import UserError
from aurljax.survival.lock import Lock
from aurljax.train import train

TESTS = Path(__file__).parent


def python(*arguments, **options):
    """A Python with one device, in which the tests' modules can be imported."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]), "XLA_FLAGS": ""}
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, **options)


@pytest.mark.parametrize(("seed", "kills"), [(0, 3), pytest.param(1, 20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_a_run_is_the_same_to_the_last_bit(tmp_path, corpus, seed, kills):  # noqa: F811
    """With saves in the background, a best, early stopping and a way back, all of them cut short."""
    done = python(TESTS / "killing.py", tmp_path, corpus, str(seed), str(kills), timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("killed after") == kills and "going back to" in done.stderr
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert records(killed) == records(whole)
    assert checkpoint.steps(killed / "checkpoints") == checkpoint.steps(whole / "checkpoints")
    assert (killed / "checkpoints/best").read_text() == (whole / "checkpoints/best").read_text()
    for name in ("", "checkpoints/best"):
        loaded = [final_state(folder / name, killed_settings(corpus)) for folder in (whole, killed)]
        for a, b in zip(*loaded, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_second_run_in_a_folder_is_refused_in_one_sentence(corpus, tmp_path, monkeypatch, capsys):  # noqa: F811
    def sample(parts, weights, step, folder):
        with pytest.raises(UserError, match=f"{tmp_path}: another run .process {os.getpid()} of .* is writing"):
            train(settings(corpus), tmp_path, progress=quiet())
        return {"numbers": step}

    c = settings(corpus, run={"steps": 4, "sample_every": 2})
    assert train(c, tmp_path, sample, quiet()).step == 4  # and the first is not disturbed
    assert [r["step"] for r in records(tmp_path) if "sample_numbers" in r] == [2, 4]
    code = "import os, sys, time; from etils import epath; from aurljax.survival.lock import Lock\n"
    code += "with Lock(epath.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=env, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    experiment = tmp_path / "experiment.py"
    experiment.write_text("def get_config():\n    from runs import tree\n    return tree()\n")
    monkeypatch.setattr("runs.tree", lambda: _tree(corpus), raising=False)
    assert cli.main(["train", f"--config={experiment}", "--workdir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"another run (process {other.pid} of " in said
    other.kill()  # as the system does: the lock goes with the process
    other.wait()
    with Lock(epath.Path(tmp_path)):
        pass


def _tree(corpus):  # noqa: F811
    from ml_collections import ConfigDict

    tree = config.to_dict(settings(corpus, run={"steps": 4}))
    return ConfigDict({k: {n: v for n, v in section.items()} if isinstance(section, dict) else section
                       for k, section in tree.items()})  # fmt: skip


FULL = """
import resource, sys
import runs
from pathlib import Path
from aurljax import checkpoint, cli, models
models.FAMILIES["bigram"] = runs.BIGRAM
workdir, config, hard = Path(sys.argv[1]), sys.argv[2], resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for steps, limit in ((4, hard), (8, 100), (8, 8192), (8, hard)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    status = cli.main(["train", f"--config={config}", "--workdir", str(workdir), f"--config.run.steps={steps}"])
    left = [str(p.relative_to(workdir)) for p in workdir.rglob("*") if "tmp" in p.name]
    print("ended", status, checkpoint.steps(workdir / "checkpoints"), left, flush=True)
    checkpoint.verify(checkpoint.find(workdir), ("params", "train"))
"""


def test_a_full_disk_ends_in_one_sentence_and_the_last_checkpoint_stays(corpus, tmp_path):  # noqa: F811
    """Files may not grow over 100 bytes, then not over 8 KiB, then as they like: the run is what it would have been."""
    experiment = tmp_path / "experiment.py"
    run = {"steps": 8, "log_every": 1, "checkpoint_every": 4}
    experiment.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config(): return ConfigDict({{'data': {{'corpus': {corpus!r}, 'length': 32}}, 'run': {run},"
        " 'optim': {'warmup': 2, 'schedule': 'constant'}, 'model': {'family': 'bigram', 'd_model': 64},"
        " 'mesh': {'data': 1}})\n"
    )
    done = python("-c", FULL, tmp_path / "run", experiment, timeout=200)
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended")]
    assert ended == ["ended 0 [4] []", "ended 2 [4] []", "ended 2 [4] []", "ended 0 [4, 8] []"], done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("aurljax train: ")]
    assert len(said) == 2 and "Traceback" not in done.stderr
    assert (
        f"{tmp_path / 'run'}" in said[0] and "cannot be written: File too large; make room and start again" in said[0]
    )
    assert f"cannot write checkpoints to {tmp_path / 'run' / 'checkpoints'}" in said[1]
    assert [r["step"] for r in records(tmp_path / "run")] == list(range(1, 9))


@pytest.mark.parametrize("how", ["deleted", "cut"])
def test_a_shard_that_goes_away_is_named_and_the_state_saved(tmp_path, monkeypatch, how):
    monkeypatch.setattr(corpora, "SHARD_PIECES", 1)
    monkeypatch.setattr("aurljax.data.assemble.SHARD_PIECES", 1)
    folder = make_corpus(tmp_path)
    shards = sorted(p for p in Path(folder).iterdir() if "arrayrecord" in p.name or "shard" in p.name)
    assert len(shards) == 24  # a shard that is open is read on though it was deleted; most are not yet
    c = settings(
        folder, run={"steps": 40, "checkpoint_every": 0, "eval_every": 0, "sample_every": 2}, data={"batch": 4}
    )
    whole = train(c, tmp_path / "whole", lambda *_: {}, quiet())
    kept = {p: p.read_bytes() for p in shards}

    def sample(parts, weights, step, where):
        for path in shards if step == 2 else ():
            path.unlink() if how == "deleted" else path.write_bytes(kept[path][:100])
        return {}

    progress = quiet()
    with pytest.raises(CorpusError, match=f"{folder}/.*: (the shard|record)") as caught:
        train(c, tmp_path / "parts", sample, progress)
    assert "ingest its files again" in str(caught.value)
    at = checkpoint.describe(tmp_path / "parts").step
    assert at >= 2 and f"the corpus failed after step {at}, which is saved" in progress.stream.getvalue()
    for path, data in kept.items():
        path.write_bytes(data)
    train(c, tmp_path / "parts", lambda *_: {}, quiet())
    assert records(tmp_path / "parts") == records(tmp_path / "whole") and whole.step == 40


def test_a_step_without_digests_is_passed_over_for_a_finished_one(corpus, tmp_path):  # noqa: F811
    """As when a run is killed, or still busy, between a commit and its digests."""
    c = settings(corpus, run={"steps": 4, "checkpoint_every": 2})
    train(c, tmp_path, progress=quiet())
    (tmp_path / "checkpoints/4/digests.json").unlink()
    assert checkpoint.find(tmp_path).name == "2"
    with meshes.use(meshes.make(4, 2)):
        checkpoint.load_state(tmp_path, state.abstract(config.build(c)))
    assert train(c, tmp_path, progress=quiet()).step == 4 and checkpoint.find(tmp_path).name == "4"
