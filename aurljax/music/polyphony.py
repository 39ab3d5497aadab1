"""How many notes sound at once, and fewer of them."""

from __future__ import annotations

import itertools

import numpy as np

from aurljax.music.score import Score


def sounding(score: Score) -> np.ndarray:
    """[N] how many pitched notes sound where each pitched note starts, itself included; drums do not count."""
    n = score.notes[~score.is_drum]
    begun = np.searchsorted(n["onset"], n["onset"], "right")
    return begun - np.searchsorted(np.sort(n["onset"] + n["duration"]), n["onset"], "right")


def reduce_polyphony(score: Score, most: int) -> Score:
    """At most `most` (1 or more) pitched notes at once; drums stay.

    A note that starts as the highest or lowest of all that sounds is kept (with `most` 1: as the highest). Then those
    that sound already go before new ones, and the outer before the inner. A sounding note that must yield ends there.
    """
    if most < 1:
        raise ValueError(f"most={most} notes at once; take at least 1")
    pitched = np.flatnonzero(~score.is_drum)
    if not len(pitched) or sounding(score).max() <= most:
        return score
    n = score.notes[pitched]
    onset, pitch = n["onset"].tolist(), n["pitch"].tolist()
    end = (n["onset"] + n["duration"]).tolist()
    kept: set[int] = set()
    active: list[int] = []
    starts = np.append(np.flatnonzero(np.append(True, np.diff(n["onset"]) > 0)), len(n)).tolist()
    for a, b in itertools.pairwise(starts):
        now = onset[a]
        active = [i for i in active if end[i] > now]
        chosen = _choose(active, list(range(a, b)), pitch, most)
        for i in set(active).difference(chosen):
            end[i] = now
        kept.update(i for i in chosen if i >= a)
        active = chosen
    rows = np.array(sorted(kept))
    notes = score.notes.copy()
    notes["duration"][pitched] = np.array(end) - n["onset"]
    stay = score.is_drum.copy()
    stay[pitched[rows]] = True
    return score.replace(notes=notes[stay])


def _choose(active: list[int], new: list[int], pitch: list[int], most: int) -> list[int]:
    """Which of the notes that sound and start stay: the outer two, those that sound, the outer of the new."""
    if len(active) + len(new) <= most:
        return active + new
    by_pitch = sorted(active + new, key=lambda i: (pitch[i], -i))  # of equals, the later note is the lower
    top, bottom = by_pitch[-1], by_pitch[0]
    place = {i: k for k, i in enumerate(by_pitch)}
    last, old = len(by_pitch) - 1, set(active)
    inner = [i for i in by_pitch if i not in (top, bottom)]
    rest = sorted(inner, key=lambda i: (i not in old, min(place[i], last - place[i]), -i))
    return list(dict.fromkeys([top, bottom, *rest]))[:most]
