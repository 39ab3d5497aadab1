"""How cells are asked for: in windows of whole bars that the context holds with their answers, one or several after
another. A window has as many bars around its cells as fit, those before with what earlier windows have answered."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from aurljax.errors import UserError
from aurljax.music.codec.holes import MOST
from aurljax.tasks.piece import Cell, Piece

LEAST = 64  # ids reserved for answers
AIM = 0.75  # share of the context that cells and their answers may take, so that something stands around them


@dataclasses.dataclass(frozen=True)
class Pass:
    """A question: bars a..b-1 with holes in `cells`, as ids up to the first `fill`, and at most how many may follow."""

    a: int
    b: int
    cells: list[Cell]
    ids: np.ndarray
    most: int

    def __len__(self) -> int:
        return len(self.ids) + self.most


def first(piece: Piece, pending: list[Cell], typical: float, context: int) -> Pass:
    """The first window for some of the cells that are left (ascending, without notes in the piece); UserError where even
    those of one bar have no room. `typical`: ids that the answer of one cell may take."""

    def ask(a: int, b: int, cells: list[Cell]) -> Pass:
        return _pass(piece, a, b, cells, typical)

    def fits(found: Pass, share: float = 1.0) -> bool:
        return len(found) <= share * context and len({bar for bar, _ in found.cells}) <= MOST

    if fits(whole := ask(0, piece.bars, pending)):
        return whole
    bars = sorted({bar for bar, _ in pending})
    found = ask(bars[0], bars[0] + 1, [c for c in pending if c[0] == bars[0]])
    if not fits(found):
        raise UserError(
            f"bar {bars[0]} (from 0) with {len(found.cells)} masked cells takes {len(found)} ids, more than the context of "
            f"{context}; mask fewer tracks, or take a model with a longer data.length"
        )
    for bar in bars[1:]:
        longer = ask(found.a, bar + 1, [c for c in pending if c[0] <= bar])
        if not fits(longer, AIM):
            break
        found = longer
    later = next((bar for bar in bars if bar >= found.b), piece.bars)  # its notes are not known yet
    return _widened(piece, found, later, ask, fits)


def _widened(piece: Piece, found: Pass, stop: int, ask, fits) -> Pass:
    """The window with bars before and after it, in turn, as far as they fit."""
    sides = [(-1, 0), (0, 1)]
    while sides:
        left, right = sides.pop(0)
        a, b = found.a + left, found.b + right
        if a >= 0 and b <= stop and fits(wider := ask(a, b, found.cells)):
            found = wider
            sides.append((left, right))
    return found


def _pass(piece: Piece, a: int, b: int, cells: list[Cell], typical: float) -> Pass:
    codec = piece.codec
    ids = codec.window(piece.layout, "start" if a == 0 else "continue", a, b, tuple(cells))
    ids = ids[: np.argmax(ids == codec.vocabulary.id("fill")) + 1].astype(np.int32)
    return Pass(a, b, cells, ids, max(LEAST, math.ceil(typical * len(cells))))


def typical(piece: Piece, cells: list[Cell]) -> float:
    """Ids to reserve for the answer of a cell: half as many again as the fuller of the masked cells and the piece's
    others take on average."""
    codec, layout = piece.codec, piece.layout
    sounding = piece.sounding or [(0, 0)]
    if not len(piece.score):
        return 32.0

    def mean(some: list[Cell]) -> float:
        some = some[:MOST]  # of no more bars than that
        ids = codec.window(layout, "continue", some[0][0], some[-1][0] + 1, tuple(some))
        answers = len(ids) - np.argmax(ids == codec.vocabulary.id("fill"))
        return answers / len(some)

    masked = sorted(set(sounding) & set(cells))
    return 1.5 * max(mean(sounding), mean(masked) if masked else 0.0)
