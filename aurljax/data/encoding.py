"""A source: one corpus as windows, and what a window becomes: prepared, transposed, changed, encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aurljax.data import augment, objective, order, windows
from aurljax.data.augment import Augment, Plan
from aurljax.data.corpus import Corpus
from aurljax.data.example import Example
from aurljax.data.objective import Asked, Objective
from aurljax.data.recent import Recent
from aurljax.music import preprocess
from aurljax.music.preprocess import Preprocess

if TYPE_CHECKING:
    from aurljax.music.codec import Codec
    from aurljax.music.score import Score

PLAIN = Augment()  # no effect
WRITTEN = Objective()  # no holes
Encoded = tuple[np.ndarray, dict[str, np.ndarray]]  # ids [n], features [n] each


class Source:
    """The windows of a split of a corpus; what is drawn for one follows from (seed, epoch, window).

    A window that effects make longer than the room its row has for it is transposed only, and counted in `fell_back`;
    one that is too long even so is cut at the last bar that fits, and counted in `cut`. One that holes make too long goes
    without its last bars, or where no hole fits without holes, and is counted in `shortened`. `drawn` counts windows,
    `changed` those that are not as written. Encoded windows without effects and holes are kept in memory up to `memory`
    bytes; that changes no result.
    """

    def __init__(
        self,
        corpus: Corpus,
        codec: Codec,
        split: str,
        length: int,
        seed: int = 0,
        transpose: tuple[int, int] = (0, 0),
        preprocess: Preprocess = windows.RAW,
        effects: Augment = PLAIN,
        memory: int = 256 << 20,
        cut: str = "tile",
        objective: Objective = WRITTEN,
        controls_dropout: float = 0.0,
    ):
        self.corpus, self.codec, self.seed = corpus, codec, seed
        self.transpose, self.preprocess, self.effects = transpose, preprocess, effects
        self.objective, self.controls_dropout = objective, controls_dropout
        slack = effects.slack if effects.active else 0.0
        self.windows = windows.load(corpus, codec, split, max(int(length / (1 + slack)), 2), preprocess, cut)
        slack += objective.slack if objective.active else 0.0
        slots = np.ceil((self.windows.ids - 1) * (1 + slack)).astype(np.int64)
        self.slots = np.minimum(slots, length)  # [W] kept for each window in its row
        self.cut = self.fell_back = self.shortened = self.drawn = self.changed = 0
        self._scores, self._encoded = Recent(64 << 20), Recent(memory)

    def window(self, window: int, epoch: int | None = None, progress: float = 0.0) -> Encoded:
        """(ids [n], features) of a window as that epoch draws it at a share of the run; epoch None: as it is written."""
        plan = self.plan(window, epoch, progress)
        kind = self.kind(window, epoch)
        self.drawn, self.changed = self.drawn + 1, self.changed + bool(plan)
        if kind is None and plan == _plain(plan):
            return self._encoded.get((window, plan), lambda: self._encode(window, plan))
        return self._encode(window, plan, kind, epoch)  # no other epoch draws the same

    def plan(self, window: int, epoch: int | None, progress: float = 0.0) -> Plan:
        """What that epoch does to a window at a share of the run."""
        if epoch is None:
            return ()
        score, (low, high) = self._score(window)[0], self.transpose
        if self.effects.transpose == "fit":
            low, high = augment.fitting(score, self.effects.pitches)
        shift = augment.draw(score, (self.seed, order.SHIFT, epoch, window), low, high) if low < high else 0
        drawn = augment.plan(score, self.effects, (self.seed, order.EFFECTS, epoch, window), progress)
        return ((("transpose", shift),) if shift else ()) + self._dropped(window, epoch) + drawn

    def _dropped(self, window: int, epoch: int) -> Plan:
        """What leaves out the controls of a window, all of them, where that epoch draws it."""
        chance = objective.chance(self.seed, order.CONTROLS, epoch, window)
        gone = self.controls_dropout and chance(0) < self.controls_dropout
        return (("without", tuple(name for name, _ in self.codec.controls)),) if gone else ()

    def kind(self, window: int, epoch: int | None) -> str | None:
        """Over what that epoch draws holes in a window; None: no holes."""
        return None if epoch is None or not self.objective.active else self.objective.kind(self._chance(window, epoch))

    def example(self, window: int, epoch: int, progress: float) -> Example:
        """A window in words: where it comes from, what was done to it, and what it asks."""
        w, plan, kind = self.windows, self.plan(window, epoch, progress), self.kind(window, epoch)
        ids, done = self._fitting(window, plan)
        asked = self._asked(window, done, kind, epoch) if kind else None
        ids, stop = (asked.ids, asked.stop) if asked else (ids, int(w.stop[window]))
        piece, bars = self.corpus.pieces[int(w.piece[window])].id, (int(w.start[window]), stop)
        left_out = int(w.stop[window]) - stop
        return Example(piece, bars, self._score(window)[1], plan, done, ids, kind, asked, left_out)

    def _score(self, window: int) -> tuple[Score, dict[str, int]]:
        """The preprocessed piece of a window, and the notes that cost."""
        piece = int(self.windows.piece[window])
        return self._scores.get(piece, lambda: preprocess.prepare(self.corpus[piece], self.preprocess))

    def _chance(self, window: int, epoch: int) -> objective.Chance:
        return objective.chance(self.seed, order.HOLES, epoch, window)

    def _encode(self, window: int, plan: Plan, kind: str | None = None, epoch: int | None = None) -> Encoded:
        ids, done = self._fitting(window, plan)
        self.fell_back += done != plan
        if kind:
            asked = self._asked(window, done, kind, epoch)
            self.shortened += asked is None or asked.stop < self.windows.stop[window]
            ids = asked.ids if asked else ids
        return ids, self.codec.features(ids)

    def _asked(self, window: int, done: Plan, kind: str, epoch: int) -> Asked | None:
        """A window to which `done` was done with holes of a kind, in its room; None where no hole fits."""
        w, score = self.windows, augment.apply(self._score(window)[0], done)
        bars, room = (int(w.start[window]), int(w.stop[window])), int(self.slots[window]) + 1
        return objective.masked(self.codec, score, bars, kind, self.objective.most, self._chance(window, epoch), room)

    def _fitting(self, window: int, plan: Plan) -> tuple[np.ndarray, Plan]:
        """(ids, what was done): all of the plan if its ids fit the window's room, else its transposition alone."""
        score, w = self._score(window)[0], self.windows
        a, b, room = int(w.start[window]), int(w.stop[window]), int(self.slots[window]) + 1
        plain = _plain(plan)
        for done in dict.fromkeys((plan, plain)):
            ids = self.codec.encode_upto(augment.apply(score, done), a, b)  # the last bars may have lost all they had
            if 0 < len(ids) <= room:
                return ids, done
        if not len(ids):  # two names of one key that ended the piece are one when transposed
            plain = tuple(step for step in plain if step[0] != "transpose")
            ids = self.codec.encode(augment.apply(score, plain), bars=(a, b))
        if len(ids) > room:
            self.cut += 1
            lines = self.codec.bar_starts(ids, b - a)[1:]
            lines = lines[lines <= room]
            ids = ids[: lines[-1] if len(lines) else room]
        return ids, plain


def _plain(plan: Plan) -> Plan:
    """The part of a plan that cannot change how many ids a window has."""
    return tuple(step for step in plan if step[0] in augment.PLAIN)
