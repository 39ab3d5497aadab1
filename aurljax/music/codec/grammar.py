"""The grammar of the `score` codec: an automaton over ids that knows which id may come next.

A state is a dict of small integer registers, each with a leading batch axis. `init`, `advance`, `allowed` and
`features` are written on the array module handed in as `xp`, so the interpreter on the host (numpy) and the automaton
inside the sampling loop (jax.numpy) are one text. Every step is elementwise over at most tracks x pitches.

The automaton keeps every sequence in its one canonical form: positions, tracks and pitches ascend, nothing is written
that is already in force, no pitch is struck while it sounds, and there are always ids enough left to end the piece.
Registers of what a codec does not write (pedals, keys, chords, controls, holes) are not there.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from aurljax.music.codec import holes, tempo
from aurljax.music.codec.holes import PITCHES, TRACKS
from aurljax.music.codec.phases import INDEX, NEED, PHASES, UNLIMITED, after, need
from aurljax.music.codec.vocabulary import Vocabulary

Array = Any  # numpy or jax array
State = dict[str, Array]

DURATIONS = 96  # values of `duration`; a `long` id adds this many positions for each unit
BARS = 32  # the `bar` feature counts modulo this


def ending(vocabulary: Vocabulary, closing: Array, logits: Array, xp=np) -> Array:
    """Logits [B, V] in which, of the rows that are `closing` [B], the weight of `bar` is added to that of `end`."""
    bar, end = vocabulary.id("bar"), vocabulary.id("end")
    closed = xp.where(closing, xp.logaddexp(logits[:, end], logits[:, bar]), logits[:, end])
    return xp.where(xp.arange(len(vocabulary)) == end, closed[:, None], logits)


class Grammar:
    """The automaton of a vocabulary; `bar_lengths` gives the bar length in positions of each meter id."""

    shortest = NEED["begin"]  # ids of the shortest piece

    def __init__(self, vocabulary: Vocabulary, bar_lengths: np.ndarray, controls: tuple[str, ...] = ()):
        v = vocabulary
        self.vocabulary, self.controls = v, controls
        self.bar_lengths = np.asarray(bar_lengths, np.int32)
        self.phase = types.SimpleNamespace(**INDEX)
        self.after = after(v, controls)
        self.need = need(self.after)
        self.infill = "hole" in v.index
        self.pitch_features = ("last", "next") if self.infill else ("last",)  # holes have pitches on both sides
        self.stated = tuple(k for k in ("key", "chord") if k in v.index)  # what a position may state beside tempo
        self.feature_sizes = {
            "phase": len(PHASES),
            "position": v.size("position") + 1,
            "bar": BARS + 1,
            "meter": v.size("meter") + 1,
            "track": TRACKS + 1,
            "last": PITCHES + 1,
            "elapsed": 0,
            **{kind: v.size(kind) + (kind == "key") for kind in self.stated},
            **({"filling": 2, "next": PITCHES + 1, "coming": TRACKS + 1} if self.infill else {}),
        }

    def init(self, batch: int, left: Array | int = UNLIMITED, xp=np) -> State:
        """Registers before the first id. `left`: ids that may still be written, [B] or one for all rows."""
        zero = xp.zeros(batch, xp.int32)
        none = zero - 1
        state = {
            "phase": zero,
            "left": zero + xp.asarray(left, xp.int32),
            "bars_left": zero + UNLIMITED,  # bars that may still be begun
            "seconds": xp.full(batch, xp.inf, xp.float32),  # no bar begins at or after this time
            "clock": xp.zeros(batch, xp.float32),  # seconds at the current position
            "unit": xp.zeros(batch, xp.float32),  # seconds per position
            "tracks": zero,
            "bar": none,
            "bar_length": zero,
            "line": zero,  # position of the bar line, from the first one
            "meter": none,
            "position": none,
            "coarse": none,
            "tempo": none,
            "track": none,
            "noted": zero,  # whether the track in force has been used at this position
            "pitch": none,  # the last one at this position and track
            "long": zero,
            "velocity": xp.full((batch, TRACKS), -1, xp.int16),
            "last": xp.full((batch, TRACKS), PITCHES, xp.int16),
            "ends": xp.zeros((batch, TRACKS, PITCHES), xp.int16),  # position, from the bar line, where a note ends
            **{
                kind: none if kind == "key" else zero + self.vocabulary.size(kind) - 1 for kind in self.stated
            },  # no chord
        }
        if self.controls:
            state["control"] = none  # the last one that was given
        if "pedal" in self.vocabulary.index:
            state["pedal"] = xp.zeros((batch, TRACKS), xp.int16)  # 1: down
        return state | (holes.init(zero, xp) if self.infill else {})

    @functools.cached_property
    def _usec(self) -> np.ndarray:
        return (tempo.USEC / (24 * 1e6)).astype(np.float32)

    def advance(self, s: State, ids: Array, xp=np) -> State:
        """Registers after writing ids [B]. Ids that are not allowed lead to an undefined state."""
        k, v = xp.asarray(self.vocabulary.kind)[ids], xp.asarray(self.vocabulary.value)[ids]
        is_ = {name: k == i for name, i in self.vocabulary.index.items()}

        def on(kind: str, then: Array, otherwise: Array) -> Array:
            return xp.where(is_[kind], then, otherwise)

        lengths, line = xp.asarray(self.bar_lengths), is_["bar"]  # line: a bar begins
        shift = xp.where(line, s["bar_length"], 0)
        here = xp.maximum(s["position"], 0)
        moved = on("position", v - here, on("bar", s["bar_length"] - here, 0))
        s = s | {"line": s["line"] + shift}
        if self.infill:
            s, shift = holes.enter(s, is_, v, lengths, xp)
            moved, line = xp.where(s["filling"] == 1, 0, moved), line | is_["fill"]
        moment = is_["position"] | line
        track = on("track", v, s["track"])
        step = s["coarse"] * tempo.FINE + v
        length = s["long"] * DURATIONS + v + 1
        mine = xp.arange(TRACKS) == track[:, None]
        struck = mine[:, :, None] & (xp.arange(PITCHES) == s["pitch"][:, None])[:, None, :]
        rebased = xp.maximum(s["ends"] - xp.minimum(shift, 2**14)[:, None, None].astype(xp.int16), 0)
        end = (s["position"] + length)[:, None, None].astype(xp.int16)
        return s | self._stated(s, is_, v, mine, xp) | {
            "phase": xp.asarray(self.after)[s["phase"], k],
            "left": s["left"] - 1,
            "bars_left": s["bars_left"] - is_["bar"],
            "clock": s["clock"] + moved.astype(xp.float32) * s["unit"],
            "unit": on("fine", xp.asarray(self._usec)[xp.clip(step, 0, len(tempo.USEC) - 1)], s["unit"]),
            "tracks": s["tracks"] + is_["program"],
            "bar": s["bar"] + is_["bar"],
            "bar_length": on("meter", lengths[xp.minimum(v, len(lengths) - 1)], s["bar_length"]),
            "meter": on("meter", v, s["meter"]),
            "position": on("position", v, xp.where(line, -1, s["position"])),
            "coarse": on("coarse", v, s["coarse"]),
            "tempo": on("fine", step, s["tempo"]),
            "track": track,
            "noted": xp.where(moment, 0, xp.where(self._uses(is_), 1, s["noted"])),
            "pitch": on("pitch", v, xp.where(moment | is_["track"], -1, s["pitch"])),
            "long": on("long", v + 1, on("pitch", 0, s["long"])),
            "velocity": xp.where(mine & is_["velocity"][:, None], v[:, None].astype(xp.int16), s["velocity"]),
            "last": xp.where(mine & is_["pitch"][:, None], v[:, None].astype(xp.int16), s["last"]),
            "ends": xp.where(struck & is_["duration"][:, None, None], end, rebased),
        }  # fmt: skip

    def _uses(self, is_: dict[str, Array]) -> Array:
        """[B] whether an id is written of a track, so that none before it may follow at this position."""
        used = is_["track"] | is_["pitch"]
        return used | is_["pedal"] if "pedal" in is_ else used

    def _stated(self, s: State, is_: dict[str, Array], v: Array, mine: Array, xp) -> State:
        """The registers of keys, chords, pedals and controls, of those there are."""
        state = {kind: xp.where(is_[kind], v, s[kind]) for kind in self.stated}
        if "pedal" in is_:
            state["pedal"] = xp.where(mine & is_["pedal"][:, None], v[:, None].astype(xp.int16), s["pedal"])
        if self.controls:
            number = sum(i * is_[name] for i, name in enumerate(self.controls))
            state["control"] = xp.where(sum(is_[name] for name in self.controls) > 0, number, s["control"])
        return state

    def closing(self, s: State, xp=np) -> Array:
        """[B] whether the current bar must be the last, by the number of bars or seconds asked for."""
        here = xp.maximum(s["position"], 0)
        line = s["clock"] + (s["bar_length"] - here) * s["unit"]
        return (s["bars_left"] <= 0) | (line >= s["seconds"])

    def completes(self, s: State, xp=np) -> None:
        """None: a bar is complete only by the `bar` or `end` behind it."""

    def within(self, s: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] in which the `bar` that would exceed what was asked for is the `end`."""
        return ending(self.vocabulary, self.closing(s, xp), logits, xp)

    def allowed(self, s: State, xp=np) -> Array:
        """[B, V] which ids may be written next; never empty."""
        v = self.vocabulary
        need = xp.asarray(self.need)[s["phase"]] + (holes.cost(s, v, xp) if self.infill else 0)
        keep = need <= (s["left"] - 1)[:, None]  # [B, kinds]
        first = (s["phase"] == self.phase.first_meter) | (s["phase"] == self.phase.first_hole)
        own = xp.arange(TRACKS) == s["track"][:, None]
        velocity = self._of_track(s, "velocity", own, xp)
        free = s["ends"] <= xp.maximum(s["position"], 0)[:, None, None].astype(xp.int16)  # [B, tracks, pitches]
        mine = xp.any(own[:, :, None] & free, 1)
        some_free = xp.any(free, 2)
        sounded = (s["phase"] != self.phase.pitch) | (velocity >= 0)  # a velocity is in force

        def ids(kind: str) -> Array:
            return xp.arange(v.size(kind))[None]

        def column(name: str) -> Array:
            return s[name][:, None]

        parts = {
            "bar": ~self.closing(s, xp)[:, None],
            "meter": ids("meter") != column("meter"),
            "program": xp.broadcast_to(column("tracks") < TRACKS, (len(s["tracks"]), v.size("program"))),
            "track": (ids("track") < column("tracks")) & (some_free | ("pedal" in v.index))
            & (ids("track") != column("track"))
            & ((column("noted") == 0) | (ids("track") > column("track"))),
            "position": xp.where(first[:, None], ids("position") == 0,
                                 (ids("position") > column("position")) & (ids("position") < column("bar_length"))),
            "fine": column("coarse") * tempo.FINE + ids("fine") != column("tempo"),
            "pitch": mine & (ids("pitch") > column("pitch")) & (column("track") >= 0),
            "velocity": ids("velocity") != velocity[:, None],
            "micro": sounded[:, None] & ((column("bar") > 0) | (column("position") > 0) | (ids("micro") >= 10))
            if "micro" in v.index else None,
            "long": xp.broadcast_to(sounded[:, None], (len(sounded), v.size("long"))),
            "duration": xp.broadcast_to(sounded[:, None], (len(sounded), v.size("duration"))),
        }  # fmt: skip
        parts |= {kind: ids(kind) != column(kind) for kind in self.stated}
        if "pedal" in v.index:
            parts["pedal"] = (ids("pedal") != self._of_track(s, "pedal", own, xp)[:, None]) & (column("track") >= 0)
        for i, name in enumerate(self.controls):
            parts[name] = column("control") < i
        if self.infill:
            for kind, ok in holes.allowed(s, some_free, xp).items():
                if kind in v.index:
                    parts[kind] = parts[kind] & ok if kind in parts else ok
        columns = []
        for i, (kind, size) in enumerate(v.kinds):
            part = keep[:, i, None]
            extra = parts.get(kind)
            columns.append(xp.broadcast_to(part if extra is None else part & extra, (part.shape[0], size)))
        return xp.concatenate(columns, 1)

    def features(self, s: State, xp=np) -> dict[str, Array]:
        """{name: [B]} what the model is told at the id just written; values in range(feature_sizes[name])."""
        own = xp.arange(TRACKS) == s["track"][:, None]
        return {
            "phase": s["phase"],
            "position": s["position"] + 1,
            "bar": xp.where(s["bar"] < 0, BARS, s["bar"] % BARS),
            "meter": s["meter"] + 1,
            "track": s["track"] + 1,
            "last": self._pitch(s, "last", own, xp),
            "elapsed": s["line"] + xp.maximum(s["position"], 0),
            **{kind: s[kind] + (kind == "key") for kind in self.stated},
            **(self._between(s, own, xp) if self.infill else {}),
        }

    def _between(self, s: State, own: Array, xp) -> dict[str, Array]:
        """The features of an answer to holes: that it is one, the pitch behind it, the masked track that may come next."""
        behind = xp.where(s["filling"] == 1, self._pitch(s, "next", own, xp), PITCHES)
        return {"filling": s["filling"], "next": behind, "coming": holes.coming(s, xp).astype(xp.int32)}

    def _pitch(self, s: State, register: str, own: Array, xp) -> Array:
        """[B] a pitch of the track in force, PITCHES where there is no track or none of it."""
        return xp.where(s["track"] >= 0, self._of_track(s, register, own, xp), PITCHES)

    def _of_track(self, s: State, register: str, own: Array, xp) -> Array:
        """[B] a per-track register read at the track in force (-1 where there is none)."""
        found = xp.max(xp.where(own, s[register], -1), 1)
        return found.astype(xp.int32)
