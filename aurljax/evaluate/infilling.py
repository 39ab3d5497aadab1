"""How much the bars behind a hole help to fill it: nats of the true notes given both sides, and given the left side only.

A run of whole bars of each piece is masked. The same answers are scored behind the piece with the bars on both sides, and
behind the bars up to the end of the hole (but for velocities, which are told where they change). A third figure is that
of going on without holes: those bars, written from left to right; it tells the same notes in other ids, so it compares per
note.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from aurljax.data import objective, order
from aurljax.evaluate import likelihood
from aurljax.evaluate.likelihood import Row
from aurljax.music.codec.holes import MOST
from aurljax.music.score import Score
from aurljax.tasks.fill import check

if TYPE_CHECKING:
    from aurljax.model import Model


@dataclasses.dataclass(frozen=True)
class Infilling:
    """Sums over the masked bars: notes; nats of their answers with both sides and with the left one, and written on."""

    pieces: int
    notes: int
    both: float
    left: float
    written_on: float

    def summary(self) -> dict[str, float]:
        """Nats per note of each."""
        per = {name: getattr(self, name) / max(self.notes, 1) for name in ("both", "left", "written_on")}
        return {"pieces": self.pieces, "notes": self.notes, **{f"{k}_nats_per_note": v for k, v in per.items()}}


def of_scores(
    model: Model,
    scores: Iterable[Score],
    most: float = 0.5,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Infilling:
    """Measures pieces that the context holds with a hole of up to the share `most` of their bars, which neither begins nor
    ends the piece; others are left out. `progress` hears of the pieces done. UserError: a model that cannot fill in."""
    check(model)
    found = [questions(model, score, most, (seed, order.HOLES, i)) for i, score in enumerate(scores)]
    asked, nats = [x for x in found if x is not None], np.zeros(3)
    for i, of_row in enumerate(_nats(model, [row for rows, _ in asked for row in rows])):
        nats[i % 3] += of_row
        progress(len(found) - len(asked) + (i + 1) // 3)
    return Infilling(len(asked), sum(notes for _, notes in asked), *nats.tolist())


def questions(model: Model, score: Score, most: float, key: tuple[int, ...]) -> tuple[list[Row], int] | None:
    """(rows: both sides, left side, written on; notes in the hole) of a piece; None where it does not fit."""
    codec = model.codec
    layout = codec.layout(score)
    if layout.bars < 3:
        return None
    tracks = np.unique(layout.note["track"]).tolist()
    cells = objective.draw("bars", range(1, layout.bars - 1), tracks, most, objective.chance(*key))
    if not cells:
        return None
    a, b = cells[0][0], cells[-1][0] + 1
    if b - a > MOST:
        return None
    both, left = (_answers(codec, codec.encode(score, (0, stop), holes=cells)) for stop in (layout.bars, b))
    plain = codec.encode(score, (0, b))
    inside = (layout.note["at"] >= layout.lines[a]) & (layout.note["at"] < layout.lines[b])
    if len(both[0]) > model.context + 1 or not inside.any():
        return None
    return [both, left, (plain, int(codec.bar_starts(plain, b)[a]))], int(inside.sum())


def _answers(codec, ids: np.ndarray) -> Row:
    """The row whose answers are scored, behind the first `fill` and without an `end`."""
    ids = ids[: np.flatnonzero(ids == codec.vocabulary.id("filled"))[-1] + 1]
    return ids, int(np.argmax(ids == codec.vocabulary.id("fill"))) + 1


def _nats(model: Model, rows: list[Row]) -> Iterator[float]:
    for at in range(0, len(rows), likelihood.ROWS):
        yield from likelihood.row_sums(model, rows[at : at + likelihood.ROWS])[:, 1].tolist()
