"""NoteSequence (note-seq's protocol buffer) <-> Score. note-seq is heavy: it is imported here alone, and when used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from aurljax.errors import UserError
from aurljax.music.score import BEND, CHANGE, DEFAULT_USEC, Score

if TYPE_CHECKING:
    from note_seq.protobuf.music_pb2 import NoteSequence

RESOLUTION = 480  # of a sequence that names none
USEC_PER_MINUTE = 60_000_000
MODE_TONICS = (0, 9, 0, 7, 2, 4, 5, 11)  # by NoteSequence's mode: semitones above the major tonic of the same signature


def _music_pb2():
    try:
        from note_seq.protobuf import music_pb2
    except ImportError as error:
        raise UserError("NoteSequence needs note-seq: pip install 'aurljax[interchange]'") from error
    return music_pb2


def to_note_sequence(score: Score) -> NoteSequence:
    """The score as a NoteSequence, times in seconds, instrument i being track i; raises UserError.

    It does not hold: tracks without notes and controls, whether a text is a lyric or a marker, spelling (C sharp
    major becomes D flat major). Pressure is refused.
    """
    pressure = ~np.isin(score.controls["kind"], (CHANGE, BEND))
    if pressure.any():
        raise UserError(f"a NoteSequence holds no pressure: take {int(pressure.sum())} rows out of `controls`")
    sequence = _music_pb2().NoteSequence(ticks_per_quarter=score.resolution, total_time=float(score.seconds(score.end)))
    seconds, instruments = score.seconds, [_instrument(i, t) for i, t in enumerate(score.tracks.tolist())]

    for tick, usec in score.tempo.tolist():
        sequence.tempos.add(time=seconds(tick), qpm=USEC_PER_MINUTE / usec)
    for tick, numerator, denominator in score.meter.tolist():
        sequence.time_signatures.add(time=seconds(tick), numerator=numerator, denominator=denominator)
    for tick, fifths, minor in score.key.tolist():
        sequence.key_signatures.add(time=seconds(tick), key=(7 * fifths + MODE_TONICS[minor]) % 12, mode=int(minor))
    starts, ends = seconds(score.onset).tolist(), seconds(score.onset + score.duration).tolist()
    for start, end, (_, _, track, pitch, velocity) in zip(starts, ends, score.notes.tolist(), strict=True):
        sequence.notes.add(pitch=pitch, velocity=velocity, start_time=start, end_time=end, **instruments[track])
    for time, (_, track, kind, number, value) in zip(
        seconds(score.controls["tick"]).tolist(), score.controls.tolist(), strict=True
    ):
        if kind == BEND:
            sequence.pitch_bends.add(time=time, bend=value, **instruments[track])
        else:
            sequence.control_changes.add(time=time, control_number=number, control_value=value, **instruments[track])
    for tick, _, text in score.texts:
        sequence.text_annotations.add(time=seconds(tick), text=text)
    for i, name in enumerate(score.names):
        if name:
            sequence.instrument_infos.add(instrument=i, name=name)
    meta = sequence.sequence_metadata
    meta.title = score.meta.get("title", "")
    meta.composers.extend([score.meta["composer"]] if "composer" in score.meta else [])
    meta.genre.extend([score.meta["genre"]] if "genre" in score.meta else [])
    return sequence


def _instrument(index: int, track: tuple[int, bool]) -> dict:
    return {"instrument": index, "program": track[0], "is_drum": track[1]}


def from_note_sequence(sequence: NoteSequence) -> Score:
    """The score of a NoteSequence, every time at its nearest tick, with quantised steps where the sequence has them.

    Ticks per quarter are the sequence's own, else 480. Texts become markers, modes the key of the same accidentals; a
    pitch struck while it sounds is ended there. Raises UserError for values that MIDI does not have.
    """
    resolution = sequence.ticks_per_quarter or RESOLUTION
    try:
        ruler = Score(resolution=resolution, tempo=_tempo(sequence.tempos, resolution))
        score = _score(sequence, ruler).repaired()[0]
        score.check()
    except (ValueError, ArithmeticError, IndexError) as error:
        raise UserError(f"the NoteSequence holds values that MIDI does not have: {error}") from error
    return score


def _tempo(tempos: Iterable, resolution: int) -> list[tuple[int, int]]:
    """(tick, usec) of each tempo. Ticks are measured on the map so far, so that rounding never adds up."""
    rows, tick, elapsed, usec = [], 0, 0, DEFAULT_USEC  # elapsed: usec * resolution
    for tempo in sorted(tempos, key=lambda t: t.time):
        step = max(round((tempo.time * resolution * 1e6 - elapsed) / usec), 0)
        tick, elapsed, usec = tick + step, elapsed + step * usec, round(USEC_PER_MINUTE / tempo.qpm)
        rows.append((tick, usec))
    return rows


def _score(sequence: NoteSequence, ruler: Score) -> Score:
    """The sequence's rows, on the resolution and tempo of `ruler`."""
    grid = sequence.quantization_info

    def ticks(events: Iterable, time: str = "time", step: str = "") -> list[int]:
        """The tick of each event: by its step if the sequence lies on a grid, else by its seconds."""
        gridded = step and (grid.steps_per_quarter or grid.steps_per_second)
        at = np.array([getattr(e, step if gridded else time) for e in events], np.float64)
        if gridded and grid.steps_per_quarter:
            return np.rint(at * ruler.resolution / grid.steps_per_quarter).astype(np.int64).tolist()
        return ruler.ticks(at / grid.steps_per_second if gridded else at).tolist()

    def on(events: Iterable, step: str = "") -> Iterable:
        return zip(events, ticks(events, step=step), strict=True)

    s = sequence
    played = sorted({_key(e) for e in (*s.notes, *s.control_changes, *s.pitch_bends)})
    track = {key: i for i, key in enumerate(played)}
    starts = ticks(s.notes, "start_time", "quantized_start_step")
    ends = ticks(s.notes, "end_time", "quantized_end_step")
    names = {info.instrument: info.name for info in s.instrument_infos}
    meta = s.sequence_metadata
    changes = on(s.control_changes, "quantized_step")
    controls = [(t, track[_key(e)], CHANGE, e.control_number, e.control_value) for e, t in changes]
    return ruler.replace(
        notes=[
            (start, end - start or 1, track[_key(n)], n.pitch, n.velocity)
            for n, start, end in zip(s.notes, starts, ends, strict=True)
        ],
        tracks=[(program, is_drum) for _, program, is_drum in played],
        names=tuple(names.get(instrument, "") for instrument, _, _ in played),
        meter=[(t, e.numerator, e.denominator) for e, t in on(s.time_signatures)],
        key=[(t, _fifths(e.key - MODE_TONICS[e.mode]), e.mode == e.MINOR) for e, t in on(s.key_signatures)],
        controls=controls + [(t, track[_key(e)], BEND, 0, e.bend) for e, t in on(s.pitch_bends)],
        texts=tuple((t, "marker", e.text) for e, t in on(s.text_annotations, "quantized_step")),
        meta={"title": meta.title, "composer": ", ".join(meta.composers), "genre": ", ".join(meta.genre)},
    )


def _key(event) -> tuple[int, int, bool]:
    """What makes a track of a sequence."""
    return event.instrument, event.program, event.is_drum


def _fifths(tonic: int) -> int:
    """Sharps (+) or flats (-) of a major key by its tonic in semitones above C, -5..6."""
    return (7 * tonic + 5) % 12 - 5
