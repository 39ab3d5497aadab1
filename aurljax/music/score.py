"""The Score: one piece of music as immutable numpy tables, time in integer ticks of its own division."""

from __future__ import annotations

import dataclasses
import functools
import os
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

DEFAULT_USEC = 500_000
DEFAULT_METER = (4, 4)
META = ("title", "composer", "genre")


def _table(dtype: np.dtype, rows=()) -> np.ndarray:
    if not (isinstance(rows, np.ndarray) and rows.dtype == dtype):
        rows = np.array([tuple(r) for r in rows], dtype)
    return rows


def _column(table: str, name: str) -> property:
    return property(lambda self: getattr(self, table)[name], doc=f"[N] column `{name}` of `{table}`")


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """A piece: tables `notes`, `tracks`, `tempo`, `meter`, `key`, `controls` (row types above), texts and metadata.

    The constructor puts every table in its canonical order (notes by onset, track, pitch) and makes it read-only;
    it takes rows as tuples or as arrays of the row type. No note may start while the same pitch of the same track
    sounds: `repaired` mends that, `check` tells. `texts` are (tick, kind, text) with kind 'lyric' or 'marker'.
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
        order = {
            "notes": ("pitch", "track", "onset"),
            "tempo": ("tick",),
            "meter": ("tick",),
            "key": ("tick",),
            "controls": ("track", "tick"),
        }
        for name, dtype in TABLES.items():
            rows = _table(dtype, getattr(self, name))
            if name in order and len(rows) > 1:
                rows = rows[np.lexsort([rows[c] for c in order[name]])]  # stable: equal keys keep their order
            elif rows.flags.writeable:
                rows = rows.copy()
            rows.flags.writeable = False
            put(name, rows)
        names = tuple(self.names) + ("",) * (len(self.tracks) - len(self.names))
        put("names", names)
        put("texts", tuple(sorted((int(t), str(k), str(x)) for t, k, x in self.texts)))
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
            np.array_equal(getattr(self, f.name), getattr(other, f.name))
            if f.name in TABLES
            else getattr(self, f.name) == getattr(other, f.name)
            for f in dataclasses.fields(self)
        )

    __hash__ = None

    def __repr__(self) -> str:
        return (
            f"Score({len(self)} notes, {len(self.tracks)} tracks, {len(self.bar_ticks) - 1} bars, "
            f"{self.seconds(self.end):.1f} s, resolution {self.resolution})"
        )

    def replace(self, **changes) -> Score:
        """A copy with other tables or fields."""
        return dataclasses.replace(self, **changes)

    @property
    def end(self) -> int:
        """Tick at which the last note ends; 0 for a score without notes."""
        return int((self.onset + self.duration).max()) if len(self) else 0

    # --- time ------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _tempo_map(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(tick, usec per quarter, usec * resolution at tick), beginning at tick 0; of equal ticks the last counts."""
        tick, usec = self.tempo["tick"].astype(np.int64), self.tempo["usec"].astype(np.int64)
        keep = np.append(tick[1:] != tick[:-1], True)[: len(tick)]
        tick, usec = tick[keep], usec[keep]
        if not len(tick) or tick[0] > 0:
            tick, usec = np.append(0, tick), np.append(DEFAULT_USEC, usec)
        return tick, usec, np.append(0, np.cumsum(np.diff(tick) * usec[:-1]))

    def seconds(self, ticks) -> np.ndarray:
        """Seconds at each tick (any shape, float64), exact up to the last rounding: sums are integers."""
        tick, usec, start = self._tempo_map
        t = np.asarray(ticks, np.int64)
        i = np.maximum(np.searchsorted(tick, t, "right") - 1, 0)
        return (start[i] + (t - tick[i]) * usec[i]) / (self.resolution * 1e6)

    @functools.cached_property
    def meters(self) -> np.ndarray:
        """The meter map in force: from tick 0, one row per tick, no meter repeated."""
        m = self.meter
        m = m[np.append(m["tick"][1:] != m["tick"][:-1], True)[: len(m)]]
        if not len(m) or m["tick"][0] > 0:
            m = np.concatenate([_table(METER, [(0, *DEFAULT_METER)]), m])
        same = (m["numerator"][1:] == m["numerator"][:-1]) & (m["denominator"][1:] == m["denominator"][:-1])
        return m[np.append(True, ~same)]

    @functools.cached_property
    def bar_ticks(self) -> np.ndarray:
        """[bars + 1] float64 ticks of the bar lines, the last one at or after the end of every note.

        A change of meter starts a bar, so the bar before it may be short.
        """
        lines, m = [], self.meters
        end = max(self.end, int(m["tick"][-1]) + 1, 1)
        for i, row in enumerate(m):
            stop = m["tick"][i + 1] if i + 1 < len(m) else None
            length = 4 * self.resolution * int(row["numerator"]) / int(row["denominator"])
            count = int(np.ceil(((stop if stop is not None else end) - row["tick"]) / length))
            lines.append(row["tick"] + length * np.arange(count + (stop is None)))
        return np.concatenate(lines)

    # --- the invariant ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises ValueError, naming the table, if the score breaks its own rules."""
        n = self.notes
        for bad, what in (
            (n["track"] >= len(self.tracks), "names a track that does not exist"),
            (n["duration"] < 1, "is shorter than one tick"),
            (n["onset"] < 0, "starts before tick 0"),
            (n["pitch"] > 127, "has a pitch above 127"),
            ((n["velocity"] < 1) | (n["velocity"] > 127), "has a velocity outside 1..127"),
            (_overlaps(n), "sounds on into the next note of its pitch and track"),
        ):
            if bad.any():
                raise ValueError(f"notes: row {int(np.argmax(bad))} {what}")

    def repaired(self) -> tuple[Score, dict[str, int]]:
        """(score, counts) with no pitch of a track struck while it sounds.

        Of notes that start together the longest stays (`duplicate`); one that is struck again is ended there (`cut`).
        """
        n = self.notes[np.lexsort([-self.duration, self.onset, self.pitch, self.track])]
        same = (n["track"][1:] == n["track"][:-1]) & (n["pitch"][1:] == n["pitch"][:-1])
        double = np.append(False, same & (n["onset"][1:] == n["onset"][:-1]))[: len(n)]
        n = n[~double].copy()
        cut = _overlaps(n, ordered=True)
        n["duration"][cut] = (np.roll(n["onset"], -1) - n["onset"])[cut]
        return self.replace(notes=n), {"duplicate": int(double.sum()), "cut": int(cut.sum())}

    # --- the borders -----------------------------------------------------------------------------------------------

    def save_midi(self, path: str | os.PathLike) -> None:
        """Writes a Standard MIDI File (type 1) at this score's resolution; raises MidiError."""
        from aurljax.music import midi

        midi.save(self, path)

    def to_note_sequence(self) -> NoteSequence:
        """This score as a note-seq NoteSequence (needs the `interchange` extra)."""
        from aurljax.music import midi

        return midi.to_note_sequence(self)

    @classmethod
    def from_note_sequence(cls, sequence: NoteSequence) -> Score:
        """A score of a note-seq NoteSequence."""
        from aurljax.music import midi

        return midi.from_note_sequence(sequence)


TABLES = {"notes": NOTE, "tracks": TRACK, "tempo": TEMPO, "meter": METER, "key": KEY, "controls": CONTROL}


def _overlaps(notes: np.ndarray, ordered: bool = False) -> np.ndarray:
    """[N] whether each note still sounds when the next one of its pitch and track starts."""
    order = np.arange(len(notes)) if ordered else np.lexsort([notes["onset"], notes["pitch"], notes["track"]])
    n = notes[order]
    out = np.zeros(len(n), bool)
    out[order[:-1]] = (
        (n["track"][1:] == n["track"][:-1])
        & (n["pitch"][1:] == n["pitch"][:-1])
        & (n["onset"][:-1] + n["duration"][:-1] > n["onset"][1:])
    )
    return out
