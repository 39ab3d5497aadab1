"""What answers a window, as notes of the piece."""

from __future__ import annotations

import numpy as np

from aurljax.music.codec import score_layout
from aurljax.music.score import Score, rounded
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
