"""What a record says beside the step's own metrics: operations, waiting, the text log, Weights & Biases."""

import io
import re
import sys
import time

import numpy as np
import pytest
from runs import bigram, bigram_config, make_corpus  # noqa: F401

from aurljax import config, state, step
from aurljax import mesh as meshes
from aurljax.data.batch import Batch
from aurljax.errors import UserError
from aurljax.feed import Feed
from aurljax.records import flops, journal, machine, metrics
from aurljax.records.journal import Journal
from aurljax.records.progress import Progress
from aurljax.train import train


def decoder(tied: bool, layers: int, length: int) -> config.Parts:
    model = {"family": "decoder", "d_model": 128, "layers": layers, "heads": 4, "kv_heads": 4, "d_ff": 384}
    model |= {"attention": "xla", "scan": False, "remat": False, "tie_embeddings": tied}
    return config.build(config.from_dict({"model": model, "data": {"length": length, "batch": 2}}))


@pytest.mark.parametrize(("tied", "layers", "length"), [(True, 1, 512), (False, 2, 128)])
def test_operations_are_those_of_the_compiled_step(tied, layers, length):
    """XLA counts what is no product, too (softmax, norms, the optimizer): some per cent more. Two counts, 10 %."""
    parts = decoder(tied, layers, length)
    ids = np.zeros((2, length), np.int32)
    features = dict.fromkeys(parts.codec.feature_sizes, ids)
    batch = Batch(ids, ids, np.ones(ids.shape, np.float32), ids, ids, features)
    with meshes.use(meshes.make(1, 1)):
        compiled = step.train_step(parts).lower(state.abstract(parts), meshes.place(batch)).compile()
    counted = compiled.cost_analysis()["flops"]
    assert flops.per_slot(parts, length) * ids.size == pytest.approx(counted, rel=0.1)


def test_a_frozen_weight_costs_no_gradient():
    parts = config.build(bigram_config())
    assert flops.per_slot(parts, 32) == 6 * parts.model.d_model * parts.model.vocab  # tables are looked up


@pytest.mark.parametrize(
    ("kind", "tera"),
    [("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H200", 989),
     ("TPU v4", 275), ("TPU v4 lite", None), ("TPU v5 lite", 197), ("TPU v5p", 459), ("TPU v6 lite", 918),
     ("NVIDIA A10", None), ("cpu", None), ("TPU v7", None), ("NVIDIA H1000", None)],
)  # fmt: skip
def test_peaks(kind, tera):
    assert flops.peak(kind) == (None if tera is None else tera * 1e12)


class Device:
    """Runs steps of `busy` seconds one after the other, as a device does whose host runs ahead."""

    def __init__(self, busy: float):
        self.busy, self.free = busy, 0.0

    def run(self):
        self.free = max(self.free, time.perf_counter()) + self.busy
        return Running(self.free)


class Running:
    """The output of a step that ends at a time."""

    def __init__(self, end: float):
        self.end = end

    def block_until_ready(self):
        time.sleep(max(0.0, self.end - time.perf_counter()))
        return self


@pytest.mark.parametrize(
    ("make", "busy", "share"), [(0.04, 0.0, 1.0), (0.0, 0.04, 0.0), (0.03, 0.1, 0.0), (0.1, 0.05, 0.5)]
)
def test_only_what_devices_wait_for_is_lost(make, busy, share):
    """Batches of `make` seconds, steps of `busy`: the loop waits in every case, the devices where batches are slower."""
    device = Device(busy)
    with Feed(time.sleep(make) or i for i in range(8)) as feed:
        for at, _ in enumerate(feed, 1):
            feed.dispatched(at, device.run(), 2.0)
            if at == 1:
                first = feed.moment(1)
        last = feed.moment(8)
        assert feed.moment(99) is None
    assert last.work - first.work == 14
    assert (last.starved - first.starved) / (last.time - first.time) == pytest.approx(share, abs=0.15)


def test_the_text_log_is_bounded_and_loses_the_oldest(tmp_path):
    log = Journal(tmp_path, most=1000, older=2)
    for i in range(100):
        log.write(f"number {i}", "INFO")
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["log.txt", "log.txt.1", "log.txt.2"]
    assert all((tmp_path / f).stat().st_size <= 1000 for f in files)
    kept = "".join((tmp_path / f).read_text() for f in ("log.txt.2", "log.txt.1", "log.txt"))
    numbers = [int(n) for n in re.findall(r"number (\d+)", kept)]
    assert numbers == list(range(numbers[0], 100)) and len(numbers) > 40
    Journal(tmp_path, most=1000, older=2).write("x" * 900)  # a later process knows the size of the file it finds
    assert all((tmp_path / f).stat().st_size <= 1000 for f in files)
    with pytest.raises(UserError, match=f"{tmp_path / 'gone' / 'log.txt'} cannot be written"):
        Journal(tmp_path / "gone").write("x")


def test_a_line_has_all_that_a_record_has():
    values = {"loss": 2.12345, "epoch": 0.5, "mfu": 0.4321, "host_memory": 1.5e9, "tokens_per_second": 12345.6}
    text = journal.line(30, 100, values, 65.0, "samples/0000030-0.mid")
    assert text == ("step=30/100 epoch=0.50 eta=1:05 loss=2.123 tokens_per_second=12346 mfu=43.2% host_memory=1.50GB "
                    "sample=samples/0000030-0.mid")  # fmt: skip


def test_memory_of_this_process():
    before = machine.memory()["host_memory"]
    block = np.ones(1 << 25)
    assert machine.memory()["host_memory"] - before > 0.5 * block.nbytes  # a machine in need may take pages back
    assert set(machine.memory()) <= {"device_memory", "device_memory_peak", "host_memory"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def settings(corpus, **run) -> config.Config:
    run = {"steps": 6, "log_every": 2, "eval_every": 4, "eval_batches": 1} | run
    data = {"corpus": corpus, "length": 32, "transpose": [-2, 2]}
    return bigram_config(mesh={"data": 4, "model": 2}, data=data, run=run)


def sample(parts, weights, step, folder):
    return {"notes": 1.0}


def test_a_run_says_all_this(corpus, tmp_path):
    progress = Progress(6, io.StringIO())
    train(settings(corpus, sample_every=4), tmp_path, sample, progress)
    rows = [r for r in metrics.read(tmp_path) if "loss" in r]
    assert [r["step"] for r in rows] == [2, 4, 6]
    assert all(0 < r["augmented"] < 1 and r["windows"] >= 8 and r["host_memory"] > 1e8 for r in rows)
    assert all("mfu" not in r for r in rows)  # nobody knows the peak of this CPU
    assert all(0 <= r["data_wait"] <= 1 and r["tokens_per_second"] > 0 for r in rows[1:])
    assert rows[2]["epoch"] == pytest.approx(3 * rows[0]["epoch"])
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO bigram, ", lines[0])
    found = next(line for line in lines if "step=6/6" in line)
    for name in ("epoch", "eta", "loss", "learning_rate", "grad_norm", "tokens_per_second", "data_wait", "host_memory",
                 "windows", "augmented", "skipped"):  # fmt: skip
        assert f" {name}=" in found
    assert found.endswith(f"sample={tmp_path}/samples/0000004-*")
    assert "data_wait" not in progress.stream.getvalue()  # a quiet line for people


def test_weights_and_biases_where_it_is_missing(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"run\.wandb=songs .* not installed: `pip install wandb`"):
        train(settings(corpus, wandb="songs"), tmp_path / "run", progress=Progress(1, io.StringIO()))
    assert not (tmp_path / "run").exists()


WANDB = """
import json
def init(**given):
    return Run(given)
class Run:
    def __init__(self, given):
        self.file = open(given["dir"] + "/received", "a")
        self.log(given)
    def log(self, *values, **named):
        print(json.dumps([*values, named]), file=self.file, flush=True)
    def finish(self):
        self.log("finished")
"""


def test_what_weights_and_biases_receives(corpus, tmp_path, monkeypatch):
    """A package of that name that writes down what it is given: every record, and one run for a resumed folder."""
    (tmp_path / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    for steps in (4, 6):
        train(settings(corpus, wandb="songs", steps=steps, checkpoint_every=4), tmp_path / "run",
              progress=Progress(1, io.StringIO()))  # fmt: skip
    import json

    rows = [json.loads(line) for line in (tmp_path / "run/received").read_text().splitlines()]
    begun = [r[0] for r in rows if isinstance(r[0], dict) and "project" in r[0]]
    assert [b["project"] for b in begun] == ["songs", "songs"] and begun[0]["id"] == begun[1]["id"]
    sent = [{"step": r[1]["step"], **r[0]} for r in rows if r[1]]
    assert sent == metrics.read(tmp_path / "run") and rows[-1][0] == "finished"
