"""Ids that a piece of the `event` codec still takes after each id that could be written, on a way that constraints leave.

The way on: what is due ends in its moment, and with it all of its instrument that can; all other notes in the next. Where
the length is exact, silence follows until a step before its end, and there a note of that step: an id more than a note
that sounds from now on would take, but one that may always begin.
"""

from __future__ import annotations

from aurljax.decode.constraints.base import Array, State
from aurljax.music.codec.event_grammar import INSTRUMENTS, RATE, EventGrammar

SHIFT = 512  # steps of the longest shift
LAST = 5  # ids of the last note behind the silence: instrument, velocity, on, shift, off
FAR = 2**22  # steps: more than a piece has, few enough to be counted


class Cost:
    """Costs at a state; `due`: [B, instruments, pitches] notes that must end now; exact: to the seconds asked for."""

    def __init__(self, s: State, due: Array, exact: bool, xp):
        self.s, self.exact, self.each = s, exact, xp.arange(INSTRUMENTS, dtype=xp.int32)[None]
        self.sounding = xp.sum(s["open"], 2).astype(xp.int32)  # of each instrument
        self.notes = xp.sum(self.sounding, 1, keepdims=True).astype(xp.int32)
        self.groups = xp.sum(self.sounding > 0, 1, keepdims=True).astype(xp.int32)
        self.lowest = xp.min(xp.where(self.sounding > 0, self.each, INSTRUMENTS), 1, keepdims=True)
        self.due = xp.any(due, 2)  # instruments with a note that is due
        self.mine = self.each == s["instrument"][:, None]
        self.to_go = xp.minimum(xp.ceil(s["seconds"] * RATE), FAR).astype(xp.int32) - s["now"]  # steps

    def tail(self, to_go: Array, xp) -> Array:
        """Ids behind the last off and before `end`, if all is silent so many steps before the end."""
        return xp.where(to_go > 0, -(-(to_go - 1) // SHIFT) + LAST, 0) if self.exact else xp.zeros_like(to_go)

    def closing(self, i: Array) -> Array:
        """All offs in order, each instrument named but one in force, and `end`."""
        return self.notes + self.groups - (self.lowest == i) + 1

    def settled(self, i: Array, xp) -> Array:
        """After a pedal or tempo: a shift, if something must end."""
        to_go = self.to_go[:, None]
        return xp.where(self.notes > 0, 1 + self.closing(i) + self.tail(to_go - 1, xp), 1 + self.tail(to_go, xp))

    def on(self, i: Array, xp) -> Array:
        """After an `on` of an instrument."""
        silent = ~xp.any((self.each[:, None] == i[:, :, None]) & (self.sounding > 0)[:, None], 2)
        back = xp.minimum(self.lowest, i) == i  # the shift comes to an instrument in force
        return self.notes + self.groups + silent + 3 - back + self.tail(self.to_go[:, None] - 1, xp)

    def tempo(self, grammar: EventGrammar, xp) -> Array:
        """After a `tempo`: the first one is of no moment."""
        first = (self.s["phase"] == grammar.phase.header)[:, None]
        return xp.where(first, 1 + self.tail(self.to_go[:, None], xp), self.settled(self.s["instrument"][:, None], xp))

    def shift(self, steps: Array, xp) -> Array:
        """After shifts of so many steps: behind one into silence something must follow, a tempo at least."""
        then = self.to_go[:, None] - steps
        follows = 1 if not self.exact else ((then != 1) & ((steps < SHIFT) | (then < 1))).astype(xp.int32)
        ending = xp.where(self.notes > 0, self.closing(self.s["instrument"][:, None]), 1 + follows)
        return ending + self.tail(then, xp)

    def off(self, xp) -> Array:
        """[B, pitches] after an `off` of the instrument in force. One that leaves sounding notes behind costs a shift; the
        instrument need not be named for them again if it comes first then and nothing due calls for another before."""
        i = self.s["instrument"][:, None]
        mine = xp.any(self.mine[:, :, None] & self.s["open"], 1).astype(xp.int32)
        own, below = xp.sum(mine, 1, keepdims=True), xp.cumsum(mine, 1) - mine
        passed, others = (self.lowest < i) | (below > 0), self.groups - (own == 1)
        stays = (self.lowest == i) & ~xp.any(self.due & ~self.mine, 1, keepdims=True)
        free = (own > 1) & ((below == 0) | stays)
        return self.notes + others - free + passed + self.tail(self.to_go[:, None], xp)

    def named(self, xp) -> Array:
        """[B, instruments] after an `instrument` of which an off follows."""
        return self.notes + self.groups + (self.lowest < self.each) + self.tail(self.to_go[:, None], xp)
