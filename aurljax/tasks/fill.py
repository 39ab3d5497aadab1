"""Filling cells: several pieces and masks at once, window by window, with all that is not masked left as it is."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aurljax import mesh
from aurljax.decode import loop
from aurljax.decode.length import bucket
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.music.score import NOTE, Score
from aurljax.tasks import passes, splice
from aurljax.tasks.passes import Pass
from aurljax.tasks.piece import Cell, Piece

if TYPE_CHECKING:
    from aurljax.model import Model

ROWS = 64  # in one batch


class Filled(NamedTuple):
    """An answer: the score; those of its notes that are new; new notes that locked ones cut short, and that gave way
    altogether; the cells that were masked, and in how many windows they were asked for."""

    score: Score
    new: np.ndarray  # NOTE rows
    cut: int
    dropped: int
    cells: int
    windows: int


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
    answers: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, NOTE))
    windows: int = 0
    lost: int = 0

    def settled(self) -> tuple[np.ndarray, int, int]:
        new, cut, dropped = splice.settle(self.locked.notes, self.answers)
        return new, cut, dropped + self.lost

    def piece(self) -> Piece:
        new, _, _ = self.settled()
        score = self.locked.replace(notes=np.concatenate([self.locked.notes, new]))
        return Piece(score, self.codec, self.bars)

    def take(self, asked: Pass, new: np.ndarray) -> None:
        """Keeps what a window was answered."""
        decoded = self.codec.decode(np.concatenate([asked.ids, new]))
        notes, lost = splice.answers(self.piece(), asked.a, asked.cells, decoded)
        self.answers, self.lost = np.concatenate([self.answers, notes]), self.lost + lost
        done = set(asked.cells)
        self.pending = [cell for cell in self.pending if cell not in done]
        self.windows += 1


def fill(
    model: Model, scores: list[Score], cells: list[list[Cell]], seeds: list[tuple[int, int]], sampler: Sampler
) -> list[Filled]:
    """Each score with new notes in its cells (bar, track); row i follows from its score, cells, seed and the sampler alone.

    Locked notes, tempi, meters, keys, controls, texts and names are those of the score, to the bit. UserError: a model
    that was not trained to fill in, no cells, a piece that its codec cannot tell, cells that no window holds.
    """
    check(model)
    sampler.check(model.codec.vocabulary, model.codec.name)
    work = [_begun(model, *row) for row in zip(scores, cells, seeds, strict=True)]
    while left := [w for w in work if w.pending]:
        asked = [passes.first(w.piece(), w.pending, w.typical, model.context) for w in left]
        alike = defaultdict(list)
        for i, one in enumerate(asked):
            alike[bucket(len(one.ids)), bucket(one.most)].append(i)
        for rows in alike.values():
            for at in range(0, len(rows), ROWS):
                some = rows[at : at + ROWS]
                keys = [(*left[i].seed, left[i].windows) for i in some]
                for i, ids in zip(some, _sampled(model, [asked[i] for i in some], keys, sampler), strict=True):
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


def _begun(model: Model, score: Score, cells: list[Cell], seed: tuple[int, int]) -> _Work:
    if not cells:
        raise UserError("no cell is masked: name bars and tracks that the piece has")
    piece = Piece(score, model.codec)
    inside = piece.inside(cells)
    expected = passes.typical(piece, cells)
    locked = score.replace(notes=score.notes[~inside])
    return _Work(locked, sorted(set(cells)), seed, model.codec, piece.bars, expected, len(set(cells)))


def _filled(w: _Work) -> Filled:
    new, cut, dropped = w.settled()
    return Filled(w.piece().score, new, cut, dropped, w.cells, w.windows)


def _sampled(model: Model, asked: list[Pass], seeds: list[tuple[int, int, int]], sampler: Sampler) -> np.ndarray:
    """[B, most] ids that follow the questions, 0 after the end. They are all of one padded width and one bucket of ids."""
    plan = loop.Plan(model.parts.family, model.parts.model, model.codec, sampler, bucket(asked[0].most), segments=2)
    with mesh.use(model.mesh):
        ways = mesh.ways("batch")
        size = ways << max(0, math.ceil(math.log2(len(asked) / ways)))
        rows = [*range(len(asked)), *[0] * (size - len(asked))]  # few sizes of batches are compiled
        keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(a), b), c) for a, b, c in seeds]
        ids, start = loop.left_padded([asked[i].ids for i in rows])
        left = np.array([asked[i].most for i in rows], np.int32)
        limits = loop.limits(size, None, None, False)
        new = loop.generate(plan, model.weights, ids, start, jnp.stack([keys[i] for i in rows]), *limits, left)
        return np.asarray(new)[: len(asked)]
