"""A piece of exactly the length asked for, and what the ids that are left must suffice for.

What is not asked exactly may end at any bar. Then a bar is begun only if the notes it must have can be paid for; an exact
length pays for all bars that must come, each with a note at least.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from aurljax.decode.constraints.base import Array, Constraint, State
from aurljax.music.codec import Codec, tempo
from aurljax.music.codec.grammar import UNLIMITED, Grammar
from aurljax.music.codec.holes import cost
from aurljax.music.codec.score_layout import BARS, GRID

NOTE_IDS = 5  # position, track, pitch, velocity, duration: a note costs no more, but for `micro` and `long`
FIRST_IDS = 5  # meter, position, coarse, fine, end: what follows the first `bar`
SECONDS = tempo.USEC / (GRID * 1e6)  # of a position at each step of the tempo


@dataclasses.dataclass(frozen=True)
class Exact(Constraint):
    """The piece has all the bars asked for, or the fewest whole bars that reach the seconds asked for, and no note sounds
    beyond; the last bar has a note. Where no bar lines are written, the fewest frames that reach the seconds; where notes
    end by ids of their own, the last one ends with the seconds."""

    blind = True
    told = ()
    codecs = ("score", "voices", "event")

    def __str__(self) -> str:
        return "exact length"

    def bound(self, codec: Codec, state: State) -> State:
        """The longest position and bar there may be: reckoned with until the piece has its own."""
        if codec.name != "score":
            return {}
        lengths = BARS.lengths[state.get("meters", slice(None))]
        return {"slowest": np.float32(SECONDS[state.get("slow", 0)]), "widest": np.int32(lengths.max())}

    @staticmethod
    def longest(now, xp) -> Array:
        to_come = Exact.to_come(now, xp)
        return (to_come + 1) * now.length - now.here - (to_come > 0)

    @staticmethod
    def ids(now, xp) -> dict[str, Array]:
        """No end before. A bar of another meter must hold what sounds into it; where seconds count, no tempo changes while
        a note sounds beyond the bar."""
        s = now.s
        lengths = xp.asarray(now.lengths)[None]
        last = xp.max(s["ends"], (1, 2)).astype(xp.int32)
        opening = s["tempo"] < 0
        timed = xp.isfinite(s["seconds"])
        return {
            "end": (Exact.to_come(now, xp) <= 0)[:, None],
            "meter": (Exact.to_come(now, xp, lengths) + 1) * lengths >= last[:, None],
            "coarse": (opening | ~timed | (last <= now.length))[:, None],
        }

    @staticmethod
    def to_come(now, xp, lengths: Array | None = None, units: Array | None = None) -> Array:
        """[B] bars that must begin after the one now written, or the first one included in the header; [B, N] if bars of
        `lengths` [1, N] or positions of `units` [1, N] seconds were in force from here on."""
        s, r = now.s, now.r

        def wide(x: Array) -> Array:
            return x if lengths is None and units is None else x[:, None]

        length = wide(xp.where(now.length > 0, now.length, r["widest"])) if lengths is None else lengths
        unit = wide(xp.where(s["unit"] > 0, s["unit"], r["slowest"])) if units is None else units
        bar = length.astype(xp.float32) * unit
        missing = wide(s["seconds"] - s["clock"]) + wide(now.here.astype(xp.float32)) * unit
        bars = xp.ceil(xp.minimum(missing / bar - 1e-3, 2.0**20)).astype(xp.int32) - 1 + wide(now.header)
        counted = wide(s["bars_left"] < UNLIMITED // 2)
        return xp.maximum(xp.where(counted, wide(s["bars_left"]), bars), 0)


class Budget:
    """What must still be written of bars and their notes, and whether the ids left suffice after each kind of id."""

    def __init__(self, grammar: Grammar, kinds: tuple[type[Constraint], ...]):
        self.grammar, self.exact = grammar, Exact in kinds
        self.must = self.exact or any(kind.least is not Constraint.least for kind in kinds)  # whether notes must come
        names = grammar.vocabulary.index
        self.costs = {"position": 2, "bar": 2}  # beyond what the grammar asks: a note must follow, not a tempo
        self.inside = np.array(
            [k in ("position", "track", "pitch") for k in names]
        )  # has a note of the bar begun in it
        self.more = np.array([self.costs.get(k, 0) for k in names], np.int32)
        self.free = np.array([k in ("end", "pad") for k in names])
        self.bar = np.array([k == "bar" for k in names])

    def room(self, least: Array, xp) -> Array:
        """[B] notes for which every bar must have room."""
        return xp.maximum(least, 1) if self.exact else least

    def lacking(self, now, least: Array, xp) -> Array:
        """[B] notes that this bar must still have."""
        if self.exact:
            least = xp.where(Exact.to_come(now, xp) <= 0, xp.maximum(least, 1), least)
        return xp.maximum(least - now.r["count"], 0)

    def allowed(self, now, least: Array, xp) -> tuple[Array, dict[str, Array]]:
        """([B, kinds] which the ids left can pay for, {kind: [B, ids]} the same of meters and tempi if seconds count)."""
        s, room = now.s, self.room(least, xp)
        need = xp.asarray(self.grammar.need)[s["phase"]]
        if self.grammar.infill:
            need = need + cost(s, self.grammar.vocabulary, xp)
        header, here = now.header[:, None], xp.where(now.header, room, xp.maximum(room - now.r["count"], 0))[:, None]
        room, left = room[:, None], (s["left"] - 1)[:, None]
        inside = xp.where(self.inside, xp.maximum(here, 1) - 1, here)
        notes = NOTE_IDS * xp.where(self.bar & ~header, xp.maximum(room, 1) - 1, inside)
        need = need + notes + xp.where(self.bar & header, 0, xp.asarray(self.more))
        timed = {}
        if self.exact:
            bar = 1 + NOTE_IDS * room
            to_come = Exact.to_come(now, xp)[:, None]
            begun = (self.bar | header).astype(xp.int32)
            need = need + bar * xp.maximum(to_come - begun, 0)
            lengths, owed = xp.asarray(now.lengths)[None], NOTE_IDS * here
            units = self._units(now, xp)
            opening = FIRST_IDS - 1 - 3 * (s["tempo"] >= 0)[:, None]
            timed["meter"] = opening + owed + bar * Exact.to_come(now, xp, lengths=lengths) <= left
            timed["coarse"] = 2 + owed + bar * Exact.to_come(now, xp, units=units[0]) <= left
            timed["fine"] = 1 + owed + bar * Exact.to_come(now, xp, units=units[1]) <= left
        return xp.asarray(self.free) | (need <= left), timed

    def _units(self, now, xp) -> tuple[Array, Array]:
        """Seconds of a position: the longest that each `coarse` could lead to [B, 64], that of each `fine` [B, 128]."""
        table = xp.asarray(SECONDS.astype(np.float32))
        first = xp.arange(tempo.COARSE)[None] * tempo.FINE
        slow = xp.maximum(first, now.r["slow"][:, None]) if "slow" in now.r else first
        fine = xp.maximum(now.s["coarse"], 0)[:, None] * tempo.FINE + xp.arange(tempo.FINE)
        return table[xp.minimum(slow, len(SECONDS) - 1)], table[fine]


def at_least(bars: int, notes: int) -> int:
    """Ids behind `start` of the shortest piece of so many bars, each of so many notes: a bar pays for one at least."""
    return 2 + FIRST_IDS + NOTE_IDS * max(notes, 1) * bars + bars - 1
