"""NoteSequence and Score: back and forth, and beside note-seq's own reader of MIDI files."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import long_piece, random_score
from strategies import scores

from aurljax.errors import UserError
from aurljax.music import midi
from aurljax.music.interchange import from_note_sequence, to_note_sequence
from aurljax.music.score import CONTROL_KINDS, Score

note_seq = pytest.importorskip("note_seq")
few = settings(max_examples=60, deadline=None)


def sequence(**fields):
    return note_seq.NoteSequence(ticks_per_quarter=480, **fields)


def note(start, end, **fields):
    return {"pitch": 60, "velocity": 64, "start_time": start, "end_time": end} | fields


@few
@given(scores(st.sampled_from([96, 480, 1024]), kinds=("marker",), fifths=(-5, 6)), st.text(max_size=5))
def test_there_and_back(score, text):
    score = score.replace(meta={"title": text, "composer": text, "genre": text})
    assert from_note_sequence(to_note_sequence(score)) == score
    assert Score.from_note_sequence(score.to_note_sequence()) == score


def test_a_long_piece_does_not_drift():
    assert from_note_sequence(to_note_sequence(long_piece())) == long_piece()


def test_controls_without_notes_are_a_track():
    score = Score(tracks=[(3, False), (4, True)], controls=[(5, 1, 0, 64, 127), (6, 0, 1, 0, -9)])
    assert from_note_sequence(to_note_sequence(score)) == score


def rows(ns) -> dict[str, np.ndarray]:
    """All that a NoteSequence says, sorted."""
    tables = {
        "notes": [
            (n.instrument, n.pitch, n.start_time, n.end_time, n.velocity, n.program, n.is_drum) for n in ns.notes
        ],
        "controls": [
            (c.instrument, c.control_number, c.time, c.control_value, c.program, c.is_drum) for c in ns.control_changes
        ],
        "bends": [(b.instrument, b.time, b.bend, b.program, b.is_drum) for b in ns.pitch_bends],
        "tempos": [(t.time, t.qpm) for i, t in enumerate(ns.tempos) if not i or t.qpm != ns.tempos[i - 1].qpm],
        "meters": [(t.time, t.numerator, t.denominator) for t in ns.time_signatures],
        "keys": [(k.time, k.key, k.mode) for k in ns.key_signatures],
        "length": [(ns.ticks_per_quarter, ns.total_time)],
    }
    return {name: np.array(sorted(table), np.float64) for name, table in tables.items()}


@few
@given(scores(st.just(480)))
def test_note_seq_reads_our_files_as_we_do(score):
    score = score.replace(tempo=[(0, 500_000), *score.tempo.tolist()])  # which note-seq adds where none is said
    theirs = note_seq.midi_to_note_sequence(midi.dumps(score))
    ours = rows(to_note_sequence(midi.read(midi.dumps(score))[0]))
    for name, table in rows(theirs).items():
        np.testing.assert_allclose(ours[name], table, rtol=0, atol=1e-6, err_msg=name)
    names = {i: name.encode().decode("latin-1") for i, name in enumerate(score.names) if name}  # as it reads UTF-8
    assert {info.instrument: info.name for info in theirs.instrument_infos} == names


@pytest.mark.parametrize("steps", [1, 4, 24])
def test_quantised_steps_come_first(steps):
    score = random_score(4)
    score = score.replace(resolution=480, tempo=[(0, 400_000)], meter=[]).repaired()[0]
    quantised = note_seq.quantize_note_sequence(to_note_sequence(score), steps)
    back, unit = from_note_sequence(quantised), 480 // steps
    assert len(back)
    assert (back.onset % unit == 0).all()
    starts = {n.quantized_start_step * unit for n in quantised.notes}
    assert set(back.onset.tolist()) == starts
    for n in quantised.notes:
        n.start_time = n.end_time = 0  # as models leave them
    assert from_note_sequence(quantised) == back


def test_steps_of_seconds_follow_the_tempo_map():
    score = Score(notes=[(0, 480, 0, 60, 64), (960, 480, 0, 62, 64)], tracks=[(0, False)], tempo=[(480, 250_000)])
    quantised = note_seq.quantize_note_sequence_absolute(to_note_sequence(score), 100)
    assert from_note_sequence(quantised) == score


def test_tempi_off_the_ticks_do_not_drift():
    """Ten thousand tempo changes at times no tick has: every note stays within half a tick of its second."""
    rng = np.random.default_rng(0)
    times, qpm = np.cumsum(rng.uniform(0.01, 0.1, 10_000)), rng.uniform(40, 200, 10_000)
    ns = sequence(tempos=[{"time": t, "qpm": q} for t, q in zip(times, qpm, strict=True)])
    ns.notes.extend(note_seq.NoteSequence.Note(**note(t, t + 0.01)) for t in times)
    score = from_note_sequence(ns)
    half_tick = 60 / qpm.min() / 480 / 2
    assert np.abs(score.seconds(score.onset) - times).max() <= half_tick * 1.001
    assert np.abs(score.seconds(score.tempo["tick"]) - times).max() <= half_tick * 1.001


def test_what_a_sequence_leaves_open():
    ns = note_seq.NoteSequence(notes=[note(0.5, 0.5, instrument=7), note(0.5, 1, instrument=7, program=3)])
    ns.text_annotations.add(time=0.5, text="C", annotation_type=ns.text_annotations.add().CHORD_SYMBOL)
    score = from_note_sequence(ns)
    assert score.resolution == 480
    assert score.notes.tolist() == [(480, 1, 0, 60, 64), (480, 480, 1, 60, 64)]
    assert score.tracks.tolist() == [(0, False), (3, False)]
    assert score.texts == ((480, "marker", "C"),)


def test_struck_again_is_ended_there():
    assert from_note_sequence(sequence(notes=[note(0, 2), note(1, 2)])).duration.tolist() == [960, 960]


def test_modes_become_the_key_of_their_signature():
    keys = note_seq.NoteSequence.KeySignature
    tonics = {"MAJOR": 0, "MINOR": 9, "DORIAN": 2, "PHRYGIAN": 4, "LYDIAN": 5, "MIXOLYDIAN": 7, "LOCRIAN": 11}
    ns = sequence(key_signatures=[keys(time=i, key=k, mode=m) for i, (m, k) in enumerate(tonics.items())])
    assert from_note_sequence(ns).key["fifths"].tolist() == [0] * 7
    assert from_note_sequence(ns).key["minor"].tolist() == [False, True] + [False] * 5


@pytest.mark.parametrize("minor", [False, True])
@pytest.mark.parametrize("fifths", range(-5, 7))
def test_keys_are_those_of_note_seq(fifths, minor):
    """Beside note-seq's own reading of the MIDI event."""
    score = Score(key=[(0, fifths, minor)])
    (theirs,) = note_seq.midi_to_note_sequence(midi.dumps(score)).key_signatures
    (ours,) = to_note_sequence(score).key_signatures
    assert (ours.key, ours.mode) == (theirs.key, theirs.mode)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"notes": [note(0, 1, velocity=0)]}, "velocity"),
        ({"notes": [note(0, 1, pitch=200)]}, "pitch"),
        ({"notes": [note(0, 1, pitch=-1)]}, ""),
        ({"notes": [note(1, 0)]}, "shorter"),
        ({"notes": [note(0, 1, program=300)]}, ""),
        ({"tempos": [{"qpm": 0}]}, "zero"),
        ({"tempos": [{"qpm": 1}]}, "microseconds"),
        ({"tempos": [{"qpm": 60, "time": float("nan")}]}, ""),
        ({"time_signatures": [{"numerator": 3, "denominator": 5}]}, "meter"),
        ({"key_signatures": [{"mode": 50}]}, ""),
        ({"pitch_bends": [{"bend": 9000}]}, "controls"),
    ],
)
def test_what_midi_does_not_have_is_refused(fields, words):
    with pytest.raises(UserError, match=f"NoteSequence.*{words}") as caught:
        from_note_sequence(sequence(**fields))
    assert "\n" not in str(caught.value)


def test_pressure_is_refused():
    score = Score(tracks=[(0, False)], controls=[(0, 0, CONTROL_KINDS.index("pressure"), 0, 5)])
    with pytest.raises(UserError, match="no pressure: take 1 rows"):
        to_note_sequence(score)


def test_without_note_seq_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "note_seq.protobuf", None)
    with pytest.raises(UserError, match=r"aurljax\[interchange\]"):
        to_note_sequence(Score())


def test_files_are_read_without_importing_note_seq():
    code = "import sys, aurljax.music.midi as m; m.read(m.dumps(m.Score())); sys.exit('note_seq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
