"""What a constraint is: a demand on the music that narrows which id may come next, or makes some less likely.

A constraint is a frozen dataclass whose methods beside `init` are functions of registers alone. Its numbers are registers
too, so one compiled program serves every value of them; what is compiled for are the classes. Notes are asked about by
*tones*: the twelve pitch classes, and one more for whatever drums play, which no harmony concerns.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from aurljax.music.codec import Codec
from aurljax.music.score import Score

Array = Any  # numpy or jax array
State = dict[str, Array]

TONES = 13
DRUM = 12  # the tone of all that drums play
NEVER = 2**13  # a position that no note reaches
CLASS = np.arange(128) % 12  # of each pitch


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A demand; what a class does not say of an aspect leaves it free. Masks broadcast to the shapes given below."""

    codecs: ClassVar[tuple[str, ...]] = ("score",)  # those it can be kept in
    blind: ClassVar[bool] = False  # whether it cannot be kept where answers to holes are written
    told: ClassVar[tuple[str, ...]] = ("pitch", "on")  # the kinds of id by which a prompt breaks it

    def init(self, codec: Codec) -> State:
        """Its numbers and registers before the first id, without a batch axis. UserError: the codec lacks a value."""
        return {}

    def bound(self, codec: Codec, state: State) -> State:
        """What it takes from the numbers of all constraints."""
        return {}

    def sets(self) -> np.ndarray:
        """bool [M, TONES] each set of tones of which, whatever was written before, all may be played at some time."""
        return np.ones((1, TONES), bool)

    def later(self, bars: int) -> Constraint:
        """The same demand on a window that begins so many bars after the piece."""
        return self

    def amended(self, notes: np.ndarray, piece: Score) -> np.ndarray:
        """What of new notes [N] among the others of a piece keeps to it, once they have its ticks and some gave way to
        others: of notes that keep to it one by one, all."""
        return notes

    @staticmethod
    def begin(s: State, r: State, xp) -> State:
        """Registers that change between prompt and new music; `s`: the grammar's."""
        return {}

    @staticmethod
    def advance(step: Any, xp) -> State:
        """Registers that the id of `step` changes."""
        return {}

    @staticmethod
    def ids(now: Any, xp) -> dict[str, Array]:
        """{kind: [B, ids of the kind]} which may be written."""
        return {}

    @staticmethod
    def tones(now: Any, xp) -> Array | None:
        """[B, slots, TONES] which may begin in each of the equal parts of the bar."""
        return None

    @staticmethod
    def pitches(now: Any, xp) -> Array | None:
        """[B, tracks, 128] which a track may play."""
        return None

    @staticmethod
    def busy(now: Any, xp) -> Array | None:
        """[B, tracks] position before which no (other) note of a track can begin."""
        return None

    @staticmethod
    def longest(now: Any, xp) -> Array | None:
        """[B] positions that a note may last."""
        return None

    @staticmethod
    def least(now: Any, xp) -> Array | None:
        """[B] notes that every bar must have."""
        return None

    @staticmethod
    def full(now: Any, xp) -> Array | None:
        """[B] whether this bar may have no more notes."""
        return None

    @staticmethod
    def penalty(now: Any, xp) -> Array | None:
        """[B, 128] what is taken off the logits of pitches."""
        return None
