"""WORKDIR/log.txt: one line a record, `time LEVEL name=value ...`, or a sentence; of limited size."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping

from etils import epath

from aurljax.errors import UserError
from aurljax.records.progress import clock

FILE, MOST_BYTES, OLDER = "log.txt", 4 << 20, 3
PERCENT, BYTES = ("mfu", "data_wait", "augmented"), ("device_memory", "device_memory_peak", "host_memory")

FIRST = ("loss", "accuracy", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "data_wait")


class Journal:
    """Appends to log.txt; before it would grow beyond `most` bytes it becomes log.txt.1, that one log.txt.2, and so on,
    of which `older` stay. UserError where it cannot be written."""

    def __init__(self, workdir: epath.PathLike, most: int = MOST_BYTES, older: int = OLDER):
        self.path, self._most, self._older = epath.Path(workdir) / FILE, most, older
        self._size = self.path.stat().length if self.path.exists() else 0

    def write(self, text: str, level: str = "INFO") -> None:
        """One line, on disk when it returns."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {level} {text}\n"
        try:
            if self._size and self._size + len(line.encode()) > self._most:
                self._rotate()
            with self.path.open("a") as file:
                file.write(line)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}; make room and start again") from error
        self._size += len(line.encode())

    def _rotate(self) -> None:
        names = [self.path, *(self.path.parent / f"{FILE}.{i}" for i in range(1, self._older + 1))]
        for old, new in reversed(list(itertools.pairwise(names))):
            if old.exists():
                old.replace(new)
        self._size = 0


def line(step: int, steps: int, values: Mapping[str, float], left: float | None, sample: str = "") -> str:
    """A record as one line: step=30/100 epoch=0.5 eta=1:05 loss=2.1 ... sample=PATH."""
    words = [f"step={step}/{steps}"]
    words += [f"epoch={values['epoch']:.2f}"] if "epoch" in values else []
    words += [f"eta={clock(left).replace(' ', '')}"] if left is not None else []
    words += [f"stage={values['stage']:.0f}"] if "stage" in values else []
    names = [n for n in FIRST if n in values] + [n for n in values if n not in (*FIRST, "epoch", "stage", "step")]
    words += [f"{name}={shown(name, values[name])}" for name in names]
    return " ".join(words + ([f"sample={sample}"] if sample else []))


def shown(name: str, value: float) -> str:
    """A value as its name wants it: shares as 43.2%, bytes as 1.50GB."""
    if name in PERCENT:
        return f"{value:.1%}"
    if name in BYTES:
        return f"{value / 1e9:.2f}GB"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
