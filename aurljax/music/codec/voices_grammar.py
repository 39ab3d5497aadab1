"""The grammar of the `voices` codec: an automaton over ids, written like that of `score` for numpy and jax alike.

A unit is what a piece consists of in whole numbers: a bar, or a frame where no bar lines are written. A piece ends after
a unit in which something sounds (or after its first), for a score does not know of silence after its last note. So the
last id of a silent unit is a `rest` only if another unit can follow. Where ids run short, a bar begins only if one of the
meter in force still fits: a piece rather ends there than in a bar cut to what is left.
"""

from __future__ import annotations

import types

import numpy as np

from aurljax.music.codec.grammar import BARS, PITCHES, UNLIMITED, Array, State, ending
from aurljax.music.codec.vocabulary import Vocabulary
from aurljax.music.score import DEFAULT_USEC

REST, NONE = PITCHES, PITCHES + 1  # what a voice sounds beside a pitch: nothing, and nothing yet
PHASES = ("begin", "header", "bar", "meter", "tempo", "cells", "line", "done")
AFTER = {"start": "header", "continue": "header", "bar": "bar", "meter": "meter", "tempo": "tempo"}
CELLS = ("rest", "hold", "pitch")
STEP, SPAN = 12, 48  # semitones: the widest motion of a voice, and interval between voices, that is told exactly


def interval(a: Array, b: Array, widest: int, xp=np) -> Array:
    """Feature value of a - b in semitones, clipped to -widest..widest and counted from 0; the value after the last where
    either is no pitch."""
    return xp.where((a < PITCHES) & (b < PITCHES), xp.clip(a - b, -widest, widest) + widest, 2 * widest + 1)


class VoicesGrammar:
    """The automaton of `voices` voices on a grid of frames; where the vocabulary has no `bar`, of frames alone.

    lengths: [meters] frames of a bar; usec: [tempi] microseconds per quarter; block: frames counted as a bar where none
    are written; intervals: whether the features tell of the other voices, and of motion.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        voices: int,
        grid: int,
        lengths: np.ndarray,
        usec: np.ndarray,
        block: int,
        intervals: bool = False,
    ):
        self.vocabulary, self.voices, self.block, self.intervals = vocabulary, voices, block, intervals
        self.barlines, self.onsets = "bar" in vocabulary.index, "hold" in vocabulary.index
        self.lengths = np.asarray(lengths, np.int32)
        self.seconds = (np.asarray(usec) / (1e6 * grid)).astype(np.float32)  # per frame
        self.unit = DEFAULT_USEC / (1e6 * grid)
        self.phase = types.SimpleNamespace(**{p: i for i, p in enumerate(PHASES)})
        self.phase_of = np.array([getattr(self.phase, AFTER.get(k, "done")) for k, _ in vocabulary.kinds], np.int32)
        self.oldest = 8 * grid
        self.first = 3 + int(self.lengths.min()) * voices if self.barlines else voices  # ids of the shortest first unit
        self.shortest = self.first + 2  # ids of the shortest piece
        self.feature_sizes = {
            "phase": len(PHASES),
            "voice": voices,
            "position": int(self.lengths.max()) if self.barlines else block,
            "bar": BARS + 1,
            "last": NONE + 1,
            "age": self.oldest + 1,
            "above": NONE + 1,
        }
        if self.barlines:
            self.feature_sizes["meter"] = len(self.lengths) + 1
        self.pitch_features = ("last", "above")
        if intervals:
            self.pitch_features = ("last", *(f"sound_{k}" for k in range(1, voices)))
            del self.feature_sizes["above"]  # is among the others
            self.feature_sizes["step"] = 2 * STEP + 2
            for k in range(1, voices):
                sizes = {"sound": NONE + 1, "interval": 2 * SPAN + 2, "step": 2 * STEP + 2, "age": self.oldest + 1}
                self.feature_sizes |= {f"{name}_{k}": size for name, size in sizes.items()}

    def init(self, batch: int, left: Array | int = UNLIMITED, xp=np) -> State:
        """Registers before the first id. `left`: ids that may still be written, [B] or one for all rows."""
        zero = xp.zeros(batch, xp.int32)
        return {
            "phase": zero,
            "left": zero + xp.asarray(left, xp.int32),
            "bars_left": zero + UNLIMITED,  # bars (or blocks of frames) that may still be begun
            "seconds": xp.full(batch, xp.inf, xp.float32),  # no bar (or frame) begins at or after this time
            "clock": xp.zeros(batch, xp.float32),  # seconds at the beginning of the unit
            "unit": xp.full(batch, self.unit, xp.float32),  # seconds of a frame
            "bar": zero - 1,
            "bar_length": zero + (0 if self.barlines else 1),  # frames of a unit
            "meter": zero - 1,
            "tempo": zero - 1,
            "frame": zero,  # in its bar or block, of the next cell
            "voice": zero,  # of the next cell
            "sounded": zero + 1,  # whether something sounds in the unit, or it is the first
            "above": zero + NONE,  # what the voice above the next cell sounds in this frame
            "last": xp.full((batch, self.voices), NONE, xp.int16),  # what each voice sounded last
            "age": xp.zeros((batch, self.voices), xp.int16),  # for how many frames
            "step": xp.full((batch, self.voices), 2 * STEP + 1, xp.int16),  # how it came there: an `interval`
        }

    def advance(self, s: State, ids: Array, xp=np) -> State:
        """Registers after writing ids [B]. Ids that are not allowed lead to an undefined state."""
        k, value = xp.asarray(self.vocabulary.kind)[ids], xp.asarray(self.vocabulary.value)[ids]
        is_ = {name: k == i for name, i in self.vocabulary.index.items()}
        no = xp.zeros(k.shape, bool)
        bar, hold, pitch, rest = is_.get("bar", no), is_.get("hold", no), is_["pitch"], is_["rest"]
        meter, tempo, cell = is_.get("meter", no), is_.get("tempo", no), hold | pitch | rest

        mine = xp.arange(self.voices) == s["voice"][:, None]
        before = self._own(s, "last", xp)
        sound = xp.where(pitch, value, xp.where(rest, REST, before))
        goes_on = hold | (cell & (sound == before) & ~(pitch & self.onsets))
        age = xp.where(goes_on, xp.minimum(self._own(s, "age", xp) + 1, self.oldest), 1)
        step = xp.where(goes_on, self._own(s, "step", xp), interval(sound, before, STEP, xp))

        wrapped = cell & (s["voice"] == self.voices - 1)
        voice = xp.where(cell, (s["voice"] + 1) % self.voices, s["voice"])
        frame = s["frame"] + wrapped
        length = s["bar_length"] if self.barlines else xp.full_like(frame, self.block)
        full = wrapped & (frame >= length)  # the bar or block
        complete = full if self.barlines else wrapped  # the unit
        resumed = (s["phase"] == self.phase.line) & (bar | (cell & (not self.barlines)))
        begun = bar if self.barlines else cell & (s["voice"] == 0) & (s["frame"] == 0)
        written = xp.where(complete, self.phase.line, self.phase.cells)
        return {
            "phase": xp.where(cell, written, xp.asarray(self.phase_of)[k]),
            "left": s["left"] - 1,
            "bars_left": s["bars_left"] - begun,
            "seconds": s["seconds"],
            "clock": s["clock"] + xp.where(complete, s["bar_length"].astype(xp.float32) * s["unit"], 0),
            "unit": xp.where(tempo, xp.asarray(self.seconds)[xp.minimum(value, len(self.seconds) - 1)], s["unit"]),
            "bar": s["bar"] + begun,
            "bar_length": xp.where(meter, xp.asarray(self.lengths)[xp.minimum(value, len(self.lengths) - 1)],
                                   s["bar_length"]),
            "meter": xp.where(meter, value, s["meter"]),
            "tempo": xp.where(tempo, value, s["tempo"]),
            "frame": xp.where(full | bar, 0, frame),
            "voice": voice,
            "sounded": xp.where(hold | pitch, 1, xp.where(resumed, 0, s["sounded"])),
            "above": xp.where(cell, xp.where(voice == 0, NONE, sound), s["above"]),
            "last": xp.where(mine & cell[:, None], sound[:, None], s["last"]).astype(xp.int16),
            "age": xp.where(mine & cell[:, None], age[:, None], s["age"]).astype(xp.int16),
            "step": xp.where(mine & cell[:, None], step[:, None], s["step"]).astype(xp.int16),
        }  # fmt: skip

    def completes(self, s: State, xp=np) -> Array:
        """[B] whether the next id, if it is a cell, is the last of its unit."""
        return (s["voice"] == self.voices - 1) & (s["frame"] + 1 >= xp.where(self.barlines, s["bar_length"], 0))

    def closing(self, s: State, xp=np) -> Array:
        """[B] whether no further unit may begin, by the number of bars or seconds asked for."""
        at_line = s["phase"] == self.phase.line
        full = (s["frame"] == 0) | self.barlines
        here = (full & (s["bars_left"] <= 0)) | (s["clock"] >= s["seconds"])
        return xp.where(at_line, here, self._final(s, xp))

    def within(self, s: State, logits: Array, xp=np) -> Array:
        """Logits [B, V] in which the `bar` that would exceed what was asked for is the `end`; without bar lines nothing
        but `end` is left there."""
        return ending(self.vocabulary, self.closing(s, xp), logits, xp) if self.barlines else logits

    def _final(self, s: State, xp) -> Array:
        """[B] whether no further unit may begin after the one that the next cell belongs to."""
        full = ((s["frame"] + 1) % self.block == 0) | self.barlines
        then = s["clock"] + s["bar_length"].astype(xp.float32) * s["unit"]
        return (full & (s["bars_left"] <= 0)) | (then >= s["seconds"])

    def allowed(self, s: State, xp=np) -> Array:
        """[B, V] which ids may be written next; never empty."""
        v, voices, phase = self.vocabulary, self.voices, self.phase
        at = {p: s["phase"] == i for p, i in vars(phase).items()}
        room = s["left"] - 1  # ids after the next one
        whole = s["bar_length"] * voices  # cells of a unit
        done = s["frame"] * voices * self.barlines + s["voice"]  # cells of this one
        after = whole - done - 1  # cells after the next one
        silent = ~at["header"] & (at["line"] | (s["sounded"] == 0))  # so far
        more = at["header"] | (at["line"] & (~self.closing(s, xp) | (s["sounded"] == 0)))  # a unit may begin
        stated = (s["meter"] >= 0) & (s["tempo"] >= 0)
        inside = ((at["bar"] | at["meter"]) & stated) | at["tempo"] | at["cells"]
        cell = (inside | (more & (not self.barlines))) & (after + 1 <= room)
        again = whole + 1 + self.barlines  # ids of another unit and the `end`
        rest = cell & ((after > 0) | ~silent | (~self._final(s, xp) & (again <= room)))

        def ids(kind: str) -> Array:
            return xp.arange(v.size(kind))[None]

        parts = {
            "pad": at["done"],
            "start": at["begin"] & (self.first + 1 <= room),
            "continue": at["begin"] & (self.first + 1 <= room),
            "end": at["line"] & (s["sounded"] > 0),
            "rest": rest,
            "pitch": cell,
            "hold": cell & (self._own(s, "last", xp) < REST),
        }
        if self.barlines:
            need = 1 + (s["tempo"] < 0)[:, None] + xp.asarray(self.lengths) * voices
            parts["bar"] = more & (xp.where(at["header"], self.first, whole + 1) <= room)
            parts["meter"] = at["bar"][:, None] & (ids("meter") != s["meter"][:, None]) & (need <= room[:, None])
            stated = (at["bar"] | at["meter"]) & (s["meter"] >= 0) & (whole + 1 <= room)
            parts["tempo"] = stated[:, None] & (ids("tempo") != s["tempo"][:, None])
        columns = []
        for kind, size in v.kinds:
            part = parts[kind] if parts[kind].ndim == 2 else parts[kind][:, None]
            columns.append(xp.broadcast_to(part, (part.shape[0], size)))
        return xp.concatenate(columns, 1)

    def features(self, s: State, xp=np) -> dict[str, Array]:
        """{name: [B]} what the model is told at the id just written, most of it about the next cell: its voice, its
        position in the bar, what that voice sounded last and for how long, and what the voice above sounds now. With
        `intervals`, for the latter, how that voice came to its last pitch, and of each of the k voices written before
        it, the nearest first: what it sounds, the interval to that from the last pitch, how it came there and for how
        long it is there."""
        out = {
            "phase": s["phase"],
            "voice": s["voice"],
            "position": s["frame"],
            "bar": xp.where(s["bar"] < 0, BARS, s["bar"] % BARS),
            "last": self._own(s, "last", xp),
            "age": self._own(s, "age", xp),
        }
        if self.barlines:
            out["meter"] = s["meter"] + 1
        if not self.intervals:
            out["above"] = s["above"]
        else:
            out["step"] = self._own(s, "step", xp)
            for k in range(1, self.voices):
                out[f"sound_{k}"] = self._own(s, "last", xp, k)
                out[f"interval_{k}"] = interval(out[f"sound_{k}"], out["last"], SPAN, xp)
                out[f"step_{k}"], out[f"age_{k}"] = self._own(s, "step", xp, k), self._own(s, "age", xp, k)
        return out

    def _own(self, s: State, register: str, xp, back: int = 0) -> Array:
        """[B] a per-voice register read at the voice of the next cell, or of so many cells before it."""
        own = xp.arange(self.voices) == (s["voice"][:, None] - back) % self.voices
        return xp.max(xp.where(own, s[register], 0), 1).astype(xp.int32)
