"""Files that are lawful and odd: each is read, comes back as written, and goes through every codec and every change."""

import numpy as np
import pytest
from test_lenient import END, smf

from aurljax.data import augment, cuts, record
from aurljax.music import codec as codecs
from aurljax.music import midi, preprocess


def number(n: int) -> bytes:
    """A number of variable length."""
    sevens = [n >> shift & 127 for shift in (21, 14, 7, 0) if n >> shift or not shift]
    return bytes(x | 128 for x in sevens[:-1]) + bytes(sevens[-1:])


def note(pitch=60, velocity=64, length=240, wait=0, channel=0) -> bytes:
    return number(wait) + bytes([0x90 | channel, pitch, velocity]) + number(length) + bytes([0x80 | channel, pitch, 0])


def meta(kind: int, body: bytes, wait=0) -> bytes:
    return number(wait) + bytes([0xFF, kind]) + number(len(body)) + body


def tempo(usec: int, wait=0) -> bytes:
    return meta(0x51, usec.to_bytes(3, "big"), wait)


def meter(numerator: int, power: int, wait=0) -> bytes:
    return meta(0x58, bytes([numerator, power, 24, 8]), wait)


TUNE = b"".join(note(60 + i * 5 % 13, 64 + i, 120, 120) for i in range(24))
STRANGE = {
    "independent patterns": smf(TUNE + END, tempo(400_000) + TUNE + END, format=2),
    "notes of no length": smf(b"".join(note(60 + i % 12, 64, 0, 60) for i in range(40)) + END),
    "127 tracks": smf(*(bytes([0, 0xC0 | i % 16, i]) + note(40 + i % 40, 64, 480, i, i % 16) + END for i in range(127))),
    "1000 empty tracks": smf(*[END] * 1000, TUNE + END),
    "tempi at one tick": smf(b"".join(map(tempo, (1, 500_000, 0, 16_777_215, 300_000))) + TUNE + END),
    "a tempo every tick": smf(b"".join(tempo(300_000 + 997 * i, 1) for i in range(900)) + TUNE + END),
    "fastest and slowest in turn": smf(b"".join(tempo(u, 480) for u in (1, 16_777_215) * 9) + TUNE + END),
    "maps on other tracks": smf(TUNE + END, tempo(600_000, 100) + END, meter(3, 2, 960) + END),
    "255/1": smf(meter(255, 0) + TUNE + END),
    "17/32, then 4/4 within a bar": smf(meter(17, 5) + TUNE + END, meter(4, 2, 777) + END),
    "1/128": smf(meter(1, 7) + TUNE + END),
    "a meter every few ticks": smf(b"".join(meter(1 + i % 17, i % 6, 7) for i in range(300)) + TUNE + END),
    "an hour of silence": smf(TUNE + note(60, 64, 10, 7000 * 480) + END),
    "zero velocities around lyrics": smf(
        b"\0\x90\x3c\x40"
        + b"".join(meta(5, b"la") + bytes([50, 60 + i % 5, 0, 10, 61 + i % 5, 64]) for i in range(20)) + END
    ),
    "names in three encodings": smf(
        *(meta(3, "ピアノ é".encode(code, "replace")) + TUNE + END for code in ("utf-8", "latin-1", "shift-jis"))
    ),
    "system exclusive between": smf(note(60) + b"\0\xf0\3\x43\x12\0\x0a\xf7\2\x43\xf7" + note(62) + END),
    "all channels": smf(b"".join(note(36 + i, 64, 200, 0, i) for i in range(16)) * 4 + END),
    "the outermost pitches": smf(note(0) + note(127) + note(0, 1) + note(127, 127) + note(127, channel=9) + END),
    "10,000 notes at one tick": smf(
        b"".join(bytes([0, 0x90, i % 128, 1 + i % 127]) for i in range(10_000))
        + b"".join(bytes([0 if i else 100, 0x80, i % 128, 0]) for i in range(10_000)) + END
    ),
    "a pedal never released": smf(b"\0\xb0\x40\x7f" + TUNE + END),
    "a program for every note": smf(b"".join(bytes([0, 0xC0, i]) + note(50 + i % 30) for i in range(120)) + END),
    "a tick a quarter": smf(meter(17, 5) + b"".join(note(60 + i % 20, 64, 1, 1) for i in range(60)) + END, division=1),
    "the finest division": smf(TUNE + END, division=32767),
    "frames of a film": smf(TUNE + END, division=0xE250),
    "drums alone": smf(b"".join(note(36 + i % 8, 64, 60, 60, 9) for i in range(64)) + END),
    "events long after the last note": smf(TUNE + END, tempo(300_000, 1_000_000) + meta(6, b"end", 9_000) + END),
}  # fmt: skip
FULL = {"microtiming": True, "pedal": True, "keys": True, "chords": True, "infill": True}
CODECS = [codecs.make("score"), codecs.make("score", **FULL), codecs.make("event"), codecs.make("voices")]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_file_goes_all_the_way(name):
    score, _ = midi.read(STRANGE[name])
    score.check()
    assert len(score) and midi.read(midi.dumps(score)) == (score, []) and record.unpack(record.pack(score)) == score
    every = augment.Augment(**dict.fromkeys(augment.EFFECTS, augment.Effect(1.0, 1.0)))
    changed = augment.apply(score, augment.plan(score, every, (1, 2, 3), 0.5))
    for how in ("strict", "adaptive"):
        preprocess.prepare(score, preprocess.Preprocess(quantise=how, polyphony=2, velocity_mean=64))[0].check()
    for codec in CODECS:
        for piece in (score, changed):
            ids = codec.encode(piece)
            back = codec.decode(ids)
            back.check()
            assert np.array_equal(codec.encode(back), ids) and codec.decode(codec.encode(back)) == back
        windows, left_out = cuts.cut(score, codec, 255)
        assert sum(b - a for a, b, _ in windows) + left_out == codec.bars(score)
        lost = codec.loss_report(score)
        gone = sum(lost.get(k, 0) for k in ("doubled", "dropped_notes", "dropped", "drums", "outside"))
        assert lost["kept"] + gone == len(score)
