"""Which pieces are the same tune: shared runs of melodic intervals, whatever the key, tempo and accompaniment.

A piece's melody is its skyline: the highest pitched note of each onset. A shingle is a run of intervals; the smallest
hashes of a piece's shingles sketch the whole set (Broder 1997, bottom-k), so that two sketches tell how much two pieces
share without either piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from aurljax.music.score import Score

RUN = 10  # intervals in a shingle
VARIETY = 4  # different intervals it must hold: scales and repeated notes are everybody's
SIZE = 64  # hashes in a sketch
SHARED = 0.25  # of two pieces' shingles, from which on they are one tune
COMMON = 64  # pieces that hold a shingle, from which on it makes no pair


def melody(score: Score) -> np.ndarray:
    """int16 [M] pitches of the highest pitched note of each onset, drums left out."""
    pitched = score.notes[~score.is_drum]
    last = np.append(pitched["onset"][1:] != pitched["onset"][:-1], True)[: len(pitched)]
    order = np.lexsort([pitched["pitch"], pitched["onset"]])
    return pitched["pitch"][order][last].astype(np.int16)


def sketch(score: Score) -> np.ndarray:
    """uint64 [<= SIZE] the smallest hashes of the shingles of a piece's melody, in order."""
    steps = np.diff(melody(score))
    if len(steps) < RUN:
        return np.zeros(0, np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(steps, RUN)
    ordered = np.sort(runs, 1)
    varied = (np.diff(ordered, axis=1) != 0).sum(1) + 1 >= VARIETY
    return np.unique(_hash(runs[varied]))[:SIZE]


def packed(hashes: np.ndarray) -> str:
    """A sketch as text."""
    return hashes.astype("<u8").tobytes().hex()


def unpacked(text: str) -> np.ndarray:
    """The sketch of a text."""
    return np.frombuffer(bytes.fromhex(text), "<u8")


def _hash(runs: np.ndarray) -> np.ndarray:
    """uint64 [N] of rows [N, RUN]: a polynomial modulo 2^64, then mixed (Steele et al. 2014, splitmix64)."""
    h = np.zeros(len(runs), np.uint64)
    for column in runs.T:
        h = h * np.uint64(0x100000001B3) + (column.astype(np.int64) + 256).astype(np.uint64)
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the union of two pieces' shingles that both have, as their sketches tell it; 0 without shingles."""
    union = np.union1d(a, b)[:SIZE]
    both = np.isin(union, a, assume_unique=True) & np.isin(union, b, assume_unique=True)
    return float(both.mean()) if len(union) else 0.0


def pairs(sketches: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """(i, j), i < j, of the pieces that are one tune, in order."""
    owner = np.repeat(np.arange(len(sketches)), [len(s) for s in sketches])
    hashes = np.concatenate([np.zeros(0, np.uint64), *sketches])
    order = np.argsort(hashes, kind="stable")
    owner, hashes = owner[order], hashes[order]
    edges = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint64(1), append=hashes[-1:] + np.uint64(1)))
    met: set[tuple[int, int]] = set()
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if 1 < b - a <= COMMON:
            met.update(itertools.combinations(owner[a:b].tolist(), 2))
    return sorted(p for p in met if likeness(sketches[p[0]], sketches[p[1]]) >= SHARED)


def clusters(count: int, linked: list[tuple[int, int]]) -> list[int]:
    """[count] for each piece the first piece that pairs lead to: equal numbers are one cluster."""
    from scipy.sparse import coo_array  # here: reading a corpus needs none of it
    from scipy.sparse.csgraph import connected_components

    a, b = np.array(linked, np.int32).reshape(-1, 2).T
    _, labels = connected_components(coo_array((np.ones(len(a), bool), (a, b)), (count, count)), directed=False)
    return np.unique(labels, return_index=True)[1][labels].tolist()
