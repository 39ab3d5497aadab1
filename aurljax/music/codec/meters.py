"""Bars on a grid: which meters a codec can write, and a score's meter map laid out in whole bars of them."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aurljax.music.score import Score, rounded

LONGEST = ((2, 4), (4, 8), (8, 16), (16, 15))  # (denominator, largest numerator): bars of at most 8 quarters


@dataclasses.dataclass(frozen=True)
class Meters:
    """The meters whose bars are whole numbers of positions, `grid` of them per quarter."""

    grid: int

    @functools.cached_property
    def table(self) -> tuple[tuple[int, int], ...]:
        """(numerator, denominator) of each meter id."""
        every = ((n, d) for d, most in LONGEST for n in range(1, most + 1))
        return tuple((n, d) for n, d in every if 4 * self.grid * n % d == 0)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """[meters] positions per bar of each meter id."""
        return np.array([4 * self.grid * n // d for n, d in self.table])

    def bars(self, score: Score, last: int, lost: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """(lines [bars + 1], meter id [bars]) covering position `last`. A meter that changes inside a bar cuts it into
        a bar of its own meter; where there is none of that length, the change waits for the bar line."""
        m = score.meters
        at = rounded(m["tick"] * self.grid, score.resolution)
        last = max(last, int(at[-1]))
        lines, meters, here = [], [], 0
        for i, row in enumerate(m):
            stop = int(at[i + 1]) if i + 1 < len(m) else last + 1
            meter = self._meter(int(row["numerator"]), int(row["denominator"]), lost)
            if stop <= here:
                continue
            full, rest = divmod(stop - here, int(self.lengths[meter]))
            part = self._part(rest) if i + 1 < len(m) else None
            if rest and part is None:
                full, rest = full + 1, 0
                lost["moved_meters"] = lost.get("moved_meters", 0) + (i + 1 < len(m))
            lines.append(here + self.lengths[meter] * np.arange(full))
            meters.append(np.full(full, meter))
            here += full * int(self.lengths[meter])
            if rest:
                lines.append([here])
                meters.append([part])
                here += rest
        return np.append(np.concatenate(lines), here).astype(np.int64), np.concatenate(meters).astype(np.int64)

    def _meter(self, numerator: int, denominator: int, lost: dict[str, int]) -> int:
        if (numerator, denominator) in self.table:
            return self.table.index((numerator, denominator))
        lost["replaced_meters"] = lost.get("replaced_meters", 0) + 1
        length, rest = divmod(4 * self.grid * numerator, denominator)
        same = self._part(length) if not rest else None
        return self.table.index((4, 4)) if same is None else same

    def _part(self, length: int) -> int | None:
        """The meter of a bar of so many positions, quarters preferred."""
        for d in (4, 8, 16, 2):
            n, rest = divmod(length * d, 4 * self.grid)
            if not rest and (n, d) in self.table:
                return self.table.index((n, d))
        return None
