"""SIGTERM and ctrl-C, heard between steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interruption(contextlib.AbstractContextManager):
    """A context in which SIGTERM and ctrl-C become a question that a loop asks; a second one stops at once."""

    def __init__(self) -> None:
        alone = jax.process_count() == 1  # else JAX hears SIGTERM and lets all processes agree on a step
        self._signals = (signal.SIGINT, signal.SIGTERM) if alone else ()
        self._before: dict[int, Any] = {}
        self._heard = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._hear) for s in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reached(self, at: int) -> bool:
        """Whether to stop after this step."""
        return self._heard if jax.process_count() == 1 else multihost_utils.reached_preemption_sync_point(at)

    def _hear(self, *_: object) -> None:
        if self._heard:
            raise KeyboardInterrupt
        self._heard = True
