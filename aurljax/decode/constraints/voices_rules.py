"""Constraints on the `voices` codec, where a voice may go on or rest: which pitches begin, which meters and tempi stand."""

from __future__ import annotations

import functools
import operator

import numpy as np

from aurljax.decode.constraints.base import CLASS, TONES, Array, Constraint, State
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import TRACKS


class VoicesNow:
    """What constraints read at a state: registers of the grammar `s` and of the constraints `r`."""

    def __init__(self, s: State, r: State):
        self.s, self.r = s, r


class VoicesStep:
    """An id [B] about to be written at a state; `begins`: a note, and not one that goes on."""

    def __init__(self, vocabulary, last: Array, s: State, r: State, ids: Array, xp):
        kind = xp.asarray(vocabulary.kind)[ids]
        self.s, self.r, self.value = s, r, xp.asarray(vocabulary.value)[ids]
        self.begins = (kind == vocabulary.index["pitch"]) & (("hold" in vocabulary.index) | (self.value != last))
        self.drum = xp.zeros(ids.shape, bool)
        self.named = xp.zeros((len(ids), TRACKS), bool)


class VoicesRules:
    """The conjunction of constraints of some classes over the grammar of a `voices` codec."""

    def __init__(self, codec: Codec, kinds: tuple[type[Constraint], ...]):
        self.kinds, self.grammar, self.vocabulary = kinds, codec.grammar, codec.vocabulary

    def init(self) -> State:
        """The registers that all share: none."""
        return {}

    def begin(self, s: State, r: State, xp=np) -> State:
        """Registers between the prompt and what is new."""
        return r

    def advance(self, s: State, r: State, ids: Array, xp=np) -> State:
        """The constraints' registers after ids [B]; s, r: the registers before."""
        step = VoicesStep(self.vocabulary, self._last(s, xp), s, r, ids, xp)
        return functools.reduce(operator.or_, (kind.advance(step, xp) for kind in self.kinds), r)

    def penalised(self, s: State, r: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] as they are."""
        return logits

    def allowed(self, s: State, r: State, xp=np) -> Array:
        """[B, V] which ids all constraints allow, of those that the grammar does."""
        now, vocabulary = VoicesNow(s, r), self.vocabulary
        tones = [x for kind in self.kinds if (x := kind.tones(now, xp)) is not None]
        pitches = [x[:, 0] for kind in self.kinds if (x := kind.pitches(now, xp)) is not None]
        tone = functools.reduce(operator.and_, tones, xp.ones((1, 1, TONES), bool))[:, 0][:, CLASS]
        pitch = functools.reduce(operator.and_, pitches, tone)
        if "hold" not in vocabulary.index:
            pitch = pitch | (xp.arange(pitch.shape[1]) == self._last(s, xp)[:, None])  # it goes on
        parts = [{"pitch": pitch}, *(kind.ids(now, xp) for kind in self.kinds)]
        columns = []
        for name, size in vocabulary.kinds:
            masks = [xp.ones((1, 1), bool), *(part[name] for part in parts if name in part)]
            columns.append(xp.broadcast_to(functools.reduce(operator.and_, masks), (len(s["phase"]), size)))
        return xp.concatenate(columns, 1)

    def _last(self, s: State, xp) -> Array:
        """[B] what the voice of the next id sounded last."""
        return xp.take_along_axis(s["last"], s["voice"][:, None], 1)[:, 0]
