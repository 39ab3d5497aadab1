"""The report that a run keeps of itself, WORKDIR/report.html."""

from __future__ import annotations

import time

import jax
from etils import epath

from aurljax.errors import UserError
from aurljax.records.metrics import Log
from aurljax.records.progress import Progress
from aurljax.report import page

FILE = "report.html"
SHARE = 0.02  # of a run's time at most


class Reporter:
    """Writes the report anew when asked, unless that would take more than SHARE of the time; a failure is only noted."""

    def __init__(self, workdir: epath.Path, progress: Progress):
        self._workdir, self._progress = workdir, progress
        self._took, self._written = 0.0, time.perf_counter()

    def update(self, log: Log, last: bool = False) -> bool:
        """Whether it was written, with all that `log` has taken; the `last` one always is."""
        begun = time.perf_counter()
        if jax.process_index() != 0:
            return False
        if not last and self._took > SHARE * (begun - self._written):
            return False
        log.flush()
        try:
            page.write([self._workdir], self._workdir / FILE)
        except UserError as error:
            self._progress.note(str(error), "WARNING")
        self._written = time.perf_counter()
        self._took = self._written - begun
        return True
