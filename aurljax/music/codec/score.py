"""The `score` codec: bars and positions on a grid of 24 per quarter, up to 16 tracks, and what a user asks for beside.

A piece reads: start, controls, one `program` per track, then bars. A bar is `bar`, `meter` where it changes, a `hole` per
masked track, and events by position: `position`, a new tempo (`coarse` `fine`), `key`, `chord`, then by track its `pedal`
and notes by pitch. A note is `track` where it changes, `pitch`, `velocity` where the track's changes, `micro` where not
zero, `long` for each 96 positions beyond, `duration`. Behind the last bar every bar with holes is answered: `fill`, the
notes of its masked tracks as in any bar, `filled`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from aurljax.errors import UserError
from aurljax.music import chords
from aurljax.music.codec import score_layout, score_text, tempo
from aurljax.music.codec.base import Codec
from aurljax.music.codec.grammar import DURATIONS, TRACKS, Grammar
from aurljax.music.codec.markings import CHORDS, KEYS, NO_CHORD, PEDAL
from aurljax.music.codec.phases import KINDS
from aurljax.music.codec.score_layout import BARS, DRUMS, GRID, LONG, MICRO, RESOLUTION, UNIT, Layout
from aurljax.music.codec.vocabulary import CodecError, Vocabulary
from aurljax.music.score import CHANGE, CONTROL, KEY, METER, NOTE, TEMPO, TRACK, Score

POSITIONS = 8 * GRID  # the longest bar
VELOCITIES = 32
METERS, BAR = BARS.table, BARS.lengths  # (numerator, denominator) and positions per bar of each meter id
Cells = Iterable[tuple[int, int]]  # (bar, track)


@dataclasses.dataclass(frozen=True)
class ScoreCodec(Codec):
    """Score <-> ids. Written on top of notes, programs, meters and tempi:

    microtiming: onsets keep a residual in ticks of 480; without, they snap to the grid. pedal: the sustain pedal. keys,
    chords: key signatures and chord symbols. infill: cells (bar, track) may be masked and answered behind the piece.
    controls: (name, number of values) each, which `Score.meta[name]` holds as digits.
    """

    microtiming: bool = False
    pedal: bool = False
    keys: bool = False
    chords: bool = False
    infill: bool = False
    controls: tuple[tuple[str, int], ...] = ()
    name = "score"

    def __post_init__(self):
        object.__setattr__(self, "controls", tuple(_control(c) for c in self.controls))
        names = [*KINDS, *(name for name, _ in self.controls)]
        if double := next((n for n in names if names.count(n) > 1), None):
            raise UserError(f"controls: the name {double!r} is taken; choose another")

    @property
    def options(self) -> dict[str, Any]:
        """What `make` needs to build this codec again."""
        return dataclasses.asdict(self)

    @property
    def _kinds(self) -> list[tuple[str, int]]:
        kinds = [("pad", 1), ("start", 1), ("continue", 1), ("end", 1), ("bar", 1), ("meter", len(METERS))]
        kinds += [("program", DRUMS + 1), ("track", TRACKS), ("position", POSITIONS)]
        kinds += [("coarse", tempo.COARSE), ("fine", tempo.FINE), ("pitch", 128), ("velocity", VELOCITIES)]
        kinds += [("micro", len(MICRO))] * self.microtiming + [("long", LONG), ("duration", DURATIONS)]
        kinds += [("pedal", 2)] * self.pedal + [("key", KEYS)] * self.keys + [("chord", CHORDS)] * self.chords
        return kinds + [("hole", TRACKS), ("fill", 1), ("filled", 1)] * self.infill

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids: about 860, and those of the options."""
        return Vocabulary((*self._kinds, *self.controls))

    @functools.cached_property
    def grammar(self) -> Grammar:
        """Which ids may follow which."""
        return Grammar(self.vocabulary, BAR, tuple(name for name, _ in self.controls))

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits; corpora of windows and checkpoints are bound to it."""
        return self.vocabulary.fingerprint(codec=self.name, layout=2 + self.infill, **self.options)

    # --- Score -> ids ----------------------------------------------------------------------------------------------

    def encode(self, score: Score, bars: tuple[int, int] | None = None, holes: Cells = ()) -> np.ndarray:
        """`Codec.encode`; with `holes`, the notes of those cells (bar of the piece, track) are answered at the end.

        A piece is as long as its last hole at least; empty bars at the end of a window with holes are left out. Pedals of
        a masked track stay. ValueError: no `infill`, a hole outside the window or the tracks, more than 128
        bars with holes."""
        layout, cells = self.layout(score), tuple(sorted({(int(b), int(t)) for b, t in holes}))
        if cells and not self.infill:
            raise ValueError("holes: this codec writes none; make it with infill=True")
        if cells and bars is None:
            layout = layout.reaching(cells[-1][0])
        return self.framed(layout, bars, cells)

    def window(self, layout: Layout, first: str, a: int, b: int, holes: tuple[tuple[int, int], ...] = ()) -> np.ndarray:
        """Ids of bars a..b-1 behind `first`, controls and programs. Notes that sound into them are left out."""
        known = np.flatnonzero(layout.control >= 0)
        control = [self.vocabulary.id(self.controls[i][0], int(layout.control[i])) for i in known.tolist()]
        programs = self.vocabulary.id("program") + layout.tracks
        return np.concatenate(
            [[self.vocabulary.id(first)], control, programs, score_text.bars(self, layout, a, b, holes)]
        )

    def bar_lengths(self, score: Score) -> np.ndarray:
        """int32 [bars] ids of each bar when the whole piece is encoded."""
        layout = self.layout(score)
        body = score_text.bars(self, layout, 0, layout.bars)
        starts = self.bar_starts(body, layout.bars)
        return np.diff(np.append(starts, len(body))).astype(np.int32)

    def bar_starts(self, ids: np.ndarray, count: int) -> np.ndarray:
        """[count] where the first bars of a sequence begin, of those it has."""
        return np.flatnonzero(np.asarray(ids) == self.vocabulary.id("bar"))[:count]

    @property
    def early(self) -> int:
        """Ticks that a note of a bar may begin before its bar line."""
        return int(-MICRO.min()) if self.microtiming else 0

    def finished(self, ids: np.ndarray) -> tuple[int, np.ndarray]:
        """`Codec.finished`; a bar with a hole waits for its answer, and so do all behind it."""
        count, told = super().finished(ids)
        holes = self.holes(ids) if ids[-1] != self.vocabulary.id("end") else []
        if holes and holes[0][0] < count:
            count = holes[0][0]
            told = ids[: self.bar_starts(ids, count + 1)[-1]]
        return count, told

    def overhead(self, score: Score) -> int:
        """Most ids that a window may have beyond those of its bars: ends, controls, programs, meter, tempo, key, chord,
        pedals, running status."""
        tracks = min(len(score.tracks), TRACKS)
        return 7 + len(self.controls) + 2 * tracks + self.keys + self.chords + 2 * tracks * self.pedal

    def layout(self, score: Score) -> Layout:
        """The score on the grid, with what does not fit counted in `lost`."""
        return score_layout.of(score, self)

    # --- ids -> Score ----------------------------------------------------------------------------------------------

    def decode(self, tokens) -> Score:
        """The Score of ids that begin with `start` or `continue`, holes filled where their answers stand; raises
        CodecError where ids break off. A filled note ends where the piece strikes its pitch again, and the reverse."""
        ids = self.vocabulary.written(tokens)
        kind, value, number = self.vocabulary.kind[ids], self.vocabulary.value[ids], self.vocabulary.index
        at = {k: np.flatnonzero(kind == i) for k, i in number.items()}
        self._check(at, kind, value)
        index = np.arange(len(ids))
        lengths = BAR[value[at["meter"]]]
        bar = np.cumsum(kind == number["bar"]) - 1
        of_bar = np.searchsorted(at["meter"], np.append(at["bar"][1:], len(ids))) - 1  # meter in force in each bar
        lines = np.append(0, np.cumsum(lengths[of_bar])) if len(at["bar"]) else np.zeros(1, int)
        track = value[_last(index, kind == number["track"])]
        if self.infill and len(at["fill"]):
            which = np.cumsum(kind == number["fill"])
            bar = np.where(which > 0, np.unique(bar[at["hole"]])[which - 1], bar)
        place = np.zeros(len(ids), np.int64)
        place[at["position"]] = lines[bar[at["position"]]] + value[at["position"]]
        place = place[_last(index, kind == number["position"])]

        programs = value[at["program"]]
        tracks = np.array([(0, True) if p == DRUMS else (p, False) for p in programs], TRACK)
        step = value[at["coarse"]] * tempo.FINE + value[at["fine"]]
        score = Score(
            RESOLUTION,
            notes=self._decode_notes(at, kind, value, place, track),
            tracks=tracks,
            tempo=np.rec.fromarrays([place[at["coarse"]] * UNIT, tempo.USEC[step]], dtype=TEMPO).view(np.ndarray)
            if len(step) else (),
            meter=np.array([(lines[bar[i]] * UNIT, *METERS[value[i]]) for i in at["meter"]], METER),
        )  # fmt: skip
        return self._decode_stated(score, at, value, place * UNIT, track)

    def _decode_stated(self, score: Score, at, value, tick: np.ndarray, track: np.ndarray) -> Score:
        """The score with keys, chords (as markers in Harte's syntax), pedals and controls."""
        if self.keys:
            v = value[at["key"]]
            score = score.replace(
                key=np.rec.fromarrays([tick[at["key"]], v % 15 - 7, v >= 15], dtype=KEY).view(np.ndarray)
            )
        if self.chords:
            score = score.replace(texts=[(tick[i], "marker", _symbol(value[i])) for i in at["chord"]])
        if self.pedal:
            controls = np.zeros(len(at["pedal"]), CONTROL)
            controls["tick"], controls["track"] = tick[at["pedal"]], track[at["pedal"]]
            controls["kind"], controls["number"], controls["value"] = CHANGE, PEDAL, 127 * value[at["pedal"]]
            score = score.replace(controls=controls)
        if self.controls:
            given = {name: str(value[at[name][0]]) for name, _ in self.controls if len(at[name])}
            score = score.replace(meta=given)
        return score

    def holes(self, tokens) -> list[tuple[int, int]]:
        """(bar, track) of the holes in ids, in their order; bars count from the first of the sequence."""
        ids = self.vocabulary.written(tokens)
        kind, number = self.vocabulary.kind[ids], self.vocabulary.index
        if not self.infill:
            return []
        bar, at = np.cumsum(kind == number["bar"]) - 1, np.flatnonzero(kind == number["hole"])
        return list(zip(bar[at].tolist(), self.vocabulary.value[ids][at].tolist(), strict=True))

    def _decode_notes(self, at, kind, value, place, track) -> np.ndarray:
        number, start = self.vocabulary.index, at["pitch"]
        notes = np.zeros(len(start), NOTE)
        if not len(start):
            return notes
        owner = np.cumsum(kind == number["pitch"]) - 1  # the note each id belongs to
        track = track[start]
        velocity = np.full(len(start), -1)
        velocity[owner[at["velocity"]]] = value[at["velocity"]]
        length, micro = value[at["duration"]] + 1, np.zeros(len(start), np.int64)
        length[owner[at["long"]]] += DURATIONS * (value[at["long"]] + 1)
        if self.microtiming:
            micro[owner[at["micro"]]] = MICRO[value[at["micro"]]]
        order = np.argsort(track, kind="stable")
        if (velocity[order][np.append(True, np.diff(track[order]) != 0)] < 0).any():
            raise CodecError("the first note of a track lacks its `velocity`")
        velocity[order] = velocity[order][_last(np.arange(len(start)), velocity[order] >= 0)]
        notes["onset"] = place[start] * UNIT + micro
        notes["duration"] = length * UNIT
        notes["track"], notes["pitch"], notes["velocity"] = track, value[start], 4 * velocity + 2
        return _clip(notes, place[start] * UNIT)

    def _check(self, at: dict[str, np.ndarray], kind: np.ndarray, value: np.ndarray) -> None:
        """The few rules `decode` leans on; the grammar knows them all."""
        n = self.vocabulary.index
        if self.infill:
            _check_fills(at, np.cumsum(kind == n["bar"]))
        begins = np.isin(kind[:1], [n["start"], n["continue"]])
        if not len(kind) or not begins[0]:
            raise CodecError("a sequence of ids must begin with `start` or `continue`")
        body = [n[k] for k in ("velocity", "micro", "long") if k in n]
        inner = np.isin(kind, body)
        legal = {n["duration"]: [n["pitch"], *body], n["fine"]: [n["coarse"]]}
        for k, before in legal.items():
            if not np.isin(kind[np.flatnonzero(kind == k) - 1], before).all():
                raise CodecError(f"`{self.vocabulary.kinds[k][0]}` follows an id that does not lead to it")
        if any((value[at[k]] >= len(at["program"])).any() for k in ("track", "hole") if k in at):
            raise CodecError("a `track` or `hole` names a track that has no `program`")
        opened = np.flatnonzero((kind == n["pitch"]) | (kind == n["coarse"]) | inner)
        if len(opened) and (opened[-1] + 1 == len(kind) or len(at["pitch"]) != len(at["duration"])):
            raise CodecError(f"id {opened[-1]} opens a note or tempo that is not completed")
        for need, by in (
            ("bar", "meter"),
            ("meter", "bar"),
            ("bar", "position"),
            ("position", "pitch"),
            ("track", "pitch"),
        ):
            if len(at[by]) and (not len(at[need]) or (need != "meter" and at[need][0] > at[by][0])):
                raise CodecError(f"`{by}` stands before any `{need}`")
        if len(at["coarse"]) != len(at["fine"]):
            raise CodecError("a `coarse` tempo lacks its `fine` part")

    # --- what the model is told ------------------------------------------------------------------------------------

    def features(self, tokens) -> dict[str, np.ndarray]:
        """{name: int32 [T]} the grammar's features at every id, equal to stepping it, without the stepping."""
        from aurljax.music.codec.features import of_score

        return of_score(self.grammar, np.asarray(tokens))

    def loss_report(self, score: Score) -> dict[str, float]:
        """What encoding this score loses: counts, and worst errors in seconds and velocity steps."""
        from aurljax.music.codec.report import of_score

        return of_score(self, score)


def _last(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """[N] the index of the last true entry up to each place (0 where there is none yet)."""
    return np.maximum.accumulate(np.where(where, values, 0))


def _clip(notes: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Notes ended where the next of their pitch and track begins: micro-timing can make them touch, and answers to holes
    overlap the piece. `place` [N]: onsets without micro-timing; lengths are whole positions, as far as there is room."""
    order = np.lexsort([notes["onset"], notes["pitch"], notes["track"]])
    n, place = notes[order], place[order]
    same = (n["track"][1:] == n["track"][:-1]) & (n["pitch"][1:] == n["pitch"][:-1])
    room = np.minimum(n["onset"][1:] - n["onset"][:-1], np.maximum(place[1:] - place[:-1], 1))
    n["duration"][:-1] = np.minimum(n["duration"][:-1], np.where(same, room, np.iinfo(np.int64).max))
    return n


def _control(declared: Any) -> tuple[str, int]:
    match declared:
        case (str(name), int(size)) if name and 1 <= size <= 1024:
            return name, size
    raise UserError(f"controls: {declared!r} is no (name, number of values from 1 to 1024)")


def _symbol(chord: int) -> str:
    if chord == NO_CHORD:
        return "N"
    root, quality = divmod(int(chord), len(chords.QUALITIES))
    return f"{chords.ROOTS[root]}:{chords.QUALITIES[quality]}"


def _check_fills(at: dict[str, np.ndarray], bar: np.ndarray) -> None:
    """Answers come in pairs of `fill` and `filled`, behind the bars, no more than there are bars with holes, and name the
    track of their first note. `bar` [T]: how many bars have begun."""
    fill, filled = at["fill"], at["filled"]
    late = [at[k][-1] for k in ("bar", "hole") if len(at[k])]
    paired = len(fill) - 1 <= len(filled) <= len(fill)
    if not paired or (fill[: len(filled)] > filled).any() or (fill[1:] < filled[: len(fill) - 1]).any():
        raise CodecError("every `fill` must end in a `filled` before the next one")
    if len(fill) > (count := len(np.unique(bar[at["hole"]]))):
        raise CodecError(f"{len(fill)} `fill` answer {count} bars with holes")
    if len(fill) and max(late, default=-1) > fill[0]:
        raise CodecError("after the first `fill` no bar or hole can stand")
    track, pitch = (np.append(at[k], len(bar))[np.searchsorted(at[k], fill)] for k in ("track", "pitch"))
    if ((pitch < track) & (pitch < np.append(fill[1:], len(bar))[: len(fill)])).any():
        raise CodecError("after a `fill` the first note must name its `track`")
