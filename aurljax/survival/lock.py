"""One run at a time in a folder: an advisory lock that the system lets go of when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os

import jax
from etils import epath

from aurljax.errors import UserError

FILE = "lock"
BUSY = (errno.EAGAIN, errno.EACCES)


class Lock(contextlib.AbstractContextManager):
    """Holds WORKDIR/lock, which names the process; UserError if another process holds it.

    The first process of a run locks for all. Buckets and file systems that have no locks are not guarded.
    """

    def __init__(self, workdir: epath.Path):
        self._path, self._file = workdir / FILE, None

    def __enter__(self) -> Lock:
        if jax.process_index() == 0 and "://" not in str(self._path):
            self._take()
        return self

    def _take(self) -> None:
        import fcntl  # here: Windows has none

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "a+")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in BUSY:
                holder = self._holder()
                self._file.close()
                raise UserError(
                    f"{self._path.parent}: another run ({holder}) is writing to this folder; wait for it, stop it, or "
                    "choose another folder"
                ) from None
            return  # no locks here
        with contextlib.suppress(OSError):  # a full disk is told of by what must be written
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} of {os.uname().nodename}\n")
            self._file.flush()

    def _holder(self) -> str:
        self._file.seek(0)
        return self._file.readline().strip() or "a process"

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
