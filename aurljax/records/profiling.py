"""A trace of some steps by jax.profiler, for TensorBoard's profile plugin or Perfetto."""

from __future__ import annotations

import contextlib

import jax
from etils import epath

from aurljax.records.progress import Progress
from aurljax.sections import Profile

FOLDER = "profile"


class Trace(contextlib.AbstractContextManager):
    """Writes WORKDIR/profile: `profile.steps` steps after the first `profile.start` of this process; process 0 alone."""

    def __init__(self, workdir: epath.Path, profile: Profile, begun: int, progress: Progress):
        self._path, self._progress = workdir / FOLDER, progress
        wanted = profile.steps and jax.process_index() == 0
        self._first, self._last = begun + profile.start + 1, begun + profile.start + (profile.steps if wanted else 0)
        self._since = 0

    def step(self, at: int) -> contextlib.AbstractContextManager:
        """The context of step `at`; the trace begins with the first that is wanted."""
        if at == self._first <= self._last:
            jax.profiler.start_trace(str(self._path))
            self._since = at
        return jax.profiler.StepTraceAnnotation("train", step_num=at) if self._since else contextlib.nullcontext()

    def done(self, at: int, result: jax.Array) -> None:
        """Ends the trace when the last step that is wanted has been run."""
        if self._since and at == self._last:
            jax.block_until_ready(result)
            self._stop(at)

    def _stop(self, at: int) -> None:
        jax.profiler.stop_trace()
        self._progress.note(f"profiled steps {self._since} to {at}: {self._path}")
        self._since = 0

    def __exit__(self, *_: object) -> None:
        """Ends a trace that the run did not reach the end of."""
        if self._since:
            jax.profiler.stop_trace()
            self._progress.note(f"profiled from step {self._since} to the end of the run: {self._path}")
