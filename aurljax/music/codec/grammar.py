"""The grammar of the `score` codec: an automaton over ids that knows which id may come next.

A state is a dict of small integer registers, each with a leading batch axis. `init`, `advance`, `allowed` and
`features` are written on the array module handed in as `xp`, so the interpreter on the host (numpy) and the automaton
inside the sampling loop (jax.numpy) are one text. Every step is elementwise over at most tracks x pitches.

The automaton keeps every sequence in its one canonical form: positions, tracks and pitches ascend, nothing is written
that is already in force, no pitch is struck while it sounds, and there are always ids enough left to end the piece.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from aurljax.music.codec import tempo
from aurljax.music.codec.vocabulary import Vocabulary

Array = Any  # numpy or jax array
State = dict[str, Array]

TRACKS, PITCHES = 16, 128
DURATIONS = 96  # values of `duration`; a `long` id adds this many positions for each unit
BARS = 32  # the `bar` feature counts modulo this
PHASES = (
    "begin", "header", "first_bar", "first_meter", "first_position", "bar", "meter", "position",
    "coarse", "fine", "track", "pitch", "velocity", "micro", "long", "duration", "done",
)  # fmt: skip
# (phases, kind of the next id) -> phase after it. The first bar must state meter, position 0 and tempo.
NOTE_START = ("position", "fine", "duration")  # where a note may begin in the track in force
BAR_END = ("meter", "fine", "duration")  # where a bar has something in it and may end
ARROWS = (
    (("begin",), "start", "header"),
    (("begin",), "continue", "header"),
    (("header",), "program", "header"),
    (("header",), "bar", "first_bar"),
    (("first_bar",), "meter", "first_meter"),
    (("first_meter",), "position", "first_position"),
    (("first_position",), "coarse", "coarse"),
    (("bar", *BAR_END), "bar", "bar"),
    (BAR_END, "end", "done"),
    (("bar",), "meter", "meter"),
    (("bar", *BAR_END), "position", "position"),
    (("position",), "coarse", "coarse"),
    (("coarse",), "fine", "fine"),
    (NOTE_START, "track", "track"),
    ((*NOTE_START, "track"), "pitch", "pitch"),
    (("pitch",), "velocity", "velocity"),
    (("pitch", "velocity"), "micro", "micro"),
    (("pitch", "velocity", "micro"), "long", "long"),
    (("pitch", "velocity", "micro", "long"), "duration", "duration"),
    (("done",), "pad", "done"),
)
# Ids that suffice to end the piece from each phase; `allowed` never lets fewer be left.
NEED = {
    "begin": 7, "header": 6, "first_bar": 5, "first_meter": 4, "first_position": 3, "bar": 4, "meter": 1,
    "position": 3, "coarse": 2, "fine": 1, "track": 4, "pitch": 3, "velocity": 2, "micro": 2, "long": 2,
    "duration": 1, "done": 0,
}  # fmt: skip
UNLIMITED = 2**30


def ending(vocabulary: Vocabulary, closing: Array, logits: Array, xp=np) -> Array:
    """Logits [B, V] in which, of the rows that are `closing` [B], the weight of `bar` is added to that of `end`."""
    bar, end = vocabulary.id("bar"), vocabulary.id("end")
    closed = xp.where(closing, xp.logaddexp(logits[:, end], logits[:, bar]), logits[:, end])
    return xp.where(xp.arange(len(vocabulary)) == end, closed[:, None], logits)


class Grammar:
    """The automaton of a vocabulary; `bar_lengths` gives the bar length in positions of each meter id."""

    shortest = NEED["begin"]  # ids of the shortest piece
    pitch_features = ("last",)

    def __init__(self, vocabulary: Vocabulary, bar_lengths: np.ndarray):
        v, phase = vocabulary, {p: i for i, p in enumerate(PHASES)}
        self.vocabulary = v
        self.bar_lengths = np.asarray(bar_lengths, np.int32)
        self.after = np.full((len(PHASES), len(v.kinds)), -1, np.int32)
        for before, kind, then in ARROWS:
            if kind in v.index:
                for p in before:
                    self.after[phase[p], v.index[kind]] = phase[then]
        need = np.array([NEED[p] for p in PHASES], np.int32)
        self.need = np.where(self.after >= 0, need[self.after], UNLIMITED)  # ids to keep after taking a kind
        self.need[phase["done"]] = np.where(self.after[phase["done"]] >= 0, -UNLIMITED, UNLIMITED)  # padding is free
        self.phase = types.SimpleNamespace(**phase)
        self.feature_sizes = {
            "phase": len(PHASES),
            "position": v.size("position") + 1,
            "bar": BARS + 1,
            "meter": v.size("meter") + 1,
            "track": TRACKS + 1,
            "last": PITCHES + 1,
        }

    def init(self, batch: int, left: Array | int = UNLIMITED, xp=np) -> State:
        """Registers before the first id. `left`: ids that may still be written, [B] or one for all rows."""
        zero = xp.zeros(batch, xp.int32)
        none = zero - 1
        return {
            "phase": zero,
            "left": zero + xp.asarray(left, xp.int32),
            "bars_left": zero + UNLIMITED,  # bars that may still be begun
            "seconds": xp.full(batch, xp.inf, xp.float32),  # no bar begins at or after this time
            "clock": xp.zeros(batch, xp.float32),  # seconds at the current position
            "unit": xp.zeros(batch, xp.float32),  # seconds per position
            "tracks": zero,
            "bar": none,
            "bar_length": zero,
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
        }

    @functools.cached_property
    def _usec(self) -> np.ndarray:
        return (tempo.USEC / (24 * 1e6)).astype(np.float32)

    def advance(self, s: State, ids: Array, xp=np) -> State:
        """Registers after writing ids [B]. Ids that are not allowed lead to an undefined state."""
        k, v = xp.asarray(self.vocabulary.kind)[ids], xp.asarray(self.vocabulary.value)[ids]
        is_ = {name: k == i for name, i in self.vocabulary.index.items()}

        def on(kind: str, then: Array, otherwise: Array) -> Array:
            return xp.where(is_[kind], then, otherwise)

        bar, position, here = is_["bar"], is_["position"], xp.maximum(s["position"], 0)
        moved = on("position", v - here, on("bar", s["bar_length"] - here, 0))
        track = on("track", v, s["track"])
        step = s["coarse"] * tempo.FINE + v
        length = s["long"] * DURATIONS + v + 1
        mine = xp.arange(TRACKS) == track[:, None]
        struck = mine[:, :, None] & (xp.arange(PITCHES) == s["pitch"][:, None])[:, None, :]
        rebased = xp.where(
            bar[:, None, None],
            xp.maximum(s["ends"] - s["bar_length"][:, None, None].astype(xp.int16), 0),
            s["ends"],
        )
        end = (s["position"] + length)[:, None, None].astype(xp.int16)
        return {
            "phase": xp.asarray(self.after)[s["phase"], k],
            "left": s["left"] - 1,
            "bars_left": s["bars_left"] - bar,
            "seconds": s["seconds"],
            "clock": s["clock"] + moved.astype(xp.float32) * s["unit"],
            "unit": on("fine", xp.asarray(self._usec)[xp.clip(step, 0, len(tempo.USEC) - 1)], s["unit"]),
            "tracks": s["tracks"] + is_["program"],
            "bar": s["bar"] + bar,
            "bar_length": on("meter", xp.asarray(self.bar_lengths)[xp.minimum(v, len(self.bar_lengths) - 1)],
                             s["bar_length"]),
            "meter": on("meter", v, s["meter"]),
            "position": on("position", v, on("bar", -1, s["position"])),
            "coarse": on("coarse", v, s["coarse"]),
            "tempo": on("fine", step, s["tempo"]),
            "track": track,
            "noted": xp.where(position | bar, 0, xp.where(is_["track"] | is_["pitch"], 1, s["noted"])),
            "pitch": on("pitch", v, xp.where(position | bar | is_["track"], -1, s["pitch"])),
            "long": on("long", v + 1, on("pitch", 0, s["long"])),
            "velocity": xp.where(mine & is_["velocity"][:, None], v[:, None].astype(xp.int16), s["velocity"]),
            "last": xp.where(mine & is_["pitch"][:, None], v[:, None].astype(xp.int16), s["last"]),
            "ends": xp.where(struck & is_["duration"][:, None, None], end, rebased),
        }  # fmt: skip

    def closing(self, s: State, xp=np) -> Array:
        """[B] whether the current bar must be the last, by the number of bars or seconds asked for."""
        here = xp.maximum(s["position"], 0)
        line = s["clock"] + (s["bar_length"] - here) * s["unit"]
        return (s["bars_left"] <= 0) | (line >= s["seconds"])

    def within(self, s: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] in which the `bar` that would exceed what was asked for is the `end`."""
        return ending(self.vocabulary, self.closing(s, xp), logits, xp)

    def allowed(self, s: State, xp=np) -> Array:
        """[B, V] which ids may be written next; never empty."""
        v = self.vocabulary
        keep = xp.asarray(self.need)[s["phase"]] <= (s["left"] - 1)[:, None]  # [B, kinds]
        first = s["phase"] == self.phase.first_meter
        own = xp.arange(TRACKS) == s["track"][:, None]
        velocity = self._of_track(s, "velocity", own, xp)
        free = s["ends"] <= s["position"][:, None, None].astype(xp.int16)  # [B, tracks, pitches]
        mine = xp.any(own[:, :, None] & free, 1)
        sounded = (s["phase"] != self.phase.pitch) | (velocity >= 0)  # a velocity is in force

        def ids(kind: str) -> Array:
            return xp.arange(v.size(kind))[None]

        def column(name: str) -> Array:
            return s[name][:, None]

        parts = {
            "bar": ~self.closing(s, xp)[:, None],
            "meter": ids("meter") != column("meter"),
            "program": xp.broadcast_to(column("tracks") < TRACKS, (len(s["tracks"]), v.size("program"))),
            "track": (ids("track") < column("tracks")) & xp.any(free, 2) & (ids("track") != column("track"))
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
        columns = []
        for i, (kind, size) in enumerate(v.kinds):
            part = keep[:, i, None]
            extra = parts.get(kind)
            columns.append(xp.broadcast_to(part if extra is None else part & extra, (part.shape[0], size)))
        return xp.concatenate(columns, 1)

    def features(self, s: State, xp=np) -> dict[str, Array]:
        """{name: [B]} what the model is told at the id just written; values in range(feature_sizes[name])."""
        own = xp.arange(TRACKS) == s["track"][:, None]
        last = xp.where(s["track"] >= 0, self._of_track(s, "last", own, xp), PITCHES)
        return {
            "phase": s["phase"],
            "position": s["position"] + 1,
            "bar": xp.where(s["bar"] < 0, BARS, s["bar"] % BARS),
            "meter": s["meter"] + 1,
            "track": s["track"] + 1,
            "last": last,
        }

    def _of_track(self, s: State, register: str, own: Array, xp) -> Array:
        """[B] a per-track register read at the track in force (-1 where there is none)."""
        found = xp.max(xp.where(own, s[register], -1), 1)
        return found.astype(xp.int32)
