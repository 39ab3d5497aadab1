"""The objective mix: which windows of a corpus are training's own questions, and which of their cells are holes.

A window is either as it is written, and teaches to go on, or some of its cells (bar, track) are holes that are answered
behind it, and it teaches to fill in: a run of whole bars, whole tracks, a run of bars of some tracks, or single cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aurljax.data import order
from aurljax.errors import UserError
from aurljax.fields import require
from aurljax.music.codec.holes import MOST

if TYPE_CHECKING:
    from aurljax.music.codec import Codec
    from aurljax.music.score import Score

Cells = list[tuple[int, int]]  # (bar of the piece, track), ascending
Chance = Callable[[int], float]  # the i-th number in [0, 1) of an example


@dataclasses.dataclass(frozen=True)
class Objective:
    """Shares of the windows that have holes over each KIND of cells; the rest are as written.

    most: share of the bars (or of the cells) that are masked at most; masks are drawn evenly up to it. `tracks` leaves
    one track at least, and masks the others throughout. slack: room kept in rows for holes, as a share of a window.
    """

    bars: float = 0.0
    tracks: float = 0.0
    span: float = 0.0
    cells: float = 0.0
    most: float = 0.5
    slack: float = 0.2

    def __post_init__(self) -> None:
        shares = {kind: getattr(self, kind) for kind in KINDS}
        for kind, share in shares.items():
            require(0 <= share <= 1, f"data.objective.{kind}={share} must be in [0, 1]")
        total = sum(shares.values())
        require(total <= 1 + 1e-9, f"data.objective: {' + '.join(shares)} = {total:g} is more than all windows")
        require(0 < self.most <= 1, f"data.objective.most={self.most} must be above 0 and at most 1")
        require(0 <= self.slack <= 1, f"data.objective.slack={self.slack} must be in [0, 1]")

    @property
    def active(self) -> bool:
        """Whether any window has holes."""
        return any(getattr(self, kind) for kind in KINDS)

    def check(self, codec: Codec) -> None:
        """UserError for a codec that writes no holes."""
        if self.active and "hole" not in codec.vocabulary.index:
            how = "set" if "infill" in codec.options else "choose codec.name=score and"
            raise UserError(
                f"data.objective masks cells, but the codec '{codec.name}' as it is set writes no holes; "
                f"{how} codec.options.infill=True"
            )

    def kind(self, chance: Chance) -> str | None:
        """What an example is asked, None: nothing but to go on."""
        at = chance(0)
        for kind in KINDS:
            if at < (share := getattr(self, kind)):
                return kind
            at -= share
        return None


def check_dropout(share: float, codec: Codec) -> None:
    """UserError for a share of windows without controls that is none, or with a codec that has no controls."""
    if not 0 <= share < 1:
        raise UserError(f"data.controls_dropout={share} must be at least 0 and below 1")
    if share and not getattr(codec, "controls", ()):
        raise UserError(
            f"data.controls_dropout={share} leaves out controls, but the codec '{codec.name}' as it is set has none; "
            "declare them with codec.options.controls, or leave it at 0"
        )


class Asked(NamedTuple):
    """A window with holes: its ids, the cells they are, and the bar after its last one."""

    ids: np.ndarray
    cells: Cells
    stop: int

    def words(self, kind: str) -> str:
        """What was masked."""
        bars, tracks = (sorted({c[i] for c in self.cells}) for i in (0, 1))
        if kind == "cells":
            return "holes over cells (bar/track) " + " ".join(f"{bar}/{track}" for bar, track in self.cells)
        where = f"bar {bars[0]}" if len(bars) == 1 else f"bars {bars[0]} to {bars[-1]}"
        return f"holes over {kind}: {where} of track{'s' * (len(tracks) > 1)} {' '.join(map(str, tracks))}"


def chance(*key: int) -> Chance:
    """Numbers that follow from a key."""
    return lambda i: (order.number(*key, i) >> 11) * 2.0**-53


def masked(
    codec: Codec, score: Score, bars: tuple[int, int], kind: str, most: float, chance: Chance, room: int
) -> Asked | None:
    """A window with holes of a kind, without its last bars where it would have more than `room` ids; None where no hole
    fits, or no track sounds."""
    layout = codec.layout(score)
    a, stop = bars[0], min(bars[1], layout.bars)
    if a >= stop:
        return None
    at = slice(*np.searchsorted(layout.note["at"], layout.lines[[a, stop]]))
    cells = draw(kind, range(a, stop), np.unique(layout.note["track"][at]).tolist(), most, chance)
    while cells:
        over = len({bar for bar, _ in cells}) / MOST
        if over <= 1:
            ids = codec.encode(score, (a, stop), holes=cells)
            if (over := len(ids) / room) <= 1:
                return Asked(ids, cells, stop)
        stop -= max(int((stop - a) * (1 - 1 / over)), 1)
        cells = [cell for cell in cells if cell[0] < stop]
    return None


def draw(kind: str, bars: range, tracks: list[int], most: float, chance: Chance) -> Cells:
    """Cells of a kind among bars x tracks; at least one, if there is a track."""
    chosen = KINDS[kind](bars, tracks, most, chance) if tracks else set()
    return sorted(chosen)


def _run(bars: range, most: float, chance: Chance) -> range:
    """A run of bars, its length uniform up to the share `most` of them, and where it begins."""
    count = 1 + int(chance(1) * max(int(len(bars) * most), 1))
    first = bars[0] + int(chance(2) * (len(bars) - count + 1))
    return range(first, first + count)


def _some(tracks: list[int], most: int, chance: Chance) -> list[int]:
    """Tracks drawn at random, their number uniform in 1..most."""
    count = 1 + int(chance(3) * most)
    return sorted(tracks, key=lambda track: chance(16 + track))[:count]


def _bars(bars: range, tracks: list[int], most: float, chance: Chance) -> set[tuple[int, int]]:
    return {(bar, track) for bar in _run(bars, most, chance) for track in tracks}


def _tracks(bars: range, tracks: list[int], most: float, chance: Chance) -> set[tuple[int, int]]:
    some = _some(tracks, max(len(tracks) - 1, 1), chance)
    return {(bar, track) for bar in bars for track in some}


def _span(bars: range, tracks: list[int], most: float, chance: Chance) -> set[tuple[int, int]]:
    some = _some(tracks, len(tracks), chance)
    return {(bar, track) for bar in _run(bars, most, chance) for track in some}


def _cells(bars: range, tracks: list[int], most: float, chance: Chance) -> set[tuple[int, int]]:
    every = [(bar, track) for bar in bars for track in tracks]
    count = 1 + int(chance(1) * max(int(len(every) * most), 1))
    at = sorted(range(len(every)), key=lambda i: chance(64 + i))
    return {every[i] for i in at[:count]}


KINDS: dict[str, Any] = {"bars": _bars, "tracks": _tracks, "span": _span, "cells": _cells}


def weights(codec: Codec) -> np.ndarray:
    """float32 [vocabulary] of each id as a target: 1, but of a `hole` 0. Where holes are is the question, not an answer:
    a model that is never told to write them does not, when it goes on by itself."""
    v = codec.vocabulary
    hole = v.index.get("hole", -1)
    return (v.kind != hole).astype(np.float32)
