"""Voice leading, as a price and not a ban: leaps, and parallel fifths and octaves."""

from __future__ import annotations

import dataclasses

import numpy as np

from aurljax.decode.constraints.base import Array, Constraint, State
from aurljax.errors import UserError
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import PITCHES, TRACKS

PRICE = 4.0  # nats: what is charged is some fifty times less likely


def _check(name: str, price: float) -> None:
    if not 0 < price <= 100:
        raise UserError(f"{name}: a price must lie in (0, 100] nats, not {price:g}")


@dataclasses.dataclass(frozen=True)
class Leap(Constraint):
    """A pitch further than so many semitones from the last one of its track costs `price` nats."""

    semitones: int
    price: float = PRICE
    told = ()

    def __str__(self) -> str:
        return f"leap {self.semitones}"

    def __post_init__(self):
        _check("leap", self.price)
        if not 0 <= self.semitones < PITCHES:
            raise UserError(f"leap: {self.semitones} semitones must be 0..127")

    def init(self, codec: Codec) -> State:
        return {"leap": np.int32(self.semitones), "leap_price": np.float32(self.price)}

    @staticmethod
    def penalty(now, xp) -> Array:
        last = xp.min(xp.where(now.own, now.s["last"], PITCHES), 1).astype(xp.int32)
        wide = xp.abs(xp.arange(PITCHES) - last[:, None]) > now.r["leap"][:, None]
        sung = (last < PITCHES) & ~now.own_drum
        return xp.where(wide & sung[:, None], now.r["leap_price"][:, None], 0.0)


@dataclasses.dataclass(frozen=True)
class Parallels(Constraint):
    """A pitch costs `price` nats if it moves its track along with one that moved at the same position, a fifth or octave
    (or unison) apart before and after."""

    price: float = PRICE
    blind = True
    told = ()

    def __str__(self) -> str:
        return "parallels"

    def __post_init__(self):
        _check("parallels", self.price)

    def init(self, codec: Codec) -> State:
        none = np.full(TRACKS, -1, np.int16)
        return {"from": none, "moved": np.zeros(TRACKS, bool), "parallel_price": np.float32(self.price)}

    @staticmethod
    def advance(step, xp) -> State:
        """`from`: the pitch that each track left at this position; `moved`: whether it did."""
        sung = (step.own & step.begins[:, None]) & ~step.drum[:, None]
        moment = step.is_["position"] | step.is_["bar"]
        last = step.s["last"]
        leaves = sung & (last < PITCHES) & ~step.r["moved"]
        return {
            "from": xp.where(leaves, last, step.r["from"]).astype(xp.int16),
            "moved": (step.r["moved"] | leaves) & ~moment[:, None],
        }

    @staticmethod
    def penalty(now, xp) -> Array:
        s, r = now.s, now.r
        before = xp.min(xp.where(now.own, s["last"], PITCHES), 1).astype(xp.int32)[:, None]  # of the track that moves
        apart = xp.abs(before - r["from"]) % 12
        pitch, other = xp.arange(PITCHES)[None, None], s["last"].astype(xp.int32)[:, :, None]
        same = (xp.abs(pitch - other) % 12 == apart[:, :, None]) & ((apart == 0) | (apart == 7))[:, :, None]
        along = (pitch - before[:, :, None]) * (other - r["from"][:, :, None]) > 0
        mine = r["moved"] & ~now.own & (before < PITCHES)
        found = xp.any(same & along & mine[:, :, None], 1) & ~now.own_drum[:, None]
        return xp.where(found, r["parallel_price"][:, None], 0.0)
