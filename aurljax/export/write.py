"""MIDI files that are whole: written beside their place, read again, compared with the score, and only then put there."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from aurljax import atomic
from aurljax.errors import UserError
from aurljax.export import validate
from aurljax.export.validate import Report
from aurljax.music import midi
from aurljax.music.score import Score


def write_midi(score: Score, path: str | os.PathLike) -> Report:
    """Writes a score and returns the report on the file. One that is not valid is not left there."""
    path = Path(path)
    with atomic.draft(path) as part:
        part.write_bytes(midi.dumps(score, path))
        found = validate.check(part.read_bytes(), str(path), score)
        if not found.valid:
            part.unlink()
    return found


def refuse(reports: Sequence[Report]) -> None:
    """UserError naming the first file that is not valid."""
    if bad := [r for r in reports if not r.valid]:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0].path} was not written, for it is not what was generated: {bad[0].faults[0]}{more}")


def write_reports(reports: Sequence[Report], path: str | os.PathLike) -> None:
    """All reports as one JSON file, at once or not at all."""
    atomic.write(epath.Path(path), json.dumps([r.json() for r in reports], indent=1, ensure_ascii=False) + "\n")
