"""Going back to the last good checkpoint, when updates are skipped without end or samples have collapsed.

The weights, the optimizer and the averages go back; the step does not: the run goes on with batches it has not seen,
metrics and checkpoints stay in order, and the batches since the checkpoint count as skipped. All that later decisions
rest on is in State.guard, so a run killed at any moment takes the same ones again:

    scale       what the learning rate is multiplied by; a plateau lowers it too
    rollbacks   how often the run has gone back
    candidate   step of the newest checkpoint that the schedule made outside a row of skipped updates
    anchor      step of the checkpoint to go back to: the candidate, once samples made since have been found healthy,
                or at once where samples are not watched; `begin` is the state the run, or the stage, began with
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from aurljax import checkpoint, state
from aurljax.checkpoint import Checkpoints
from aurljax.config import Parts
from aurljax.errors import UserError
from aurljax.records.progress import Progress
from aurljax.state import State, remembering
from aurljax.survival.collapse import Judge

First = Callable[[], State]


class Recovery:
    """Watches a run from a state on; `first` gives the one that it began with. Samples only if there is a judge of them."""

    def __init__(
        self, parts: Parts, checkpoints: Checkpoints, progress: Progress, now: State, first: First,
        judge: Judge | None = None,
    ):  # fmt: skip
        self._judge, self._proved = judge, -1  # the step of the last good sample
        guard = parts.config.guard
        self._patience, self._rollbacks, self._backoff = guard.patience, guard.rollbacks, guard.backoff
        self._parts, self._first, self._begin = parts, first, int(now.guard["begin"])
        self._after = self._begin + guard.samples_after
        self._checkpoints, self._progress = checkpoints, progress
        # Of the step before, fetched when the next is dispatched: a step in flight is not waited for.
        self._in_a_row: Any = int(now.guard["in_a_row"])
        self._anchor, self._candidate = int(now.guard["anchor"]), int(now.guard["candidate"])
        self._back = -1  # the step at which it last went back
        self._pin()

    def watch(self, now: State, at: int, in_a_row: jax.Array) -> State:
        """The state after step `at`, or one rolled back if the updates until the step before were skipped in a row."""
        before, self._in_a_row = int(self._in_a_row), in_a_row
        if before < self._patience:
            return now
        return self.roll_back(
            now, at, f"{before} updates in a row were skipped, their loss or gradient not finite or exploding"
        )

    def judge(self, now: State, at: int, sample: Mapping[str, float]) -> State:
        """The state after a sample of step `at`: rolled back if it has collapsed; else what it proves is written down."""
        if not self._judges(at):
            return now
        if why := self._judge.verdict(sample):
            return self.roll_back(now, at, why)
        self._anchor, self._proved = self._candidate, at
        self._pin()
        return remembering(now, anchor=self._anchor)

    def _judges(self, at: int) -> bool:
        return self._judge is not None and at >= self._after

    def roll_back(self, now: State, at: int, why: str) -> State:
        """The state of the last good checkpoint at step `at`, with a lower learning rate; UserError when it is in vain."""
        done, scale = int(now.guard["rollbacks"]), float(now.guard["scale"])
        if done >= self._rollbacks:
            again = (
                f" after going back {done} time{'s' * (done > 1)} with the learning rate x {scale:g}" if done else ""
            )
            raise UserError(
                f"step {at}: {why}{again}; lower optim.learning_rate or lengthen optim.warmup and start in a new folder, "
                "or raise guard.rollbacks to go on from the last checkpoint"
            )
        self._checkpoints.settle()
        for leaf in jax.tree.leaves(now):  # a device may not hold two states
            leaf.delete()
        good = self._load()
        values = {
            "skipped": at - int(good.step) + int(good.guard["skipped"]),  # updates made are those of the checkpoint
            "scale": scale * self._backoff,
            "rollbacks": done + 1,
            "anchor": self._anchor,
            "candidate": self._anchor,
        }
        self._progress.note(
            f"step {at}: {why}; going back to {self._where()}, learning rate x {values['scale']:g} "
            f"({done + 1} of {self._rollbacks})"
        )
        self._in_a_row, self._candidate, self._back = 0, self._anchor, at
        good = good.replace(step=state.scalar(at, good.step))
        return remembering(good, in_a_row=0, **values)

    def saving(self, now: State, at: int, scheduled: bool) -> State:
        """The state to save after step `at`, which the run may go back to later.

        scheduled: the step itself decides that it is saved, not a signal, so that an interrupted run goes back to where
        an uninterrupted one would.
        """
        if not scheduled or self.went_back(at) or int(self._in_a_row) > 0:
            return now
        self._candidate = at
        if self._proved == at or not self._judges(at):
            self._anchor = at
        self._pin()
        return remembering(now, anchor=self._anchor, candidate=self._candidate)

    def went_back(self, at: int) -> bool:
        """Whether the run went back at this step, which is saved at once."""
        return self._back == at

    def _pin(self) -> None:
        self._checkpoints.pin(self._anchor, self._candidate)

    def _load(self) -> State:
        if self._anchor == self._begin:
            return self._first()
        path = self._checkpoints.directory / str(self._anchor)
        return checkpoint.load_state(path, state.abstract(self._parts))

    def _where(self) -> str:
        return str(self._checkpoints.directory / str(self._anchor)) if self._anchor > self._begin else "the beginning"
