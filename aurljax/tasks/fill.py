"""Filling cells: several pieces and masks at once, window by window, with all that is not masked left as it is."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aurljax import mesh
from aurljax.decode import constraints as wishes
from aurljax.decode import loop
from aurljax.decode.length import bucket
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.evaluate.likelihood import Row
from aurljax.music.codec import score_layout
from aurljax.music.codec.grammar import UNLIMITED
from aurljax.music.score import NOTE, Score
from aurljax.music.settling import settle
from aurljax.tasks import passes, splice
from aurljax.tasks.passes import Pass
from aurljax.tasks.piece import Cell, Piece

if TYPE_CHECKING:
    from aurljax.model import Model

ROWS = 64  # in one batch


class Filled(NamedTuple):
    """An answer: the score; those of its notes that are new; new notes that locked ones cut short, and that gave way
    altogether; the cells that were masked, and the windows in which they were asked for with what was answered."""

    score: Score
    new: np.ndarray  # NOTE rows
    cut: int
    dropped: int
    cells: int
    rows: tuple[Row, ...]  # ids of each window, and the first of them that is new

    @property
    def windows(self) -> int:
        """How many windows were asked for."""
        return len(self.rows)


@dataclasses.dataclass
class _Work:
    """A piece on its way: what is locked, what was answered, which cells are left."""

    locked: Score
    pending: list[Cell]
    seed: tuple[int, int]
    codec: object
    bars: int
    typical: float
    cells: int
    constraints: Sequence[wishes.Constraint]
    answers: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, NOTE))
    rows: list[Row] = dataclasses.field(default_factory=list)
    lost: int = 0
    ended: str = ""

    def settled(self) -> tuple[np.ndarray, int, int]:
        found, cut, dropped = settle(self.locked.notes, self.answers)
        new = found
        for constraint in self.constraints:
            new = constraint.amended(new, self.locked)
        return new, cut, dropped + len(found) - len(new) + self.lost

    def piece(self) -> Piece:
        new, _, _ = self.settled()
        score = self.locked.replace(notes=np.concatenate([self.locked.notes, new]))
        return Piece(score, self.codec, self.bars)

    def take(self, asked: Pass, new: np.ndarray) -> None:
        """Keeps what a window was answered."""
        limits = asked.most, UNLIMITED, np.inf
        own = [c.later(asked.a) for c in self.constraints]
        decoded = wishes.decoded_row(self.codec, own, asked.ids, new, limits, asked.a)
        self.ended = decoded.meta.get("ended", self.ended)
        notes, lost = splice.answers(self.piece(), asked.a, asked.cells, decoded)
        self.answers, self.lost = np.concatenate([self.answers, notes]), self.lost + lost
        done = set(asked.cells)
        self.pending = [cell for cell in self.pending if cell not in done]
        self.rows.append((np.concatenate([asked.ids, new[: np.count_nonzero(new)]]), len(asked.ids)))


def fill(
    model: Model,
    scores: list[Score],
    cells: list[list[Cell]],
    seeds: list[tuple[int, int]],
    sampler: Sampler,
    constraints: Sequence[wishes.Constraint] = (),
    cache: str | None = None,
    weights: str | None = None,
) -> list[Filled]:
    """Each score with new notes in its cells (bar, track); row i follows from its own and the settings alone.

    Locked notes, tempi, meters, keys, controls, texts and names are those of the score, to the bit. constraints: what
    holds of the new notes; cache, weights: types, as for `Model.generate`. UserError: a model that was not trained to
    fill in, no cells, a piece that its codec cannot tell, cells that no window holds, a constraint that cannot be kept
    here or that what stays of a piece breaks.
    """
    check(model)
    sampler.check(model.codec.vocabulary, model.codec.name)
    wishes.refuse_blind(constraints)
    wishes.refuse(constraints, asked=False)
    plan = loop.Plan(model.parts.family, model.parts.model, model.codec, sampler, segments=2,
                     constraints=wishes.kinds(constraints), cache=cache, weights=weights)  # fmt: skip
    work = [_begun(model, *row, constraints) for row in zip(scores, cells, seeds, strict=True)]
    _check_locked(model.codec, constraints, work)
    while left := [w for w in work if w.pending]:
        asked = [passes.first(w.piece(), w.pending, w.typical, model.context) for w in left]
        alike = defaultdict(list)
        for i, one in enumerate(asked):
            alike[bucket(len(one.ids)), bucket(one.most)].append(i)
        for rows in alike.values():
            for at in range(0, len(rows), ROWS):
                some = rows[at : at + ROWS]
                keys = [(*left[i].seed, len(left[i].rows)) for i in some]
                for i, ids in zip(some, _sampled(model, plan, [asked[i] for i in some], keys, constraints), strict=True):
                    left[i].take(asked[i], ids)
    return [_filled(w) for w in work]


def check(model: Model) -> None:
    """UserError for a model that cannot fill in."""
    codec = model.codec
    if "hole" not in codec.vocabulary.index:
        raise UserError(f"the codec '{codec.name}' of this model writes no holes, so it cannot fill in; train one with "
                        "codec.name=score, codec.options.infill=True and data.objective.span=0.3, say")  # fmt: skip
    if not model.parts.config.data.objective.active:
        raise UserError("this model was not trained to fill in, for its data.objective masks nothing; train one with "
                        "data.objective.span=0.3, say")  # fmt: skip


def _check_locked(codec: Any, constraints: Sequence[wishes.Constraint], work: list[_Work]) -> None:
    """UserError where what stays of a piece breaks a constraint, or cannot tell how one is kept."""
    seen: list[Score] = []
    for w in work:
        if any(isinstance(c, wishes.Chords) for c in constraints) and w.locked.resolution < score_layout.GRID:
            raise UserError(f"chords: the piece has {w.locked.resolution} ticks a quarter, and chords are told apart on "
                            f"{score_layout.GRID}; save it with more")  # fmt: skip
        if w.locked not in seen:
            wishes.check_piece(codec, constraints, codec.encode(w.locked)[:-1])
            seen.append(w.locked)


def _begun(
    model: Model, score: Score, cells: list[Cell], seed: tuple[int, int], constraints: Sequence[wishes.Constraint]
) -> _Work:
    if not cells:
        raise UserError("no cell is masked: name bars and tracks that the piece has")
    piece = Piece(score, model.codec)
    inside = piece.inside(cells)
    expected = passes.typical(piece, cells)
    locked = score.replace(notes=score.notes[~inside])
    return _Work(locked, sorted(set(cells)), seed, model.codec, piece.bars, expected, len(set(cells)), constraints)


def _filled(w: _Work) -> Filled:
    new, cut, dropped = w.settled()
    score = w.piece().score
    score = score.replace(meta={**score.meta, "ended": w.ended}) if w.ended else score
    return Filled(score, new, cut, dropped, w.cells, tuple(w.rows))


def _sampled(
    model: Model,
    plan: loop.Plan,
    asked: list[Pass],
    seeds: list[tuple[int, int, int]],
    constraints: Sequence[wishes.Constraint],
) -> np.ndarray:
    """[B, most] ids that follow the questions, 0 after the end. They are all of one padded width and one bucket of ids."""
    plan = dataclasses.replace(plan, most=bucket(asked[0].most))
    with mesh.use(model.mesh):
        ways = mesh.ways("batch")
        size = ways << max(0, math.ceil(math.log2(len(asked) / ways)))
        rows = [*range(len(asked)), *[0] * (size - len(asked))]  # few sizes of batches are compiled
        keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(a), b), c) for a, b, c in seeds]
        ids, start = loop.left_padded([asked[i].ids for i in rows])
        left = np.array([asked[i].most for i in rows], np.int32)
        limits = loop.limits(size, None, None, False)
        each = [wishes.registers(model.codec, [c.later(asked[i].a) for c in constraints], 1) for i in rows]
        registers = {name: np.concatenate([own[name] for own in each]) for name in each[0]}
        keys = jnp.stack([keys[i] for i in rows])
        new = loop.generate(plan, model.weights, ids, start, keys, *limits, left, registers)
        return np.asarray(new)[: len(asked)]
