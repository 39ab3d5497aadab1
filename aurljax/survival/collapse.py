"""Collapsed samples: music that says one thing over and over, or nothing, beside what held-out music does.

Three measures of a piece, and the bound of each from held-out windows of the run's own length. A bound lies beyond the
quantile of 5 % (or 95 %) by as much as that lies from the median, or by a least margin if that is more, but never further
than half of the way to what a collapsed piece has: constant music is caught wherever real music is not constant itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aurljax.music.score import Score, rounded

if TYPE_CHECKING:
    from aurljax.data.pipeline import Dataset

GRAM = 8  # notes
WINDOWS = 128  # held-out windows that are measured
LEAST = {"repetition": 0.25, "entropy": 0.75, "empty": 0.25}  # margins
WORST = {"repetition": 1.0, "entropy": 0.0, "empty": 1.0}  # of a collapsed piece


def measure(score: Score) -> dict[str, float]:
    """Repetition: share of runs of eight notes, by pitch and time to the next note, that came before. Entropy: of the
    pitch classes, in bits. Empty: share of bars in which nothing sounds; 1 for a piece without notes."""
    return {"repetition": _repetition(score), "entropy": _entropy(score), "empty": _empty(score)}


def mean(scores: Iterable[Score]) -> dict[str, float]:
    """The mean of each measure over pieces."""
    rows = [measure(score) for score in scores]
    return {name: float(np.mean([row[name] for row in rows])) for name in LEAST}


@dataclass(frozen=True)
class Judge:
    """What samples are held to: the largest repetition and share of empty bars, the smallest entropy."""

    bounds: Mapping[str, float]

    def verdict(self, values: Mapping[str, float]) -> str:
        """In words, which measure of a sample lies beyond its bound; "" where none does or none was taken."""
        for name, bound in self.bounds.items():
            value = values.get(name, bound)
            if (value > bound) if WORST[name] else (value < bound):
                side = "above" if WORST[name] else "below"
                return f"samples have collapsed: {name} {value:.3g} is {side} {bound:.3g}, where held-out music is not"
        return ""

    def line(self) -> str:
        """The bounds in words."""
        parts = (f"{name} at {'most' if WORST[name] else 'least'} {bound:.3g}" for name, bound in self.bounds.items())
        return ", ".join(parts)


def of(scores: Iterable[Score]) -> Judge:
    """The judge whose bounds follow from these pieces."""
    rows = [measure(score) for score in scores]
    return Judge({name: _bound(name, np.array([row[name] for row in rows])) for name in LEAST})


def windows(data: Dataset) -> list[Score]:
    """Windows of a split, as many as are measured and evenly spread, as music."""
    source = data.sources[0]
    chosen = np.unique(np.linspace(0, len(source.windows) - 1, WINDOWS).astype(int))
    return [data.codec.decode(source.window(int(w), None, 0.0)[0]) for w in chosen]


def _bound(name: str, values: np.ndarray) -> float:
    worst, middle = WORST[name], float(np.median(values))
    tail = float(np.quantile(values, 0.95 if worst else 0.05))
    margin = max(abs(tail - middle), LEAST[name])
    return float(tail + np.sign(worst - tail) * min(margin, abs(worst - tail) / 2))


def _repetition(score: Score) -> float:
    if len(score) <= GRAM + 1:
        return 0.0
    steps = np.diff(rounded(score.onset * 24, score.resolution))
    notes = score.pitch[:-1].astype(np.int64) + 128 * steps
    grams = np.lib.stride_tricks.sliding_window_view(notes, GRAM)
    return 1 - len(np.unique(grams, axis=0)) / len(grams)


def _entropy(score: Score) -> float:
    counts = np.bincount(score.pitch % 12, minlength=12)
    shares = counts[counts > 0] / max(len(score), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def _empty(score: Score) -> float:
    if not len(score):
        return 1.0
    edges: Any = score.bar_ticks
    first = np.searchsorted(edges, score.onset, "right") - 1
    last = np.searchsorted(edges, score.onset + np.maximum(score.duration, 1), "left") - 1
    change = np.zeros(score.bar_count + 2, int)
    np.add.at(change, first, 1)
    np.add.at(change, np.minimum(last, score.bar_count - 1) + 1, -1)
    return float((np.cumsum(change)[: score.bar_count] == 0).mean())
