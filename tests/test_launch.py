"""The scripts that start things: which Python they choose, what they say when there is none, what they skip."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GOOD = f'exec "{sys.executable}" "$@"'
SHIM = "exit 127"


def _pretend(change):
    """A Python that runs what it is given after a change to itself, and fails at `-m venv`."""
    run = f"import importlib.util, sys; code = sys.argv.pop(1); {change}; exec(code)"
    return f'[[ "$1" == -c ]] && exec "{sys.executable}" -c \'{run}\' "$2" "$3"'


OLD = _pretend("sys.version_info = (3, 10, 1)")
BARE = _pretend('found = importlib.util.find_spec; importlib.util.find_spec = lambda m: m != "ensurepip" or None')
BROKEN = _pretend('sys.executable = "{0}"')  # {0}: its own path, where `-m venv` fails


def _setup(tmp_path, pythons, call, **env):
    """Runs bash with setup.sh sourced, in a copy of the repository's outline, with these Pythons alone on the PATH."""
    for name, body in pythons.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n".replace("{0}", str(path)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "launch").mkdir(exist_ok=True)
    for name in ("launch/setup.sh", "launch/constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for tool in ("cat", "cksum", "rm", "dirname"):
        path = tmp_path / "bin" / tool
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(next(p / tool for p in map(Path, os.environ["PATH"].split(":")) if (p / tool).exists()))
    return subprocess.run(
        ["/bin/bash", "-c", f'set -euo pipefail; source "{tmp_path}/launch/setup.sh"; {call}'],
        env={"PATH": str(tmp_path / "bin"), **env}, cwd="/", capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_falls_back_to_the_next_newest_that_works(tmp_path):
    pythons = {"python3.13": SHIM, "python3.12": BROKEN, "python3.11": OLD, "python3": BARE, "python": GOOD}
    done = _setup(tmp_path, pythons, "make_environment")
    version = ".".join(map(str, sys.version_info[:3]))
    assert (done.stdout, done.stderr) == (f"Python {version} from {sys.executable}\n", "")
    assert (tmp_path / ".venv" / "bin" / "python").resolve() == Path(sys.executable).resolve()


def test_one_sentence_tells_what_is_missing(tmp_path):
    done = _setup(
        tmp_path, {"python3.13": SHIM, "python3.12": BARE, "python3.11": BROKEN, "python3": OLD}, "make_environment"
    )
    assert done.returncode == 1 and not done.stdout
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(
        "aurljax needs Python 3.11, 3.12 or 3.13 with venv, but python3.13 does not run, python3.12 has no ensurepip, "
        "python3.11 cannot make an environment, python3 is version 3.10.1: install one,"
    )
    assert not (tmp_path / ".venv").exists()
    (tmp_path / "none").mkdir()
    none = _setup(tmp_path / "none", {}, "make_environment")
    assert none.returncode == 1 and "but none is on the PATH: install one" in none.stderr
    named = _setup(tmp_path, {}, "make_environment", PYTHON="python3.12")
    assert "python3.13" not in named.stderr and "python3.12 has no ensurepip" in named.stderr


def test_installs_once_for_the_same_pins(tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    fake = tmp_path / ".venv" / "bin" / "python"
    fake.write_text('#!/bin/bash\necho "$@" >>"${0%/*}/calls"\n')
    fake.chmod(0o755)

    def calls(extra):
        before = (fake.parent / "calls").read_text().count("-m pip install") if (fake.parent / "calls").exists() else 0
        assert _setup(tmp_path, {}, f"setup {extra}").returncode == 0
        text = (fake.parent / "calls").read_text()
        return text.count("-m pip install") - before, text.splitlines()[-1]

    count, line = calls("demo")
    assert count == 1 and f"--constraint {tmp_path}/launch/constraints.txt --editable {tmp_path}[demo]" in line
    assert calls("demo")[0] == 0
    assert calls("test")[0] == 1 and calls("test")[0] == 0
    stamp = tmp_path / ".venv" / "installed-demo"
    stamp.unlink()
    assert calls("demo")[0] == 0  # test brings what demo needs
    for name in ("installed-test", "installed-demo"):
        (tmp_path / ".venv" / name).write_text("other pins\n")
    assert calls("demo")[0] == 1


def test_constraints_pin_what_is_declared():
    """Every direct dependency has a pin, and each pin is one exact version."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [r for name in ("interchange", "pictures", "demo", "test") for r in project["optional-dependencies"][name]]
    wanted = {r.split(">")[0].split("[")[0].replace("_", "-").lower() for r in [*project["dependencies"], *extras]}
    lines = [s for s in (ROOT / "launch" / "constraints.txt").read_text().splitlines() if not s.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert wanted - {"aurljax"} <= pins.keys() and list(pins) == sorted(pins)


TRAINED = ["--config=a b.py", "--workdir=runs/x", '--config.data.corpus=it\'s "here"']


def _dry(script, *options, code=0, **env):
    """What a script would start, as words, line by line; or what it says against it."""
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / script), *options, *([] if code else ["--dry-run", "--", *TRAINED])],
        env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_a_workstation_installs_and_trains():
    installs, starts = map(shlex.split, _dry("workstation.sh", "--extra", "cuda").splitlines())
    assert installs == ["setup", "cuda"]
    assert starts == [f"{ROOT}/.venv/bin/python", "-m", "aurljax.cli", "train", *TRAINED]


def test_slurm_hands_itself_in_and_starts_one_process_a_node():
    options = ["--nodes=4", "--gpus", "2", "--account", "me"]
    _, hands_in = map(shlex.split, _dry("slurm.sh", *options).splitlines())
    export = f"--export=ALL,AURLJAX_ROOT={ROOT}"
    assert hands_in[:4] == ["sbatch", "--nodes=4", "--gpus-per-node=2", "--time=24:00:00"]
    assert hands_in[4:] == [export, "--account=me", f"{ROOT}/launch/slurm.sh", "--", *TRAINED]
    (starts,) = map(shlex.split, _dry("slurm.sh", AURLJAX_ROOT=str(ROOT), SLURM_JOB_ID="7").splitlines())
    assert starts[:2] == ["exec", "srun"] and starts[-len(TRAINED) - 1 :] == ["train", *TRAINED]
    assert "#SBATCH --ntasks-per-node=1" in (ROOT / "launch" / "slurm.sh").read_text()


def test_a_tpu_pod_gets_what_is_committed_and_starts_everywhere():
    packs, copies, starts = map(shlex.split, _dry("tpu_pod.sh", "--name", "pod", "--zone=z").splitlines())
    assert packs[3:5] == ["archive", "--format=tar.gz"] and packs[-1] == "HEAD"
    assert copies[5:] == [packs[5].removeprefix("--output="), "pod:aurljax.tar.gz", "--zone=z", "--worker=all"]
    assert starts[5:8] == ["pod", "--zone=z", "--worker=all"]
    on_a_worker = shlex.split(starts[8].removeprefix("--command="))
    started = ["bash", "aurljax/launch/workstation.sh", "--extra", "tpu", "--", *TRAINED, "--coordinator=auto"]
    assert on_a_worker[-len(started) :] == started


def test_a_kubernetes_job_tells_each_pod_who_it_is():
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all(
        _dry("gke.sh", "--image", "me/aurljax:1", "--pods", "3", "--name=big", "--volume", "disk", "--accelerator=h")
    )
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["completionMode"]) == (3, 3, "Indexed")
    assert container["args"] == TRAINED and container["command"][-1] == "train"
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env == {"AURLJAX_COORDINATOR": "big-0.big:8476", "AURLJAX_PROCESSES": "3", "AURLJAX_PROCESS": None}
    assert service["metadata"]["name"] == spec["subdomain"] == "big" and container["image"] == "me/aurljax:1"
    assert service["spec"]["selector"] == {"job-name": "big"} and container["resources"]["limits"] == {
        "nvidia.com/gpu": 8
    }


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("workstation.sh", [], "nothing to train; end with -- --config=FILE.py"),
        ("slurm.sh", ["--node", "3"], "unknown option --node"),
        ("slurm.sh", ["--nodes"], "--nodes needs a value"),
        ("tpu_pod.sh", ["--zone=z", "--", "--config=c.py"], "--name and --zone say which pod"),
        ("gke.sh", ["--", "--config=c.py"], "--image names what the pods run"),
        ("workstation.sh", ["train"], "what is train?"),
    ],
)
def test_a_script_says_what_is_wrong_and_how_it_is_used(script, options, words):
    first, usage = _dry(script, *options, code=2).splitlines()
    assert words in first and usage.startswith(f"usage: bash launch/{script} ")
