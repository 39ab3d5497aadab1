"""The grammar of the `event` codec: an automaton over ids that knows which notes sound and what closing them costs.

Written on the array module handed in as `xp`, like the grammar of `score`, with the same methods. Within one moment
events stand in one order: offs, sustain, tempo, ons, each by instrument and pitch; `instrument` and `velocity` stand
only right before the event that needs them changed. Every id has a cost, the fewest ids that end the piece after it:
an off for each sounding note, an instrument id for each change of instrument, a shift where the order of the moment
is past an off that is due, and `end`. An id is allowed only if so many ids are left.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from aurljax.music.codec.grammar import UNLIMITED
from aurljax.music.codec.vocabulary import Vocabulary

Array = Any  # numpy or jax array
State = dict[str, Array]

RATE = 64  # steps per second
LOW, PITCHES = 21, 88  # of a piano
INSTRUMENTS = 16
OPEN = 16  # the `open` feature counts so far
PHASES = ("begin", "header", "shift", "off", "sustain", "tempo", "instrument", "velocity", "on", "done")
PHASE_OF = {"start": "header", "continue": "header", "end": "done", "pad": "done"}  # else the kind's own name
OFF, SUSTAIN, TEMPO, ON = 1, 2, 3, 4  # stages of a moment, 0: nothing written yet


class EventGrammar:
    """The automaton of the `event` vocabulary."""

    shortest = 3  # ids of the shortest piece: start, tempo, end
    pitch_features = ()

    def __init__(self, vocabulary: Vocabulary):
        v, number = vocabulary, {p: i for i, p in enumerate(PHASES)}
        self.vocabulary = v
        self.phase = types.SimpleNamespace(**number)
        self.after = np.array([number[PHASE_OF.get(k, k)] for k in v.index], np.int32)  # phase after each kind
        self.feature_sizes = {
            "phase": len(PHASES),
            "instrument": INSTRUMENTS + 1,
            "open": OPEN + 1,
            "velocity": v.size("velocity") + 1,
            "time": RATE,
        }

    def init(self, batch: int, left: Array | int = UNLIMITED, xp=np) -> State:
        """Registers before the first id. `left`: ids that may still be written, [B] or one for all rows."""
        zero = xp.zeros(batch, xp.int32)
        return {
            "phase": zero,
            "left": zero + xp.asarray(left, xp.int32),
            "bars_left": zero + UNLIMITED,  # carried for the loop: this codec has no bars
            "seconds": xp.full(batch, xp.inf, xp.float32),  # nothing begins at or after this time
            "clock": xp.zeros(batch, xp.float32),  # seconds now, exact for 72 hours
            "now": zero,  # steps
            "stage": zero,
            "mark": zero - 1,  # instrument * PITCHES + pitch of the last event of the stage
            "full": zero,  # whether the last id is the longest shift, which another may follow
            "instrument": zero - 1,
            "velocity": zero - 1,
            "tempo": zero - 1,
            "pedal": xp.zeros((batch, INSTRUMENTS), bool),
            "open": xp.zeros((batch, INSTRUMENTS, PITCHES), bool),
        }

    def advance(self, s: State, ids: Array, xp=np) -> State:
        """Registers after writing ids [B]. Ids that are not allowed lead to an undefined state."""
        k, v = xp.asarray(self.vocabulary.kind)[ids], xp.asarray(self.vocabulary.value)[ids]
        is_ = {name: k == i for name, i in self.vocabulary.index.items()}
        shift, off, on, sustain, tempo = (is_[name] for name in ("shift", "off", "on", "sustain", "tempo"))
        instrument = xp.where(is_["instrument"], v, s["instrument"])
        now = s["now"] + xp.where(shift, v + 1, 0)
        opening = s["phase"] == self.phase.header  # its tempo is no event of the first moment
        stage = xp.where(off, OFF, xp.where(sustain, SUSTAIN, xp.where(tempo, TEMPO, xp.where(on, ON, s["stage"]))))
        place = xp.maximum(instrument, 0) * PITCHES + xp.where(off | on, v, 0)
        mine = xp.arange(INSTRUMENTS) == instrument[:, None]
        struck = mine[:, :, None] & (xp.arange(PITCHES) == v[:, None])[:, None, :]
        return {
            "phase": xp.asarray(self.after)[k],
            "left": s["left"] - 1,
            "bars_left": s["bars_left"],
            "seconds": s["seconds"],
            "clock": now.astype(xp.float32) / RATE,
            "now": now,
            "stage": xp.where(shift | (tempo & opening), 0, stage),
            "mark": xp.where(shift | tempo, -1, xp.where(off | on | sustain, place, s["mark"])),
            "full": (shift & (v + 1 == self.vocabulary.size("shift"))).astype(xp.int32),
            "instrument": instrument,
            "velocity": xp.where(is_["velocity"], v, s["velocity"]),
            "tempo": xp.where(tempo, v, s["tempo"]),
            "pedal": xp.where(mine & sustain[:, None], (v == 1)[:, None], s["pedal"]),
            "open": (s["open"] | (struck & on[:, None, None])) & ~(struck & off[:, None, None]),
        }

    def closing(self, s: State, xp=np) -> Array:
        """[B] whether nothing may begin any more, by the number of seconds asked for."""
        return s["now"] >= s["seconds"] * RATE

    def allowed(self, s: State, xp=np) -> Array:
        """[B, V] which ids may be written next; never empty, though where fewer ids are left than closing takes (a
        prompt can end amid many notes) it is the cheapest way on."""
        legal, cost = self._legal(s, xp), self._cost(s, xp)
        kinds = [
            xp.broadcast_to(xp.where(legal[kind], cost[kind], UNLIMITED), (len(s["phase"]), size))
            for kind, size in self.vocabulary.kinds
        ]
        cost = xp.concatenate(kinds, 1)
        least = xp.min(cost, 1)
        return cost <= xp.minimum(xp.maximum(s["left"] - 1, least), UNLIMITED - 1)[:, None]

    def within(self, s: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] in which shifts beyond the seconds asked for are the last shift that notes need, or `end`."""
        v = self.vocabulary
        count, first = v.size("shift"), v.id("shift")
        shifts = logits[:, first : first + count]
        most = self._longest(s, xp)
        beyond = xp.where(xp.arange(1, count + 1) > most[:, None], shifts, -xp.inf)
        top = xp.max(shifts, 1, keepdims=True)
        mass = xp.log(xp.sum(xp.exp(beyond - top), 1)) + top[:, 0]
        last = first - 1 + xp.clip(most, 1, count).astype(xp.int32)
        last = xp.where(xp.any(s["open"], (1, 2)), last, v.id("end"))
        return xp.where(xp.arange(len(v)) == last[:, None], xp.logaddexp(logits, mass[:, None]), logits)

    def features(self, s: State, xp=np) -> dict[str, Array]:
        """{name: [B]} what the model is told at the id just written; values in range(feature_sizes[name])."""
        return {
            "phase": s["phase"],
            "instrument": s["instrument"] + 1,
            "open": xp.minimum(xp.sum(s["open"], (1, 2)), OPEN).astype(xp.int32),
            "velocity": s["velocity"] + 1,
            "time": s["now"] % RATE,
        }

    # --- what may follow, and what it costs --------------------------------------------------------------------------

    def _longest(self, s: State, xp) -> Array:
        """[B] float32 steps that a shift may take: to the time asked for if notes end there, else short of it."""
        room = xp.ceil(s["seconds"] * RATE) - s["now"]
        return xp.where(xp.any(s["open"], (1, 2)), xp.maximum(room, 1), room - 1)

    def _legal(self, s: State, xp) -> dict[str, Array]:
        """{kind: bool [B, 1 or its ids]} which ids may follow, however many are left."""
        v, at, stage = self.vocabulary, s["phase"], s["stage"][:, None]
        live = ~self.closing(s, xp)[:, None]
        i, mark = s["instrument"][:, None], s["mark"][:, None]
        named = (i >= 0) & xp.any(at[:, None] == xp.asarray(self._events), 1, keepdims=True)
        settled = xp.any(at[:, None] == xp.asarray(self._rest), 1, keepdims=True)  # the moment may end here
        fresh = (at == self.phase.shift)[:, None]
        mine = self._mine(s, "open", xp)
        place = xp.maximum(i, 0) * PITCHES + xp.arange(PITCHES)
        bare = (at != self.phase.velocity)[:, None]  # else an on must follow

        free = named & live & ~mine & ((stage < ON) | (place > mark))
        ids = {kind: xp.arange(size)[None] for kind, size in v.kinds}
        pedal = self._mine(s, "pedal", xp)[:, None]
        later = ids["instrument"] > mark // PITCHES
        off, sustain, on = self._entries(s, later, live, xp)
        return {
            "pad": (at == self.phase.done)[:, None],
            "start": (at == self.phase.begin)[:, None],
            "continue": (at == self.phase.begin)[:, None],
            "end": settled & ~xp.any(s["open"], (1, 2))[:, None],
            "on": free & ((s["velocity"][:, None] >= 0) | ~bare),
            "off": named & bare & mine & (stage <= OFF) & (place > mark) & (live | (place == self._first(s, xp))),
            "shift": (settled | (fresh & (s["full"][:, None] > 0)))
            & (ids["shift"] + 1 <= self._longest(s, xp)[:, None])
            & (live | (stage > OFF) | (self._first(s, xp) <= mark)),
            "velocity": bare & xp.any(free, 1, keepdims=True) & (ids["velocity"] != s["velocity"][:, None]),
            "sustain": named & bare & live & ((stage < SUSTAIN) | ((stage == SUSTAIN) & (i > mark // PITCHES)))
            & ((ids["sustain"] == 1) != pedal),
            "tempo": (at == self.phase.header)[:, None]
            | ((settled | fresh) & live & (stage < TEMPO) & (s["now"][:, None] > 0)
               & (ids["tempo"] != s["tempo"][:, None])),
            "instrument": (settled | fresh) & (ids["instrument"] != i) & (off | sustain | on),
        }  # fmt: skip

    def _first(self, s: State, xp) -> Array:
        """[B, 1] instrument * PITCHES + pitch of the lowest sounding note: when time is up, offs pass over none."""
        return xp.argmax(s["open"].reshape(len(s["phase"]), -1), 1)[:, None]

    def _entries(self, s: State, later: Array, live: Array, xp) -> tuple[Array, Array, Array]:
        """[B, instruments] each: whether an off, a sustain, an on may follow once the instrument is named."""
        stage, sounding = s["stage"][:, None], xp.sum(s["open"], 2)
        lowest = xp.arange(INSTRUMENTS) == self._first(s, xp) // PITCHES
        off = (stage <= OFF) & later & (sounding > 0) & (live | lowest)
        sustain = live & ((stage < SUSTAIN) | ((stage == SUSTAIN) & later))
        return off, sustain, live & (sounding < PITCHES) & ((stage < ON) | later)

    def _cost(self, s: State, xp) -> dict[str, Array]:
        """{kind: int32 [B, 1 or its ids]} fewest ids that end the piece after each id."""
        sounding = xp.sum(s["open"], 2).astype(xp.int32)  # [B, instruments]
        notes, groups = xp.sum(sounding, 1, keepdims=True), xp.sum(sounding > 0, 1, keepdims=True)
        notes, groups = notes.astype(xp.int32), groups.astype(xp.int32)
        lowest = xp.where(notes > 0, xp.argmax(sounding > 0, 1)[:, None], INSTRUMENTS).astype(xp.int32)
        i, j = s["instrument"][:, None], xp.arange(INSTRUMENTS, dtype=xp.int32)[None]
        own = xp.sum(xp.where(j == i, sounding, 0), 1, keepdims=True)
        silent = xp.any((j == i) & (sounding == 0), 1, keepdims=True)

        def all_off(i):  # offs and instrument ids at one moment yet to come, and `end`
            return notes + groups - (lowest == i) + 1

        def after_on(i, silent):
            return notes + groups + silent + 3 - (xp.minimum(lowest, i) == i)

        begun = (notes > 0).astype(xp.int32)
        mine = self._mine(s, "open", xp).astype(xp.int32)
        below = xp.cumsum(mine, 1) - mine  # sounding notes of the instrument that an off leaves behind
        passed = (lowest < i) | (below > 0)
        others = groups - (own == 1)
        free = (own > 1) & ((below == 0) | (lowest == i))

        off, sustain, on = self._entries(s, j > s["mark"][:, None] // PITCHES, ~self.closing(s, xp)[:, None], xp)
        on_cost = after_on(i, silent)
        entry = xp.minimum(
            xp.where(off, notes + groups + (lowest < j), UNLIMITED),
            xp.minimum(
                xp.where(sustain, 1 + begun + all_off(j), UNLIMITED),
                xp.where(on, 1 + (s["velocity"][:, None] < 0) + after_on(j, sounding == 0), UNLIMITED),
            ),
        )
        header = (s["phase"] == self.phase.header)[:, None]
        settled = begun + all_off(i)
        return {
            "pad": -UNLIMITED,
            "start": 2,
            "continue": 2,
            "end": 0,
            "on": on_cost,
            "off": notes + others - free + passed,
            "shift": xp.where(notes > 0, all_off(i), 2),
            "velocity": on_cost + 1,
            "sustain": settled,
            "tempo": xp.where(header, 1, settled),
            "instrument": entry,
        }

    @property
    def _events(self) -> np.ndarray:
        """Phases after which a note or pedal may come."""
        p = self.phase
        return np.array([p.shift, p.off, p.sustain, p.tempo, p.instrument, p.velocity, p.on], np.int32)

    @property
    def _rest(self) -> np.ndarray:
        """Phases after which a moment may end."""
        p = self.phase
        return np.array([p.off, p.sustain, p.tempo, p.on], np.int32)

    def _mine(self, s: State, register: str, xp) -> Array:
        """[B] or [B, pitches] a register read at the instrument in force (False where there is none)."""
        own = xp.arange(INSTRUMENTS) == s["instrument"][:, None]
        return xp.any(own.reshape(*own.shape, *[1] * (s[register].ndim - 2)) & s[register], 1)
