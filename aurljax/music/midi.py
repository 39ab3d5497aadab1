"""Standard MIDI Files <-> Score, through symusic: every failure is a MidiError, every repair a sentence.

What symusic does not show is not kept: pressure, system exclusive and most meta events, tracks without notes (their lyrics
stay), notes that are never closed. A MIDI file has no field for title, composer and genre.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import symusic
from symusic import core

from aurljax.errors import UserError
from aurljax.music.interchange import from_note_sequence, to_note_sequence
from aurljax.music.score import CONTROL, CONTROL_KINDS, KEY, METER, NOTE, TEMPO, TRACK, Score, possible_meter, table

__all__ = ["MidiError", "dumps", "from_note_sequence", "load", "read", "save", "to_note_sequence"]

MAX_BYTES = 64 << 20
MAX_NOTES = 2_000_000
MAX_BARS = 1_000_000
MAX_SECONDS = 24 * 3600
MAX_TICK = (1 << 28) - 1  # the longest delta time that a file can hold
MAX_RESOLUTION = (1 << 15) - 1
CONTROL_CHANGE, BEND = CONTROL_KINDS.index("control"), CONTROL_KINDS.index("bend")


class MidiError(UserError):
    """A MIDI file that cannot be read or written: its `path`, the `reason` and, where known, the byte `offset`."""

    def __init__(self, path: str | os.PathLike, reason: str, offset: int | None = None):
        super().__init__(f"{path}: {reason}" + (f" (byte {offset})" if offset is not None else ""))
        self.path, self.reason, self.offset = str(path), reason, offset


# --- reading -----------------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike) -> Score:
    """The Score of a MIDI file, in ticks of the file's own division; raises MidiError. `read` tells what was repaired."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise MidiError(path, f"cannot be read: {_why(error)}") from error
    return read(data, path)[0]


def read(data: bytes, path: str | os.PathLike = "<bytes>") -> tuple[Score, list[str]]:
    """(score, the repairs in sentences) of the bytes of a MIDI file; raises nothing but MidiError."""
    repairs: list[str] = []
    try:
        score = _repaired(_score(_parsed(data, path, repairs), path, repairs), path, repairs)
    except MidiError:
        raise
    except Exception as error:  # the parser may raise anything on arbitrary bytes
        raise MidiError(path, f"cannot be parsed as MIDI: {_why(error)}") from error
    return score, repairs


def _parsed(data: bytes, path: str | os.PathLike, repairs: list[str]) -> core.ScoreTick:
    if not data:
        raise MidiError(path, "the file is empty", 0)
    if len(data) > MAX_BYTES:
        raise MidiError(path, f"the file has more than {MAX_BYTES >> 20} MiB")
    start = data.find(b"MThd", 0, 1024)  # a RIFF file wraps a MIDI file
    if start < 0:
        raise MidiError(path, "not a MIDI file, no MThd header found", 0)
    if start:
        repairs.append(f"{start} bytes before the MThd header were skipped")
        data = data[start:]
    try:
        parsed = symusic.Score.from_midi(data)
    except RuntimeError:
        parsed = symusic.Score.from_midi(data, sanitize_data=True)
        repairs.append("data bytes above 127 were lowered to 127")
    if parsed.tpq < 1:
        raise MidiError(path, "the division is 0 ticks per quarter note", start + 12)
    if (count := parsed.note_num()) > MAX_NOTES:
        raise MidiError(path, f"{count} notes are more than {MAX_NOTES}")
    return parsed


def _score(parsed: core.ScoreTick, path: str | os.PathLike, repairs: list[str]) -> Score:
    """The parsed tables as they are, but for impossible rows."""
    every = list(parsed.tracks)
    tracks = [t for t in every if len(t.notes)]  # others hold lyrics only

    def columns(attribute: str) -> dict[str, np.ndarray]:
        """The named rows of all tracks, and in `track` whose they are."""
        parts = [getattr(t, attribute).numpy() for t in tracks]
        lengths = [len(p["time"]) for p in parts]
        joined = {name: np.concatenate([p[name] for p in parts]) for name in (parts[0] if parts else ())}
        return joined | {"track": np.repeat(np.arange(len(tracks)), lengths)}
