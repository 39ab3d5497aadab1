"""What a MIDI file says in words, and its pressure: two readers of the same bytes tell the same, and nothing is lost."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax.music import lenient, midi, scan, words
from aurljax.music.score import META, Score

END = b"\0\xff\x2f\0"
NOTE = b"\0\x90\x3c\x40\x0a\x80\x3c\0"
few = settings(max_examples=150, deadline=None)


def smf(*tracks: bytes, format: int = 1) -> bytes:
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(t)) + t for t in tracks)
    return struct.pack(">4sIHHH", b"MThd", 6, format, len(tracks), 480) + chunks


def number(value: int) -> bytes:
    out = [value & 127]
    while value := value >> 7:
        out.append(value & 127 | 128)
    return bytes(reversed(out))


def said(kind: int, text: str, delta: int = 0) -> bytes:
    body = text.encode()
    return number(delta) + bytes([0xFF, kind]) + number(len(body)) + body


# --- generated files --------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["Title: A", "Composer: B", "composed by C", "\xff\x01", "é\xff\x02", "C7"]
)
STEPS = st.integers(0, 100) | st.integers(0, 40_000)  # the latter hold all bytes from 0x80 on


@st.composite
def tracks(draw) -> bytes:
    """One track of a channel: notes, texts, pressure, keys and tempos, with running status or without."""
    running, channel = draw(st.booleans()), draw(st.integers(0, 15))
    out, status = [], 0

    def message(step: int, kind: int, *data: int) -> None:
        nonlocal status
        out.append(number(step) + bytes([kind << 4 | channel] * (not running or status != kind) + [*data]))
        status = kind

    if draw(st.booleans()):
        out.append(said(3, draw(st.sampled_from(["Ode", "untitled", "tempo track", "piano", "", "Tempo Track 1"]))))
    played = draw(st.booleans())
    for what in draw(st.lists(st.sampled_from("nnppckktt" if played else "tkk"), max_size=25)):
        step = draw(STEPS)
        if what == "n":
            message(step, 9, pitch := draw(st.integers(0, 127)), draw(st.integers(1, 127)))
            message(draw(STEPS) + 1, *draw(st.sampled_from([(8, pitch, 64), (9, pitch, 0)])))
        elif what == "p":
            message(step, 0xA, draw(st.integers(0, 127)), draw(st.integers(0, 127)))
        elif what == "c":
            for _ in range(draw(st.integers(1, 4))):
                message(step, 0xD, draw(st.integers(0, 127)))
        elif what == "k":
            out.append(number(step) + b"\xff\x59\2\xff\1")  # one key: of several at one tick symusic takes any
            status = 0
        else:
            out.append(said(draw(st.sampled_from([1, 2, 5, 6])), draw(TEXTS), step))
            status = 0
    return b"".join(out) + END


@few
@given(st.lists(tracks(), min_size=1, max_size=4), st.sampled_from([0, 1]))
def test_both_readers_tell_the_same(parts, format):
    data = smf(*parts, NOTE + END) if format else smf(parts[0], format=0)
    told: list[str] = []
    other = lenient.read(data, told, 10**6)
    score, repairs = midi.read(data)
    assert score == other.replace(notes=midi._playable(other.notes.copy(), []))
    pressure = [s for s in told if "pressure" in s]
    assert [r for r in repairs if "pressure" in r] == pressure
    assert scan.pressures(data) == sum(int(s.split()[2]) for s in pressure)


meta = st.dictionaries(st.sampled_from(META), st.text(min_size=1, max_size=20).map(str.strip).filter(bool))


@few
@given(meta, st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["lyric", "marker"]), TEXTS), max_size=4))
def test_fields_and_texts_come_back(meta, texts):
    texts = [t for t in texts if not words.may_tell(t[2])]
    score = Score(notes=[(0, 10, 0, 60, 64)], tracks=[(0, False)], texts=texts, meta=meta)
    data = midi.dumps(score)
    assert midi.read(data) == (score, [])
    assert lenient.read(data, [], 9) == score


# --- one case at a time -----------------------------------------------------------------------------------------------


def read(*tracks: bytes, **changes) -> Score:
    """By both readers."""
    data = smf(*tracks, **changes)
    score, repairs = midi.read(data)
    assert score == lenient.read(data, [], 99) and not repairs
    return score


@pytest.mark.parametrize(
    ("first", "title"),
    [
        (said(3, "Ode to Joy"), "Ode to Joy"),
        (said(3, " Ode \n"), "Ode"),
        (said(3, "24 Preludes"), "24 Preludes"),
        (said(3, "untitled"), None),
        (said(3, "Tempo Track"), None),
        (said(3, "Conductor"), None),
        (said(3, "Track 0"), None),
        (said(3, "New Sequence 2"), None),
        (said(3, "12"), None),
        (said(3, "piano") + b"\0\xc0\0", None),
        (said(3, "piano") + b"\0\xb0\x07\x40", None),
        (said(3, "Ode") + said(1, "Title: Song of Joy", 0), "Song of Joy"),
    ],
)
def test_titles(first, title):
    assert midi.read(smf(first + END, NOTE + END))[0].meta.get("title") == title
    assert lenient.read(smf(first + END, NOTE + END), [], 9).meta.get("title") == title


def test_a_track_that_plays_has_a_name_and_no_title():
    assert read(said(3, "Ode") + NOTE + END).meta == {}
    assert read(said(3, "Ode") + NOTE + END, NOTE + END).names == ("Ode", "")
    assert read(said(3, "Ode") + NOTE + END, format=0).meta == {}


@pytest.mark.parametrize(
    ("kind", "text", "composer"),
    [
        (1, "Composer: J. S. Bach", "J. S. Bach"),
        (2, "composer:Bach", "Bach"),
        (6, "Composer: Bach", "Bach"),
        (1, "Composed by Franz Schubert", "Franz Schubert"),
        (1, "Music composed by: Clara Schumann ", "Clara Schumann"),
        (1, "composed by A, arranged by B", None),
        (2, "Composed by Bach, (c) 1999 Someone", None),
        (2, "Copyright (c) 1999 by Someone", None),
        (1, "by the river", None),
        (1, "Composer:", None),
        (5, "Composer: Bach", None),
    ],
)
def test_composers_are_plainly_called_so_and_nothing_is_lost(kind, text, composer):
    score = read(said(kind, text) + NOTE + END)
    assert score.meta.get("composer") == composer
    assert score.texts == (() if composer else ((0, "lyric" if kind == 5 else "marker", text),))


def test_of_two_composers_the_first_counts_and_later_words_are_texts():
    score = read(said(1, "Composer: Z") + said(6, "Composer: A") + NOTE + said(1, "Title: late", 7) + END)
    assert score.meta == {"composer": "Z"}
    assert score.texts == ((0, "marker", "Composer: A"), (17, "marker", "Title: late"))


def test_words_that_are_not_unicode():
    assert read(b"\0\xff\x06\x03\xe9ab" + NOTE + END).texts == ((0, "marker", "éab"),)


@pytest.mark.parametrize(
    ("events", "count"),
    [
        (b"\0\xd0\x40", 1),
        (b"\0\xa0\x3c\x40\0\x3d\x41", 2),
        (b"\0\xd0\x40\0\x41\0\x42\x81\x00\x43", 4),
        (b"\0\xb0\x07\x40\xd0\x40\x07\x41\0\xe0\0\x40\xa0\x40\0\x41", 0),  # those are delta times
        (b"\0\xb0\x07\x40\0\xff\x06\1A\0\x07\x41\xd0\x40\x07\x42", 0),  # and a status runs on past a text
        (said(6, "\u0425\u00d0\u00a0x"), 0),
    ],
)
def test_pressure_is_counted(events, count):
    score, repairs = midi.read(smf(events + NOTE + END))
    assert len(score) == 1
    assert repairs == [f"left out {count} event(s) of pressure"] * bool(count)


def test_much_pressure_hides_no_notes():
    """A file full of pressure is no file with lost notes: it is not read again."""
    data = smf(NOTE + b"\0\xa0\x3c\x40" + b"\x01\x3c\x41" * 999 + END)
    assert midi.read(data)[1] == ["left out 1000 event(s) of pressure"]
    assert not midi._hidden(data, midi.read(data)[0], 1000) and midi._hidden(data, midi.read(data)[0], 0)


@pytest.mark.skipif("AURLJAX_DATA" not in os.environ, reason="AURLJAX_DATA: a folder with music, is not set")
@pytest.mark.parametrize("pattern", ["pop909/*/[0-9]*.mid", "nottingham/**/*.mid"])
def test_real_music(pattern):
    """Of 60 files both readers tell the same words, names of sequences and pressures."""
    files = sorted(Path(os.environ["AURLJAX_DATA"]).glob(pattern))
    for i in np.linspace(0, len(files) - 1, 60).astype(int):
        data = files[i].read_bytes()
        told: list[str] = []
        other, (score, _) = lenient.read(data, told, 10**6), midi.read(data)
        assert (score.texts, score.meta) == (other.texts, other.meta)
        assert scan.pressures(data) == sum("pressure" in s for s in told) == 0
