"""The longest passage that a score shares with a corpus: was it composed or remembered?

A passage is a run of notes, all voices merged, that begin on the same grid and stand in the same intervals; tracks,
note lengths, velocities, tempo and drums do not count. Runs of 1, 2, 4, 8 ... steps get dense numbers by sorting (Karp,
Miller and Rosenberg 1972), so equality of two runs is equality of two pairs of numbers, without collisions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from aurljax.music.score import Score

if TYPE_CHECKING:
    from aurljax.data.corpus import Corpus

GRID = 24  # onsets per quarter note told apart


@dataclasses.dataclass(frozen=True)
class Copied:
    """A passage of a score that stands in a piece of the corpus too; bars are counted from 1."""

    notes: int  # 0: not even two notes in a row are shared, and the rest says nothing
    bars: float = 0.0  # from the first note's onset to the last one's end, in bars of the score
    seconds: float = 0.0
    bar: int = 0  # where it begins in the score
    piece: str = ""
    piece_bar: int = 0
    semitones: int = 0  # by which the score's passage lies higher

    def __str__(self) -> str:
        if not self.notes:
            return "nothing in common"
        shift = f", {self.semitones:+} semitones" if self.semitones else ""
        length = f"{self.notes} notes ({self.bars:g} bars, {self.seconds:g} s) from bar {self.bar}"
        return f"{length} are those of {self.piece} from bar {self.piece_bar}{shift}"


class Index:
    """Finds passages of a corpus {name: Score}; built once, asked often."""

    def __init__(self, pieces: Mapping[str, Score]):
        self.names, self.scores = list(pieces), list(pieces.values())
        lines = [_line(score) for score in self.scores]
        self.starts = np.cumsum([0, *(len(rows) for rows, _, _ in lines)])
        none = np.zeros(0, np.int64)
        self.pitch = np.concatenate([none, *(pitch for _, pitch, _ in lines)])
        self.rows = np.concatenate([none, *(rows for rows, _, _ in lines)])
        steps = np.concatenate([none, *(step for _, _, step in lines)])
        self.keys: list[np.ndarray] = []  # [k]: sorted keys of the runs of 2 ** k steps
        self.runs: list[np.ndarray] = []  # [k]: [notes] number of the run that starts at a note, -1 where it is cut off
        key = steps
        while (key >= 0).any():
            found, run = np.unique(key, return_inverse=True)
            missing = int(found[0] == -1)
            self.keys.append(found[missing:])
            self.runs.append(run - missing)
            key = _doubled(self.runs[-1], len(self.keys) - 1, len(self.keys[-1]))

    @classmethod
    def of(cls, corpus: Corpus, split: str = "train") -> Index:
        """The index of one split of a corpus; UserError if it has no such split."""
        return cls({corpus.pieces[i].id: corpus[i] for i in corpus.split(split)})

    def longest(self, score: Score, exact: bool = False) -> Copied:
        """The longest passage of a score found in a piece, at any transposition or (`exact`) at its own pitch."""
        rows, pitch, key = _line(score)
        runs = []
        for k, keys in enumerate(self.keys):
            at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            run = np.where(keys[at] == key, at, -1)
            if (run < 0).all():
                break
            runs.append(run)
            key = _doubled(run, k, len(keys))
        best, low, high = None, 0, (1 << len(runs)) - 1  # a run of `low` steps is there, one of `high` + 1 is not
        while low < high:
            steps = (low + high + 1) // 2
            found = self._find(runs, pitch, steps, exact)
            best, low, high = (found, steps, high) if found else (best, low, steps - 1)
        if best is None:
            return Copied(0)
        here, there = best
        piece = int(np.searchsorted(self.starts, there, "right")) - 1
        first, last = score.notes[rows[here]], score.notes[rows[here + low]]
        ticks = np.array([first["onset"], last["onset"] + last["duration"]])
        bars, seconds = _bar(score, ticks), score.seconds(ticks)
        origin = self.scores[piece]
        return Copied(
            notes=low + 1,
            bars=round(float(bars[1] - bars[0]), 2),
            seconds=round(float(seconds[1] - seconds[0]), 2),
            bar=int(bars[0]) + 1,
            piece=self.names[piece],
            piece_bar=int(_bar(origin, origin.onset[self.rows[there]])) + 1,
            semitones=int(pitch[here] - self.pitch[there]),
        )

    def _find(self, runs: list[np.ndarray], pitch: np.ndarray, steps: int, exact: bool) -> tuple[int, int] | None:
        """(note of the query, note of the corpus) where one run of so many steps starts, the earliest of the query."""
        k = steps.bit_length() - 1
        size = len(self.keys[k])
        asked = _pairs(runs[k], steps - (1 << k), size, pitch, exact)
        held = _pairs(self.runs[k], steps - (1 << k), size, self.pitch, exact)
        wanted, first = np.unique(asked, return_index=True)
        at = np.minimum(np.searchsorted(wanted, held), len(wanted) - 1)
        hits = np.flatnonzero((wanted[at] == held) & (held >= 0)) if len(wanted) else []
        if not len(hits):
            return None
        best = hits[np.argmin(first[at[hits]])]
        return int(first[at[best]]), int(best)


def longest(score: Score, pieces: Mapping[str, Score], exact: bool = False) -> Copied:
    """The longest passage of a score found in `pieces`; to ask more than once, keep an `Index`."""
    return Index(pieces).longest(score, exact)


def _line(score: Score) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """([n] rows of the notes by onset and pitch, [n] pitches, [n] step to the next note, -1 at the last one).

    Of notes in unison one is kept.
    """
    at = np.round(score.onset * (GRID / score.resolution)).astype(np.int64)
    rows = np.lexsort([score.pitch, at])
    rows = rows[~score.is_drum[rows]]
    at, pitch = at[rows], score.pitch[rows].astype(np.int64)
    keep = np.append(True, (np.diff(at) != 0) | (np.diff(pitch) != 0))[: len(rows)]
    rows, at, pitch = rows[keep], at[keep], pitch[keep]
    return rows, pitch, np.append(np.diff(at) * 256 + np.diff(pitch) + 128, -1)[: len(rows)]


def _doubled(run: np.ndarray, k: int, size: int) -> np.ndarray:
    """[n] key of the run of 2 ** (k + 1) steps starting at each note, -1 where one of its halves is missing."""
    return _pairs(run, 1 << k, size)


def _pairs(run: np.ndarray, shift: int, size: int, pitch: np.ndarray | None = None, exact: bool = False) -> np.ndarray:
    """[n] one number for (run here, run `shift` notes on, with `exact` the pitch here), -1 where a run is missing."""
    later = np.append(run[shift:], np.full(min(shift, len(run)), -1))
    key = run * size + later
    return np.where((run >= 0) & (later >= 0), key * 128 + pitch if exact else key, -1)


def _bar(score: Score, ticks: np.ndarray) -> np.ndarray:
    """Bars, whole and part, before each tick."""
    return np.interp(ticks, score.bar_ticks, np.arange(len(score.bar_ticks)))
