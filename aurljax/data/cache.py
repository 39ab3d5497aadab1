"""The user's cache of what can be computed again: limited in size, what was used longest ago goes first.

Whoever reads a file for longer holds a shared lock on it; it is removed under an exclusive one, or not at all. So no
process, this one included, loses a file in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from aurljax.data import files
from aurljax.errors import UserError

LIMIT = 10 << 30  # bytes, where AURLJAX_CACHE_BYTES names no other
DRAFT = 24 * 3600  # seconds after which a file that is being written is taken for one that was given up
_held: dict[str, int] = {}  # path -> descriptor that holds its lock, until the process ends


def folder() -> Path:
    """$AURLJAX_CACHE, else `aurljax` in the usual cache folder; on this machine, as its locks are."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("AURLJAX_CACHE") or os.path.join(base, "aurljax"))


def limit() -> int:
    """Bytes that the cache may take; UserError where AURLJAX_CACHE_BYTES is no whole number."""
    text = os.environ.get("AURLJAX_CACHE_BYTES") or str(LIMIT)
    if not text.isdecimal():
        raise UserError(f"AURLJAX_CACHE_BYTES={text} must be a whole number of bytes, such as {LIMIT}")
    return int(text)


def read(name: str) -> bytes | None:
    """The bytes of an entry, which counts as a use; None if there is none."""
    path = folder() / name
    try:
        data = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):  # another process may just have removed it, or it is not ours
        os.utime(path)
    return data


def write(name: str, data: bytes) -> None:
    """Keeps an entry, then makes room; OSError if it cannot be written."""
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, data)
    trim()


def hold(name: str, make: Callable[[], bytes]) -> Path:
    """The path of an entry, made if there is none, that stays until this process ends; OSError as in `write`."""
    path = folder() / name
    if not _lock(path):
        data = make()
        _add(path, data)
        while not _lock(path):  # another process had removed it by then
            _add(path, data)
        trim()
    return path


def trim(most: int | None = None, within: Path | None = None) -> None:
    """Removes entries, those used longest ago first, until the cache takes at most so many bytes (default: `limit`).
    `within`: a folder of such entries elsewhere, which is a cache of its own.

    Programs that JAX compiled may lie in the same folder; they are JAX's own to limit.
    """
    most, found = limit() if most is None else most, sorted(_entries(within))
    size = sum(bytes for _, bytes, _ in found)
    for _, bytes, path in found:
        if size <= most:
            break
        size -= bytes * _remove(path)


def _entries(within: Path | None) -> Iterator[tuple[float, int, Path]]:
    """(when it was used last, bytes, path) of every entry."""
    for part in (within,) if within else (folder() / "windows", folder() / "shards"):
        for path in part.rglob("*"):
            with contextlib.suppress(OSError):  # another process may remove it meanwhile
                stat = path.stat()
                draft = path.name.endswith(".part") and stat.st_mtime > time.time() - DRAFT
                if path.is_file() and not draft:
                    yield stat.st_mtime, stat.st_size, path


def _add(path: Path, data: bytes) -> None:
    """Writes a file whole; one that another process added meanwhile stays, for it may be held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        draft.write_bytes(data)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def _lock(path: Path) -> bool:
    """Takes a shared lock on a file for as long as this process lives; False if there is no such file."""
    if str(path) in _held:
        return True
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_SH)  # waits where it is being removed
    if not _is(file, path):  # it was removed
        os.close(file)
        return False
    _held[str(path)] = file
    with contextlib.suppress(OSError):
        os.utime(path)
    return True


def _remove(path: Path) -> bool:
    """Removes a file that nobody holds; whether it is gone."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is(file, path):  # not another one of the same name, added since it was opened
            path.unlink()
        return True
    except OSError:  # somebody reads it
        return False
    finally:
        os.close(file)


def _is(file: int, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
