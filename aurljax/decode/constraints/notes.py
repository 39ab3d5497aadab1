"""What single notes may be, and how many at once: pitch range, longest note, polyphony, notes in a bar."""

from __future__ import annotations

import dataclasses

import numpy as np

from aurljax.decode.constraints.base import NEVER, Array, Constraint, State
from aurljax.errors import UserError
from aurljax.music.codec import Codec
from aurljax.music.codec.event_grammar import INSTRUMENTS, RATE
from aurljax.music.codec.event_grammar import PITCHES as KEYS
from aurljax.music.codec.grammar import DURATIONS, PITCHES, TRACKS, UNLIMITED
from aurljax.music.codec.score_layout import DRUMS, GRID, LONG
from aurljax.music.codec.voices import VoicesCodec
from aurljax.music.score import Score

SLOTS = 4  # registers of what sounds come in groups of so many, so that few shapes are compiled
MOST = 64  # notes at once that can be counted


@dataclasses.dataclass(frozen=True)
class Range(Constraint):
    """Pitches low..high, and of some programs (128: drums) ranges of their own: ((program, low, high), ...). Drums keep to
    a range of their own alone."""

    low: int = 0
    high: int = PITCHES - 1
    programs: tuple[tuple[int, int, int], ...] = ()
    codecs = ("score", "voices", "event")

    def __str__(self) -> str:
        own = [f"{'drums' if p == DRUMS else p}={low}-{high}" for p, low, high in self.programs]
        return "range " + " ".join([f"{self.low}-{self.high}", *own])

    def __post_init__(self):
        object.__setattr__(self, "programs", tuple(tuple(p) for p in self.programs))
        for program, low, high in ((0, self.low, self.high), *self.programs):
            if not 0 <= low <= high < PITCHES:
                raise UserError(f"range: {low}-{high} holds no pitch; write the lower one first, both in 0..127")
            if not 0 <= program <= DRUMS:
                raise UserError(f"range: there is no program {program}; they are 0..127, and 128 for drums")

    @property
    def table(self) -> np.ndarray:
        """int16 [129, 2] lowest and highest pitch of each program."""
        out = np.tile(np.array([self.low, self.high], np.int16), (DRUMS + 1, 1))
        out[DRUMS] = 0, PITCHES - 1
        for program, low, high in self.programs:
            out[program] = low, high
        return out

    def init(self, codec: Codec) -> State:
        low, high = self.table[:, 0].copy(), self.table[:, 1].copy()
        low_of, high_of = (np.full(TRACKS, x[0]) for x in (low, high))  # until a track is named; voices have no program
        if codec.name == "event":
            low_of, high_of = (x[: 8 * TRACKS : 8].copy() for x in (low, high))  # of each instrument
        return {"low": low, "high": high, "low_of": low_of, "high_of": high_of}

    @staticmethod
    def advance(step, xp) -> State:
        """The bounds of each track, when it is named: looking them up at every pitch would cost more than all the rest."""
        program = xp.minimum(step.value, DRUMS)[:, None]

        def own(name: str) -> Array:
            return xp.where(step.named, xp.take_along_axis(step.r[name], program, 1), step.r[f"{name}_of"])

        return {"low_of": own("low"), "high_of": own("high")}

    @staticmethod
    def pitches(now, xp) -> Array:
        pitch = xp.arange(PITCHES, dtype=xp.int16)
        return (pitch >= now.r["low_of"][:, :, None]) & (pitch <= now.r["high_of"][:, :, None])


@dataclasses.dataclass(frozen=True)
class Longest(Constraint):
    """No note lasts longer than so many quarters, or, where the codec counts in them, than so many seconds."""

    quarters: float | None = None
    seconds: float | None = None
    told = ("long", "duration", "pitch", "hold", "shift")
    codecs = ("score", "voices", "event")

    def __str__(self) -> str:
        return f"longest {self.quarters:g}" if self.seconds is None else f"longest {self.seconds:g} s"

    def __post_init__(self):
        if (self.quarters is None) == (self.seconds is None):
            raise UserError("longest: give quarters or seconds, one of them")
        if self.quarters is None:
            if not 1 / RATE <= self.seconds <= 3600:
                raise UserError(f"longest: {self.seconds:g} seconds must be from 1/{RATE} to 3600")
            return
        if not 1 <= round(self.quarters * GRID) <= (LONG + 1) * DURATIONS:
            raise UserError(
                f"longest: {self.quarters} quarters must be from 1/{GRID} to {(LONG + 1) * DURATIONS // GRID}"
            )

    def init(self, codec: Codec) -> State:
        if (codec.name == "event") != (self.seconds is not None):
            unit = "seconds" if codec.name == "event" else "quarters"
            raise UserError(f"{self}: the codec '{codec.name}' counts in {unit}; give the length in {unit}")
        if codec.name == "event":
            return {
                "longest": np.int32(int(self.seconds * RATE + 1e-6)),
                "due": np.zeros((INSTRUMENTS, KEYS), np.int32),
            }
        if not isinstance(codec, VoicesCodec):
            return {"longest": np.int32(self.positions)}
        if (frames := int(self.quarters * codec.grid + 1e-6)) < 1:
            raise UserError(f"{self}: notes of this codec '{codec.name}' last 1/{codec.grid} of a quarter at least")
        return {"longest": np.int32(frames), "held": np.zeros(codec.voices, np.int32)}

    @staticmethod
    def advance(step, xp) -> State:
        """For how many frames the note of each voice sounds, where a note is written frame by frame; at which step a note
        must have ended, where its end is written."""
        if "due" in step.r:
            ends = (step.s["now"] + step.r["longest"])[:, None, None]
            return {"due": xp.where(step.struck, ends, step.r["due"]).astype(xp.int32)}
        if "held" not in step.r:
            return {}
        on, held = step.goes_on[:, None], step.r["held"]
        return {"held": xp.where(step.mine, step.begins[:, None] + on * (held + 1), held)}

    @property
    def positions(self) -> int:
        """Of the `score` codec's grid, that a note may last."""
        return int(self.quarters * GRID + 1e-6)

    def amended(self, notes: np.ndarray, piece: Score) -> np.ndarray:
        """Without the tick that rounding to those of the piece may have added."""
        notes = notes.copy()
        notes["duration"] = np.minimum(notes["duration"], max(self.positions * piece.resolution // GRID, 1))
        return notes

    @staticmethod
    def longest(now, xp) -> Array:
        return now.r["longest"]


@dataclasses.dataclass(frozen=True)
class Polyphony(Constraint):
    """At most so many notes sound at once, of all tracks. Where their lengths are known, there is a register for each, of
    the position where it is free."""

    notes: int
    blind = True
    told = ("pitch", "hold", "on")
    codecs = ("score", "voices", "event")

    def __str__(self) -> str:
        return f"polyphony {self.notes}"

    def __post_init__(self):
        if not 1 <= self.notes <= MOST:
            raise UserError(f"polyphony: {self.notes} notes at once must be 1..{MOST}")

    @property
    def slots(self) -> np.ndarray:
        """int16 [slots] 0: free, NEVER: there is none."""
        slots = np.full(-(-self.notes // SLOTS) * SLOTS, NEVER, np.int16)
        slots[: self.notes] = 0
        return slots

    def init(self, codec: Codec) -> State:
        return {"sounding": self.slots} if codec.name == "score" else {"at_once": np.int32(self.notes)}

    @staticmethod
    def advance(step, xp) -> State:
        if "sounding" not in step.r:
            return {}
        own = xp.ones((1, 1), bool)
        return {"sounding": _taken(step.r["sounding"][:, None], own, step, xp)[:, 0]}

    @staticmethod
    def busy(now, xp) -> Array:
        return _next(now.r["sounding"][:, None], now.in_note[:, None], xp)


@dataclasses.dataclass(frozen=True)
class TrackPolyphony(Constraint):
    """At most so many notes of a track sound at once; drums too. A voice of `voices` never has more than one."""

    notes: int
    blind = True
    codecs = ("score", "voices", "event")

    def __str__(self) -> str:
        return f"track polyphony {self.notes}"

    def __post_init__(self):
        if not 1 <= self.notes <= MOST:
            raise UserError(f"track polyphony: {self.notes} notes at once must be 1..{MOST}")

    def init(self, codec: Codec) -> State:
        if codec.name == "score":
            return {"sounding_of": np.tile(Polyphony(self.notes).slots, (TRACKS, 1))}
        return {"at_once_of": np.int32(self.notes)}

    @staticmethod
    def advance(step, xp) -> State:
        if "sounding_of" not in step.r:
            return {}
        return {"sounding_of": _taken(step.r["sounding_of"], step.own, step, xp)}

    @staticmethod
    def busy(now, xp) -> Array:
        return _next(now.r["sounding_of"], now.in_note[:, None] & now.own, xp)


def _taken(slots: Array, own: Array, step, xp) -> Array:
    """Slots [B, N, K] from the bar line on, and of `own` [B, N] the first to be free taken by a note that is written."""
    shift = xp.minimum(step.shift, NEVER).astype(xp.int16)[:, None, None]
    slots = xp.where(slots >= NEVER, slots, xp.maximum(slots - shift, 0))
    mine = (own & step.ends[:, None])[:, :, None] & _first(slots, xp)
    return xp.where(mine, step.end.astype(xp.int16)[:, None, None], slots)


def _next(slots: Array, taken: Array, xp) -> Array:
    """[B, N] when the first of slots [B, N, K] is free; of `taken` [B, N], the first after that."""
    return xp.min(xp.where(taken[:, :, None] & _first(slots, xp), xp.int16(NEVER), slots), 2)


def _first(slots: Array, xp) -> Array:
    """[B, N, K] the one slot that is free first."""
    return xp.arange(slots.shape[2]) == xp.argmin(slots, 2)[:, :, None]


@dataclasses.dataclass(frozen=True)
class Density(Constraint):
    """Every bar has at least `low` and at most `high` notes, counted where they begin, of all tracks."""

    low: int = 0
    high: int = UNLIMITED
    blind = True
    told = ("pitch", "bar")
    codecs = ("score", "voices")

    def __str__(self) -> str:
        return f"density {self.low}-" + f"{self.high}" * (self.high < UNLIMITED)

    def __post_init__(self):
        if not 0 <= self.low <= self.high or self.high == 0:
            raise UserError(f"density: {self.low}-{self.high} is no band; the larger number comes last, and is above 0")

    def init(self, codec: Codec) -> State:
        if "bar" not in codec.vocabulary.index:
            raise UserError(f"{self}: this codec '{codec.name}' writes no bars; leave it out")
        return {"least": np.int32(self.low), "most": np.int32(self.high)}

    @staticmethod
    def least(now, xp) -> Array:
        return now.r["least"]

    @staticmethod
    def full(now, xp) -> Array:
        return now.r["count"] >= now.r["most"]
