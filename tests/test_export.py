"""Files that are written: complete, told how they were made, read again; what is broken is found and not left there."""

import dataclasses
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import random_score
from strategies import scores

import aurljax
from aurljax.cli import main
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.export import provenance, validate, write
from aurljax.export.finish import finish
from aurljax.music import midi
from aurljax.music.score import Score
from aurljax.music.theory import key

few = settings(max_examples=60, deadline=None)


def piece() -> Score:
    """Two tracks with drums, a pedal, silence in bar 2, a change of tempo."""
    notes = [(240 * i, 240, 0, 60 + i % 7, 80) for i in range(8)] + [(3840 + 240 * i, 200, 1, 48, 70) for i in range(8)]
    drums = [(480 * i, 60, 2, 36, 90) for i in range(4)]
    return Score(notes=notes + drums, tracks=[(0, False), (32, False), (0, True)], names=("Piano", "Bass", "Kit"),
                 tempo=[(0, 500_000), (1920, 600_000)], meter=[(0, 4, 4)], key=[(0, 0, False)],
                 controls=[(0, 0, 0, 64, 127), (900, 0, 0, 64, 0)], texts=[(0, "marker", "C:maj")])  # fmt: skip


# --- complete ---------------------------------------------------------------------------------------------------------


@few
@given(scores(resolution=st.just(480)), st.sampled_from([None, 0, 3]))
def test_a_finished_score_is_complete_and_comes_back(score, told):
    score = finish(score.replace(tempo=score.tempo[:1]))
    if told is not None:
        score = provenance.attach(score, provenance.of({"model": "abc", "step": 5}, (7, told), score, bars=told))
    back, repairs = midi.read(midi.dumps(score))
    assert back == score and not repairs
    assert score.tempo["tick"][0] == score.meter["tick"][0] == 0 and all(score.names)
    assert set(score.track.tolist()) == set(range(len(score.tracks)))
    assert (key.find(score) or ()) == tuple(score.key[0].item()[1:] if len(score.key) else ())
    assert validate.check(midi.dumps(score), "x.mid", score).faults == ()


def test_nothing_but_the_notes_decides_the_key_and_no_note_changes():
    score = random_score(3).replace(key=[(0, -7, True)])
    done = finish(score)
    assert done.key.tolist() == [(0, *key.find(score))] and done.key["fifths"][0] != -7
    columns = ["onset", "duration", "pitch", "velocity"]
    assert np.array_equal(done.notes[columns], score.notes[columns])
    assert np.array_equal(done.program, score.program) and np.array_equal(done.is_drum, score.is_drum)
    assert finish(done) == done


def test_names_are_its_own_and_those_of_general_midi():
    notes = [(0, 9, t, 60 + t, 80) for t in range(5)]
    tracks = [(52, False), (52, False), (33, False), (0, True), (52, False)]
    bare = Score(notes=notes, tracks=tracks)
    assert finish(bare).names == ("Choir Aahs 1", "Choir Aahs 2", "Fingered Bass", "Drums", "Choir Aahs 3")
    named = bare.replace(names=("Soprano", "", "Low"))
    assert finish(named).names == ("Soprano", "Choir Aahs 1", "Low", "Drums", "Choir Aahs 2")
    silent = bare.replace(tracks=[*tracks, (5, False)], names=("", "", "", "", "", "Nobody"),
                          controls=[(0, 5, 0, 7, 1), (0, 2, 0, 7, 2)])  # fmt: skip
    assert finish(silent).names == finish(bare).names and finish(silent).controls.tolist() == [(0, 2, 0, 7, 2)]
    assert finish(Score()) == finish(finish(Score())) and finish(Score()).key.tolist() == []


# --- how it was made --------------------------------------------------------------------------------------------------


def test_what_made_it_comes_back_from_the_file():
    prompt = piece()
    sampler = Sampler(temperature=0.9, min_p=0.02)
    made = provenance.of({"model": "0f", "step": 12}, (7, 1), prompt, sampler=sampler, bars=8, seconds=None)
    assert made["sampler"] == {"kind": "Sampler", "temperature": 0.9, "min_p": 0.02} and "seconds" not in made
    assert (made["seed"], made["row"], made["bars"], made["model"], made["step"]) == (7, 1, 8, "0f", 12)
    score = provenance.name_prompt(provenance.attach(piece(), made), "Ode “é” \\ {x}.mid")
    back = midi.read(midi.dumps(score))[0]
    assert provenance.read(back) == made | {"prompt": {"name": "Ode “é” \\ {x}.mid", **made["prompt"]}}
    assert dict(provenance.rows(provenance.read(back)))["sampler.min_p"] == "0.02"
    assert provenance.read(piece()) is None and provenance.name_prompt(piece(), "a") == piece()
    assert provenance.read(piece().replace(meta={"generated": "by hand"})) is None


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A setting with nested values."""

    programs: frozenset = frozenset()
    inner: Sampler = Sampler()  # noqa: RUF009


def test_settings_of_any_kind_are_plain():
    rules = (Constraint(frozenset({5, 2})),)
    made = provenance.of({}, (0, 0), None, rules=rules, share=np.float32(0.5), inner=Constraint())
    assert made["rules"] == [{"kind": "Constraint", "programs": [2, 5]}] and made["share"] == 0.5
    assert made["inner"] == {"kind": "Constraint"} and "prompt" not in made
    json.dumps(made)


def test_the_prompt_is_told_apart_by_its_music():
    other = piece().replace(notes=piece().notes[1:])
    renamed = piece().replace(names=("A", "B", "C"))
    digests = [provenance.of({}, (0, 0), p)["prompt"]["digest"] for p in (piece(), renamed, other)]
    assert digests[0] == digests[1] != digests[2]


def test_much_said_hides_no_notes():
    """A small file with a long record of how it was made is not taken for one with lost notes."""
    score = provenance.attach(Score(notes=[(0, 10, 0, 60, 64)], tracks=[(0, False)]), {"a": "é" * 500})
    data = midi.dumps(score)
    assert midi.read(data) == (score, []) and not midi._hidden(data, score, 0)


# --- the report -------------------------------------------------------------------------------------------------------


def test_facts():
    found = validate.facts(piece())
    assert (found["notes"], found["bars"], found["resolution"]) == (20, 3, 480)
    assert found["tempo"] == [100, 120] and found["meters"] == ["4/4"] and found["key"] == "C major"
    assert found["pitches"] == [36, 66] and [t["notes"] for t in found["tracks"]] == [8, 8, 4]
    assert found["longest_silence"] == pytest.approx(2.4) and found["seconds"] == pytest.approx(2 + 2.4 + 1880 / 800)
    assert validate.facts(Score())["pitches"] is None and validate.facts(Score())["longest_silence"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_silence_is_the_longest_stretch_without_a_sounding_tick(seed):
    score = random_score(seed, 20).replace(tempo=[(0, 1_000_000)])
    sounding = np.zeros(score.end, bool)
    for onset, duration in zip(score.onset, score.duration, strict=True):
        sounding[onset : onset + duration] = True
    longest, run = 0, 0
    for heard in sounding:
        run = 0 if heard else run + 1
        longest = max(longest, run)
    assert validate.silence(score) == pytest.approx(longest / score.resolution)
    held = score.replace(notes=[(0, score.end, 0, 90, 80), *score.notes.tolist()])
    assert validate.silence(held) == 0


BREAKS = {  # what a writer could do wrong, and what the report calls it
    "a note is missing": (lambda s: s.replace(notes=s.notes[1:]), "19 rows of notes, not 20"),
    "a note moved": (lambda s: s.replace(notes=_changed(s.notes, "onset", 1)), "row 0 of notes is"),
    "another velocity": (lambda s: s.replace(notes=_changed(s.notes, "velocity", 1)), "row 0 of notes is"),
    "another program": (lambda s: s.replace(tracks=[(1, False), (32, False), (0, True)]), "row 0 of tracks is"),
    "drums in tune": (lambda s: s.replace(tracks=[(0, False), (32, False), (0, False)]), "row 2 of tracks is"),
    "another tempo": (lambda s: s.replace(tempo=[(0, 500_000)]), "1 rows of tempo, not 2"),
    "no meter": (lambda s: s.replace(meter=()), "0 rows of meter, not 1"),
    "another key": (lambda s: s.replace(key=[(0, 1, False)]), "row 0 of key is"),
    "no pedal": (lambda s: s.replace(controls=()), "0 rows of controls, not 2"),
    "no name": (lambda s: s.replace(names=("", "Bass", "Kit")), "its names differ"),
    "no chord": (lambda s: s.replace(texts=()), "its texts differ"),
    "not told": (lambda s: s.replace(meta={"generated": "else"}), "its generated differs"),
    "another division": (lambda s: s.replace(resolution=96), "96 ticks per quarter note, not 480"),
}  # fmt: skip


def _changed(notes, column, by):
    notes = notes.copy()
    notes[column][0] += by
    return notes


@pytest.mark.parametrize("case", BREAKS)
def test_a_file_that_is_not_the_score_is_found_out(case):
    change, words = BREAKS[case]
    assert validate.check(midi.dumps(piece()), "a.mid", piece()).valid
    report = validate.check(midi.dumps(change(piece())), "a.mid", piece())
    assert any(words in fault for fault in report.faults), report.faults
    assert words in report.line() and report.json()["valid"] is False


def _smf(*events: bytes) -> bytes:
    body = b"".join(events) + b"\0\xff\x2f\0"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 1, 1, 480, b"MTrk", len(body)) + body


@pytest.mark.parametrize(("events", "words"), [
    ([b"\0\x90\x3c\x40", b"\x60\x80\x3c\0", b"\0\x90\x40\x40"], "nothing ends"),
    ([b"\0\x90\x3c\x40", b"\x10\x90\x3c\x40", b"\x20\x80\x3c\0", b"\x20\x80\x3c\0"], "struck again"),
    ([b"\0\x90\x3c\x40", b"\0\x80\x3c\0"], "no duration"),
    ([b"\0\xd0\x40", b"\0\x90\x3c\x40", b"\x60\x80\x3c\0"], "pressure"),
    ([b"\0\xff\x58\x04\x00\x02\x18\x08", b"\0\x90\x3c\x40", b"\x60\x80\x3c\0"], "impossible"),
])  # fmt: skip
def test_damage_is_a_fault(events, words):
    report = validate.check(_smf(*events), "a.mid")
    assert any(words in fault for fault in report.faults), report.faults
    assert validate.check(_smf(b"\0\x90\x3c\x40", b"\x60\x80\x3c\0"), "a.mid").valid


def test_what_only_we_can_read_is_a_fault():
    data = midi.dumps(piece())
    cut = data[:-7]  # breaks off in the last track
    assert len(midi.read(cut)[0]) and any("symusic" in fault for fault in validate.check(cut, "a.mid").faults)


def test_bytes_that_are_no_midi_are_a_fault():
    for data in (b"", b"garbage", midi.dumps(piece())[:40]):
        report = validate.check(data, "a.mid", piece())
        assert not report.valid and report.facts == {} and report.line().startswith("a.mid: ")


# --- to disk ----------------------------------------------------------------------------------------------------------


def test_a_valid_file_is_written_and_told(tmp_path, capsys):
    score = provenance.attach(piece(), provenance.of({"model": "0f", "step": 3}, (1, 0), None))
    report = write.write_midi(score, tmp_path / "a.mid")
    assert report.valid and aurljax.load_midi(tmp_path / "a.mid") == score
    assert report == validate.file(tmp_path / "a.mid") and "20 notes, 3 bars" in report.line()
    write.write_reports([report], tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == [report.json()]
    assert {p.name for p in tmp_path.iterdir()} == {"a.mid", "r.json"}
    assert main(["inspect", str(tmp_path / "a.mid"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report.json()
    assert main(["inspect", str(tmp_path / "a.mid")]) == 0
    text = capsys.readouterr().out
    assert "Bass: Acoustic Bass, 8 notes" in text and "model" in text and "100 to 120 a minute" in text


def test_what_is_not_valid_is_not_written(tmp_path):
    """A silent track is lost in a file, so the file is not the score."""
    silent = piece().replace(tracks=[*piece().tracks.tolist(), (9, False)], names=("A", "B", "C", "D"))
    (tmp_path / "a.mid").write_bytes(b"older")
    report = write.write_midi(silent, tmp_path / "a.mid")
    assert not report.valid and [p.name for p in tmp_path.iterdir()] == ["a.mid"]
    assert (tmp_path / "a.mid").read_bytes() == b"older"
    with pytest.raises(UserError, match=r"a\.mid was not written.*3 rows of tracks, not 4"):
        write.refuse([report])
    write.refuse([])
    with pytest.raises(UserError, match=r"gone/a\.mid"):
        write.write_midi(piece(), tmp_path / "gone/a.mid")
    broken = piece().replace(notes=[*piece().notes.tolist(), (0, 999, 0, 60, 80)])
    with pytest.raises(midi.MidiError, match=r"b\.mid: the score breaks a rule"):
        write.write_midi(broken, tmp_path / "b.mid")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mid"]
