"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from aurljax.errors import UserError


def write(path: epath.Path, text: str) -> None:
    """Replaces a file at once; UserError naming it where it cannot be written, and then nothing is left behind."""
    draft = path.parent / f"{path.name}.tmp"
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise UserError(f"{path} cannot be written: {error.strerror}; make room and start again") from error


@contextlib.contextmanager
def draft(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside `path`, of the same suffix, for any writer: what it leaves there takes the place of `path` when all
    went well, and else is removed. UserError naming `path` where the file system refuses."""
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield part
        if part.exists():
            os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; make room or choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
