"""Which tones may begin: a key with passing notes, and a chord track. Drums are of no key."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

import numpy as np

from aurljax.decode.constraints.base import DRUM, TONES, Array, Constraint, State
from aurljax.errors import UserError
from aurljax.music import chords
from aurljax.music.codec import Codec
from aurljax.music.codec.event_grammar import RATE
from aurljax.music.codec.markings import CHORDS, KEYS, NO_CHORD
from aurljax.music.score import Score

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "chromatic": tuple(range(12)),
}
MOST_SLOTS = 48  # parts of a bar
SLACK = 1e-4  # of a note: a share of float32 may come out a little short
BARS = 16  # a table of changes is padded to so many, so that few shapes are compiled


def tone_set(classes) -> np.ndarray:
    """bool [TONES] of pitch classes, and drums."""
    out = np.zeros(TONES, bool)
    out[[*classes, DRUM]] = True
    return out


@dataclasses.dataclass(frozen=True)
class Key(Constraint):
    """Notes of a scale such as "D minor" or "F# dorian"; of the notes so far, at most the share `passing` lies outside.
    Where holes are filled, the notes that fill them have a share of their own."""

    scale: str
    passing: float = 0.0
    codecs = ("score", "voices", "event")

    def __str__(self) -> str:
        return f"key {self.scale}" + f" with {self.passing:g} passing" * (self.passing > 0)

    def __post_init__(self):
        self.tonic  # noqa: B018
        if not 0 <= self.passing <= 1:
            raise UserError(f"passing must lie in [0, 1], not {self.passing}")

    @functools.cached_property
    def tonic(self) -> tuple[int, str]:
        """(pitch class, name of the scale); UserError for any other text."""
        match = re.fullmatch(r"([A-Ga-g])(##|#|bb|b)?[ :-]*(.*)", self.scale.strip())
        name = match[3].strip().lower() if match else ""
        name = {"": "major", "maj": "major", "min": "minor", "m": "minor", "natural minor": "minor"}.get(name, name)
        if not match or name not in SCALES:
            raise UserError(f"key: {self.scale!r} is no key; write a tonic and one of {', '.join(SCALES)}: D minor")
        accidentals = match[2] or ""
        return (chords.LETTERS[match[1].upper()] + accidentals.count("#") - accidentals.count("b")) % 12, name

    @functools.cached_property
    def members(self) -> np.ndarray:
        """bool [TONES] of the scale."""
        tonic, name = self.tonic
        return tone_set((tonic + step) % 12 for step in SCALES[name])

    def sets(self) -> np.ndarray:
        return self.members[None]

    def init(self, codec: Codec) -> State:
        tonic, name = self.tonic
        fifths, minor = np.arange(KEYS) % 15 - 7, np.arange(KEYS) >= 15
        signature = ((7 * fifths + np.where(minor, 9, 0)) % 12 == tonic) & (minor == (name == "minor"))
        if name not in ("major", "minor"):
            signature[:] = True
        return {"key": self.members, "signature": signature, "passing": np.float32(self.passing),
                "sung": np.int32(0), "outside": np.int32(0)}  # fmt: skip

    def amended(self, notes: np.ndarray, piece: Score) -> np.ndarray:
        """Without the last ones outside, if too few others are left of those that were to go with them."""
        sung = ~piece.tracks["is_drum"][notes["track"]]
        outside = np.flatnonzero(sung & ~self.members[notes["pitch"] % 12])
        left, count = len(outside), int(sung.sum())
        while left > self.passing * count + SLACK:
            left, count = left - 1, count - 1
        return np.delete(notes, outside[left:])

    @staticmethod
    def begin(s: State, r: State, xp) -> State:
        """Answers to holes are counted anew."""
        if "holes" not in s:
            return {}
        return {name: xp.where(s["holes"] > 0, 0, r[name]).astype(xp.int32) for name in ("sung", "outside")}

    @staticmethod
    def advance(step, xp) -> State:
        sung, r = step.begins & ~step.drum, step.r
        inside = xp.take_along_axis(r["key"], (step.value % 12)[:, None], 1)[:, 0]
        return {"sung": r["sung"] + sung, "outside": r["outside"] + (sung & ~inside)}

    @staticmethod
    def tones(now, xp) -> Array:
        r = now.r
        another = (r["outside"] + 1).astype(xp.float32) <= r["passing"] * (r["sung"] + 1) + SLACK
        return (r["key"] | another[:, None])[:, None]

    @staticmethod
    def ids(now, xp) -> dict[str, Array]:
        return {"key": now.r["signature"]}


@dataclasses.dataclass(frozen=True)
class Chords(Constraint):
    """Notes begin on tones of the chord that stands there: bars between `|`, the chords of a bar sharing it equally, `%`
    for the bar before once more, N.C. for anything; the changes repeat, and begin with the first new bar, where holes are
    filled with the first of the piece. seconds: how long a bar of them is, where the codec has no bars."""

    changes: str
    seconds: float | None = None
    codecs = ("score", "voices", "event")

    def __str__(self) -> str:
        return f"chords {self.changes}"

    def __post_init__(self):
        self.bars  # noqa: B018
        if self.seconds is not None and not 0.1 <= self.seconds <= 600:
            raise UserError(f"chords: a bar of {self.seconds:g} seconds must be 0.1 to 600")

    @functools.cached_property
    def bars(self) -> tuple[tuple[chords.Symbol, ...], ...]:
        """The chords of each bar; UserError naming what is none."""
        text = self.changes.strip().strip("|")
        out: list[tuple[chords.Symbol, ...]] = []
        for bar in text.split("|"):
            symbols = bar.split()
            if symbols == ["%"] and out:
                out.append(out[-1])
                continue
            found = tuple(chords.parse(symbol) for symbol in symbols)
            if wrong := next((s for s, f in zip(symbols, found, strict=True) if f is None), None):
                raise UserError(f"chords: {wrong!r} is no known chord symbol; write such as C, Am7, F#dim, G7, N.C.")
            if not found:
                raise UserError(f"chords: bar {len(out) + 1} of {text!r} is empty; write a chord, or % for the same")
            out.append(found)
        if math.lcm(*map(len, out)) > MOST_SLOTS:
            raise UserError(
                f"chords: bars of {sorted({len(b) for b in out})} chords share no grid of {MOST_SLOTS} parts"
            )
        return tuple(out)

    def later(self, bars: int) -> Chords:
        """The changes from another bar on."""
        texts: list[str] = []
        for text in self.changes.strip().strip("|").split("|"):
            texts.append(texts[-1] if text.split() == ["%"] and texts else text.strip())
        at = bars % len(texts)
        return dataclasses.replace(self, changes=" | ".join(texts[at:] + texts[:at]))

    @functools.cached_property
    def table(self) -> np.ndarray:
        """int32 [bars, slots] number of the symbol in each equal part of each bar, as the codec writes chords."""
        slots = math.lcm(*map(len, self.bars))
        number = [[NO_CHORD if root < 0 else root * len(chords.QUALITIES) + quality for root, quality, _ in bar]
                  for bar in self.bars]  # fmt: skip
        return np.array([np.repeat(bar, slots // len(bar)) for bar in number], np.int32)

    def sets(self) -> np.ndarray:
        return MEMBERS[np.unique(self.table)]

    def init(self, codec: Codec) -> State:
        count = len(self.table)
        padded = np.zeros((-(-count // BARS) * BARS, self.table.shape[1]), np.int32)
        padded[:count] = self.table
        if codec.barred == (self.seconds is not None):
            says = "has bars; leave seconds out" if codec.barred else "has no bars; say how many seconds one of them is"
            raise UserError(f"{self}: the codec '{codec.name}' {says}")
        if not codec.barred:
            return {"changes": padded, "cycle": np.int32(count), "changes_from": np.int32(0),
                    "bar_steps": np.int32(round(self.seconds * RATE)), "changes_at": np.int32(2**30)}  # fmt: skip
        opened = codec.grammar.phase.bar  # after the `bar` of a bar with nothing in it
        return {
            "changes": padded,
            "cycle": np.int32(count),
            "changes_from": np.int32(2**30),
            "opened": np.int32(opened),
        }

    @staticmethod
    def begin(s: State, r: State, xp) -> State:
        """The first new bar: the one that is open with nothing in it, or the next. Where holes are filled, the first;
        without bars, now."""
        if "changes_at" in r:
            return {"changes_at": s["now"]}
        start = s["bar"] + (s["phase"] != r["opened"])
        if "holes" in s:
            start = xp.where(s["holes"] > 0, 0, start)
        return {"changes_from": start.astype(xp.int32)}

    @staticmethod
    def _bar(now, xp) -> Array:
        """[B, slots] chords of the bar now written."""
        r = now.r
        index = (now.s["bar"] - r["changes_from"]) % xp.maximum(r["cycle"], 1)
        row = xp.take_along_axis(r["changes"], xp.maximum(index, 0)[:, None, None], 1)[:, 0]
        return xp.where((now.s["bar"] < r["changes_from"])[:, None], NO_CHORD, row)

    @staticmethod
    def tones(now, xp) -> Array:
        return xp.asarray(MEMBERS)[Chords._bar(now, xp)]

    @staticmethod
    def ids(now, xp) -> dict[str, Array]:
        row = Chords._bar(now, xp)
        chord = xp.take_along_axis(row, now.slot(row.shape[1], now.here[:, None], xp), 1)
        free = now.s["bar"] < now.r["changes_from"]
        return {"chord": (xp.arange(CHORDS) == chord) | free[:, None]}


def _members(chord: int) -> np.ndarray:
    root, quality = divmod(chord, len(chords.QUALITIES))
    return tone_set(range(12) if chord == NO_CHORD else ((root + i) % 12 for i in chords.INTERVALS[quality]))


MEMBERS = np.array([_members(chord) for chord in range(CHORDS)])  # [chords, TONES]
