"""A piece as its model's codec sees it: bars, tracks, and in which cell (bar, track) each note begins."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from aurljax.errors import UserError
from aurljax.music.codec import score_layout
from aurljax.music.codec.grammar import TRACKS
from aurljax.music.codec.score_layout import BARS, Layout
from aurljax.music.score import Score

Cell = tuple[int, int]  # bar, track; both from 0


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """A score and its cells under a codec with `infill`; UserError for what the codec cannot tell apart."""

    score: Score
    codec: Any
    least: int = 1  # bars that it has, also where nothing sounds

    def __post_init__(self) -> None:
        if len(self.score.tracks) > TRACKS:
            raise UserError(f"the piece has {len(self.score.tracks)} tracks, and the codec of this model tells {TRACKS} "
                            "apart; merge some or leave some out")  # fmt: skip
        for tick, numerator, denominator in self.score.meters.tolist():
            if (numerator, denominator) not in BARS.table:
                raise UserError(
                    f"the piece has a meter of {numerator}/{denominator} (tick {tick}), which the codec of this model does "
                    "not write; it has n/2 to 4/2, n/4 to 8/4, n/8 to 16/8 and n/16 to 15/16"
                )

    @functools.cached_property
    def layout(self) -> Layout:
        """The score on the codec's grid, with bars for all that sounds."""
        layout = self.codec.layout(self.score)
        end = score_layout.places(self.score, np.array([max(self.score.end - 1, 0)]), False)
        missing = max(int(end[0]) - int(layout.lines[-1]) + 1, 0)
        bars = layout.bars + -(-missing // int(BARS.lengths[layout.meter[-1]]))
        return layout.reaching(max(bars, self.least) - 1)

    @property
    def bars(self) -> int:
        """How many bars it has."""
        return self.layout.bars

    @property
    def tracks(self) -> int:
        """How many tracks it has."""
        return len(self.score.tracks)

    def bar_of(self, onset: np.ndarray) -> np.ndarray:
        """[N] the bar in which the grid position nearest to each tick lies."""
        at = score_layout.places(self.score, onset, self.codec.microtiming)
        return np.searchsorted(self.layout.lines, at, "right") - 1

    def inside(self, cells: Iterable[Cell]) -> np.ndarray:
        """[N] whether each note begins in one of the cells."""
        table = np.zeros((self.bars, max(self.tracks, 1)), bool)
        for bar, track in cells:
            table[bar, track] = True
        return table[self.bar_of(self.score.onset), self.score.track]

    @functools.cached_property
    def sounding(self) -> list[Cell]:
        """The cells in which a note begins, ascending."""
        pairs = np.unique(np.stack([self.bar_of(self.score.onset), self.score.track.astype(np.int64)], 1), axis=0)
        return [(bar, track) for bar, track in pairs.tolist()]

    # --- what is asked for -------------------------------------------------------------------------------------------

    def cells(self, bars: Collection[int], tracks: Collection[int]) -> list[Cell]:
        """All cells of some bars and tracks, ascending; UserError where there is no such bar."""
        if wrong := next((bar for bar in bars if not 0 <= bar < self.bars), None):
            raise UserError(f"the piece has {self.bars} bars, 0 to {self.bars - 1}; there is no bar {wrong}")
        return sorted((bar, track) for bar in bars for track in tracks)

    def track(self, name: int | str) -> int:
        """The number of a track, from 0, by number or name; UserError where there is none, or several."""
        known = ", ".join(f"{i} {n}".strip() for i, n in enumerate(self.score.names))
        if isinstance(name, int | np.integer):
            if 0 <= name < self.tracks:
                return int(name)
            raise UserError(f"the piece has {self.tracks} tracks ({known}); there is no track {name}")
        found = [i for i, n in enumerate(self.score.names) if n.casefold() == name.casefold()]
        if len(found) != 1:
            raise UserError(f"{len(found) or 'no'} tracks of the piece are named {name!r}; it has: {known}")
        return found[0]


def with_tracks(score: Score, add: Sequence[tuple[int, int]]) -> Score:
    """The score with empty tracks added: (program, or 128 for drums; its number, from 0, once it is there)."""
    for program, place in add:
        count = len(score.tracks)
        if not 0 <= program <= score_layout.DRUMS:
            raise UserError(f"add: {program} is no program; take 0 to 127, or {score_layout.DRUMS} for drums")
        if not 0 <= place <= count:
            raise UserError(f"add: a new track cannot be number {place}, counted from 0, of {count + 1}")
        row = np.array([(0, True) if program == score_layout.DRUMS else (program, False)], score.tracks.dtype)
        notes, controls = score.notes.copy(), score.controls.copy()
        for table in (notes, controls):
            table["track"] += table["track"] >= place
        tracks = np.concatenate([score.tracks[:place], row, score.tracks[place:]])
        names = (*score.names[:place], "", *score.names[place:])
        score = score.replace(notes=notes, controls=controls, tracks=tracks, names=names)
    return score
