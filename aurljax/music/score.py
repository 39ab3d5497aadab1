"""The Score: one piece of music as immutable numpy tables, time in integer ticks of its own division."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from note_seq.protobuf.music_pb2 import NoteSequence

# Packed little-endian rows: the bytes of a table are also its form on disk.
NOTE = np.dtype([("onset", "<i8"), ("duration", "<i8"), ("track", "<u2"), ("pitch", "u1"), ("velocity", "u1")])
TRACK = np.dtype([("program", "u1"), ("is_drum", "?")])
TEMPO = np.dtype([("tick", "<i8"), ("usec", "<i4")])  # microseconds per quarter note
METER = np.dtype([("tick", "<i8"), ("numerator", "u1"), ("denominator", "u1")])
KEY = np.dtype([("tick", "<i8"), ("fifths", "i1"), ("minor", "?")])
CONTROL = np.dtype([("tick", "<i8"), ("track", "<u2"), ("kind", "u1"), ("number", "u1"), ("value", "<i2")])
CONTROL_KINDS = ("control", "bend", "pressure", "key_pressure")
CHANGE, BEND, PRESSURE, KEY_PRESSURE = range(len(CONTROL_KINDS))
TEXT_KINDS = ("lyric", "marker")

DEFAULT_USEC = 500_000
DEFAULT_METER = (4, 4)
META = ("title", "composer", "genre", "generated")  # fields of `meta` that a MIDI file holds


def _table(dtype: np.dtype, rows=()) -> np.ndarray:
    if not (isinstance(rows, np.ndarray) and rows.dtype == dtype):
        rows = np.array([tuple(r) for r in rows], dtype)
    return rows


def rounded(a, b):
    """a / b to the nearest whole number, halves up, in integers alone: ticks that lie on a grid stay on it."""
    return (2 * a + b) // (2 * b)


def _column(table: str, name: str) -> property:
    return property(lambda self: getattr(self, table)[name], doc=f"[N] column `{name}` of `{table}`")


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """A piece: tables `notes`, `tracks`, `tempo`, `meter`, `key`, `controls` (row types above), texts and metadata.

    The constructor puts every table in its canonical order (notes by onset, track, pitch; controls by tick, track,
    kind, else as given) and makes it read-only; it takes rows as tuples or as arrays of the row type. Of several tempo,
    meter or key rows at one tick only the last, which is in force, stays. No note may start while the same pitch of the
    same track sounds: `repaired` mends that, `check` tells. `texts` are (tick, kind, text), kind 'lyric' or 'marker'.
    """

    resolution: int = 480  # ticks per quarter note
    notes: np.ndarray = ()
    tracks: np.ndarray = ()
    tempo: np.ndarray = ()
    meter: np.ndarray = ()
    key: np.ndarray = ()
    controls: np.ndarray = ()
    names: tuple[str, ...] = ()  # of the tracks
    texts: tuple[tuple[int, str, str], ...] = ()
    meta: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        put = functools.partial(object.__setattr__, self)
        put("resolution", int(self.resolution))
        for name, dtype in TABLES.items():
            rows = _table(dtype, getattr(self, name))
            if name in ORDER and len(rows) > 1:
                rows = rows.take(np.lexsort([rows[c] for c in ORDER[name]]))  # stable: equal keys keep their order
                if ORDER[name] == ("tick",):
                    rows = rows.take(np.flatnonzero(np.append(rows["tick"][1:] != rows["tick"][:-1], True)))
            if rows.flags.writeable:
                rows = np.frombuffer(rows.tobytes(), dtype)  # read-only for good, and faster than copying packed rows
            put(name, rows)
        names = tuple(self.names) + ("",) * (len(self.tracks) - len(self.names))
        put("names", names)
        put("texts", tuple(sorted((int(t), str(k), str(x)) for t, k, x in self.texts if x)))
        put("meta", {k: str(v) for k, v in sorted(self.meta.items()) if v})

    onset = _column("notes", "onset")
    duration = _column("notes", "duration")
    pitch = _column("notes", "pitch")
    velocity = _column("notes", "velocity")
    track = _column("notes", "track")

    @property
    def program(self) -> np.ndarray:
        """[N] General MIDI program of each note, 0..127."""
        return self.tracks["program"][self.track]

    @property
    def is_drum(self) -> np.ndarray:
        """[N] whether each note is played by drums."""
        return self.tracks["is_drum"][self.track]

    def __len__(self) -> int:
        return len(self.notes)

    def __eq__(self, other) -> bool:
        return isinstance(other, Score) and all(
            getattr(self, f.name).tobytes() == getattr(other, f.name).tobytes()
            if f.name in TABLES
            else getattr(self, f.name) == getattr(other, f.name)
            for f in dataclasses.fields(self)
        )

    __hash__ = None

    def __repr__(self) -> str:
        return (
            f"Score({len(self)} notes, {len(self.tracks)} tracks, {self.bar_count} bars, "
            f"{self.seconds(self.end):.1f} s, resolution {self.resolution})"
        )

    def replace(self, **changes) -> Score:
        """A copy with other tables or fields."""
        return dataclasses.replace(self, **changes)

    @functools.cached_property
    def end(self) -> int:
        """Tick at which the last note ends; 0 for a score without notes."""
        return int((self.onset + self.duration).max()) if len(self) else 0

    @property
    def last_tick(self) -> int:
        """The last tick of anything: notes' ends, tempo, meter, key, controls, texts."""
        ends = [table["tick"][-1:] for table in (self.tempo, self.meter, self.key, self.controls)]
        return int(max(self.end, *(end[0] for end in ends if len(end)), *(tick for tick, _, _ in self.texts[-1:]), 0))

    # --- time ------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def tempo_map(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(tick, usec per quarter, usec * resolution at tick), beginning at tick 0."""
        tick, usec = self.tempo["tick"].astype(np.int64), self.tempo["usec"].astype(np.int64)
        if not len(tick) or tick[0] > 0:
            tick, usec = np.append(0, tick), np.append(DEFAULT_USEC, usec)
        return tick, usec, np.append(0, np.cumsum((tick[1:] - tick[:-1]) * usec[:-1]))

    def seconds(self, ticks) -> np.ndarray:
        """Seconds (float64) at each tick, whole or not, of any shape; sums of integers, so long pieces lose nothing."""
        tick, usec, start = self.tempo_map
        t = np.asarray(ticks)
        i = np.maximum(np.searchsorted(tick, t, "right") - 1, 0)
        return (start[i] + (t - tick[i]) * usec[i]) / (self.resolution * 1e6)

    def ticks(self, seconds) -> np.ndarray:
        """The nearest tick (int64) to each time in seconds (any shape): the inverse of `seconds`."""
        tick, usec, start = self.tempo_map
        t = np.asarray(seconds, np.float64) * self.resolution * 1e6
        i = np.maximum(np.searchsorted(start, t, "right") - 1, 0)
        return tick[i] + np.rint((t - start[i]) / usec[i]).astype(np.int64)

    @functools.cached_property
    def meters(self) -> np.ndarray:
        """The meter map in force: from tick 0, no meter repeated."""
        m = self.meter
        if not len(m) or m["tick"][0] > 0:
            m = np.concatenate([_table(METER, [(0, *DEFAULT_METER)]), m])
        same = (m["numerator"][1:] == m["numerator"][:-1]) & (m["denominator"][1:] == m["denominator"][:-1])
        return m.take(np.flatnonzero(np.append(True, ~same)))

    @functools.cached_property
    def _bars(self) -> tuple[np.ndarray, np.ndarray]:
        """[meters] (ticks of a bar, number of bars) of each row of `meters`."""
        m = self.meters
        length = 4 * self.resolution * m["numerator"].astype(np.int64) / m["denominator"]  # exact: a power of two below
        end = max(self.end, int(m["tick"][-1]) + 1)
        return length, np.ceil((np.append(m["tick"][1:], end) - m["tick"]) / length).astype(np.int64)

    @property
    def bar_count(self) -> int:
        """Number of bars; at least 1."""
        return int(self._bars[1].sum())

    @functools.cached_property
    def bar_ticks(self) -> np.ndarray:
        """[bars + 1] float64 ticks of the bar lines, the last one at or after the end of every note.

        A change of meter starts a bar, so the bar before it may be short.
        """
        length, count = self._bars
        row = np.repeat(np.arange(len(count)), count)
        index = np.arange(len(row)) - (np.cumsum(count) - count)[row]
        lines = self.meters["tick"][row] + length[row] * index
        return np.append(lines, lines[-1] + length[-1])

    # --- the invariant ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises ValueError, naming table and row, if the score breaks its own rules."""
        if self.resolution < 1:
            raise ValueError(f"resolution: {self.resolution} is less than one tick per quarter note")
        for table, bad, what in self._rules():
            if np.any(bad):
                raise ValueError(f"{table}: row {int(np.argmax(bad))} {what}")

    def _rules(self) -> Iterator[tuple[str, np.ndarray, str]]:
        """(table, [rows] whether the rule is broken, in words)"""
        n, c = self.notes, self.controls
        yield "notes", n["track"] >= len(self.tracks), "names a track that does not exist"
        yield "notes", n["duration"] < 1, "is shorter than one tick"
        yield "notes", n["onset"] < 0, "starts before tick 0"
        yield "notes", n["pitch"] > 127, "has a pitch above 127"
        yield "notes", (n["velocity"] < 1) | (n["velocity"] > 127), "has a velocity outside 1..127"
        yield "notes", _overlaps(n), "sounds on into the next note of its pitch and track"
        yield "tracks", self.tracks["program"] > 127, "has a program above 127"
        for name in ("tempo", "meter", "key", "controls"):
            yield name, getattr(self, name)["tick"] < 0, "lies before tick 0"
        yield "tempo", (self.tempo["usec"] < 1) | (self.tempo["usec"] >= 1 << 24), "is outside 1..16777215 microseconds"
        yield "meter", ~possible_meter(self.meter["numerator"], self.meter["denominator"]), "is no meter of MIDI"
        yield "key", np.abs(self.key["fifths"]) > 7, "has more than 7 accidentals"
        yield "controls", c["track"] >= len(self.tracks), "names a track that does not exist"
        yield "controls", (c["kind"] >= len(CONTROL_KINDS)) | (c["number"] > 127), "has a kind or number out of range"
        low, high = np.where(c["kind"] == BEND, -8192, 0), np.where(c["kind"] == BEND, 8191, 127)
        yield "controls", (c["value"] < low) | (c["value"] > high), "has a value out of range"
        wrong = [tick < 0 or kind not in TEXT_KINDS for tick, kind, _ in self.texts]
        yield "texts", np.array(wrong, bool), "lies before tick 0 or is neither lyric nor marker"

    def repaired(self) -> tuple[Score, dict[str, int]]:
        """(score, counts) with no pitch of a track struck while it sounds: see `repair`."""
        notes, counts = repair(self.notes)
        return (self.replace(notes=notes) if any(counts.values()) else self), counts

    # --- the borders -----------------------------------------------------------------------------------------------

    def save_midi(self, path: str | os.PathLike) -> None:
        """Writes a Standard MIDI File (type 1) at this score's resolution; raises MidiError."""
        from aurljax.music import midi

        midi.save(self, path)

    def to_note_sequence(self) -> NoteSequence:
        """This score as a note-seq NoteSequence (needs the `interchange` extra)."""
        from aurljax.music import interchange

        return interchange.to_note_sequence(self)

    @classmethod
    def from_note_sequence(cls, sequence: NoteSequence) -> Score:
        """A score of a note-seq NoteSequence."""
        from aurljax.music import interchange

        return interchange.from_note_sequence(sequence)


ORDER = {  # sort columns of each table, the most important last
    "notes": ("pitch", "track", "onset"),
    "tempo": ("tick",),
    "meter": ("tick",),
    "key": ("tick",),
    "controls": ("kind", "track", "tick"),
}
TABLES = {"notes": NOTE, "tracks": TRACK, "tempo": TEMPO, "meter": METER, "key": KEY, "controls": CONTROL}


def possible_meter(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Whether each meter can stand in a MIDI file: numerator 1..255, denominator a power of two up to 128."""
    n, d = numerator, denominator
    return (n >= 1) & (n <= 255) & (d >= 1) & (d <= 128) & (d & (d - 1) == 0)


def _overlaps(notes: np.ndarray) -> np.ndarray:
    """[N] whether each note still sounds when the next one of its pitch and track starts."""
    order, room = _room(notes)
    out = np.zeros(len(notes), bool)
    out[order] = notes["duration"][order] > room
    return out


def repair(notes: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """(notes, counts) with no pitch of a track struck while it sounds.

    Of notes that start together the longest stays (`duplicate`); one that is struck again is ended there (`cut`).
    """
    order, room = _room(notes)
    double = np.count_nonzero(room == 0)
    if double:
        tied = (room == 0) | np.append(False, room[:-1] == 0)
        rows = order[tied]
        n = notes.take(rows)
        order[tied] = rows[np.lexsort([-n["duration"], n["onset"], n["pitch"], n["track"]])]  # the longest comes first
        last = room > 0  # of those that start together
        order, room = order[np.append(True, last[:-1])], room[last]
    duration = np.ascontiguousarray(notes["duration"])
    cut = np.count_nonzero(duration[order] > room)
    if double or cut:
        duration[order] = np.minimum(duration[order], room)
        kept = np.zeros(len(notes), bool)
        kept[order] = True
        notes = notes.take(np.flatnonzero(kept))
        notes["duration"] = duration[kept]
    return notes, {"duplicate": int(double), "cut": int(cut)}


def _room(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(order by track, pitch, onset; in that order the ticks until the same pitch of the same track starts again)."""
    track, pitch, onset = (np.ascontiguousarray(notes[name]) for name in ("track", "pitch", "onset"))
    order = np.lexsort([onset, pitch, track])
    voice, onset = (track.astype(np.int64) << 8 | pitch)[order], onset[order]
    room = np.full(len(notes), np.iinfo(np.int64).max)
    np.copyto(room[:-1], onset[1:] - onset[:-1], where=voice[1:] == voice[:-1])
    return order, room
