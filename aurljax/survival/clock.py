"""Checkpoints by time: minutes since the last one, on which all processes agree."""

from __future__ import annotations

import time

import jax
import numpy as np
from jax.experimental import multihost_utils


class Clock:
    """Rings `minutes` after it was made or reset (0: never)."""

    def __init__(self, minutes: float):
        self._seconds, self._since = 60 * minutes, time.monotonic()

    def due(self) -> bool:
        """Whether it rings, by the first process's time; all processes ask at the same steps."""
        if not self._seconds:
            return False
        late = time.monotonic() - self._since >= self._seconds
        if jax.process_count() == 1:
            return late
        return bool(multihost_utils.broadcast_one_to_all(np.asarray(late)))

    def reset(self) -> None:
        """Begins to count again."""
        self._since = time.monotonic()
