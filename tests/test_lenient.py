"""Damaged MIDI files: what is whole reads as symusic reads it, what is broken loses what was broken and no more."""

import collections
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import long_piece
from strategies import scores

from aurljax.music import lenient, midi
from aurljax.music.score import Score

END = b"\0\xff\x2f\0"
NOTE = b"\0\x90\x3c\x40\x0a\x80\x3c\0"


def smf(*tracks: bytes, division: int = 480, header: bytes | None = None, format: int = 1) -> bytes:
    chunks = b"".join(b"MTrk" + struct.pack(">I", len(t)) + t for t in tracks)
    return (struct.pack(">4sIHHH", b"MThd", 6, format, len(tracks), division) if header is None else header) + chunks


def rows(score: Score) -> list[tuple]:
    return score.notes[["onset", "duration", "pitch", "velocity"]].tolist()


def kept(score: Score, damaged: bytes) -> tuple[float, float]:
    """(share of the score's pitches that come back, share of those that come back which are its own)."""
    try:
        found = collections.Counter(midi.read(damaged)[0].pitch.tolist())
    except midi.MidiError:
        return 0.0, 1.0
    both = (found & collections.Counter(score.pitch.tolist())).total()
    return both / len(score), both / found.total()


# --- whole files: two readers, one music ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(scores(resolution=st.just(480)))
def test_both_readers_agree_on_whole_files(score):
    data = midi.dumps(score)
    assert lenient.intact(data)
    repairs: list[str] = []
    assert lenient.read(data, repairs, 10**6) == midi.read(data)[0] and not repairs


# --- one damage at a time ---------------------------------------------------------------------------------------------

TWO = NOTE + b"\0\x90\x40\x40\x0a\x80\x40\0"
EXPECTED = [(0, 10, 60, 64), (10, 10, 64, 64)]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (smf(TWO + END, format=7), ""),
        (smf(TWO + END, division=0), "took 1 impossible division(s)"),
        (smf(TWO + END, header=b""), "took 1 impossible division(s)"),
        (b"noise" + smf(TWO + END), "skipped 5 bytes before"),
        (smf(TWO + END)[:-4], "read 1 track(s) up to the next"),
        (smf(TWO + END).replace(b"MTrk\0\0\0\x14", b"MTrk\0\0\0\0"), "read 1 track(s) up to the next"),
        (smf(TWO + END).replace(b"MTrk\0\0\0\x14", b"MTrk\0\0\xff\0"), "read 1 track(s) up to the next"),
        (smf(TWO + END).replace(b"MTrk", b"M\xf4rk"), "took 1 chunk(s) for tracks"),
        (smf(b"\0\x40\0\x41" + TWO + END), "skipped 2 byte(s) that belong to no event"),
        (smf(b"\0\xf3" + TWO + END, format=7), "skipped 1 byte(s) that belong to no event"),
        (smf(TWO.replace(b"\x0a\x80\x40", b"\x0a\x80\xc0") + END), "cleared the top bit of 1 data byte(s)"),
        (smf(b"\xff\xff\xff\x7f\xb0\x07\x40" + TWO + END), "left out 1 delta time(s)"),
        (smf(b"\xff\xff\xff\xff\xff\x7f\xb0\x07\x40" + TWO + END), "left out 1 delta time(s)"),
        (smf(b"\0\xff\x01\x7f" + TWO + END), "resumed after 1 meta or system event(s)"),
        (smf(b"\0\xff\x51\x05\x07\xa1\x20" + TWO + END), "resumed after 1 meta or system event(s)"),
        (smf(b"\0\xf0\x7f" + TWO + END), "resumed after 1 meta or system event(s)"),
        (smf(NOTE + END + TWO[len(NOTE) :] + END, format=7), ""),
        (smf(NOTE + b"\0\xff\x06\2la\0\x80\x3e\0\0\x90\x40\x40\0\xff\x06\0\x0a\x40\0" + END), ""),
    ],
)  # fmt: skip
def test_one_damage_costs_no_note(data, sentence):
    score, repairs = midi.read(data)
    assert rows(score) == EXPECTED
    assert sentence in " ".join(repairs)
    assert bool(sentence) <= bool(repairs)
    score.check()


def test_what_nothing_ends_is_ended():
    score, repairs = midi.read(smf(b"\0\x90\x3c\x40\x0a\x3c\x50\x81\x70\x40\x40" + END, format=7))
    assert rows(score) == [(0, 10, 60, 64), (10, 1920, 60, 80), (250, 1920, 64, 64)]
    assert repairs == ["ended 3 note(s) that nothing ends"]


def test_a_whole_file_without_offs_is_read_again():
    """symusic leaves such notes out without a word; what gives it away is how many bytes are left."""
    data = smf(b"".join(b"\x60\x90" + bytes([40 + i, 64]) for i in range(60)) + END)
    score, repairs = midi.read(data)
    assert lenient.intact(data) and len(score) == 60 and repairs == ["ended 60 note(s) that nothing ends"]


def test_a_clock_instead_of_a_beat():
    """25 frames of 40 ticks: a tick is a millisecond, whatever tempo events say."""
    score, _ = midi.read(smf(b"\0\xff\x51\3\x01\0\0" + TWO + END, division=0xE728))
    np.testing.assert_allclose(score.seconds(score.onset), [0, 0.01])


def test_programs_may_follow_notes():
    score, _ = midi.read(smf(NOTE + b"\0\xc0\x28" + NOTE + b"\0\xb0\x07\x40\0\xe0\0\0\0\xd0\x11" + END)[:-1])
    assert score.tracks["program"].tolist() == [0, 40]
    assert score.notes["track"].tolist() == [0, 1]
    assert score.controls[["track", "kind", "number", "value"]].tolist() == [(1, 0, 7, 64), (1, 1, 0, -8192)]


# --- generated damage -------------------------------------------------------------------------------------------------

PIECE = long_piece(120)
BYTES = midi.dumps(PIECE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(BYTES)))
def test_what_stands_before_the_break_is_kept(end):
    """Every note whose start stands whole before the break comes back, and no other: they are counted in the bytes."""
    starts = len(re.findall(rb"\x90[\x00-\x7f]\x40", BYTES[:end]))
    try:
        found = midi.read(BYTES[:end])[0].notes
    except midi.MidiError:
        found = PIECE.notes[:0]
    names = ["onset", "pitch", "velocity"]
    assert found[names].tolist() == PIECE.notes[names][:starts].tolist()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(14, len(BYTES) - 65), st.binary(min_size=1, max_size=64), st.booleans())
def test_damage_stays_where_it_is(at, noise, insert):
    damaged = BYTES[:at] + noise + BYTES[at if insert else at + len(noise) :]
    recall, precision = kept(PIECE, damaged)
    assert recall > 0.75
    assert precision > 0.9
