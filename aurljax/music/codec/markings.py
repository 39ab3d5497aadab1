"""What a score states beside its notes, on a grid: keys, chords, pedals; the last of a position counts, and nothing is
written that is in force already."""

from __future__ import annotations

import numpy as np

from aurljax.music import chords as symbols
from aurljax.music.score import CHANGE, Score, rounded

KEYS = 30  # 7 flats to 7 sharps, major and minor
CHORDS = 12 * len(symbols.QUALITIES) + 1  # the last: no chord
NO_CHORD = CHORDS - 1
PEDAL, DOWN = 64, 64  # the controller, and its least value that holds notes


def keys(score: Score, grid: int) -> np.ndarray:
    """int64 [K, 2] position and key: fifths + 7, + 15 for minor."""
    value = score.key["fifths"].astype(np.int64) + 7 + 15 * score.key["minor"]
    return _changes(_at(score, score.key["tick"], grid), value)


def chords(score: Score, grid: int) -> np.ndarray:
    """int64 [C, 2] position and chord: root * qualities + quality. Basses are not told."""
    found = symbols.of(score)
    value = found["root"].astype(np.int64) * len(symbols.QUALITIES) + found["quality"]
    return _changes(_at(score, found["tick"], grid), np.where(found["root"] < 0, NO_CHORD, value), before=NO_CHORD)


def pedals(score: Score, of_track: np.ndarray, grid: int) -> np.ndarray:
    """int64 [P, 3] position, track and 1 (down) or 0, by position and track; `of_track`: each track's, -1 for none."""
    c = score.controls
    c = c[(c["kind"] == CHANGE) & (c["number"] == PEDAL)]
    track = of_track[c["track"]] if len(c) else np.zeros(0, np.int64)
    at, down = _at(score, c["tick"], grid), (c["value"] >= DOWN).astype(np.int64)
    parts = [np.zeros((0, 3), np.int64)]
    for t in np.unique(track[track >= 0]).tolist():
        rows = _changes(at[track == t], down[track == t], before=0)
        parts.append(np.insert(rows, 1, t, axis=1))
    rows = np.concatenate(parts)
    return rows[np.lexsort([rows[:, 1], rows[:, 0]])]


def _at(score: Score, ticks: np.ndarray, grid: int) -> np.ndarray:
    return rounded(ticks.astype(np.int64) * grid, score.resolution)


def _changes(at: np.ndarray, value: np.ndarray, before: int = -1) -> np.ndarray:
    """[N, 2] the rows, in order of `at`, that change a value that is `before` at first."""
    last = np.append(at[1:] != at[:-1], True)[: len(at)]
    at, value = at[last], value[last]
    new = value != np.append(before, value[:-1])[: len(value)]
    return np.stack([at[new], value[new]], 1)
