"""What a person sees while a run goes on: a bar that redraws itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from aurljax.records.journal import Journal

WIDTH = 24


PERCENT = ("mfu",)  # values shown as a share


class Progress:
    """Progress of `total` steps on a text stream (standard error by default); what is noted goes to a journal, too."""

    def __init__(self, total: int, stream: TextIO | None = None):
        self.total = total
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.drawn = ""
        self.journal: Journal | None = None
        self._early: list[tuple[str, str]] = []  # noted before there was a journal

    def keep(self, journal: Journal | None) -> None:
        """From now on everything noted, and what was noted so far, goes to `journal`."""
        self.journal = journal
        for text, level in self._early if journal else ():
            journal.write(text, level)
        self._early = []

    def record(self, text: str) -> None:
        """A line for the journal alone."""
        if self.journal:
            self.journal.write(text)

    def update(self, step: int, values: Mapping[str, float], rate: float | None, left: float | None) -> None:
        """Shows a step, its values, tokens per second and the seconds left (None: not known yet)."""
        text = f"step {step:>{len(str(self.total))}}/{self.total}"
        text += "".join(f"  {k} {v:.1%}" if k in PERCENT else f"  {k} {v:.4g}" for k, v in values.items())
        text += f"  {rate:,.0f} tokens/s" if rate is not None else ""
        text += f"  {clock(left)} left" if left is not None else ""
        if self.live:
            done = WIDTH * step // self.total
            self._draw(f"[{'#' * done}{'.' * (WIDTH - done)}] {text}")
        else:
            self._print(text)

    def note(self, text: str, level: str = "INFO") -> None:
        """A line that stays; a warning says so."""
        if self.journal:
            self.journal.write(text, level)
        else:
            self._early.append((text, level))
        self._print(text if level == "INFO" else f"{level.lower()}: {text}")

    def _print(self, text: str) -> None:
        bar = self.drawn
        self._draw("")
        print(text, file=self.stream, flush=True)
        self._draw(bar)

    def close(self) -> None:
        """Leaves the bar as it stands and ends its line."""
        if self.drawn:
            print(file=self.stream, flush=True)
        self.drawn = ""

    def _draw(self, bar: str) -> None:
        if self.live and (bar or self.drawn):
            self.stream.write(f"\r\x1b[K{bar[: shutil.get_terminal_size().columns - 1]}")
            self.stream.flush()
        self.drawn = bar


def clock(seconds: float) -> str:
    """12 s, 3:05 or 2:10:00."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


class Counter:
    """Counts things done, with rate and time left: a bar on a terminal, silent in a log."""

    def __init__(self, unit: str, stream: TextIO | None = None):
        self.unit, self.shown, self.begun = unit, Progress(1, stream), time.monotonic()

    def update(self, done: int, total: int) -> None:
        """Shows `done` of `total`."""
        if self.shown.live and total:
            rate = done / max(time.monotonic() - self.begun, 1e-9)
            bar = "#" * (WIDTH * done // total)
            left = f"{clock((total - done) / rate)} left" if rate else ""
            self.shown._draw(f"[{bar:.<{WIDTH}}] {done}/{total} {self.unit}  {rate:,.0f} {self.unit}/s  {left}")

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_) -> None:
        self.shown.close()
