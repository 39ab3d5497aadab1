"""What a checkpoint tells of how it was made, which code made it, and the trace of a few steps."""

import io
import json
import shutil
import subprocess

import jax
import pytest
from runs import BIGRAM, bigram, bigram_config, make_corpus  # noqa: F401

from aurljax import config, inspection, models
from aurljax.cli import main
from aurljax.data.corpus import Corpus
from aurljax.errors import UserError
from aurljax.records import code, metrics
from aurljax.records.progress import Progress
from aurljax.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of eight steps with a checkpoint in its middle and a trace of two steps."""
    folder = tmp_path_factory.mktemp("inspect")
    corpus, progress = make_corpus(folder), Progress(1, io.StringIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "bigram", BIGRAM)
        settings = bigram_config(
            data={"corpus": corpus, "length": 32}, mesh={"data": 4, "model": 2}, optim={"ema": 0.9},
            run={"steps": 8, "log_every": 2, "eval_every": 4, "eval_batches": 1, "checkpoint_every": 4},
            profile={"start": 3, "steps": 2},
        )  # fmt: skip
        train(settings, folder / "run", progress=progress)
    return folder / "run", corpus, settings, progress.stream.getvalue()


def test_everything_that_made_a_run(run):
    folder, corpus, settings, _ = run
    found = inspection.inspect(folder)
    assert found["step"] == 8 and found["checkpoint"].endswith("run/checkpoints/8")
    assert found["config"]["data.length"] == {"value": 32, "default": 512}
    assert found["config"]["optim.ema"] == {"value": 0.9, "default": 0.0} and "optim.b2" not in found["config"]
    parts = config.build(settings)
    assert found["codec"]["fingerprint"] == parts.codec.fingerprint
    assert found["corpora"] == [{"path": corpus, "digest": Corpus(corpus).digest, "licence": ""}]
    assert found["packages"]["jax"] == jax.__version__ and {"numpy", "optax", "orbax-checkpoint"} <= {
        *found["packages"]
    }
    assert found["device"]["mesh"] == {"data": 4, "model": 2} and found["device"]["platform"] == "cpu"
    assert found["code"]["aurljax"]
    last = {}
    for record in metrics.read(folder):
        last |= record
    assert found["metrics"] == {k: v for k, v in last.items() if k != "step"}
    on_disk = {str(p.relative_to(found["checkpoint"])): p.stat().st_size
               for p in (folder / "checkpoints/8").rglob("*") if p.is_file()}  # fmt: skip
    assert found["files"] == on_disk


def test_metrics_are_those_of_the_step(run):
    folder = run[0]
    found = inspection.inspect(folder / "checkpoints/4")["metrics"]
    rows = {r["step"]: r for r in metrics.read(folder) if "loss" in r}
    assert found["loss"] == rows[4]["loss"] != rows[8]["loss"] and "valid_loss" in found


def test_a_checkpoint_without_its_run_still_tells(run, tmp_path):
    """A copied step has no metrics.jsonl beside it."""
    shutil.copytree(run[0] / "checkpoints/8", tmp_path / "far/8")
    found = inspection.inspect(tmp_path / "far/8")
    assert found["metrics"] == {} and found["codec"]["name"] == "score"
    assert "metrics until this step: not recorded" in inspection.lines(found)


def test_the_command(run, tmp_path, capsys):
    assert main(["inspect", str(run[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == inspection.inspect(run[0])
    assert main(["inspect", str(run[0] / "checkpoints/4")]) == 0
    text = capsys.readouterr().out
    assert "checkpoints/4: step 4" in text and "data.length" in text and "32  (default 512)" in text
    assert "mesh 4 data x 2 model" in text and "no licence noted" in text
    assert main(["inspect", str(tmp_path / "none")]) == 2
    assert f"no checkpoint at {tmp_path}/none" in capsys.readouterr().err
    shutil.copytree(run[0], tmp_path / "run")
    (tmp_path / "run/checkpoints/8/digests.json").write_text("{")
    assert main(["inspect", str(tmp_path / "run")]) == 2
    assert "checkpoints/8/digests.json is damaged" in capsys.readouterr().err


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_which_code_ran(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    package = tmp_path / "repository/package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert code.version(package)["commit"] is None  # no repository
    git(tmp_path / "repository", "init", "-q")
    git(tmp_path / "repository", "commit", "-q", "--allow-empty", "-m", "theirs")
    assert code.version(package)["commit"] is None  # installed inside somebody else's
    git(tmp_path / "repository", "add", ".")
    git(tmp_path / "repository", "commit", "-qm", "first")
    found = code.version(package)
    assert found["commit"] == git(package, "rev-parse", "HEAD").strip() and found["changed"] == []
    (package / "__init__.py").write_text("x = 1\n")
    (tmp_path / "repository/notes.txt").write_text("beside the package")
    assert [name.split("/")[-1] for name in code.version(package)["changed"]] == ["__init__.py"]


def test_a_trace_of_the_steps_that_were_asked_for(run):
    folder, _, _, said = run
    assert list((folder / "profile").rglob("*.xplane.pb"))
    assert f"profiled steps 4 to 5: {folder / 'profile'}" in said
    with pytest.raises(UserError, match=r"profile\.steps=-1 must be at least 0"):
        bigram_config(profile={"steps": -1})
