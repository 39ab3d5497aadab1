"""New notes among old ones: the old stay to the bit, the new give way."""

from __future__ import annotations

import numpy as np

from aurljax.music.codec import score_layout
from aurljax.music.score import Score, repair, rounded
from aurljax.tasks.piece import Cell, Piece


def answers(piece: Piece, a: int, cells: list[Cell], decoded: Score) -> tuple[np.ndarray, int]:
    """(notes of `cells` in a decoded window whose first bar is bar `a` of the piece, in the piece's own ticks; how many
    more there were, in bars in which the piece has no tick)."""
    layout, codec, resolution = piece.layout, piece.codec, piece.score.resolution
    onset = decoded.onset + layout.lines[a] * score_layout.UNIT
    at = score_layout.places(decoded, decoded.onset, codec.microtiming) + layout.lines[a]
    bar = np.searchsorted(layout.lines, at, "right") - 1
    wanted = set(cells)
    mine = np.array([c in wanted for c in zip(bar.tolist(), decoded.track.tolist(), strict=True)], bool)
    notes, bar = decoded.notes[mine].copy(), bar[mine]
    end = rounded((onset + decoded.duration)[mine] * resolution, score_layout.RESOLUTION)
    notes["onset"] = _near(piece, rounded(onset[mine] * resolution, score_layout.RESOLUTION), at[mine])
    notes["onset"] += np.sign(
        bar - piece.bar_of(notes["onset"])
    )  # where ticks are coarse, the one beside is in the bar
    notes["duration"] = np.maximum(end - notes["onset"], 1)
    placed = piece.bar_of(notes["onset"]) == bar
    return notes[placed], int((~placed).sum())


def _near(piece: Piece, onset: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Ticks of a piece, or those beside them where only these are nearest to the positions `at`."""

    def places(ticks: np.ndarray) -> np.ndarray:
        return score_layout.places(piece.score, ticks, piece.codec.microtiming)

    beside = onset + np.sign(at - places(onset))
    return np.where(places(beside) == at, beside, onset)


def settle(locked: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, int, int]:
    """(new notes, how many of them were cut, dropped) so that none sounds while a locked note of its pitch and track
    does: one that would begin during a locked note goes, one that would last into a locked note ends where that begins."""
    new, counts = repair(new)
    order = np.argsort(_key(locked, locked["onset"]), kind="stable")
    locked = locked[order]
    keys, last = _key(locked, locked["onset"]), len(locked) - 1
    at = np.searchsorted(keys, _key(new, new["onset"]), "right")
    if last < 0 or not len(new):
        return new, counts["cut"], counts["duplicate"]
    before, after = locked[np.clip(at - 1, 0, last)], locked[np.clip(at, 0, last)]
    during = (at > 0) & _same(before, new) & (before["onset"] + before["duration"] > new["onset"])
    room = np.where((at <= last) & _same(after, new), after["onset"] - new["onset"], np.iinfo(np.int64).max)
    into = ~during & (new["duration"] > room)
    new["duration"] = np.minimum(new["duration"], room)
    return new[~during], counts["cut"] + int(into.sum()), counts["duplicate"] + int(during.sum())


def _key(notes: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """[N] one number that sorts by track, pitch and tick (below 2**40)."""
    return (notes["track"].astype(np.int64) << 47) + (notes["pitch"].astype(np.int64) << 40) + onset


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a["track"] == b["track"]) & (a["pitch"] == b["pitch"])
