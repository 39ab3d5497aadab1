"""Files written whole or not at all, and where derived files may lie."""

from __future__ import annotations

import os
import uuid

from etils import epath


def write(path: epath.PathLike, data: bytes) -> None:
    """Writes `data` under a temporary name beside `path`, then renames: a reader sees all of it or nothing."""
    path = epath.Path(path)
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def cache_folder() -> epath.Path:
    """The user's folder for what can be computed again: $AURLJAX_CACHE, else `aurljax` in the usual cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return epath.Path(os.environ.get("AURLJAX_CACHE") or os.path.join(base, "aurljax"))
