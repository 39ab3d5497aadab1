"""How long a piece of the `voices` codec must become, and whether the ids left suffice for the bars that must come.

What is reckoned with is a way on that always exists: meter and tempo stay as they are; before they are stated, the
slowest tempo that may be, and the meter that costs least. Where no bar lines are written a unit is a frame.
"""

from __future__ import annotations

import functools
import operator

from aurljax.decode.constraints.base import Array, State
from aurljax.music.codec.voices_grammar import VoicesGrammar

MANY = 2**18  # units: more than any row has ids for, and few enough that the cost of so many can be counted
SLACK = 1e-3  # of a unit by which the seconds asked for may be missed: clocks are float32


class Lengths:
    """What is left to write of units, whole: of all that are asked for (`exact`), or of the next one alone."""

    def __init__(self, grammar: VoicesGrammar, exact: bool):
        self.grammar, self.exact = grammar, exact

    def units(self, s: State, length: Array, seconds: Array, xp) -> Array:
        """[B, N] units that must be written from the clock on, the one begun there included, if they had `length` frames
        of so many `seconds`, [B or 1, N] each."""
        g = self.grammar
        inside = (s["phase"] != g.phase.line) & (s["phase"] != g.phase.header) & (s["phase"] != g.phase.begin)
        if not self.exact:
            return xp.ones_like(s["left"])[:, None]
        left, begun = xp.minimum(s["bars_left"], MANY // g.block), inside
        if not g.barlines:
            opens = (s["voice"] == 0) & (s["frame"] == 0)
            left, begun = left * g.block, xp.where(opens, 0, g.block - s["frame"])
            inside = s["voice"] > 0
        missing = (s["seconds"] - s["clock"])[:, None] / xp.maximum(length.astype(xp.float32) * seconds, 1e-6)
        timed = xp.ceil(xp.clip(missing - SLACK, 0, MANY)).astype(xp.int32)
        return xp.maximum(xp.minimum((left + begun)[:, None], timed), inside[:, None])

    def allowed(self, s: State, sung: Array, parts: list[dict[str, Array]], xp) -> dict[str, Array]:
        """{kind: [B, ids]} what neither ends the piece before its time nor costs more ids than are left. sung: [B] whether
        something sounds in the unit so far; parts: what else narrows meters and tempi."""
        g, left = self.grammar, s["left"][:, None] - 1
        at_line, length = (s["phase"] == g.phase.line)[:, None], s["bar_length"][:, None]
        units, whole = self.units(s, length, s["unit"][:, None], xp), g.barlines + g.voices * length
        written = (g.voices * s["frame"] * g.barlines + s["voice"])[:, None]
        cell = ((units - 1) * whole + g.voices * length - written <= left) & ~(at_line & (units <= 0))
        fresh = (s["voice"] == 0) & (not g.barlines)  # of the unit before it is told what has sounded
        silent = (~sung | fresh) & g.completes(s, xp)  # the whole unit, if this cell is a rest
        rest = cell & ~(silent[:, None] & (units <= 1) & self.exact)
        masks = {"end": (units <= 0) | (not self.exact), "pitch": cell, "hold": cell, "rest": rest}
        if g.barlines:
            masks |= self._forms(s, parts, xp)
            again = (units * whole <= left) & (units > 0)
            masks["bar"] = xp.where(at_line, again, masks["bar"])
        return masks

    def _forms(self, s: State, parts: list[dict[str, Array]], xp) -> dict[str, Array]:
        """Masks of meters and tempi, and of the `bar` before the first ones."""
        g, left, length = self.grammar, s["left"][:, None] - 1, s["bar_length"][:, None]
        meters = [part["meter"] for part in parts if "meter" in part]
        tempi = [part["tempo"] for part in parts if "tempo" in part]
        lengths, seconds = xp.asarray(g.lengths)[None], xp.asarray(g.seconds)[None]
        slowest = xp.max(functools.reduce(lambda x, may: xp.where(may, x, 0), tempi, seconds), 1, keepdims=True)
        unstated = (s["tempo"] < 0)[:, None]
        unit = xp.where(unstated, slowest, s["unit"][:, None])
        meter = self.units(s, lengths, unit, xp) * (1 + g.voices * lengths) + unstated
        tempo = self.units(s, length, seconds, xp) * (1 + g.voices * length)
        first = functools.reduce(operator.and_, meters, meter + 1 <= left)
        return {"meter": meter <= left, "tempo": tempo <= left, "bar": xp.any(first, 1, keepdims=True)}
