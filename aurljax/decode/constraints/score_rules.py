"""Constraints on the `score` codec, all at once and looking ahead: nothing is opened that could not be completed.

A `track` is written if a note of it may begin now, a `position` if a note may begin there, a `bar` if one may begin in it.
Where a bar must have so many notes, each has a position of its own at the latest, and no note may sound so long that
those still to come find no place. As in the grammar, what can be is looked up by class: how early each track may begin
each tone is found once, and the rest reads that.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

from aurljax.decode.constraints.base import CLASS, DRUM, NEVER, TONES, Array, Constraint, State
from aurljax.decode.constraints.exact import Budget
from aurljax.music.codec import Codec, holes
from aurljax.music.codec.grammar import DURATIONS, PITCHES, TRACKS, UNLIMITED
from aurljax.music.codec.phases import INDEX, OPENED
from aurljax.music.codec.score_layout import DRUMS

IN_NOTE = np.array([phase in ("pitch", "velocity", "micro", "long") for phase in INDEX])
HEADER = np.array([phase in ("begin", *OPENED) for phase in INDEX])
BEFORE_FIRST = np.array([phase in ("first_meter", "first_hole") for phase in INDEX])


class Now:
    """What constraints read at a state: registers of the grammar `s` and of the constraints `r`."""

    def __init__(self, lengths: np.ndarray, s: State, r: State, xp):
        self.lengths, self.s, self.r = lengths, s, r  # lengths: [meters] positions of a bar
        self.here, self.length = xp.maximum(s["position"], 0), s["bar_length"]
        self.own = xp.arange(TRACKS) == s["track"][:, None]
        self.drums = r["program"] == DRUMS
        self.own_drum = xp.any(self.own & self.drums, 1)
        self.in_note = xp.asarray(IN_NOTE)[s["phase"]]  # its length is not known yet
        self.header = xp.asarray(HEADER)[s["phase"]]

    def slot(self, slots: Array, at: Array, xp) -> Array:
        """[B, N] which of `slots` equal parts of the bar the positions [B, N] lie in."""
        return xp.minimum(at * slots // xp.maximum(self.length, 1)[:, None], slots - 1)


class Step:
    """An id [B] about to be written at a state: its kind and value, and what it does."""

    def __init__(self, vocabulary, s: State, r: State, ids: Array, xp):
        kind = xp.asarray(vocabulary.kind)[ids]
        self.value = xp.asarray(vocabulary.value)[ids]
        self.is_ = {name: kind == i for name, i in vocabulary.index.items()}
        self.s, self.r = s, r
        self.own = xp.arange(TRACKS) == s["track"][:, None]
        self.named = (xp.arange(TRACKS) == s["tracks"][:, None]) & self.is_["program"][:, None]  # the track it opens
        self.drum = xp.any(self.own & (r["program"] == DRUMS), 1)
        self.begins, self.ends = self.is_["pitch"], self.is_["duration"]  # a note
        self.shift = xp.where(self.is_["bar"], s["bar_length"], 0)
        self.end = s["position"] + s["long"] * DURATIONS + self.value + 1  # of the note that a `duration` ends


class ScoreRules:
    """The conjunction of constraints of some classes over the grammar of a `score` codec."""

    def __init__(self, codec: Codec, kinds: tuple[type[Constraint], ...]):
        self.kinds, self.grammar, self.vocabulary = kinds, codec.grammar, codec.vocabulary
        self.budget = Budget(codec.grammar, kinds)

    def init(self) -> State:
        """The registers that all share, without a batch axis."""
        return {"program": np.full(TRACKS, -1, np.int16), "count": np.int32(0)}  # count: notes of this bar so far

    def begin(self, s: State, r: State, xp=np) -> State:
        """Registers between the prompt and what is new."""
        for kind in self.kinds:
            r = r | kind.begin(s, r, xp)
        return r

    def advance(self, s: State, r: State, ids: Array, xp=np) -> State:
        """The constraints' registers after ids [B]; s, r: the registers before."""
        step = Step(self.vocabulary, s, r, ids, xp)
        out = r | {
            "program": xp.where(step.named, step.value[:, None].astype(xp.int16), r["program"]),
            "count": xp.where(step.is_["bar"], 0, r["count"] + step.is_["pitch"]),
        }
        for kind in self.kinds:
            out |= kind.advance(step, xp)
        return out

    def penalised(self, s: State, r: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] less what the constraints charge for pitches."""
        charges = self._all("penalty", Now(self.grammar.bar_lengths, s, r, xp), xp)
        if not charges:
            return logits
        at = self.vocabulary.id("pitch")
        return logits - xp.pad(sum(charges), ((0, 0), (at, len(self.vocabulary) - at - PITCHES)))

    def allowed(self, s: State, r: State, xp=np) -> Array:
        """[B, V] which ids all constraints allow, of those that the grammar does."""
        now = Now(self.grammar.bar_lengths, s, r, xp)
        least = functools.reduce(xp.maximum, self._all("least", now, xp), xp.zeros_like(now.here))
        parts, sure = self._notes(now, least, xp)
        masks = [parts, self._forms(now, least, sure, xp), *(kind.ids(now, xp) for kind in self.kinds)]
        parts = {
            name: functools.reduce(operator.and_, found)
            for name in self.vocabulary.index
            if (found := [mask[name] for mask in masks if name in mask])
        }
        affordable, timed = self.budget.allowed(now, least, xp)
        columns = []
        for i, (name, size) in enumerate(self.vocabulary.kinds):
            mask = affordable[:, i, None]
            for more in (parts, timed):
                mask = mask & more[name] if name in more else mask
            columns.append(xp.broadcast_to(mask, (len(now.here), size)))
        return xp.concatenate(columns, 1)

    def _all(self, name: str, now: Now, xp) -> list[Array]:
        return [x for kind in self.kinds if (x := getattr(kind, name)(now, xp)) is not None]

    def _earliest(self, now: Now, xp) -> tuple[Array, Array]:
        """(position from which each track could begin each tone [B, tracks, TONES], the same of the pitches of the track in
        force [B, 128]), harmony left aside. A note whose length is not known yet never ends."""
        s, never = now.s, xp.int16(NEVER)
        start = s["ends"]
        for mask in self._all("pitches", now, xp):
            start = xp.where(mask, start, never)
        if self.budget.must:
            struck = (now.in_note[:, None] & now.own)[:, :, None] & (xp.arange(PITCHES) == s["pitch"][:, None])[:, None]
            start = xp.where(struck, never, start)
        padded = xp.pad(start, ((0, 0), (0, 0), (0, -PITCHES % 12)), constant_values=NEVER)
        octaves = [padded[:, :, i : i + 12] for i in range(0, PITCHES, 12)]
        classes = functools.reduce(xp.minimum, octaves)  # faster than a reduction, which XLA:CPU does not vectorise
        written = xp.arange(TRACKS) < s["tracks"][:, None]
        if "filling" in s:
            written = written & holes.open_tracks(s, xp)
        tones = xp.concatenate([classes, xp.min(classes, 2, keepdims=True)], 2)
        mine = written[:, :, None] & (now.drums[:, :, None] == (xp.arange(TONES) == DRUM))
        tones = xp.where(mine, tones, never)
        row = xp.take_along_axis(start, xp.maximum(s["track"], 0)[:, None, None], 1)[:, 0]
        for busy in self._all("busy", now, xp):
            tones = xp.maximum(tones, busy[:, :, None])
            row = xp.maximum(row, xp.max(xp.where(now.own, busy, 0), 1)[:, None])
        return tones, row

    def _notes(self, now: Now, least: Array, xp) -> tuple[dict[str, Array], Array]:
        """(masks of the ids that lead to notes, [B] position from which on one may begin whatever the harmony)."""
        s, here = now.s, now.here[:, None]
        earliest, row = self._earliest(now, xp)
        first = xp.min(earliest, 1)[:, None]  # over all tracks
        slots = functools.reduce(operator.and_, self._all("tones", now, xp), xp.ones((1, 1, TONES), bool))
        by_slot = xp.min(xp.where(slots, first, NEVER), 2)
        at = xp.arange(self.vocabulary.size("position"))[None]
        sound = xp.broadcast_to(slots[:, 0], (len(here), TONES))
        if slots.shape[1] > 1:
            by_slot = xp.take_along_axis(by_slot, now.slot(slots.shape[1], at, xp), 1)
            sound = xp.take_along_axis(slots, now.slot(slots.shape[1], here, xp)[:, :, None], 1)[:, 0]
        more = functools.reduce(operator.and_, [~x for x in self._all("full", now, xp)], xp.ones((1,), bool))[:, None]
        lacking = self.budget.lacking(now, least, xp)[:, None]
        begins = (at >= by_slot) & (at + lacking <= now.length[:, None]) & more
        tone = xp.where(now.own_drum[:, None], sound[:, DRUM:], sound[:, CLASS])
        sure = xp.max(xp.min(xp.where(now.r["sets"], first, NEVER), 2), 1).astype(xp.int32)
        return {
            "track": xp.any((earliest <= here[:, :, None]) & sound[:, None], 2) & more,
            "position": begins | xp.asarray(BEFORE_FIRST)[s["phase"]][:, None],
            "pitch": (row <= here) & tone & more,
        }, sure

    def _forms(self, now: Now, least: Array, sure: Array, xp) -> dict[str, Array]:
        """Masks of lengths and bars, which leave room for the notes that must come; `sure`: see `_notes`."""
        s, length = now.s, now.length
        lacking, room = self.budget.lacking(now, least, xp), self.budget.room(least, xp)
        must = room > 0  # bars must have notes
        latest = xp.where(lacking > 0, length - lacking, 2 * length - room)
        longest = [xp.where(must & (sure > latest), latest - now.here, UNLIMITED), *self._all("longest", now, xp)]
        longest = functools.reduce(xp.minimum, longest)[:, None]
        bar = xp.where(
            now.header, ~must | (s["tracks"] > 0), (lacking <= 0) & (sure + xp.maximum(room, 1) <= 2 * length)
        )
        held = xp.where((s["bar"] <= 0) | (sure >= NEVER), 0, sure)
        lengths = xp.asarray(now.lengths)[None]
        after = (lacking <= 0) | (now.here + 1 + lacking <= length)  # what a pedal shuts out here has a place later
        masks = {
            "bar": bar[:, None],
            "end": lacking[:, None] <= 0,
            "pedal": after[:, None],
            "meter": lengths >= (held + xp.maximum(lacking, 1))[:, None],
            "long": (xp.arange(self.vocabulary.size("long")) + 1) * DURATIONS < longest,
            "duration": s["long"][:, None] * DURATIONS + xp.arange(DURATIONS) < longest,
        }
        return masks | {"hole": xp.zeros((1, 1), bool)}
