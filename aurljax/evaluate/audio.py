"""A preview one can hear: a small synthesizer in numpy, so that nothing has to be downloaded to listen to a score.

Each note reads one period of a sound (a sum of harmonics below half the sample rate) at its own speed; a timbre says
which harmonics, how they swell and fade, how many voices sing them. Of the controls the pedal is played.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import wave

import numpy as np

from aurljax import atomic
from aurljax.errors import UserError
from aurljax.music import pedal
from aurljax.music.score import Score

RATE = 44_100  # samples per second
PERIOD = 4096  # samples of a table
PEAK = 0.89  # of full scale: -1 dB
BLOCK = 1 << 15  # of the reverberation


@dataclasses.dataclass(frozen=True)
class Timbre:
    """How a family of instruments sounds; times in seconds."""

    slope: float  # harmonic k has the strength k ** -slope
    attack: float
    fade: float  # time to fall to 1/e while held; 0: held evenly
    release: float
    voices: int = 1  # that play together, a little apart in tune
    vibrato: float = 0.0  # cents
    odd: float = 1.0  # strength of the odd harmonics above the first
    formants: tuple[tuple[float, float, float], ...] = ()  # of a throat: Hz, width, strength


CHOIR = Timbre(1.1, 0.09, 0, 0.22, 3, 9, formants=((650, 160, 1.0), (1080, 180, 0.5), (2650, 350, 0.12)))
ORGAN = Timbre(1.5, 0.03, 0, 0.12, 2)
FAMILIES = (  # of the General MIDI programs, eight each
    Timbre(1.7, 0.004, 0.9, 0.15, 2),  # piano
    Timbre(2.4, 0.002, 0.6, 0.4),  # bells and bars
    ORGAN,
    Timbre(1.5, 0.004, 0.6, 0.1),  # guitar
    Timbre(1.6, 0.006, 0.8, 0.08),  # bass
    Timbre(1.2, 0.07, 0, 0.15, 3, 8),  # bowed strings
    Timbre(1.3, 0.1, 0, 0.25, 3, 8),  # ensemble (its voices: CHOIR)
    Timbre(1.0, 0.04, 0, 0.1, 1, 3),  # brass
    Timbre(1.2, 0.03, 0, 0.08, 1, 5, odd=1.8),  # reed
    Timbre(2.6, 0.05, 0, 0.1, 1, 7),  # pipe
    Timbre(1.1, 0.01, 0, 0.08, 2),  # lead
    Timbre(1.8, 0.25, 0, 0.5, 3, 4),  # pad
    Timbre(1.6, 0.1, 2.0, 0.5, 3, 4),  # effects
    Timbre(1.4, 0.003, 0.5, 0.15),  # plucked, of the world
    Timbre(2.0, 0.002, 0.3, 0.2),  # tuned percussion
    Timbre(2.0, 0.05, 0.5, 0.2),  # noises
)
METAL = {42: 0.05, 44: 0.05, 46: 0.3, 49: 1.2, 51: 0.6, 52: 1.0, 53: 0.4, 54: 0.1, 55: 0.8, 57: 1.2, 59: 0.6, 70: 0.05}
# drum pitches that ring, and the seconds in which they fade


def timbre(program: int) -> Timbre:
    """The timbre of a General MIDI program 0..127."""
    return CHOIR if program in (52, 53, 54) else FAMILIES[program // 8]


def save_wav(score: Score, path: str | os.PathLike) -> None:
    """Writes `render(score)` as a 16-bit stereo WAV file, whole or not at all; UserError if it cannot be written."""
    sound = render(score)
    with atomic.draft(path) as part, open(part, "wb") as file, wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.setnframes(len(sound))
        for at in range(0, len(sound), BLOCK):
            out.writeframes(np.round(sound[at : at + BLOCK] * 32767).astype("<i2").tobytes())


def render(score: Score) -> np.ndarray:
    """[samples, 2] float32 within -1..1, from the first note until the last faded; raises UserError without notes."""
    if not len(score):
        raise UserError("a score without notes has no sound: render one with notes")
    start, end = score.seconds(score.onset), score.seconds(pedal.sounding(score))
    start, end = start - start.min(), end - start.min()
    out = np.zeros((2, int((end.max() + 2.5) * RATE)), np.float32)
    tracks = max(len(np.unique(score.track)), 2)
    for i, track in enumerate(np.unique(score.track)):
        pan = np.pi / 4 * (1 + 0.7 * (2 * i / (tracks - 1) - 1))  # from left to right, softly
        sides = np.array([[np.cos(pan)], [np.sin(pan)]], np.float32)
        drum, sound = score.tracks["is_drum"][track], timbre(int(score.tracks["program"][track]))
        for row in np.flatnonzero(score.track == track):
            pitch, loud = int(score.pitch[row]), (score.velocity[row] / 127) ** 1.5
            played = _strike(pitch) if drum else _play(sound, pitch, end[row] - start[row])
            at = int(start[row] * RATE)
            out[:, at : at + len(played)] += sides * (loud * played)
    _reverberate(out)
    out *= PEAK / max(out.max(), -out.min(), 1e-9)
    return out.T


def _play(sound: Timbre, pitch: int, seconds: float) -> np.ndarray:
    """[samples] a note held for so many seconds, and its release."""
    held, release = int(seconds * RATE), int(sound.release * RATE)
    n = held + release
    base, step = _table(sound, pitch)
    out = np.zeros(n, np.float32)
    for voice in range(sound.voices):
        phase = _clock(sound, voice, 1 << (n - 1).bit_length())[:n] * (440 * 2 ** ((pitch - 69) / 12) * PERIOD)
        whole = phase.astype(np.int64)
        index = whole % PERIOD
        out += base[index] + step[index] * (phase - whole).astype(np.float32)
    attack = min(int(sound.attack * RATE), n)
    out[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)
    if sound.fade:
        out *= np.exp(np.arange(n, dtype=np.float32) * (-(2 ** ((pitch - 60) / 24)) / (sound.fade * RATE)))
    out[held:] *= np.cos(np.linspace(0, np.pi / 2, release, dtype=np.float32)) ** 2
    return out


@functools.lru_cache(maxsize=512)
def _table(sound: Timbre, pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """(one period [PERIOD], its steps to the next sample), of equal loudness for every timbre and pitch."""
    f = 440 * 2 ** ((pitch - 69) / 12)
    k = np.arange(1, max(2, min(int(0.45 * RATE / f), 60) + 1))
    strength = k**-sound.slope * np.where((k % 2 == 1) & (k > 1), sound.odd, 1)
    if sound.formants:
        throat = sum(a / (1 + ((k * f - centre) / width) ** 2) for centre, width, a in sound.formants)
        strength = strength * (0.12 + throat)
    spectrum = np.zeros(PERIOD // 2 + 1, complex)
    spectrum[k] = strength * np.exp(2j * np.pi * (k * k * 0.381966))  # scattered phases keep the crest low
    period = np.fft.irfft(spectrum)
    period *= (0.1 * 2 ** ((60 - pitch) / 48)) / np.sqrt(np.mean(period**2)) / np.sqrt(sound.voices)
    return period.astype(np.float32), (np.roll(period, -1) - period).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _clock(sound: Timbre, voice: int, samples: int) -> np.ndarray:
    """[samples] seconds as one voice feels them: out of tune by a few cents, with its own vibrato, not in step."""
    t = np.arange(samples) / RATE
    cents = np.log(2) / 1200
    apart = cents * 4 * (voice - (sound.voices - 1) / 2)
    speed, late = 5.1 + 0.4 * voice, 0.37 * voice
    sway = (np.cos(2 * np.pi * late) - np.cos(2 * np.pi * (speed * t + late))) / (2 * np.pi * speed)
    return t * (1 + apart) + cents * sound.vibrato * sway + 0.0137 * voice


@functools.lru_cache(maxsize=128)
def _strike(pitch: int) -> np.ndarray:
    """[samples] a stroke of the General MIDI kit: a falling tone for skins, noise for metal, both for snares."""
    t = np.arange(int(1.5 * RATE)) / RATE
    noise = np.random.default_rng(pitch).standard_normal(len(t))
    if pitch in METAL:
        played = 0.12 * np.diff(noise, prepend=0) * np.exp(-t / METAL[pitch])  # differences: more of the high
    else:
        low = 50 if pitch < 37 else 180 if pitch <= 40 else 80 + 6 * (pitch - 41)
        fall = low * (t + 0.02 * (1 - np.exp(-40 * t)))
        tone = np.sin(2 * np.pi * fall) * np.exp(-t / 0.1)
        played = 0.2 * tone + 0.2 * noise * np.exp(-t / 0.1) if 37 <= pitch <= 40 else 0.6 * tone
    return played.astype(np.float32)


def _reverberate(dry: np.ndarray, share: float = 0.35) -> None:
    """Adds to dry [2, samples] the answer of a room of 1.3 s: convolution with fading noise, block by block, so that a
    long piece needs no more memory than its own sound."""
    rng = np.random.default_rng(0)
    t = np.arange(BLOCK) / RATE
    answer = (rng.standard_normal((2, BLOCK)) * np.exp(-t / 0.19) * np.minimum(t / 0.02, 1)).astype(np.float32)
    answer = np.cumsum(answer, 1) * 0.02 + answer * 0.3  # darker than white
    answer -= answer.mean(1, keepdims=True)
    answer *= share / np.sqrt((answer**2).sum(1, keepdims=True))
    room = np.fft.rfft(answer, 2 * BLOCK)
    late = np.zeros((2, BLOCK), np.float32)  # what the block before still sounds
    for at in range(0, dry.shape[1], BLOCK):
        block = dry[:, at : at + BLOCK]
        wet = np.fft.irfft(np.fft.rfft(block, 2 * BLOCK) * room).astype(np.float32)
        block += (late + wet[:, :BLOCK])[:, : block.shape[1]]
        late = wet[:, BLOCK:]
