"""Eight CPU devices for every test, and programs compiled once for all of them: set before JAX starts."""

import atexit
import os
import shutil
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the workers of pytest-xdist inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="aurljax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest

MAPPINGS = 20_000  # of memory; Linux allows a process 65,530, and every compiled program takes some


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Lets compiled programs go between modules where there are many: a process without mappings left crashes."""
    yield
    if os.path.exists("/proc/self/maps") and "jax" in sys.modules:
        with open("/proc/self/maps") as maps:
            many = sum(1 for _ in maps) > MAPPINGS
        if many:
            sys.modules["jax"].clear_caches()


@pytest.fixture(params=[(1, 1), (4, 2)], ids=lambda s: f"mesh{s[0]}x{s[1]}")
def mesh(request):
    """A (data, model) mesh, entered for the test."""
    from aurljax import mesh as meshes

    m = meshes.make(data=request.param[0], model=request.param[1])
    with meshes.use(m):
        yield m


@pytest.fixture
def one_segment(monkeypatch):
    """The cache does not grow while ids are written, so that fewer programs are compiled."""
    from aurljax.decode import loop

    monkeypatch.setattr(loop, "segments", lambda plan, width, window: [(width + plan.most, plan.most)])


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with MIDI, a corpus and a trained run, as the command makes them."""
    import json

    from scores import tune

    from aurljax.cli import main

    home = tmp_path_factory.mktemp("home")
    (home / "midi").mkdir()
    names = [f"tune{i}" for i in range(12)]
    for i, name in enumerate(names):
        tune(i).save_midi(home / "midi" / f"{name}.mid")
    (home / "splits.json").write_text(json.dumps({"train": names[:8], "valid": names[8:10], "test": names[10:]}))
    ingest = ["ingest", str(home / "midi"), "--out", str(home / "corpus"), "--splits", str(home / "splits.json")]
    assert main([*ingest, "--workers", "1"]) == 0
    settings = {"data.corpus": home / "corpus", "run.steps": 12, "data.length": 256, "run.eval_every": 6,
                "run.sample_every": 12, "run.samples": 1, "mesh.data": 1, "codec.options.infill": True,
                "data.objective.span": 0.2, "model.layers": 1}  # fmt: skip
    config = os.path.join(os.path.dirname(__file__), "../configs/tiny.py")
    flags = [f"--config={config}", *(f"--config.{name}={value}" for name, value in settings.items())]
    assert main(["train", *flags, "--workdir", str(home / "run")]) == 0
    return home


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: pass --slow to run it"))
