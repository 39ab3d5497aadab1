"""One example of a batch, told in words: where it comes from and what was done to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aurljax.data.augment import Plan
from aurljax.data.objective import Asked


class Example(NamedTuple):
    """A window as a batch holds it: bars start..stop-1 of a piece, what was done to it, its ids."""

    piece: str
    bars: tuple[int, int]
    prepared: dict[str, int]  # notes of the piece that preprocessing took, by reason
    plan: Plan  # drawn for it
    done: Plan  # the part of it that was done: all, or where that was too long the transposition alone
    ids: np.ndarray
    kind: str | None = None  # over what holes were drawn
    asked: Asked | None = None  # the holes that are there
    left_out: int = 0  # last bars that it went without, for holes made it too long

    def line(self) -> str:
        """piece, bars (from 0), ids; then each thing done, with its drawn values."""
        a, b = self.bars
        bars = f"bar {a}" if b == a + 1 else f"bars {a} to {b - 1}"
        done = [f"{name} {_words(values)}" for name, values in self.done]
        undone = ", ".join(name for name, _ in self.plan if name not in dict(self.done))
        done += [f"without {undone}, which made it too long"] * bool(undone)
        if self.kind:
            done.append(self.asked.words(self.kind) if self.asked else f"no room for holes over {self.kind}")
        done += [f"without {self.left_out} bars at the end, for holes made it too long"] * bool(self.left_out)
        done += [f"{n:,} notes of the piece {what}" for what, n in self.prepared.items() if n]
        return f"{self.piece}, {bars}, {len(self.ids):,} ids: {'; '.join(done) or 'as it is written'}"


def _words(values: Any) -> str:
    if isinstance(values, tuple):
        return " ".join(map(_words, values)) or "none"
    return f"{values:.4g}" if isinstance(values, float) else str(values)
