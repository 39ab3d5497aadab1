"""Batches on their way to the devices, with the times at which steps end and the time the devices stand without one.

The loop dispatches steps ahead of the devices, so waiting for a batch costs nothing while they are busy. A thread of its
own waits for each step; only what lies between the end of the last step and the arrival of the next batch is lost.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax


class Moment(NamedTuple):
    """The end of a step, and sums over all steps until then."""

    time: float  # seconds, of time.perf_counter
    starved: float  # seconds in which no step ran for lack of a batch
    work: float  # of what `work` was told of each batch


class Feed(contextlib.AbstractContextManager):
    """Iterates over `batches`; `dispatched` tells it of each step and what it computes, in the loop's own units."""

    def __init__(self, batches: Iterable[Any]):
        self._batches = iter(batches)
        self._steps: queue.SimpleQueue = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._running = 0
        self._ended = time.perf_counter()
        self._starved = self._work = 0.0
        self._moments: dict[int, Moment] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        while True:
            begun = time.perf_counter()
            try:
                batch = next(self._batches)
            except StopIteration:
                return
            self._arrived(begun, time.perf_counter())
            yield batch

    def dispatched(self, at: int, result: jax.Array, work: float = 0.0) -> None:
        """Takes an output of step `at`, one whose buffer is not given away."""
        with self._changed:
            self._running += 1
            self._work += work
            starved = self._starved
        self._steps.put((at, result, starved, self._work))

    def moment(self, at: int) -> Moment | None:
        """The end of a step whose output the caller has; forgets those before it. None: it was not dispatched."""
        with self._changed:
            self._changed.wait_for(lambda: at in self._moments or not self._running, timeout=5)
            self._moments = {step: m for step, m in self._moments.items() if step >= at}
            return self._moments.get(at)

    def __exit__(self, *_: object) -> None:
        self._steps.put(None)
        self._thread.join(timeout=5)

    def _arrived(self, begun: float, now: float) -> None:
        with self._changed:
            if not self._running and self._work_known:
                self._starved += now - max(begun, self._ended)

    @property
    def _work_known(self) -> bool:
        """Whether a step has run: the wait before the first one is no loss of the loop's."""
        return bool(self._moments)

    def _watch(self) -> None:
        while (item := self._steps.get()) is not None:
            at, result, starved, work = item
            # A step that failed raises where the loop reads its metrics.
            with contextlib.suppress(Exception):
                jax.block_until_ready(result)
            with self._changed:
                self._running -= 1
                self._ended = time.perf_counter()
                self._moments[at] = Moment(self._ended, starved, work)
                self._changed.notify_all()
