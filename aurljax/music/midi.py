"""Standard MIDI Files <-> Score, through symusic: every failure is a MidiError, every repair a sentence.

Texts, copyright, lyrics, markers and the title are read (see `words` and `scan`). Not kept: pressure (it is counted
among the repairs), system exclusive, cue points, names of instruments and devices and all other meta events; tracks
without notes (their texts stay), notes that are never closed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import uuid
from pathlib import Path

import numpy as np
import symusic

from aurljax.errors import UserError
from aurljax.music import lenient, scan, words
from aurljax.music.interchange import from_note_sequence, to_note_sequence
from aurljax.music.score import (
    BEND,
    CHANGE,
    CONTROL,
    DEFAULT_USEC,
    KEY,
    METER,
    NOTE,
    TEMPO,
    TRACK,
    Score,
    possible_meter,
    repair,
)

__all__ = ["Limits", "MidiError", "dumps", "from_note_sequence", "load", "read", "save", "to_note_sequence"]

MAX_TRACKS = 1 << 16
MAX_TICK = (1 << 28) - 1  # the longest delta time a file can hold
MAX_RESOLUTION = (1 << 15) - 1
MAX_QUARTERS = 1_000_000  # bars may be 1,020 quarters long: few of them would do to fill the memory with frames
BYTES_PER_EVENT = 7  # more than any file's average without system exclusive


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a file may hold at most; one with more is refused: it is noise, or would cost more than it is worth."""

    bytes: int = 64 << 20
    notes: int = 2_000_000
    bars: int = 1_000_000
    ticks: int = (1 << 31) - 1  # the highest that symusic reads
    seconds: float = 24 * 3600


LIMITS = Limits()


class MidiError(UserError):
    """A MIDI file that cannot be read or written: its `path`, the `reason` and, where known, the byte `offset`."""

    def __init__(self, path: str | os.PathLike, reason: str, offset: int | None = None):
        super().__init__(f"{path}: {reason}" + (f" (byte {offset})" if offset is not None else ""))
        self.path, self.reason, self.offset = str(path), reason, offset


class _AbsurdError(MidiError):
    """A file that can be parsed but whose times are no music's."""


# --- reading ----------------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike, limits: Limits = LIMITS) -> Score:
    """The Score of a MIDI file, in ticks of the file's own division; raises MidiError. `read` tells the repairs."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(min(os.fstat(file.fileno()).st_size, limits.bytes + 1))
    except (OSError, ValueError) as error:
        raise MidiError(path, f"cannot be read: {_why(error)}") from error
    return read(data, path, limits)[0]


def read(data: bytes, path: str | os.PathLike = "<bytes>", limits: Limits = LIMITS) -> tuple[Score, list[str]]:
    """(score, the repairs in sentences) of the bytes of a MIDI file; raises nothing but MidiError.

    symusic reads what is whole; what it refuses, or leaves much of, goes through the slower reader of damaged files.
    """
    try:
        data, repairs = _midi_part(data, path, limits)
        score = _whole(data, path, limits, repairs) if lenient.intact(data) else None
        if score is None:
            return _damaged(data, path, limits, repairs), repairs
        pressures = scan.pressures(data)
        if pressures:
            repairs.append(lenient.SENTENCES["pressure"].format(pressures))
        if _hidden(data, score, pressures):
            with contextlib.suppress(MidiError):
                told: list[str] = []
                found = _damaged(data, path, limits, told)
                if len(found) > len(score):
                    return found, told
        return score, repairs
    except MidiError:
        raise
    except Exception as error:  # on arbitrary bytes a parser may raise anything
        raise MidiError(path, f"cannot be parsed as MIDI: {_why(error)}") from error


def _midi_part(data: bytes, path: str | os.PathLike, limits: Limits) -> tuple[bytes, list[str]]:
    """The bytes from the header on, or from the first track where there is none."""
    if not data:
        raise MidiError(path, "the file is empty", 0)
    if len(data) > limits.bytes:
        raise MidiError(path, f"the file is larger than {limits.bytes} bytes")
    head, track = data.find(b"MThd"), data.find(b"MTrk")
    if head < 0 and track < 0:
        raise MidiError(path, "not a MIDI file, no MThd header found", 0)
    start = min(x for x in (head, track) if x >= 0)
    return data[start:], [f"skipped {start} bytes before the MThd header"] * (start > 0)  # RIFF wraps a MIDI file


def _whole(data: bytes, path: str | os.PathLike, limits: Limits, repairs: list[str]) -> Score | None:
    """The score as symusic reads it; None where it refuses or what it reads cannot be."""
    told: list[str] = []
    try:
        parsed = symusic.Score.from_midi(data)
        if (count := parsed.note_num()) > limits.notes:
            raise MidiError(path, f"{count} notes are more than {limits.notes}")
        score = _told(data, _score(parsed, told))
        _refuse_absurd(score, path, limits)
    except (RuntimeError, _AbsurdError):
        return None
    repairs += told
    return score


def _damaged(data: bytes, path: str | os.PathLike, limits: Limits, repairs: list[str]) -> Score:
    try:
        score = lenient.read(data, repairs, limits.notes)
    except ValueError as error:
        raise MidiError(path, str(error), 0) from error
    if not len(score):
        raise MidiError(path, f"it is damaged, and no note in it can be read ({'; '.join(repairs) or 'no events'})")
    score = score.replace(notes=_playable(score.notes, repairs))
    _refuse_absurd(score, path, limits)
    return score


def _hidden(data: bytes, score: Score, pressures: int) -> bool:
    """Whether a file has many more bytes than the rows that were read: notes that nothing ends are left out unsaid."""
    rows = pressures + 2 * len(score) + sum(map(len, (score.tempo, score.meter, score.key, score.controls)))
    said = (*score.meta.values(), *(text for *_, text in score.texts))
    return len(data) > 200 + BYTES_PER_EVENT * rows + sum(len(text.encode()) + 16 for text in said)


def _score(parsed: symusic.types.Score, repairs: list[str]) -> Score:
    """The parsed rows as they are, except for tempos, meters and keys that do not exist."""
    every = list(parsed.tracks)
    tracks = [t for t in every if len(t.notes)]
    notes = _rows(
        NOTE, [t.notes for t in tracks], onset="time", duration="duration", pitch="pitch", velocity="velocity"
    )
    changes = _rows(CONTROL, [t.controls for t in tracks], tick="time", number="number", value="value")
    bends = _rows(CONTROL, [t.pitch_bends for t in tracks], tick="time", value="value")
    bends["kind"] = BEND
    tempo = _rows(TEMPO, [parsed.tempos], tick="time", usec="mspq")
    meter = _rows(METER, [parsed.time_signatures], tick="time", numerator="numerator", denominator="denominator")
    key = _rows(KEY, [parsed.key_signatures], tick="time", fifths="key", minor="tonality")
    lyrics = [(x.time, "lyric", x.text) for t in every for x in t.lyrics]
    return Score(
        resolution=parsed.tpq,
        notes=_playable(notes, repairs),
        tracks=np.array([(t.program, t.is_drum) for t in tracks], TRACK),
        tempo=_possible("tempo", tempo, tempo["usec"] > 0, repairs),
        meter=_possible("meter", meter, possible_meter(meter["numerator"], meter["denominator"]), repairs),
        key=_possible("key", key, (key["fifths"] >= -7) & (key["fifths"] <= 7), repairs),
        controls=np.concatenate([changes, bends]) if len(bends) else changes,
        names=tuple(t.name for t in tracks),
        texts=(*lyrics, *((x.time, "marker", x.text) for x in parsed.markers)),
    )


def _told(data: bytes, score: Score) -> Score:
    """The score with its meta, and with the texts that symusic leaves out or, where they are not Unicode, spoils."""
    texts = score.texts
    if scan.has_hidden_texts(data) or any("\N{REPLACEMENT CHARACTER}" in text for *_, text in texts):
        texts = scan.texts(data)
    elif any(tick == 0 and kind == "marker" and words.may_tell(text) for tick, kind, text in texts):
        texts = scan.texts(data)  # in the order of the file, for the first counts
    rest, meta = words.sort_out(texts, scan.sequence_name(data))
    return score.replace(texts=rest, meta=meta) if meta or texts is not score.texts else score


def _rows(dtype: np.dtype, lists: list, **columns: str) -> np.ndarray:
    """Rows of `dtype` out of symusic event lists, one per track; `columns` gives symusic's name of each of ours."""
    lengths = [len(events) for events in lists]
    if len(lists) > MAX_TRACKS:
        raise ValueError(f"more than {MAX_TRACKS} tracks")
    rows = np.zeros(sum(lengths), dtype)
    if len(rows):
        parts = [events.numpy() for events in lists if len(events)]
        for ours, theirs in columns.items():
            rows[ours] = np.concatenate([p[theirs] for p in parts])
        if "track" in dtype.names:
            rows["track"] = np.repeat(np.arange(len(lists)), lengths)
    return rows


def _possible(name: str, rows: np.ndarray, ok: np.ndarray, repairs: list[str]) -> np.ndarray:
    """The rows that are `ok`."""
    if ok.all():
        return rows
    repairs.append(f"left out {int((~ok).sum())} impossible {name} event(s)")
    return rows[ok]


def _refuse_absurd(score: Score, path: str | os.PathLike, limits: Limits) -> None:
    """Times beyond symusic's 32 bits come out negative."""
    tables = (score.onset, *(t["tick"] for t in (score.tempo, score.meter, score.key, score.controls)))
    first = [*(t[0] for t in tables if len(t)), *(tick for tick, _, _ in score.texts[:1])]
    last = score.last_tick
    if min(first, default=0) < 0 or score.duration.min(initial=0) < 0 or last > limits.ticks:
        raise _AbsurdError(path, f"its times are longer than {limits.ticks} ticks")
    if last > MAX_QUARTERS * score.resolution:
        raise _AbsurdError(path, f"it has more than {MAX_QUARTERS} quarters")
    # Bounds come first, for time and bars are seldom worth counting: a bar is at least 1/128.
    slowest = max(int(score.tempo["usec"].max(initial=0)), DEFAULT_USEC)
    if last * slowest > limits.seconds * 1e6 * score.resolution and score.seconds(last) > limits.seconds:
        raise _AbsurdError(path, f"it lasts longer than {limits.seconds / 3600:g} hours")
    if last > limits.bars * score.resolution / 32 and score.bar_count > limits.bars:
        raise _AbsurdError(path, f"it has more than {limits.bars} bars")


def _playable(notes: np.ndarray, repairs: list[str]) -> np.ndarray:
    """Every note at least a tick long, and no pitch of a track struck while it sounds."""
    short = notes["duration"] == 0
    if short.any():
        notes["duration"][short] = 1
        repairs.append(f"made {int(short.sum())} note(s) of no duration one tick long")
    notes, counts = repair(notes)
    if counts["duplicate"]:
        repairs.append(f"left out {counts['duplicate']} note(s) that start with a longer one of their pitch and track")
    if counts["cut"]:
        repairs.append(f"ended {counts['cut']} note(s) where their pitch and track is struck again")
    return notes


def _why(error: Exception) -> str:
    """The first line of an error in one clause."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = (text.splitlines() or [""])[0].removeprefix("MiniMidi: ").removesuffix(": iostream error").rstrip("!. ")
    return text or type(error).__name__


# --- writing ----------------------------------------------------------------------------------------------------------


def save(score: Score, path: str | os.PathLike) -> None:
    """Writes `dumps(score)` to `path`: the whole file or, raising MidiError, nothing."""
    data = dumps(score, path)
    try:
        part = Path(path).with_name(f".{uuid.uuid4().hex}.part")
        try:
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise MidiError(path, f"cannot be written: {_why(error)}") from error


def dumps(score: Score, path: str | os.PathLike = "<bytes>") -> bytes:
    """The score as a Standard MIDI File (type 1) at its own resolution, the same bytes every time; raises MidiError.

    `read` gives the same score back but for tracks without notes. `meta` is written as markers such as "Title: ...".
    Pressure is refused, not dropped.
    """
    _refuse_unwritable(score, path)
    out = symusic.Score(score.resolution)
    tempo, meter, key = score.tempo, score.meter, score.key
    out.tempos = symusic.Tempo.from_numpy(_int32(tempo["tick"]), _int32(tempo["usec"]))
    out.time_signatures = symusic.TimeSignature.from_numpy(
        _int32(meter["tick"]), meter["numerator"].copy(), meter["denominator"].copy()
    )
    out.key_signatures = symusic.KeySignature.from_numpy(
        _int32(key["tick"]), key["fifths"].copy(), key["minor"].astype(np.uint8)
    )
    for i in range(len(score.tracks)):
        out.tracks.append(_track(score, i))
    if not out.tracks:  # without a track symusic writes tempos and markers out of order
        out.tracks.append(symusic.Track())
    for tick, kind, text in (*words.markers(score.meta), *score.texts):
        (out.markers if kind == "marker" else out.tracks[0].lyrics).append(symusic.TextMeta(tick, text))
    return out.dumps_midi()


def _track(score: Score, i: int) -> symusic.types.Track:
    track = symusic.Track(score.names[i], int(score.tracks["program"][i]), bool(score.tracks["is_drum"][i]))
    n = score.notes[score.track == i]
    track.notes = symusic.Note.from_numpy(
        _int32(n["onset"]), _int32(n["duration"]), n["pitch"].astype(np.int8), n["velocity"].astype(np.int8)
    )
    c = score.controls[score.controls["track"] == i]
    change, bend = c[c["kind"] == CHANGE], c[c["kind"] == BEND]
    track.controls = symusic.ControlChange.from_numpy(
        _int32(change["tick"]), change["number"].copy(), change["value"].astype(np.uint8)
    )
    track.pitch_bends = symusic.PitchBend.from_numpy(_int32(bend["tick"]), _int32(bend["value"]))
    return track


def _int32(column: np.ndarray) -> np.ndarray:
    return column.astype(np.int32)


def _refuse_unwritable(score: Score, path: str | os.PathLike) -> None:
    try:
        score.check()
        "".join((*score.names, *score.meta.values(), *(text for _, _, text in score.texts))).encode()
    except ValueError as error:  # also of text that is not Unicode
        raise MidiError(path, f"the score breaks a rule: {error}") from error
    if score.resolution > MAX_RESOLUTION or score.last_tick > MAX_TICK:
        raise MidiError(path, f"MIDI has no resolution above {MAX_RESOLUTION} and no tick above {MAX_TICK}")
    if pressure := int((~np.isin(score.controls["kind"], (CHANGE, BEND))).sum()):
        raise MidiError(path, f"{pressure} rows of pressure cannot be written, take them out of `controls`")
