"""The `score` codec: bars and positions on a grid of 24 per quarter, up to 16 tracks, optional micro-timing.

A piece reads: start, one `program` per track, then bars. A bar is `bar`, `meter` where it changes, and events by
position: `position`, a new tempo (`coarse` `fine`), notes by track and pitch. A note is `track` where it changes,
`pitch`, `velocity` where the track's changes, `micro` where not zero, `long` for each 96 positions beyond, `duration`.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aurljax.music.codec import tempo
from aurljax.music.codec.base import Codec
from aurljax.music.codec.grammar import DURATIONS, TRACKS, Grammar
from aurljax.music.codec.meters import Meters
from aurljax.music.codec.vocabulary import CodecError, Vocabulary
from aurljax.music.score import METER, NOTE, TEMPO, TRACK, Score, rounded

GRID = 24  # positions per quarter
UNIT = 20  # ticks per position
RESOLUTION = GRID * UNIT
POSITIONS = 8 * GRID  # the longest bar
VELOCITIES, LONG = 32, 31
DRUMS = 128  # the `program` value of a drum track
BARS = Meters(GRID)
METERS, BAR = BARS.table, BARS.lengths  # (numerator, denominator) and positions per bar of each meter id
MICRO = np.array([m for m in range(-10, 10) if m])  # ticks beside the grid
SLOTS = ("position", "track", "pitch", "velocity", "micro", "long", "duration")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A score on the grid: what `encode` writes down and `loss_report` compares."""

    lines: np.ndarray  # [bars + 1] first position of each bar
    meter: np.ndarray  # [bars] meter id
    tempo: np.ndarray  # [M, 2] position, step
    tracks: np.ndarray  # [<= 16] program values
    note: dict[str, np.ndarray]  # columns at, track, pitch, velocity, micro, length (positions), source (row)
    lost: dict[str, int]

    @property
    def bars(self) -> int:
        """Number of bars."""
        return len(self.meter)

    @property
    def kept(self) -> np.ndarray:
        """[kept] rows of the score's notes that are written, in the order of the notes of its decoding."""
        n = self.note
        return n["source"][np.lexsort([n["pitch"], n["track"], n["at"] * UNIT + n["micro"]])]


@dataclasses.dataclass(frozen=True)
class ScoreCodec(Codec):
    """Score <-> ids. With `microtiming` onsets keep a residual in ticks of 480; without, they snap to the grid."""

    microtiming: bool = False
    name = "score"

    @property
    def options(self) -> dict[str, bool]:
        """What `make` needs to build this codec again."""
        return dataclasses.asdict(self)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids: about 880."""
        kinds = [("pad", 1), ("start", 1), ("continue", 1), ("end", 1), ("bar", 1), ("meter", len(METERS))]
        kinds += [("program", DRUMS + 1), ("track", TRACKS), ("position", POSITIONS)]
        kinds += [("coarse", tempo.COARSE), ("fine", tempo.FINE), ("pitch", 128), ("velocity", VELOCITIES)]
        kinds += [("micro", len(MICRO))] * self.microtiming + [("long", LONG), ("duration", DURATIONS)]
        return Vocabulary(tuple(kinds))

    @functools.cached_property
    def grammar(self) -> Grammar:
        """Which ids may follow which."""
        return Grammar(self.vocabulary, BAR)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits; corpora of windows and checkpoints are bound to it."""
        return self.vocabulary.fingerprint(codec=self.name, layout=1, **self.options)

    # --- Score -> ids ----------------------------------------------------------------------------------------------

    def window(self, layout: Layout, first: str, a: int, b: int) -> np.ndarray:
        """Ids of bars a..b-1 behind `first` and the programs. Notes that sound into them are left out."""
        head = np.append(self.vocabulary.id(first), self._id("program", layout.tracks))
        return np.concatenate([head, self._body(layout, a, b)])

    def bar_lengths(self, score: Score) -> np.ndarray:
        """int32 [bars] ids of each bar when the whole piece is encoded."""
        layout = self.layout(score)
        body = self._body(layout, 0, layout.bars)
        starts = self.bar_starts(body, layout.bars)
        return np.diff(np.append(starts, len(body))).astype(np.int32)

    def bar_starts(self, ids: np.ndarray, count: int) -> np.ndarray:
        """[count] where the first bars of a sequence begin, of those it has."""
        return np.flatnonzero(np.asarray(ids) == self.vocabulary.id("bar"))[:count]

    def overhead(self, score: Score) -> int:
        """Most ids that a window may have beyond those of its bars: ends, programs, meter, tempo, running status."""
        return 2 + 2 * min(len(score.tracks), TRACKS) + 1 + 3 + 1

    def continuation(self, score: Score, prompt: Score) -> Score:
        """`score`, which continues `prompt`, with the notes of its new bars alone."""
        begin = self.layout(prompt).lines[-1]
        return score.replace(notes=score.notes[score.onset * GRID >= begin * score.resolution])

    def _id(self, kind: str, value: np.ndarray) -> np.ndarray:
        return self.vocabulary.id(kind) + value

    def _body(self, layout: Layout, a: int, b: int) -> np.ndarray:
        """Ids of bars a..b-1: every event a row of slots, -1 where nothing is written, rows in order of time."""
        begin, stop = layout.lines[a], layout.lines[b]
        note = {k: c[slice(*np.searchsorted(layout.note["at"], [begin, stop]))] for k, c in layout.note.items()}
        lines, meter = layout.lines[a:b], layout.meter[a:b]
        at_bar = np.full((b - a, len(SLOTS)), -1)
        at_bar[:, 0] = self.vocabulary.id("bar")
        at_bar[:, 1] = np.where(np.append(True, meter[1:] != meter[:-1]), self._id("meter", meter), -1)

        changes = layout.tempo[slice(*np.searchsorted(layout.tempo[:, 0], [begin, stop]))]
        if not len(changes) or changes[0, 0] > begin:  # the tempo in force
            step = layout.tempo[np.searchsorted(layout.tempo[:, 0], begin, "right") - 1, 1]
            changes = np.concatenate([[[begin, step]], changes])
        at_tempo = np.full((len(changes), len(SLOTS)), -1)
        at_tempo[:, 1] = self._id("coarse", changes[:, 1] // tempo.FINE)
        at_tempo[:, 2] = self._id("fine", changes[:, 1] % tempo.FINE)

        at = np.concatenate([changes[:, 0], note["at"]])
        order = np.argsort(at, kind="stable")  # tempo first, then the notes in their order
        rows = np.concatenate([at_tempo, self._note_rows(note, begin)])[order]
        at = at[order]
        new = np.append(True, at[1:] != at[:-1])
        inside = np.searchsorted(lines, at, "right") - 1
        rows[:, 0] = np.where(new, self._id("position", at - lines[inside]), -1)
        order = np.argsort(np.concatenate([2 * lines, 2 * at + 1]), kind="stable")
        cells = np.concatenate([at_bar, rows])[order].ravel()
        return cells[cells >= 0]

    def _note_rows(self, note: dict[str, np.ndarray], begin: int) -> np.ndarray:
        rows = np.full((len(note["at"]), len(SLOTS)), -1)
        track, velocity, length = note["track"], note["velocity"], note["length"] - 1
        rows[:, 1] = np.where(np.append(True, track[1:] != track[:-1])[: len(track)], self._id("track", track), -1)
        rows[:, 2] = self._id("pitch", note["pitch"])
        rows[:, 3] = np.where(_changes(velocity, track), self._id("velocity", velocity), -1)
        if self.microtiming:
            micro = np.where(note["at"] == begin, np.maximum(note["micro"], 0), note["micro"])
            rows[:, 4] = np.where(micro != 0, self._id("micro", np.searchsorted(MICRO, micro)), -1)
        rows[:, 5] = np.where(length >= DURATIONS, self._id("long", length // DURATIONS - 1), -1)
        rows[:, 6] = self._id("duration", length % DURATIONS)
        return rows

    def layout(self, score: Score) -> Layout:
        """The score on the grid, with what does not fit counted in `lost`."""
        tracks, of_track, lost = _tracks(score)
        notes = _notes(score, of_track, self.microtiming, lost)
        ticks = np.concatenate([score.tempo["tick"], score.meters["tick"]])
        events = rounded(ticks * GRID, score.resolution)
        tempi = np.array(tempo.write(score, GRID, int(max(events.max(), notes["at"].max(initial=0)))))
        lines, meter = BARS.bars(score, int(max(tempi[-1, 0], notes["at"].max(initial=0))), lost)
        count = (
            1
            + max(  # bars after the last thing written are not part of the piece
                np.searchsorted(lines, tempi[-1, 0], "right") - 1,
                np.searchsorted(lines, notes["at"].max(initial=0), "right") - 1,
                np.flatnonzero(np.append(True, meter[1:] != meter[:-1]))[-1],
            )
        )
        return Layout(lines[: count + 1], meter[:count], tempi, tracks, notes, lost)

    # --- ids -> Score ----------------------------------------------------------------------------------------------

    def decode(self, tokens) -> Score:
        """The Score of ids that begin with `start` or `continue`; raises CodecError where they break off."""
        ids = self.vocabulary.written(tokens)
        kind, value, number = self.vocabulary.kind[ids], self.vocabulary.value[ids], self.vocabulary.index
        at = {k: np.flatnonzero(kind == i) for k, i in number.items()}
        self._check(at, kind)
        index = np.arange(len(ids))
        lengths = BAR[value[at["meter"]]]
        bar = np.cumsum(kind == number["bar"]) - 1
        of_bar = np.searchsorted(at["meter"], np.append(at["bar"][1:], len(ids))) - 1  # meter in force in each bar
        lines = np.append(0, np.cumsum(lengths[of_bar])) if len(at["bar"]) else np.zeros(1, int)
        place = np.zeros(len(ids), np.int64)
        place[at["position"]] = lines[bar[at["position"]]] + value[at["position"]]
        place = place[_last(index, kind == number["position"])]

        programs = value[at["program"]]
        tracks = np.array([(0, True) if p == DRUMS else (p, False) for p in programs], TRACK)
        step = value[at["coarse"]] * tempo.FINE + value[at["fine"]]
        return Score(
            RESOLUTION,
            notes=self._decode_notes(at, kind, value, place, index),
            tracks=tracks,
            tempo=np.rec.fromarrays([place[at["coarse"]] * UNIT, tempo.USEC[step]], dtype=TEMPO).view(np.ndarray)
            if len(step) else (),
            meter=np.array([(lines[bar[i]] * UNIT, *METERS[value[i]]) for i in at["meter"]], METER),
        )  # fmt: skip

    def _decode_notes(self, at, kind, value, place, index) -> np.ndarray:
        number, start = self.vocabulary.index, at["pitch"]
        notes = np.zeros(len(start), NOTE)
        if not len(start):
            return notes
        owner = np.cumsum(kind == number["pitch"]) - 1  # the note each id belongs to
        track = value[_last(index, kind == number["track"])][start]
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
        return _clip(notes)

    def _check(self, at: dict[str, np.ndarray], kind: np.ndarray) -> None:
        """The few rules `decode` leans on; the grammar knows them all."""
        n = self.vocabulary.index
        begins = np.isin(kind[:1], [n["start"], n["continue"]])
        if not len(kind) or not begins[0]:
            raise CodecError("a sequence of ids must begin with `start` or `continue`")
        body = [n[k] for k in ("velocity", "micro", "long") if k in n]
        inner = np.isin(kind, body)
        legal = {n["duration"]: [n["pitch"], *body], n["fine"]: [n["coarse"]]}
        for k, before in legal.items():
            if not np.isin(kind[np.flatnonzero(kind == k) - 1], before).all():
                raise CodecError(f"`{self.vocabulary.kinds[k][0]}` follows an id that does not lead to it")
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


def _changes(value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """[N] whether each value differs from the one before it in its group."""
    order = np.argsort(group, kind="stable")
    v, g = value[order], group[order]
    out = np.empty(len(value), bool)
    out[order] = np.append(True, (v[1:] != v[:-1]) | (g[1:] != g[:-1]))[: len(v)]
    return out


def _last(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """[N] the index of the last true entry up to each place (0 where there is none yet)."""
    return np.maximum.accumulate(np.where(where, values, 0))


def _clip(notes: np.ndarray) -> np.ndarray:
    """Notes ended where the next of their pitch and track begins (micro-timing can make them touch)."""
    order = np.lexsort([notes["onset"], notes["pitch"], notes["track"]])
    n = notes[order]
    same = (n["track"][1:] == n["track"][:-1]) & (n["pitch"][1:] == n["pitch"][:-1])
    room = np.where(same, n["onset"][1:] - n["onset"][:-1], np.iinfo(np.int64).max)
    n["duration"][:-1] = np.minimum(n["duration"][:-1], room)
    return n


def _tracks(score: Score) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """(programs, track -> slot or -1, counts). Beyond 16 tracks, equal programs share one; then the smallest go."""
    program = np.where(score.tracks["is_drum"], DRUMS, score.tracks["program"].astype(np.int64))
    if len(program) <= TRACKS:
        return program, np.arange(len(program)), {}
    used = np.bincount(score.track, minlength=len(program))
    values, slot = np.unique(program, return_inverse=True)
    keep = np.sort(np.argsort(-np.bincount(slot, used), kind="stable")[:TRACKS])
    place = np.full(len(values), -1)
    place[keep] = np.arange(len(keep))
    lost = {"merged_tracks": len(program) - len(values), "dropped_tracks": len(values) - len(keep)}
    return values[keep], place[slot], lost


def _notes(score: Score, of_track: np.ndarray, micro: bool, lost: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns of Layout.note, in order of position, track and pitch."""
    n, r = score.notes, score.resolution
    onset, end = n["onset"].astype(np.int64), (n["onset"] + n["duration"]).astype(np.int64)
    fine = rounded(onset * RESOLUTION, r)  # ticks of 480
    at = (fine + UNIT // 2) // UNIT if micro else rounded(onset * GRID, r)
    track, pitch = of_track[n["track"]] if len(n) else onset, n["pitch"].astype(np.int64)
    residual = fine - UNIT * at if micro else np.zeros_like(at)
    stop = end * (RESOLUTION / r)
    length = np.maximum(np.floor((stop - (at * UNIT + residual)) / UNIT + 0.5).astype(np.int64), 1)

    order = by_pitch = np.lexsort([onset, at, pitch, track])
    t, p, g = track[order], pitch[order], at[order]
    same = (t[1:] == t[:-1]) & (p[1:] == p[:-1])
    double = np.append(False, same & (g[1:] == g[:-1]))[: len(n)]
    order = order[(~double) & (t >= 0)]
    t, p, g = track[order], pitch[order], at[order]
    same = (t[1:] == t[:-1]) & (p[1:] == p[:-1])
    room = np.append(np.where(same, g[1:] - g[:-1], np.iinfo(np.int64).max), np.iinfo(np.int64).max)[: len(order)]
    touching = np.append(same & (end[order][:-1] >= onset[order][1:]), False)[: len(order)]
    length = np.where(touching, room, np.minimum(length[order], room))
    longest = (LONG + 1) * DURATIONS
    lost["doubled"] = int((double & (track[by_pitch] >= 0)).sum())
    lost["dropped_notes"] = int((track < 0).sum())
    lost["shortened"] = int((length > longest).sum())
    column = {"at": g, "track": t, "pitch": p, "velocity": n["velocity"][order] // 4, "micro": residual[order]}
    column |= {"length": np.minimum(length, longest), "source": order}
    order = np.lexsort([p, t, g])
    return {k: v[order].astype(np.int64) for k, v in column.items()}
