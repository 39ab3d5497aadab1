"""Standard MIDI Files: what is saved is what is loaded, what is broken is repaired aloud or refused in a sentence."""

import io
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import long_piece, random_score
from strategies import scores

from aurljax.errors import UserError
from aurljax.music import midi
from aurljax.music.midi import MidiError
from aurljax.music.score import CONTROL_KINDS, Score

few = settings(max_examples=60, deadline=None)
END = b"\0\xff\x2f\0"
NOTE = b"\0\x90\x3c\x40\x0a\x80\x3c\0"  # middle C from tick 0 to 10


def smf(*tracks: bytes, division: int = 480) -> bytes:
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(t)) + t for t in tracks)
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), division) + chunks


def one(**changes) -> Score:
    """A score of one note."""
    return Score(notes=[(0, 10, 0, 60, 64)], tracks=[(0, False)]).replace(**changes)


# --- round trips ------------------------------------------------------------------------------------------------------


@few
@given(scores())
def test_read_gives_what_was_dumped(score):
    assert midi.read(midi.dumps(score)) == (score, [])


@pytest.mark.parametrize("score", [long_piece(), one(), Score()], ids=["long", "one", "none"])
def test_load_gives_what_was_saved(score, tmp_path):
    path = tmp_path / "piece.mid"
    score.save_midi(path)
    assert midi.load(path) == midi.load(str(path)) == score
    assert os.listdir(tmp_path) == ["piece.mid"]


def test_silent_tracks_are_not_kept():
    score = Score(notes=[(0, 10, 1, 60, 64)], tracks=[(1, False), (2, True), (3, False)], names=("a", "b", "c"))
    assert midi.read(midi.dumps(score))[0] == one(tracks=[(2, True)], names=("b",))


def test_maps_and_texts_without_a_track():
    score = Score(tempo=[(5, 400_000)], meter=[(7, 3, 4)], texts=((3, "marker", "A"), (4, "lyric", "la")))
    assert midi.read(midi.dumps(score)) == (score, [])


def test_dense_coincidences():
    """Every pitch struck again where it ends, a thousand controls on one tick: nothing changes its order."""
    notes = [(7 * k, 7, 0, p, 1 + k) for k in range(8) for p in range(128)]
    controls = [(3, 0, 0, i % 128, i // 128) for i in range(1000)] + [(3, 0, 1, 0, i) for i in range(1000)]
    score = one(notes=notes, controls=controls)
    assert midi.read(midi.dumps(score)) == (score, [])


@few
@given(scores())
def test_bytes_depend_on_the_score_alone(score):
    data = midi.dumps(score)
    assert midi.dumps(midi.read(data)[0]) == data


@few
@given(scores(resolution=st.just(480)))
def test_another_reader_hears_the_same(score):
    """mido, message by message: the notes of every MIDI track."""
    mido = pytest.importorskip("mido")
    heard = []
    for i, track in enumerate(mido.MidiFile(file=io.BytesIO(midi.dumps(score))).tracks):
        tick, open_notes = 0, {}
        for message in track:
            tick += message.time
            if message.type in ("note_on", "note_off"):
                if message.type == "note_on" and message.velocity:
                    open_notes[message.note] = (tick, message.velocity)
                else:
                    onset, velocity = open_notes.pop(message.note)
                    heard.append((onset, tick - onset, i, message.note, velocity))
    assert sorted(heard) == sorted(score.notes.tolist())


def corpus(*pattern: str) -> list[Path]:
    root = os.environ.get("AURLJAX_DATA")
    if not root:
        pytest.skip("AURLJAX_DATA names no folder with pop909/ and nottingham/")
    return sorted(Path(root).glob(os.path.join(*pattern)))


@pytest.mark.parametrize("pattern", ["pop909/*/[0-9]*.mid", "nottingham/**/*.mid"])
def test_real_music(pattern):
    files = corpus(pattern)
    assert files
    for file in files:
        score, _ = midi.read(file.read_bytes(), file)
        score.check()
        assert len(score)
        assert midi.read(midi.dumps(score)) == (score, [])


# --- repairs ---------------------------------------------------------------------------------------------------------


def test_what_symusic_makes_of_a_file():
    name = b"\0\xff\x03\x05piano"
    track = (
        name + b"\0\xff\x05\x02la\0\xff\x06\x01A\0\xc0\x05\0\xb0\x40\x7f\0\xe0\0\x40" + NOTE + b"\0\xe0\x7f\x7f" + END
    )
    score, repairs = midi.read(
        smf(b"\0\xff\x51\x03\x06\x1a\x80\0\xff\x58\4\6\3\x18\x08\0\xff\x59\2\xfd\1" + END, track)
    )
    assert repairs == []
    assert score == Score(
        notes=[(0, 10, 0, 60, 64)],
        tracks=[(5, False)],
        names=("piano",),
        tempo=[(0, 400_000)],
        meter=[(0, 6, 8)],
        key=[(0, -3, True)],
        controls=[(0, 0, 0, 64, 127), (0, 0, 1, 0, 0), (10, 0, 1, 0, 8191)],
        texts=((0, "lyric", "la"), (0, "marker", "A")),
    )


@pytest.mark.parametrize(
    "data, expected, sentence",
    [
        (b"RIFF1234RMIDdata1234" + smf(NOTE + END), one(), "skipped 20 bytes before the MThd header"),
        (smf(b"\0\xff\x51\3\0\0\0" + NOTE + END), one(), "left out 1 impossible tempo event(s)"),
        (smf(b"\0\xff\x58\4\0\2\x18\x08" + NOTE + END), one(), "left out 1 impossible meter event(s)"),
        (smf(b"\0\xff\x58\4\3\x08\x18\x08" + NOTE + END), one(), "left out 1 impossible meter event(s)"),
        (smf(b"\0\xff\x59\2\x7f\5" + NOTE + END), one(), "left out 1 impossible key event(s)"),
        (smf(b"\0\xff\x59\2\xf8\0" + NOTE + END), one(), "left out 1 impossible key event(s)"),
        (
            smf(b"\0\x90\x3c\xff\x0a\x80\x3c\0" + END),
            one(notes=[(0, 10, 0, 60, 127)]),
            "cleared the top bit of 1 data byte(s)",
        ),
        (
            smf(b"\0\x90\x3c\x40\0\x80\x3c\0" + END),
            one(notes=[(0, 1, 0, 60, 64)]),
            "made 1 note(s) of no duration one tick long",
        ),
        (
            smf(b"\0\x90\x3c\x40\5\x90\x3c\x41\5\x80\x3c\0\5\x80\x3c\0" + END),
            one(notes=[(0, 5, 0, 60, 64), (5, 10, 0, 60, 65)]),
            "ended 1 note(s) where their pitch and track is struck again",
        ),
        (
            smf(b"\0\x90\x3c\x40\0\x90\x3c\x41\5\x80\x3c\0\5\x80\x3c\0" + END),
            one(notes=[(0, 10, 0, 60, 65)]),
            "left out 1 note(s) that start with a longer one of their pitch and track",
        ),
    ],
)
def test_repairs_are_told(data, expected, sentence):
    assert midi.read(data) == (expected, [sentence])


def test_tracks_of_lyrics_alone_are_texts():
    score, _ = midi.read(smf(b"\0\xff\x05\2la" + END, NOTE + END))
    assert score == one(texts=((0, "lyric", "la"),))


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(call, *args, path: object) -> MidiError:
    with pytest.raises(MidiError) as caught:
        call(*args)
    error = caught.value
    assert isinstance(error, UserError)
    assert error.path == str(path)
    assert str(error).startswith(f"{path}: {error.reason}")
    assert error.reason and "\n" not in str(error)
    return error


HOUR = b"\xaa\x98\x00"  # 691200 ticks: at 96 a quarter, the longest step that is not taken for damage
LONG = b"\0\x90\x3c\x40" + HOUR + b"\x80\x3c\0"
FAST = b"\0\xff\x51\3\0\0\1\0\xff\x58\4\xff\0\x18\x08"  # a microsecond a quarter, bars of 1,020
SLOWEST, FASTEST = b"\0\xff\x51\3\xff\xff\xff", b"\0\xff\x51\3\0\0\1\0\xff\x58\4\1\7\x18\x08"


@pytest.mark.parametrize(
    "data, words, offset",
    [
        (b"", "empty", 0),
        (b"\0" * 64, "not a MIDI file", 0),
        (b"MThd", "no track", 0),
        (b"MThd" + b"\0" * 23 + b"\x90\0\1", "no track", 0),  # a note, but in neither a header nor a track
        (smf(NOTE + END)[:-9], "no note in it can be read", None),
        (smf(SLOWEST + LONG + END, division=96), "longer than 24 hours", None),
        (smf(FASTEST + LONG * 5 + END, division=96), "1000000 bars", None),
        (smf(FAST + LONG * 140 + END, division=96), "1000000 quarters", None),
    ],
)
def test_what_is_no_music_is_refused(data, words, offset):
    error = refused(midi.read, data, "a.mid", path="a.mid")
    assert words in error.reason
    assert error.offset == offset
    assert offset is None or f"byte {offset}" in str(error)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"bytes": 20}, "larger than 20 bytes"),
        ({"notes": 2}, "3 notes are more than 2"),
        ({"ticks": 9}, "longer than 9 ticks"),
        ({"seconds": 0.01}, "longer than"),
        ({"bars": 1}, "more than 1 bars"),
    ],
)
def test_limits(limit, words, tmp_path):
    data = smf(NOTE * 2 + b"\x9f\x00" + NOTE[1:] + END)  # the last one in the third bar
    assert len(midi.read(data)[0]) == 3
    limits = midi.Limits(**limit)
    assert words in refused(midi.read, data, "a.mid", limits, path="a.mid").reason
    (tmp_path / "a.mid").write_bytes(data)
    assert words in refused(midi.load, tmp_path / "a.mid", limits, path=tmp_path / "a.mid").reason
    if "notes" in limit:  # so does the reader of damaged files
        assert "more than 2 notes" in refused(midi.read, data[:-1], "a.mid", limits, path="a.mid").reason


def test_a_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "large.mid"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse
    assert "larger" in refused(midi.load, path, path=path).reason


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_reading_raises_nothing_but_midi_error(data):
    """Bytes of a real file overwritten, cut and inserted: a lawful score comes out, or a MidiError."""
    raw = bytearray(midi.dumps(random_score(data.draw(st.integers(0, 3)), notes=30)))
    for _ in range(data.draw(st.integers(1, 4))):
        at, blob = data.draw(st.integers(0, len(raw))), data.draw(st.binary(max_size=8))
        raw[at : at + data.draw(st.sampled_from([0, 1, len(blob), 1000]))] = blob
    try:
        score, repairs = midi.read(bytes(raw))
    except MidiError as error:
        assert error.reason
    else:
        score.check()
        assert midi.read(midi.dumps(score))[0] == score
        assert all(isinstance(r, str) for r in repairs)


@given(st.binary(max_size=200))
@few
def test_noise_is_refused(data):
    refused(midi.read, data, path="<bytes>")
    refused(midi.read, b"MThd" + data, path="<bytes>")


def test_files_that_cannot_be_opened(tmp_path):
    assert "No such file" in refused(midi.load, tmp_path / "none.mid", path=tmp_path / "none.mid").reason
    assert "directory" in refused(midi.load, tmp_path, path=tmp_path).reason
    assert "null" in refused(midi.load, "a\0b", path="a\0b").reason
    locked = tmp_path / "locked.mid"
    locked.write_bytes(smf(NOTE + END))
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")
    assert "Permission" in refused(midi.load, locked, path=locked).reason


def test_saving_is_all_or_nothing(tmp_path):
    old = tmp_path / "old.mid"
    old.write_bytes(b"old")
    (tmp_path / "folder.mid").mkdir()
    for path, score in (
        (tmp_path / "none" / "a.mid", one()),
        (tmp_path / "folder.mid", one()),
        (old / "a.mid", one()),
        (old, one(notes=[(0, 0, 0, 60, 64)])),
        ("", one()),
        (str(tmp_path) + "/a\0b", one()),
    ):
        refused(midi.save, score, path, path=path)
    assert old.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["folder.mid", "old.mid"]
    midi.save(one(), old)
    assert midi.load(old) == one()


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "old.mid"
    midi.save(one(), path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left" in refused(midi.save, Score(), path, path=path).reason
    assert midi.load(path) == one()
    assert os.listdir(tmp_path) == ["old.mid"]


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_saved_files_have_the_usual_mode(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    midi.save(one(), tmp_path / "a.mid")
    assert stat.S_IMODE((tmp_path / "a.mid").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    "score, words",
    [
        (one(notes=[(0, 0, 0, 60, 64)]), "notes: row 0 is shorter than one tick"),
        (one(resolution=1 << 15), "no resolution above 32767"),
        (one(notes=[(1 << 28, 1, 0, 60, 64)]), "no tick above 268435455"),
        (one(texts=((1 << 28, "marker", "A"),)), "no tick above 268435455"),
        (one(controls=[(0, 0, CONTROL_KINDS.index("pressure"), 0, 64)]), "1 rows of pressure"),
        (one(names=("\ud800",)), "surrogates"),
        (one(texts=((0, "lyric", "\ud800"),)), "surrogates"),
    ],
)
def test_what_midi_cannot_hold_is_refused(score, words):
    assert words in refused(midi.dumps, score, path="<bytes>").reason


def test_the_extremes_of_midi_are_held():
    tempo, last = [(0, (1 << 24) - 1), (1, 1)], midi.MAX_TICK
    score = one(resolution=midi.MAX_RESOLUTION, tempo=tempo, notes=[(0, 1, 0, 0, 1), (last - 1, 1, 0, 127, 127)])
    assert midi.read(midi.dumps(score)) == (score, [])
