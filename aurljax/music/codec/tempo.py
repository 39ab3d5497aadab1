"""Tempo as one of 8,192 logarithmic steps, written so that a piece never drifts from its own clock.

Rounding every tempo to a bin makes a song seconds too long or too short. Here the difference between the written clock
and the true one is followed exactly; when it would pass 5 ms, a tempo a step or two beside the nearest one leads back. A
position within which the tempo changes gets a tempo of its own, that of its true length.
"""

from __future__ import annotations

import math

import numpy as np

from aurljax.music.score import Score, rounded

COARSE, FINE = 64, 128
SLOWEST, FASTEST = 10.0, 500.0  # quarters per minute
LIMIT = 0.005  # seconds the written clock may be off
MEND = 0.003  # seconds at which it is led back: what is left over is for tempi that change between two positions
JUMP = 0.001  # seconds by which rounding one change may move the clock
HORIZON = 2.0  # seconds over which a larger error is led back

_RATIO = math.log(FASTEST / SLOWEST) / (COARSE * FINE - 1)
USEC = np.rint(60e6 / (SLOWEST * np.exp(_RATIO * np.arange(COARSE * FINE)))).astype(np.int64)  # per quarter, descending


def step_of(usec: float) -> int:
    """The step nearest to a tempo in microseconds per quarter, clipped to 10..500 per minute."""
    step = round(math.log(60e6 / usec / SLOWEST) / _RATIO)
    return min(max(step, 0), COARSE * FINE - 1)


def write(score: Score, per_quarter: int, last: int) -> list[tuple[int, int]]:
    """[(grid position, step), ...] of a score's tempo map, up to grid position `last`; the first stands at 0.

    A tempo changes on the grid of `per_quarter` positions; no two consecutive steps are equal.
    """
    out: list[tuple[int, int]] = []
    clock = 0.0
    segments = _segments(score, per_quarter, last)
    true = score.seconds(np.array([g for g, _, _ in segments]) * (score.resolution / per_quarter))
    for (position, stop, usec), truth in zip(segments, true, strict=True):
        while position < stop:
            error = truth - clock  # positive: the written clock is ahead
            step = _choose(usec, error)
            rate = (usec - USEC[step]) / (per_quarter * 1e6)  # growth of the error per position
            count = _hold(error, rate, stop - position, per_quarter)
            if not out or out[-1][1] != step:
                out.append((position, step))
            clock += count * USEC[step] / (per_quarter * 1e6)
            truth += count * usec / (per_quarter * 1e6)
            position += count
    return out


def _segments(score: Score, per_quarter: int, last: int) -> list[tuple[int, int, int]]:
    """(first position, end position, usec) of the stretches of constant tempo. Changes are rounded to the grid; a position
    within which that would move the clock too far has the tempo of its true length."""
    tick, usec, _ = score.tempo_map
    at = rounded(tick * per_quarter, score.resolution)
    keep = np.append(at[1:] != at[:-1], True) & (at <= last)
    at, usec = at[keep], usec[keep]
    inside = np.unique(tick[tick * per_quarter % score.resolution != 0] * per_quarter // score.resolution)
    lines = np.stack([inside, inside + 1]) * (score.resolution / per_quarter)
    true = np.rint(np.diff(score.seconds(lines), axis=0)[0] * per_quarter * 1e6).astype(np.int64)
    moved = np.abs(true - usec[np.searchsorted(at, inside, "right") - 1]) > JUMP * per_quarter * 1e6
    inside, true = inside[moved & (inside <= last)], true[moved & (inside <= last)]
    after = inside + 1
    usec = np.concatenate([true, usec[np.searchsorted(at, after, "right") - 1], usec])
    at, first = np.unique(np.concatenate([inside, after, at]), return_index=True)  # of several, the first named
    keep = at <= last
    at, usec = at[keep], usec[first][keep]
    ends = np.append(at[1:], max(last, int(at[-1])) + 1)
    return list(zip(at.tolist(), ends.tolist(), usec.tolist(), strict=True))


def _choose(usec: int, error: float) -> int:
    nearest = step_of(usec)
    if abs(error) <= MEND * 0.85 or (error * (usec - int(USEC[nearest])) < 0 and abs(error) <= LIMIT):
        return nearest
    step = nearest if abs(error) <= LIMIT else step_of(max(usec * (1 + error / HORIZON), 1))
    if (usec - int(USEC[step])) * error >= 0:  # not leading back: take the neighbour that does
        step = nearest + (-1 if error > 0 else 1)
    return min(max(step, 0), COARSE * FINE - 1)


def _hold(error: float, rate: float, most: int, beat: int) -> int:
    """Positions to keep a tempo whose error grows by `rate`, rounded down to whole beats where there is room."""
    if rate == 0:
        return most
    goal = math.copysign(MEND, rate) if abs(error) <= LIMIT else 0.0
    if (goal - error) * rate <= 0:  # beyond what a step can mend, as with tempi outside the range
        return most
    count = int(min((goal - error) / rate, most))
    if beat <= count < most:
        count -= count % beat
    return max(count, 1)
