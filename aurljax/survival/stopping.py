"""Early stopping: a run ends when none of the metrics it heeds has improved for long. What it knows is metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aurljax.survival import retention


class Stopping:
    """Follows metrics, each named as in run.stop_on, from the records of a run until now."""

    def __init__(self, metrics: Sequence[str], patience: int, records: Iterable[Mapping[str, float]] = ()):
        self._patience = patience
        self._best: dict[str, float] = {}
        self._stale = dict.fromkeys(metrics, 0)  # measurements since the best
        for record in records:
            self.update(record)

    @property
    def over(self) -> bool:
        """Whether every metric was measured `patience` times in a row without being better than before."""
        return bool(self._stale) and min(self._stale.values()) >= self._patience

    def update(self, values: Mapping[str, float]) -> None:
        """Takes what was measured at a step; names that are not heeded may be among it."""
        for metric in self._stale:
            if (value := values.get(retention.name(metric))) is None:
                continue
            if metric in self._best and not retention.better(metric, value, self._best[metric]):
                self._stale[metric] += 1
            elif value == value:  # a NaN is no best, and waits for a number
                self._best[metric], self._stale[metric] = value, 0
            else:
                self._stale[metric] += 1

    def wait(self) -> None:
        """Begins to count again; the best stays what it is."""
        self._stale = dict.fromkeys(self._stale, 0)

    def line(self) -> str:
        """Why it is over, in words."""
        names = " and ".join(map(retention.name, self._stale))
        return f"{names} did not improve in {self._patience} measurements"
