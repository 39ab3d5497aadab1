"""Constraints on the `event` codec, whose notes begin and end by ids of their own, in steps of 1/64 s.

A note that lasts as long as it may is due: its moment is not left, and no event is passed on to that stands behind it,
before it has ended. An `instrument` is named, and a `velocity`, if what must follow it may.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

from aurljax.decode.constraints.base import CLASS, TONES, Array, Constraint, State
from aurljax.decode.constraints.event_cost import Cost
from aurljax.decode.constraints.exact import Exact
from aurljax.music.codec import Codec
from aurljax.music.codec.event_grammar import INSTRUMENTS, LOW, OFF, ON, PITCHES, SUSTAIN

NOTES = INSTRUMENTS * PITCHES
BEHIND = NOTES  # a place behind those of all notes


class EventNow:
    """What constraints read at a state: registers of the grammar `s` and of the constraints `r`. Where chords last so many
    steps a bar, `bar` is the one now counted from where they begin, and `here` the step in it."""

    def __init__(self, s: State, r: State, xp):
        self.s, self.r, self.here, self.length = s, r, s["now"], xp.ones_like(s["now"])
        if "bar_steps" in r:
            passed, self.length = s["now"] - r["changes_at"], r["bar_steps"]
            self.s, self.here = s | {"bar": passed // self.length}, passed % self.length

    def part(self, slots: Array, xp) -> Array:
        """[B, TONES] of [B, slots, TONES] what stands at this step, the slots sharing the bar equally."""
        if slots.shape[1] == 1:
            return slots[:, 0]
        slot = xp.minimum(self.here * slots.shape[1] // self.length, slots.shape[1] - 1)
        return xp.take_along_axis(slots, slot[:, None, None], 1)[:, 0]


class EventStep:
    """An id [B] about to be written at a state; `struck`: [B, instruments, pitches] the note that it begins."""

    def __init__(self, vocabulary, s: State, r: State, ids: Array, xp):
        value = xp.asarray(vocabulary.value)[ids]
        self.s, self.r, self.value = s, r, value + LOW
        self.begins = xp.asarray(vocabulary.kind)[ids] == vocabulary.index["on"]
        self.drum = xp.zeros(ids.shape, bool)
        self.named = xp.zeros((len(ids), INSTRUMENTS), bool)
        mine = (xp.arange(INSTRUMENTS) == s["instrument"][:, None]) & self.begins[:, None]
        self.struck = mine[:, :, None] & (xp.arange(PITCHES) == value[:, None])[:, None]


class EventRules:
    """The conjunction of constraints of some classes over the grammar of an `event` codec."""

    def __init__(self, codec: Codec, kinds: tuple[type[Constraint], ...]):
        self.kinds, self.grammar, self.vocabulary, self.exact = kinds, codec.grammar, codec.vocabulary, Exact in kinds

    def init(self) -> State:
        """The registers that all share: none."""
        return {}

    def begin(self, s: State, r: State, xp=np) -> State:
        """Registers between the prompt and what is new."""
        return functools.reduce(operator.or_, (kind.begin(s, r, xp) for kind in self.kinds), r)

    def advance(self, s: State, r: State, ids: Array, xp=np) -> State:
        """The constraints' registers after ids [B]; s, r: the registers before."""
        step = EventStep(self.vocabulary, s, r, ids, xp)
        return functools.reduce(operator.or_, (kind.advance(step, xp) for kind in self.kinds), r)

    def penalised(self, s: State, r: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] as they are."""
        return logits

    def allowed(self, s: State, r: State, xp=np) -> Array:
        """[B, V] which ids all constraints allow, of those that the grammar does."""
        masks = self._masks(s, r, xp)
        columns = []
        for kind, size in self.vocabulary.kinds:
            mask = masks.get(kind, xp.ones((1, 1), bool))
            columns.append(xp.broadcast_to(mask, (len(s["phase"]), size)))
        return xp.concatenate(columns, 1)

    def _masks(self, s: State, r: State, xp) -> dict[str, Array]:
        """{kind: [B, ids of the kind]} what may be written, and costs no more ids than are left."""
        stage, mark, i = (s[k][:, None] for k in ("stage", "mark", "instrument"))
        due = self._due(s, r, xp)
        place = xp.arange(NOTES).reshape(INSTRUMENTS, PITCHES)
        ahead = place > mark[:, :, None]
        first_due = xp.min(xp.where(due, place, BEHIND), (1, 2))[:, None, None]
        pending = first_due[:, :, 0] < BEHIND
        off = s["open"] & ahead & (place <= first_due) & (stage <= OFF)[:, :, None]
        on = self._may(s, r, xp) & (ahead | (stage < ON)[:, :, None]) & ~pending[:, :, None]
        later = xp.arange(INSTRUMENTS) > mark // PITCHES
        sustain = self._programs(r, xp) & ~pending & ((stage < SUSTAIN) | ((stage == SUSTAIN) & later))
        live = ~self.grammar.closing(s, xp)[:, None]
        first = xp.min(xp.where(s["open"], place, BEHIND), (1, 2))[:, None]
        off = off & (live | (place.reshape(1, -1) == first)).reshape(off.shape)

        cost, left = Cost(s, due, self.exact, xp), s["left"][:, None] - 1
        own, steps = xp.arange(INSTRUMENTS) == i, xp.arange(self.vocabulary.size("shift")) + 1
        strike = xp.any(on & own[:, :, None], 1) & (cost.on(i, xp) <= left)
        named = [(xp.any(off, 2), cost.named(xp)), (sustain, 1 + cost.settled(cost.each, xp)),
                 (xp.any(on, 2), 1 + (s["velocity"] < 0)[:, None] + cost.on(cost.each, xp))]  # fmt: skip
        return {
            "on": strike,
            "velocity": xp.any(strike, 1, keepdims=True) & (1 + cost.on(i, xp) <= left),
            "off": xp.any(off & own[:, :, None], 1) & (cost.off(xp) <= left),
            "sustain": xp.any(sustain & own, 1, keepdims=True) & (cost.settled(i, xp) <= left),
            "tempo": ~pending & (cost.tempo(self.grammar, xp) <= left),
            "shift": (steps <= self._rest(s, r, xp)) & (cost.shift(steps, xp) <= left),
            "end": (cost.to_go <= 0)[:, None] | (not self.exact),
            "instrument": functools.reduce(operator.or_, [may & (ids <= left) for may, ids in named]),
        }  # fmt: skip

    def _all(self, name: str, now: EventNow, xp) -> list[Array]:
        return [x for kind in self.kinds if (x := getattr(kind, name)(now, xp)) is not None]

    def _may(self, s: State, r: State, xp) -> Array:
        """[B, instruments, pitches] notes that may begin by harmony, range, instrument, and what sounds already."""
        now = EventNow(s, r, xp)
        tone = functools.reduce(operator.and_, [now.part(x, xp) for x in self._all("tones", now, xp)],
                                xp.ones((1, TONES), bool))  # fmt: skip
        may = tone[:, None, CLASS]
        for mask in self._all("pitches", now, xp):
            may = may & mask
        may = may[:, :, LOW : LOW + PITCHES] & ~s["open"] & self._programs(r, xp)[:, :, None]
        sounding = xp.sum(s["open"], 2)
        if "at_once_of" in r:
            may = may & (sounding < r["at_once_of"][:, None])[:, :, None]
        if "at_once" in r:
            may = may & (xp.sum(sounding, 1) < r["at_once"])[:, None, None]
        return may

    def _programs(self, r: State, xp) -> Array:
        """[B or 1, instruments] which there may be; an instrument stands for eight programs, and plays the first."""
        return r["programs"][:, : 8 * INSTRUMENTS : 8] if "programs" in r else xp.ones((1, INSTRUMENTS), bool)

    def _due(self, s: State, r: State, xp) -> Array:
        """[B, instruments, pitches] notes that sound and must end now."""
        return s["open"] & (r["due"] <= s["now"][:, None, None]) if "due" in r else xp.zeros_like(s["open"])

    def _rest(self, s: State, r: State, xp) -> Array:
        """[B or 1, 1] steps until the next note is due."""
        if "due" not in r:
            return xp.full((1, 1), self.vocabulary.size("shift"))
        return xp.min(xp.where(s["open"], r["due"] - s["now"][:, None, None], 2**30), (1, 2))[:, None]
