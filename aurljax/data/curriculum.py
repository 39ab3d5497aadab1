"""What a run is shown first: the easier rows, more of them as it goes on, all of them at last (Bengio et al. 2009)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aurljax.fields import one_of, require

SHAPES = {  # share of the way from the first share of the rows to all of them, after a share x of the way in steps
    "linear": lambda x, start: x,
    "exponential": lambda x, start: (start ** (1 - x) - start) / (1 - start) if start < 1 else 1.0,
    "cosine": lambda x, start: (1 - math.cos(math.pi * x)) / 2,
}


@dataclass(frozen=True)
class Curriculum:
    """Which rows a step draws from. A row is as hard as its hardest window: the longest (packing puts like with like), or
    the one with most ids a bar."""

    by: str = "none"  # none, length or density
    start: float = 0.25  # share of the rows, the easiest, that the first step draws from
    until: float = 0.5  # share of the run from which on all are read in turn, epoch by epoch
    shape: str = "linear"  # linear, exponential (the pool grows by a constant factor) or cosine

    def __post_init__(self) -> None:
        one_of("data.curriculum.by", self.by, ("none", "length", "density"))
        one_of("data.curriculum.shape", self.shape, tuple(SHAPES))
        for name in ("start", "until"):
            value = getattr(self, name)
            require(0 < value <= 1, f"data.curriculum.{name}={value} must be above 0 and at most 1")

    def pool(self, rows: int, progress: float) -> int | None:
        """How many of so many rows, the easiest, are drawn from at a share of the run; None: all, in turn."""
        if self.by == "none" or progress >= self.until:
            return None
        way = SHAPES[self.shape](progress / self.until, self.start)
        return max(1, math.ceil(rows * (self.start + (1 - self.start) * way)))
