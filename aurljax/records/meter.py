"""What a record of a run says beside the metrics of its step: epoch, pace, use of the devices, waiting, memory."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from aurljax.data.pipeline import Dataset
from aurljax.feed import Feed, Moment
from aurljax.records import flops, machine
from aurljax.stages import Stage

# Numbers that another machine, or another time, would give otherwise.
OURS = ("tokens_per_second", "mfu", "data_wait", "windows", "augmented", "device_memory", "device_memory_peak",
        "host_memory")  # fmt: skip


class Meter:
    """Reads the clock and the machine once a record; `count` is called for each batch.

    mfu is of the peak of all devices of the mesh in bfloat16 and is left out on devices whose peak is not known. Pace and
    mfu are from record to record with all that lies between, evaluation and samples too.
    """

    def __init__(self, stage: Stage, data: Dataset, feed: Feed):
        self._stage, self._data, self._feed = stage, data, feed
        self._devices = jax.sharding.get_mesh().size
        self._peak = flops.peak(jax.local_devices()[0].device_kind)
        self._first: tuple[int, Moment] | None = None  # after compilation
        self._before: tuple[int, Moment] | None = None
        self._windows: dict[int, int] = {}
        self._per_slot = functools.cache(functools.partial(flops.per_slot, stage.parts))

    def count(self, at: int, batch: Any, result: jax.Array, record: bool) -> None:
        """Takes a step's batch (of this host) and an output of it; `record`: it will be read."""
        rows, length = batch.tokens.shape
        self._feed.dispatched(at, result, rows * jax.process_count() * length * self._per_slot(length))
        if record:
            self._windows[at] = int(np.max(batch.segments, 1).sum())

    def read(self, at: int, weight: float) -> tuple[dict[str, float], float | None]:
        """(values to log for step `at`, of `weight` tokens, whose metrics are known; seconds left to the run's end)."""
        epoch = (at - self._stage.begin) / max(self._data.epoch_steps, 1)
        values = {"epoch": epoch, "windows": float(self._windows.pop(at, 0)), "augmented": self._data.augmented}
        values |= machine.memory() | ({"stage": self._stage.number + 1.0} if self._stage.name else {})
        moment, first, before = self._feed.moment(at), self._first, self._before
        if moment is None:
            return values, None
        self._first, self._before = first or (at, moment), (at, moment)
        if first is None or before is None or at == first[0]:
            return values, None
        passed, steps = max(moment.time - before[1].time, 1e-9), at - before[0]
        values["tokens_per_second"] = weight * steps / passed
        values["data_wait"] = (moment.starved - before[1].starved) / passed
        if self._peak:
            values["mfu"] = (moment.work - before[1].work) / (passed * self._peak * self._devices)
        left = (moment.time - first[1].time) / (at - first[0]) * (self._stage.last - at)
        return values, left
