"""The schedule `plateau`: the learning rate falls when the metric that it heeds has not improved for long.

How long is counted as by early stopping, from metrics.jsonl; how far it has fallen is State.guard["scale"]. So a run that
is resumed falls at the same steps, and one that goes back keeps the lower rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from aurljax.records.progress import Progress
from aurljax.sections import Optim
from aurljax.state import State, remembering
from aurljax.survival.stopping import Stopping


class Plateau:
    """Follows the metric of a config whose schedule this is, none of any other, from the records of a run until now."""

    def __init__(self, config: Optim, records: Iterable[Mapping[str, float]] = ()):
        self.heeded = (config.metric,) * (config.schedule == "plateau")
        self._factor, self._least = config.factor, float(np.float32(config.end_factor))  # as the state holds it
        self._still = Stopping(self.heeded, config.patience)
        for record in records:
            self._reached(record)

    def update(self, now: State, at: int, measured: Mapping[str, float], progress: Progress) -> State:
        """The state after what was measured at step `at`: with a lower learning rate if that was once too often no better.

        A rate that going back has brought below the least stays.
        """
        if not self._reached(measured):
            return now
        scale = float(now.guard["scale"])
        lower = max(scale * self._factor, min(scale, self._least))
        if lower < scale:
            progress.note(f"step {at}: {self._still.line()}; learning rate x {lower:g}")
        return remembering(now, scale=lower)

    def _reached(self, measured: Mapping[str, float]) -> bool:
        self._still.update(measured)
        if over := self._still.over:
            self._still.wait()
        return over
