"""Whether a MIDI file holds the music it was written from: read again by two readers and compared with the score."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import symusic

from aurljax.data import record
from aurljax.errors import UserError
from aurljax.export import provenance
from aurljax.music import general_midi, lenient, midi
from aurljax.music.score import META, TABLES, Score
from aurljax.music.theory.key import Key


@dataclasses.dataclass(frozen=True)
class Report:
    """What a file holds, and its faults in words; none: it is whole, and is the score."""

    path: str
    facts: Mapping[str, Any]
    faults: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def line(self) -> str:
        """One line for a terminal."""
        f = self.facts
        if not f:
            return f"{self.path}: {'; '.join(self.faults)}"
        tracks = f"{f['notes']} notes, {f['bars']} bars, {f['seconds']:.1f} s, {len(f['tracks'])} tracks"
        rest = f"{f['key'] or 'no key'}, longest silence {f['longest_silence']:.1f} s"
        return f"{self.path}: {tracks}, {rest}, {'valid' if self.valid else '; '.join(self.faults)}"

    def lines(self) -> list[str]:
        """Several, with the tracks and how the piece was made."""
        f = self.facts
        if not f:
            return [self.line()]
        tempo = " to ".join(f"{t:g}" for t in dict.fromkeys(f["tempo"]))
        out = [self.line(), f"  {f['resolution']} ticks per quarter note, {', '.join(f['meters'])}, {tempo} a minute"]
        out += [f"  {t['name'] or 'no name'}: {t['instrument']}, {t['notes']} notes" for t in f["tracks"]]
        out += [f"  {name}: {value}" for name, value in f["meta"].items()]
        out += ["generated", *(f"  {k:22}{v}" for k, v in provenance.rows(f["generated"]))] if f["generated"] else []
        return [*out, f"digest {f['digest']}"]

    def json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"path": self.path, "valid": self.valid, "faults": list(self.faults), **self.facts}


def file(path: str | os.PathLike) -> Report:
    """The report on a MIDI file; UserError where it cannot be read."""
    try:
        return check(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def check(data: bytes, path: str, score: Score | None = None) -> Report:
    """The report on the bytes of a MIDI file, compared with the score it should hold (None: nothing to compare)."""
    try:
        found, repairs = midi.read(data, path)
    except midi.MidiError as error:
        return Report(path, {}, (error.reason,))
    faults = [f"a reader has to repair it: {sentence}" for sentence in _repairs(data, repairs)]
    faults += _broken(found)
    faults += _differences(score, found) if score is not None else []
    faults += _otherwise(data, found)
    return Report(path, facts(found), tuple(faults))


def facts(score: Score) -> dict[str, Any]:
    """What there is to say of a score: counts, times in seconds, ranges, tracks, how it was made."""
    n, usec = score.notes, score.tempo_map[1]
    return {
        "notes": len(score),
        "bars": score.bar_count,
        "seconds": round(float(score.seconds(score.end)), 3),
        "resolution": score.resolution,
        "tempo": [round(60e6 / u, 2) for u in (usec.max(), usec.min())],  # slowest and fastest, quarters a minute
        "meters": [f"{m['numerator']}/{m['denominator']}" for m in score.meters],
        "key": str(Key(*score.key[0].item()[1:])) if len(score.key) else None,
        "pitches": [int(n["pitch"].min()), int(n["pitch"].max())] if len(n) else None,
        "velocities": [int(n["velocity"].min()), int(n["velocity"].max())] if len(n) else None,
        "longest_silence": round(silence(score), 3),
        "controls": len(score.controls),
        "tracks": [
            {"name": name, "instrument": general_midi.instrument(*track), "notes": int((score.track == i).sum())}
            for i, (name, track) in enumerate(zip(score.names, score.tracks.tolist(), strict=True))
        ],
        "digest": record.digest(score),
        "meta": {k: v for k, v in score.meta.items() if k != provenance.FIELD},
        "generated": provenance.read(score),
    }


def silence(score: Score) -> float:
    """Seconds of the longest stretch, from tick 0 to the last note's end, in which no note sounds."""
    if not len(score):
        return 0.0
    onset, end = score.onset, np.maximum.accumulate(score.onset + score.duration)
    before = np.append(0, end[:-1])  # when all that began earlier has ended
    gap = score.seconds(onset) - score.seconds(np.minimum(before, onset))
    return float(gap.max())


def _repairs(data: bytes, told: list[str]) -> list[str]:
    """What our reader repaired, and what the reader of damaged files finds besides: notes that nothing ends."""
    more: list[str] = []
    lenient.read(data, more, midi.LIMITS.notes)
    return list(dict.fromkeys([*told, *more]))


def _broken(score: Score) -> list[str]:
    try:
        score.check()
    except ValueError as error:
        return [f"a rule is broken: {error}"]
    return []


def _differences(score: Score, found: Score) -> list[str]:
    """Each field in which what was read differs from what was to be written."""
    out = []
    if score.resolution != found.resolution:
        out.append(f"it has {found.resolution} ticks per quarter note, not {score.resolution}")
    for name in TABLES:
        ours, theirs = getattr(score, name), getattr(found, name)
        if len(ours) != len(theirs):
            out.append(f"it has {len(theirs)} rows of {name}, not {len(ours)}")
        elif (wrong := ours != theirs).any():
            row = int(np.argmax(wrong))
            out.append(f"row {row} of {name} is {theirs[row].item()}, not {ours[row].item()}")
    out += [f"its {name} differ" for name in ("names", "texts") if getattr(score, name) != getattr(found, name)]
    return out + [f"its {name} differs" for name in META if score.meta.get(name) != found.meta.get(name)]


def _otherwise(data: bytes, found: Score) -> list[str]:
    """What symusic, which other programs read with, finds other than our reader."""
    try:
        other = symusic.Score.from_midi(data)
    except RuntimeError as error:
        return [f"symusic cannot read it: {str(error).splitlines()[0]}"]
    rows = [
        (note.start, note.duration, track.program, track.is_drum, note.pitch, note.velocity)
        for track in other.tracks
        for note in track.notes
    ]
    n = found.notes
    columns = (n["onset"], n["duration"], found.program, found.is_drum, n["pitch"], n["velocity"])
    ours = list(zip(*(column.tolist() for column in columns), strict=True))
    return [] if sorted(rows) == sorted(ours) else [f"symusic finds other notes in it ({len(rows)}, not {len(ours)})"]
