"""Constraints on the `voices` codec, where each cell of a frame begins a note, lets one go on, or rests.

They look ahead by a way on that always exists: from now on every cell begins a note, until as many voices sound in the
frame as may. A cell is written only if what its bar must still have can be had that way in the cells after it.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

from aurljax.decode.constraints.base import CLASS, TONES, Array, Constraint, State
from aurljax.decode.constraints.exact import Exact
from aurljax.decode.constraints.voices_length import Lengths
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import TRACKS
from aurljax.music.codec.voices_grammar import VoicesGrammar


class VoicesNow:
    """What constraints read at a state: registers of the grammar `s`, in which `bar` is that of the next cell, and of the
    constraints `r`."""

    def __init__(self, grammar: VoicesGrammar, s: State, r: State, xp):
        opens = (s["voice"] == 0) & (s["frame"] == 0) & (not grammar.barlines)
        self.s, self.r = s | {"bar": s["bar"] + opens}, r
        self.here = s["frame"]
        self.length = s["bar_length"] if grammar.barlines else xp.full_like(self.here, grammar.block)

    def slot(self, slots: int, at: Array, xp) -> Array:
        """[B, N] which of `slots` equal parts of the bar the frames [B, N] lie in."""
        return xp.minimum(at * slots // xp.maximum(self.length, 1)[:, None], slots - 1)


class VoicesStep:
    """An id [B] about to be written at a state; `begins`: a note, and not one that `goes_on`."""

    def __init__(self, grammar: VoicesGrammar, last: Array, s: State, r: State, ids: Array, xp):
        kind = xp.asarray(grammar.vocabulary.kind)[ids]
        self.s, self.r, self.value = s, r, xp.asarray(grammar.vocabulary.value)[ids]
        self.is_ = {name: kind == i for name, i in grammar.vocabulary.index.items()}
        pitch = self.is_["pitch"]
        self.begins = pitch if grammar.onsets else pitch & (self.value != last)
        self.goes_on = self.is_["hold"] if grammar.onsets else pitch & (self.value == last)
        self.cell = pitch | self.goes_on | self.is_["rest"]
        self.mine = (xp.arange(grammar.voices) == s["voice"][:, None]) & self.cell[:, None]
        self.drum = xp.zeros(ids.shape, bool)
        self.named = xp.zeros((len(ids), TRACKS), bool)


class VoicesRules:
    """The conjunction of constraints of some classes over the grammar of a `voices` codec."""

    def __init__(self, codec: Codec, kinds: tuple[type[Constraint], ...]):
        self.kinds, self.grammar, self.vocabulary = kinds, codec.grammar, codec.vocabulary
        self.lengths = Lengths(codec.grammar, Exact in kinds)
        self.each = tuple(kind for kind in kinds if kind is not Exact)  # of which each says what it allows

    def init(self) -> State:
        """The registers that all share: notes begun in this bar, cells in which something sounds in this unit, and voices
        that sound in this frame, so far."""
        return {"count": np.int32(0), "heard": np.int32(0), "singing": np.int32(0)}

    def begin(self, s: State, r: State, xp=np) -> State:
        """Registers between the prompt and what is new."""
        return functools.reduce(operator.or_, (kind.begin(s, r, xp) for kind in self.each), r)

    def advance(self, s: State, r: State, ids: Array, xp=np) -> State:
        """The constraints' registers after ids [B]; s, r: the registers before."""
        step = VoicesStep(self.grammar, self._last(s, xp), s, r, ids, xp)
        first = step.cell & (s["voice"] == 0)
        bar = step.is_["bar"] if self.grammar.barlines else first & (s["frame"] == 0)
        unit, sounds = bar if self.grammar.barlines else first, step.begins | step.goes_on
        out = r | {
            "count": xp.where(bar, 0, r["count"]) + step.begins,
            "heard": xp.where(unit, 0, r["heard"]) + sounds,
            "singing": xp.where(first, 0, r["singing"]) + sounds,
        }
        return functools.reduce(operator.or_, (kind.advance(step, xp) for kind in self.each), out)

    def penalised(self, s: State, r: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] as they are."""
        return logits

    def allowed(self, s: State, r: State, xp=np) -> Array:
        """[B, V] which ids all constraints allow, of those that the grammar does."""
        now = VoicesNow(self.grammar, s, r, xp)
        least = functools.reduce(xp.maximum, self._all("least", now, xp), xp.zeros_like(now.here))
        parts = [self._cells(now, least, xp), self._bars(now, least, xp), *(kind.ids(now, xp) for kind in self.each)]
        parts.append(self.lengths.allowed(s, r["heard"] > 0, parts, xp))
        columns = []
        for name, size in self.vocabulary.kinds:
            masks = [xp.ones((1, 1), bool), *(part[name] for part in parts if name in part)]
            columns.append(xp.broadcast_to(functools.reduce(operator.and_, masks), (len(s["phase"]), size)))
        return xp.concatenate(columns, 1)

    def _all(self, name: str, now: VoicesNow, xp) -> list[Array]:
        return [x for kind in self.each if (x := getattr(kind, name)(now, xp)) is not None]

    def _cells(self, now: VoicesNow, least: Array, xp) -> dict[str, Array]:
        """Masks of cells: what may begin and go on, and whether what the bar lacks could still be had."""
        s, r = now.s, now.r
        singing = xp.where(s["voice"] == 0, 0, r["singing"])
        most, lacking = self._at_once(r, xp), xp.maximum(least - r["count"], 0)

        def later(singing: Array) -> Array:  # notes that cells after the next one could begin
            here = xp.clip(most - singing, 0, self.grammar.voices - 1 - s["voice"])
            return here + most * xp.maximum(now.length - now.here - 1, 0)

        another = singing < most
        goes_on = another & (lacking <= later(singing + 1))
        for longest in self._all("longest", now, xp):
            held = xp.max(xp.where(xp.arange(self.grammar.voices) == s["voice"][:, None], r["held"], 0), 1)
            goes_on = goes_on & (held < longest)
        begins = functools.reduce(operator.and_, [~x for x in self._all("full", now, xp)], another)
        pitch = self._pitches(now, xp) & begins[:, None]
        if not self.grammar.onsets:
            pitch = xp.where(xp.arange(pitch.shape[1]) == self._last(s, xp)[:, None], goes_on[:, None], pitch)
        return {"pitch": pitch, "hold": goes_on[:, None], "rest": (lacking <= later(singing))[:, None]}

    def _pitches(self, now: VoicesNow, xp) -> Array:
        """[B, 128] of notes that may begin here, by harmony and range."""
        tone = xp.ones((1, TONES), bool)
        for slots in self._all("tones", now, xp):
            here = now.slot(slots.shape[1], now.here[:, None], xp)[:, :, None] if slots.shape[1] > 1 else None
            tone = tone & (slots[:, 0] if here is None else xp.take_along_axis(slots, here, 1)[:, 0])
        return functools.reduce(operator.and_, [x[:, 0] for x in self._all("pitches", now, xp)], tone[:, CLASS])

    def _bars(self, now: VoicesNow, least: Array, xp) -> dict[str, Array]:
        """Masks of what stands between bars: the last one has what it must, and the next is long enough for it."""
        done = (now.s["bar"] < 0) | (now.r["count"] >= least)
        roomy = xp.asarray(self.grammar.lengths)[None] * self._at_once(now.r, xp)[:, None] >= least[:, None]
        return {"bar": done[:, None], "end": done[:, None], "meter": roomy}

    def _at_once(self, r: State, xp) -> Array:
        """[B] voices that may sound in a frame."""
        return xp.minimum(r["at_once"], self.grammar.voices) if "at_once" in r else 0 * r["count"] + self.grammar.voices

    def _last(self, s: State, xp) -> Array:
        """[B] what the voice of the next id sounded last."""
        return xp.take_along_axis(s["last"], s["voice"][:, None], 1)[:, 0]
