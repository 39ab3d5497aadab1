"""When the bars of a stream sound: the first when it arrives, the others in time, or late with all that follows."""

from __future__ import annotations

from typing import NamedTuple

from aurljax.decode.stream import Bar
from aurljax.live.schedule import Schedule, Timed


class Underrun(NamedTuple):
    """A bar (from 0) that was there so many seconds after it should have begun."""

    bar: int
    seconds: float


class Timeline:
    """Places the bars of one piece on a clock. `underruns`: those that came too late, in order."""

    def __init__(self):
        self.underruns: list[Underrun] = []
        self._schedule = Schedule()
        self._origin: float | None = None  # where on the clock the piece begins

    def place(self, bar: Bar, now: float) -> list[Timed]:
        """Messages of the next bar with their seconds on the clock, on which it arrives `now`."""
        begin = min([bar.seconds[0], *(e.seconds for e in bar.events[:1])])  # micro-timing may precede the bar line
        if self._origin is None:
            self._origin = now - begin
        elif (late := now - (self._origin + begin)) > 0:
            self._origin += late
            self.underruns.append(Underrun(bar.number, late))
        return [(self._origin + at, message) for at, message in self._schedule.messages(bar.events)]
