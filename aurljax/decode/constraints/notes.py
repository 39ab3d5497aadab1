"""What single notes may be, and how many at once: pitch range, longest note, polyphony, notes in a bar."""

from __future__ import annotations

import dataclasses

import numpy as np

from aurljax.decode.constraints.base import NEVER, Array, Constraint, State
from aurljax.errors import UserError
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import DURATIONS, PITCHES, TRACKS, UNLIMITED
from aurljax.music.codec.score_layout import DRUMS, GRID, LONG
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
    codecs = ("score", "voices")

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
    """No note lasts longer than so many quarters."""

    quarters: float
    told = ("long", "duration")

    def __str__(self) -> str:
        return f"longest {self.quarters:g}"

    def __post_init__(self):
        if not 1 <= round(self.quarters * GRID) <= (LONG + 1) * DURATIONS:
            raise UserError(
                f"longest: {self.quarters} quarters must be from 1/{GRID} to {(LONG + 1) * DURATIONS // GRID}"
            )

    def init(self, codec: Codec) -> State:
        return {"longest": np.int32(self.positions)}

    @property
    def positions(self) -> int:
        """Of the grid, that a note may last."""
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
    """At most so many notes sound at once, of all tracks: a register for each, of the position where it is free."""

    notes: int
    blind = True

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
        return {"sounding": self.slots}

    @staticmethod
    def advance(step, xp) -> State:
        own = xp.ones((1, 1), bool)
        return {"sounding": _taken(step.r["sounding"][:, None], own, step, xp)[:, 0]}

    @staticmethod
    def busy(now, xp) -> Array:
        return _next(now.r["sounding"][:, None], now.in_note[:, None], xp)


@dataclasses.dataclass(frozen=True)
class TrackPolyphony(Constraint):
    """At most so many notes of a track sound at once; drums too."""

    notes: int
    blind = True

    def __str__(self) -> str:
        return f"track polyphony {self.notes}"

    def __post_init__(self):
        if not 1 <= self.notes <= MOST:
            raise UserError(f"track polyphony: {self.notes} notes at once must be 1..{MOST}")

    def init(self, codec: Codec) -> State:
        return {"sounding_of": np.tile(Polyphony(self.notes).slots, (TRACKS, 1))}

    @staticmethod
    def advance(step, xp) -> State:
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

    def __str__(self) -> str:
        return f"density {self.low}-" + f"{self.high}" * (self.high < UNLIMITED)

    def __post_init__(self):
        if not 0 <= self.low <= self.high or self.high == 0:
            raise UserError(f"density: {self.low}-{self.high} is no band; the larger number comes last, and is above 0")

    def init(self, codec: Codec) -> State:
        return {"least": np.int32(self.low), "most": np.int32(self.high)}

    @staticmethod
    def least(now, xp) -> Array:
        return now.r["least"]

    @staticmethod
    def full(now, xp) -> Array:
        return now.r["count"] >= now.r["most"]
