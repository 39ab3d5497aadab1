"""Derived files: written whole or not at all, and what of the code they follow from."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from types import ModuleType

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


def code(*modules: ModuleType) -> str:
    """Hex hash of the source of modules (of a package, of all its files): what other code derived is not taken over."""
    paths = [Path(m.__file__) for m in modules]
    sources = [p for path in paths for p in (sorted(path.parent.glob("*.py")) if path.stem == "__init__" else [path])]
    return hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:16]
