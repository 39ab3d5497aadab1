"""Beats that were tracked or annotated beside a performance: a score laid out anew on them.

A performance recorded without a click has a tempo map that says nothing; its beats are in a file beside it.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from aurljax.music.score import METER, TEMPO, Score
from aurljax.music.sidecar import SidecarError

RESOLUTION = 480  # ticks per beat


class BeatsError(SidecarError):
    """A file of beats that cannot be read or that no score can be laid out on."""


@dataclasses.dataclass(frozen=True)
class Beats:
    """Times of beats in seconds, rising [N], and which of them begin a bar [N]."""

    seconds: np.ndarray
    downbeat: np.ndarray


def read(path: str | os.PathLike) -> Beats:
    """Beats of a text file with a line for each: its time in seconds and, in the last column, 1 where a bar begins (a
    flag, or the number of the beat in its bar; POP909's files are both). Raises BeatsError."""
    try:
        rows = np.array([line.split() for line in Path(path).read_text().splitlines() if line.strip()], float)
    except (OSError, ValueError) as error:
        raise BeatsError(f"{path}: cannot be read as lines of beat times ({error})") from error
    if len(rows) < 2 or rows.ndim < 2 or not np.all(np.isfinite(rows)) or np.any(np.diff(rows[:, 0]) <= 0):
        raise BeatsError(f"{path}: must hold two or more beats whose times, in its first column, rise")
    downbeat = rows[:, -1] == 1 if rows.shape[1] > 1 else np.zeros(len(rows), bool)
    return Beats(rows[:, 0], downbeat)


def lay_out(score: Score, beats: Beats) -> Score:
    """The score with a quarter note on every beat, a tempo from beat to beat and bars from downbeat to downbeat.

    What stands before the first and after the last beat is counted in beats of the nearest length. Times from note to
    note stay (within half a tick); tick 0 is the beat at or before the first event.
    """
    grid, added = _extended(beats.seconds, *_bounds(score))
    usec = np.clip(np.diff(np.rint(grid * 1e6)), 1, (1 << 24) - 1).astype(np.int64)  # rounding that adds nothing up
    tempo = np.zeros(len(usec), TEMPO)
    tempo["tick"], tempo["usec"] = np.arange(len(usec)) * RESOLUTION, usec
    new = np.append(True, usec[1:] != usec[:-1])

    def moved(old: np.ndarray) -> np.ndarray:
        return ticks(score, beats, score.seconds(old))

    notes, controls, key = score.notes.copy(), score.controls.copy(), score.key.copy()
    end = moved(notes["onset"] + notes["duration"])
    notes["onset"] = moved(notes["onset"])
    notes["duration"] = np.maximum(end - notes["onset"], 1)
    controls["tick"], key["tick"] = moved(controls["tick"]), moved(key["tick"])
    at = moved(np.array([tick for tick, _, _ in score.texts], np.int64))
    texts = tuple((int(tick), *said) for tick, (_, *said) in zip(at, score.texts, strict=True))
    lines = np.flatnonzero(beats.downbeat) + added
    laid = score.replace(
        resolution=RESOLUTION,
        notes=notes,
        controls=controls,
        key=key,
        texts=texts,
        tempo=tempo[new],
        meter=_meters(lines) if len(lines) > 1 else np.zeros(0, METER),
    )
    return laid.repaired()[0]


def ticks(score: Score, beats: Beats, seconds: np.ndarray) -> np.ndarray:
    """Ticks (int64) in `lay_out(score, beats)` of seconds in the performance (any shape), those of its first and last
    beat for what lies beyond them."""
    grid, _ = _extended(beats.seconds, *_bounds(score))
    return np.rint(np.interp(seconds, grid, np.arange(len(grid)) * RESOLUTION)).astype(np.int64)


def _bounds(score: Score) -> tuple[float, float]:
    """Seconds of the first and last event."""
    tables = (score.onset, score.controls["tick"], score.key["tick"], [tick for tick, _, _ in score.texts])
    ticks = [int(min(t)) for t in tables if len(t)]
    return tuple(float(score.seconds(t)) for t in (min(ticks, default=0), score.last_tick))


def _extended(beats: np.ndarray, first: float, last: float) -> tuple[np.ndarray, int]:
    """(beats from at or before `first` to at or after `last`, how many were added in front)."""
    lead, tail = beats[1] - beats[0], beats[-1] - beats[-2]
    before = max(0, math.ceil((beats[0] - first) / lead))
    after = max(0, math.ceil((last - beats[-1]) / tail)) + 1
    front = beats[0] - lead * np.arange(before, 0, -1)
    return np.concatenate([front, beats, beats[-1] + tail * np.arange(1, after + 1)]), before


def _meters(lines: np.ndarray) -> np.ndarray:
    """METER rows of bars that begin at beats `lines`; what comes before the first is a bar, in quarters."""
    lines = np.append(0, lines) if lines[0] > 0 else lines
    counts = np.diff(lines)
    new = np.append(True, counts[1:] != counts[:-1])
    rows = np.zeros(int(new.sum()), METER)
    rows["tick"], rows["numerator"], rows["denominator"] = lines[:-1][new] * RESOLUTION, np.minimum(counts[new], 255), 4
    return rows
