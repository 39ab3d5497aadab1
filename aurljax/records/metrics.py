"""Numbers of a run over steps: from the devices to metrics.jsonl (one line a record), TensorBoard and the progress."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from aurljax import atomic
from aurljax.errors import UserError
from aurljax.records import journal
from aurljax.records.anomalies import Watch
from aurljax.records.meter import Meter
from aurljax.records.progress import Progress

FILE = "metrics.jsonl"
SHOWN = ("stage", "loss", "accuracy", "valid_loss", "mfu")


class Writer:
    """Appends records to WORKDIR/metrics.jsonl and WORKDIR/tensorboard.

    Opened at step `start` (0: a new run) it first drops what a stopped run wrote beyond that step, so that the file
    reads as that of a run never interrupted.
    """

    def __init__(self, workdir: epath.PathLike, start: int = 0, board: Any = None):
        from tensorboardX import SummaryWriter  # here: reading metrics needs none of it

        self.path = epath.Path(workdir) / FILE
        kept = [record for record in read(workdir) if record["step"] <= start] if start else []
        atomic.write(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        folder = str(self.path.parent / "tensorboard")
        try:
            self._board = SummaryWriter(folder, purge_step=start + 1, flush_secs=10)
        except ImportError as error:  # of a bucket
            raise UserError(f"{folder} needs a package that is not installed: {error}") from None
        self._remote = board

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line {"step": ..., ...}, on disk when it returns, and one scalar a value for TensorBoard and `board`."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}; make room and start again") from error
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._remote:
            self._remote.write(step, values)

    def close(self) -> None:
        """Flushes TensorBoard and ends the run of Weights & Biases."""
        self._board.close()
        if self._remote:
            self._remote.close()


def read(workdir: epath.PathLike) -> list[dict[str, float]]:
    """The records of a run, oldest first; a last line cut short by a crash is left out."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]  # a whole line ends with a newline
    return [json.loads(line) for line in lines]


class Log(contextlib.AbstractContextManager):
    """Metrics on their way from the devices, fetched one push late: the loop never waits for a step in flight.

    `meter` adds to each record of a training step what the step itself does not know; `board` is one more place to write.
    Anomalies are looked for in the records after step `begin`.
    """

    def __init__(
        self, workdir: epath.Path, start: int, steps: int, progress: Progress, meter: Meter, board: Any = None,
        begin: int = 0,
    ):  # fmt: skip
        self.last: dict[str, float] = {}
        self.sample = ""  # path of the last sample
        self._writer = Writer(workdir, start, board) if jax.process_index() == 0 else None
        earlier = [record for record in read(workdir) if record["step"] > begin]
        self._watch = Watch(earlier) if self._writer else None
        self._progress, self._steps, self._meter, self._waiting = progress, steps, meter, []

    def push(self, at: int, metrics: Mapping[str, jax.Array | float], prefix: str = "") -> None:
        """Takes the metrics of a step and writes those taken before."""
        self.flush()
        self._waiting = [(at, metrics, prefix)]

    def flush(self) -> None:
        """Writes all that was taken; waits for it."""
        for at, metrics, prefix in self._waiting:
            values = {prefix + name: float(value) for name, value in jax.device_get(metrics).items()}
            self._write(at, values)
        self._waiting = []

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Writes the rest, unless an error ended the run, and closes the files."""
        if kind is None:
            self.flush()
        self._progress.close()
        if self._writer:
            self._writer.close()

    def _write(self, at: int, values: dict[str, float]) -> None:
        left = None
        if "weight" in values:
            found, left = self._meter.read(at, values["weight"])
            values |= found
        self.last |= {"step": at} | values
        if self._writer:
            self._writer.write(at, values)
            self._progress.record(journal.line(at, self._steps, values, left, self.sample))
            known = self.last if self._progress.live else values  # a bar keeps what it showed, a log repeats nothing
            if shown := {n: known[n] for n in SHOWN if n in known}:
                self._progress.update(at, shown, values.get("tokens_per_second"), left)
            for anomaly in self._watch.add({"step": at} | values):
                self._progress.note(anomaly.text, "WARNING")
