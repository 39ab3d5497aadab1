"""Text files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib

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
