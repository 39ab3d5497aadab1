"""Which checkpoints of a run stay: the newest, every m-th, the best by a metric, and those a run asks for.

The best is named by a small file, CHECKPOINTS/best, that stands for the checkpoint wherever a path to one is taken. It
is replaced only when the better checkpoint is on disk, and what it names is never deleted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from etils import epath

from aurljax import atomic

BEST = "best"  # a file; Orbax takes folders whose names are numbers for steps, and nothing else


class Best(NamedTuple):
    """The checkpoint with the best value of a metric: its step, the metric as run.best spells it, the value."""

    step: int
    metric: str
    value: float

    def beaten(self, metric: str, value: float) -> bool:
        """Whether a value is better: of another metric always, else lower; a NaN never is."""
        return not math.isnan(value) and (metric != self.metric or better(metric, value, self.value))


@dataclass
class Retention:
    """A preservation policy of Orbax: the newest `keep`, steps that are multiples of `every` (0: none), and `pinned`."""

    keep: int
    every: int = 0
    pinned: set[int] = field(default_factory=set)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        """Of each checkpoint, oldest first, whether it stays."""
        steps = [c.step for c in checkpoints]
        stay = {*steps[-self.keep :], *self.pinned}
        return [step in stay or (self.every > 0 and step % self.every == 0) for step in steps]


def better(metric: str, value: float, than: float) -> bool:
    """Whether a value of a metric is better: lower, or higher where the name begins with a minus."""
    return value > than if metric.startswith("-") else value < than


def name(metric: str) -> str:
    """The name under which a metric that may begin with a minus is recorded."""
    return metric.removeprefix("-")


def read(folder: epath.Path) -> Best | None:
    """What a folder's `best` names; None where there is none, or where it is not readable."""
    try:
        row = json.loads((folder / BEST).read_text())
        return Best(row["step"], row["metric"], row["value"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(folder: epath.Path, best: Best) -> None:
    """Replaces `best` at once."""
    atomic.write(folder / BEST, json.dumps(best._asdict()) + "\n")
