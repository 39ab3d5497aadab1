"""Numbers of a run over steps: from the devices to metrics.jsonl (one line a record), TensorBoard and the progress."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping

import jax
from etils import epath

from aurljax import atomic
from aurljax.errors import UserError
from aurljax.progress import Progress

FILE = "metrics.jsonl"
SHOWN = ("loss", "accuracy", "valid_loss")


class Writer:
    """Appends records to WORKDIR/metrics.jsonl and WORKDIR/tensorboard.

    Opened at step `start` (0: a new run) it first drops what a stopped run wrote beyond that step, so that the file
    reads as that of a run never interrupted.
    """

    def __init__(self, workdir: epath.PathLike, start: int = 0):
        from tensorboardX import SummaryWriter  # here: reading metrics needs none of it

        self.path = epath.Path(workdir) / FILE
        kept = [record for record in read(workdir) if record["step"] <= start] if start else []
        atomic.write(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=start + 1, flush_secs=10)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line {"step": ..., ...} and one TensorBoard scalar a value; on disk when it returns (the line)."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}; make room and start again") from error
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes TensorBoard."""
        self._board.close()


def read(workdir: epath.PathLike) -> list[dict[str, float]]:
    """The records of a run, oldest first; a last line cut short by a crash is left out."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]  # a whole line ends with a newline
    return [json.loads(line) for line in lines]


class Log(contextlib.AbstractContextManager):
    """Metrics on their way from the devices, fetched one push late: the loop never waits for a step in flight."""

    def __init__(self, workdir: epath.Path, start: int, steps: int, progress: Progress):
        self.last: dict[str, float] = {}
        self._writer = Writer(workdir, start) if jax.process_index() == 0 else None
        self._progress, self._steps, self._waiting = progress, steps, []
        self._first: tuple[int, float] | None = None  # step and time of the first record, after compilation
        self._previous: tuple[int, float] | None = None

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
        rate, left = self._pace(at, values) if "weight" in values else (None, None)
        self.last |= {"step": at} | values
        if self._writer:
            self._writer.write(at, values | ({"tokens_per_second": rate} if rate else {}))
            known = self.last if self._progress.live else values  # a bar keeps what it showed, a log repeats nothing
            if shown := {n: known[n] for n in SHOWN if n in known}:
                self._progress.update(at, shown, rate, left)

    def _pace(self, at: int, values: Mapping[str, float]) -> tuple[float | None, float | None]:
        """(tokens per second since the last record, seconds left at the mean pace since the first)."""
        now, first, before = time.monotonic(), self._first, self._previous
        self._first, self._previous = first or (at, now), (at, now)
        if first is None or before is None or at == first[0]:
            return None, None
        rate = values["weight"] * (at - before[0]) / (now - before[1])
        return rate, (now - first[1]) / (at - first[0]) * (self._steps - at)
