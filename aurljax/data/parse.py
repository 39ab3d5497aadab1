"""What a worker of ingest does: a chunk of MIDI files -> one staged file of rows and packed scores."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aurljax.data import contents, files, record, similar
from aurljax.music import beats, lenient, midi, score

Row = dict[str, Any]
UNREAD = {"source": "", "read": ""}
_SIZE = struct.Struct("<Q")


def chunk(task: dict[str, Any], at: Callable[[int], None]) -> int:
    """Parses task["items"], (id, path) each, into the staged file task["stage"]; the number of files."""
    rows, records = [], []
    for i, (id, path) in enumerate(task["items"]):
        reason = task["bad"].get(str(i))
        if reason is None:
            at(i)
        row, packed = (
            ({**UNREAD, "skipped": reason, "quarantined": True}, b"")
            if reason
            else _file(path, task["beats"], midi.Limits(**task["limits"]))
        )
        rows.append({"id": id, **row, "bytes": len(packed)})
        records.append(packed)
    head = json.dumps(rows).encode()
    files.write(task["stage"], b"".join([_SIZE.pack(len(head)), head, *records]))
    return len(rows)


def staged(path: Path) -> Iterator[tuple[Row, bytes]]:
    """(row, record) of every file of a staged chunk; the record is empty where the row has a `skipped`."""
    data = memoryview(path.read_bytes())
    at = _SIZE.size + _SIZE.unpack_from(data)[0]
    for row in json.loads(bytes(data[_SIZE.size : at])):
        yield row, bytes(data[at : at + row["bytes"]])
        at += row["bytes"]


def source(path: str, pattern: str | None = None) -> tuple[str, str, bytes]:
    """(sha256 of a file, of it and its beats where `pattern` names them, its bytes); raises OSError."""
    data = Path(path).read_bytes()
    sha = hashlib.sha256(data)
    own = sha.hexdigest()
    with contextlib.suppress(beats.BeatsError):
        sha.update(beats.beside(path, pattern).read_bytes() if pattern else b"")
    return own, sha.hexdigest(), data


def version() -> str:
    """Changes with the code that parses a file."""
    return files.code(beats, midi, lenient, score, record, similar, contents)


def _file(path: str, pattern: str | None, limits: midi.Limits) -> tuple[Row, bytes]:
    try:
        own, read, data = source(path, pattern)
    except OSError as e:
        return {**UNREAD, "skipped": f"cannot be read ({e.strerror})"}, b""
    row = {"source": own, "read": read}
    try:
        piece, repairs = midi.read(data, path, limits)
        if not len(piece):
            return {**row, "skipped": "has no notes"}, b""
        if pattern is not None:
            piece = beats.lay_out(piece, beats.read(beats.beside(path, pattern)))
        piece.check()
        row |= {
            "digest": record.digest(piece),
            "notes": len(piece),
            "tracks": len(piece.tracks),
            "bars": piece.bar_count,
            "seconds": round(float(piece.seconds(piece.end)), 3),
            "meters": contents.meters(piece),
            "programs": contents.programs(piece),
            "sketch": similar.packed(similar.sketch(piece)),
        }
        return {**row, "repairs": repairs}, record.pack(piece)
    except midi.MidiError as e:
        return {**row, "skipped": e.reason}, b""
    except beats.BeatsError as e:
        return {**row, "skipped": str(e)}, b""
    except Exception as e:  # an error of our own in one file must not cost the other thousands
        return {**row, "skipped": f"the reader failed ({type(e).__name__}: {e})", "quarantined": True}, b""
