"""What a worker of ingest does: a chunk of MIDI files -> one staged file of rows and packed scores."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aurljax.data import contents, files, record, similar
from aurljax.music import beats, chords, labels, lenient, midi, scan, score, sidecar, words

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
            else _file(path, task["beside"], midi.Limits(**task["limits"]))
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


def source(path: str, beside: dict[str, str]) -> tuple[str, str, bytes]:
    """(sha256 of a file, of it and the files beside it, {what: pattern}, its bytes); raises OSError."""
    data = Path(path).read_bytes()
    sha = hashlib.sha256(data)
    own = sha.hexdigest()
    for what, pattern in beside.items():
        with contextlib.suppress(sidecar.SidecarError):
            sha.update(sidecar.beside(path, pattern, what).read_bytes())
    return own, sha.hexdigest(), data


def version() -> str:
    """Changes with the code that parses a file."""
    return files.code(beats, chords, labels, sidecar, midi, lenient, scan, words, score, record, similar, contents)


def _file(path: str, beside: dict[str, str], limits: midi.Limits) -> tuple[Row, bytes]:
    try:
        own, read, data = source(path, beside)
    except OSError as e:
        return {**UNREAD, "skipped": f"cannot be read ({e.strerror})"}, b""
    row = {"source": own, "read": read}
    try:
        piece, repairs = midi.read(data, path, limits)
        if not len(piece):
            return {**row, "skipped": "has no notes"}, b""
        piece = _annotated(piece, path, beside, repairs)
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
    except sidecar.SidecarError as e:
        return {**row, "skipped": str(e)}, b""
    except Exception as e:  # an error of our own in one file must not cost the other thousands
        return {**row, "skipped": f"the reader failed ({type(e).__name__}: {e})", "quarantined": True}, b""


def _annotated(piece: score.Score, path: str, beside: dict[str, str], repairs: list[str]) -> score.Score:
    """The piece with what the files beside it say of its beats and its chords."""
    ticks = piece.ticks
    if "beats" in beside:
        found = beats.read(sidecar.beside(path, beside["beats"], "beats"))
        ticks = functools.partial(beats.ticks, piece, found)
        piece = beats.lay_out(piece, found)
    if "chords" in beside:
        named = labels.read(sidecar.beside(path, beside["chords"], "chords"))
        piece = labels.put(piece, named, ticks)
        if named.unknown:
            repairs.append(f"kept {named.unknown} label(s) that are no chord symbols as mere texts")
    return piece
