"""The `event` codec: note-ons, note-offs and time shifts of 1/64 s, for performances; 774 ids.

A piece reads: start, its tempo, then moments in order of time. A moment is the `shift` to it (several where it lies
more than 8 s on: as long as can be, the rest last) and its events: offs, sustain, tempo, ons, each by instrument and
pitch, with `instrument` and `velocity` written where the next event needs another than the one in force.

Every time is rounded to the grid by itself, in seconds from the start, so nothing drifts. Tempo ids say nothing of
time: they are the tempo map that `decode` writes. Its ticks, 480 a quarter, are not whole steps, nor need they be:
each time becomes the tick nearest to it, and a tick of 60 quarters a minute is 2.1 ms long, so that this is at most
1.05 ms off and rounds back to the step, 15.6 ms long, that it came from.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aurljax.music.codec.base import Codec
from aurljax.music.codec.event_grammar import INSTRUMENTS, LOW, OFF, ON, PITCHES, RATE, SUSTAIN, TEMPO, EventGrammar
from aurljax.music.codec.markings import DOWN, PEDAL
from aurljax.music.codec.vocabulary import CodecError, Vocabulary
from aurljax.music.score import CHANGE, CONTROL, NOTE, TRACK, Score, rounded
from aurljax.music.score import TEMPO as TEMPO_ROW

RESOLUTION = 480
SHIFTS, VELOCITIES, TEMPI = 512, 32, 32
SLOWEST, FASTEST = 60.0, 200.0  # quarters per minute
USEC = np.rint(60e6 / np.geomspace(SLOWEST, FASTEST, TEMPI)).astype(np.int64)  # per quarter, descending
SEGMENT = 2 * RATE  # steps of what stands for a bar
FIRST = 0  # where the tempo of the first moment stands among its events


@dataclasses.dataclass(frozen=True)
class Layout:
    """A score in steps of 1/64 s: what `encode` writes down and `loss_report` compares."""

    note: dict[str, np.ndarray]  # by on: on, off (steps), instrument, pitch (0..87), velocity (bin), source (row)
    pedal: np.ndarray  # [P, 3] step, instrument, 1 or 0; changes only
    tempo: np.ndarray  # [M, 2] step, bin; changes only, the first at step 0
    bars: int  # segments
    lost: dict[str, int]

    @property
    def kept(self) -> np.ndarray:
        """[kept] rows of the score's notes that are written, in the order of the notes of its decoding."""
        n = self.note
        return n["source"][np.lexsort([n["pitch"], n["instrument"], n["on"]])]


@dataclasses.dataclass(frozen=True)
class EventCodec(Codec):
    """Score <-> ids. Where other codecs have bars it has segments of 2 s."""

    name = "event"
    barred = False

    @property
    def options(self) -> dict[str, bool]:
        """What `make` needs to build this codec again."""
        return {}

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The 774 ids."""
        kinds = [("pad", 1), ("start", 1), ("continue", 1), ("end", 1), ("on", PITCHES), ("off", PITCHES)]
        kinds += [("shift", SHIFTS), ("velocity", VELOCITIES), ("sustain", 2), ("tempo", TEMPI)]
        return Vocabulary((*kinds, ("instrument", INSTRUMENTS)))

    @functools.cached_property
    def grammar(self) -> EventGrammar:
        """Which ids may follow which."""
        return EventGrammar(self.vocabulary)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits; corpora of windows and checkpoints are bound to it."""
        return self.vocabulary.fingerprint(codec=self.name, layout=1)

    # --- Score -> ids ----------------------------------------------------------------------------------------------

    def window(self, layout: Layout, first: str, a: int, b: int) -> np.ndarray:
        """Ids of segments a..b-1 behind `first`, tempo and the pedals that are down; instrument and velocity are stated
        by the first events that need them. Notes sounding into them are left out, their offs too; notes sounding out
        of them stay open."""
        return self._write(self._events(layout, a, b), first)

    def bar_lengths(self, score: Score) -> np.ndarray:
        """int32 [segments] ids of each segment when the whole piece is encoded."""
        ids, count = self.encode(score), self.bars(score)
        return np.diff(np.append(self.bar_starts(ids, count), len(ids) - 1)).astype(np.int32)

    def bar_starts(self, ids: np.ndarray, count: int) -> np.ndarray:
        """[count] where the first segments of a sequence begin, with the shift into them; its length where past it."""
        ids, v = np.asarray(ids), self.vocabulary
        kind = v.kind[ids]
        shift = kind == v.index["shift"]
        event = np.flatnonzero(~shift & (kind != v.index["end"]) & (kind != v.index["pad"]))
        time = np.cumsum(np.where(shift, v.value[ids] + 1, 0))[event]
        begin = np.append(event[:-1] + 1, len(ids) - np.isin(ids[-1:], [v.id("end")]).sum())
        first = np.searchsorted(time // SEGMENT, np.arange(count))  # the first event of each segment, or after it
        return np.maximum(begin[np.maximum(first - 1, 0)], min(2, len(ids)))  # behind `start` and tempo

    def finished(self, ids: np.ndarray) -> tuple[int, np.ndarray]:
        """(how many segments are over, the ids: notes that still sound end after those segments)."""
        v = self.vocabulary
        now = int((v.value[ids] + 1)[v.kind[ids] == v.index["shift"]].sum())
        return now // SEGMENT, ids

    def track_numbers(self, score: Score) -> list[int]:
        """The instruments."""
        return (score.tracks["program"] // 8).tolist()

    def bar_tick(self, score: Score, bar: int) -> int:
        """The tick at which a segment begins."""
        return int(score.ticks(bar * SEGMENT / RATE))

    def overhead(self, score: Score) -> int:
        """Most ids that a window may have beyond those of its segments: ends, tempo, pedals, running status."""
        return 5 + 2 * len(np.unique(self.layout(score).pedal[:, 1]))

    def left_out(self, score: Score, bars: tuple[int, int]) -> int:
        """How many notes sound into segments a..b-1 from before, and are left out of that window."""
        note = self.layout(score).note
        begin = bars[0] * SEGMENT
        return int(((note["on"] < begin) & (note["off"] > begin)).sum())

    def _events(self, layout: Layout, a: int, b: int) -> np.ndarray:
        """int64 [N] sorted events of segments a..b-1, packed: step, stage, instrument, pitch, value."""
        begin, stop = a * SEGMENT, b * SEGMENT
        n = {k: c[slice(*np.searchsorted(layout.note["on"], [begin, stop]))] for k, c in layout.note.items()}
        closed = n["off"] < stop
        pedal = layout.pedal[(layout.pedal[:, 0] > begin) & (layout.pedal[:, 0] < stop)]
        held = layout.pedal[layout.pedal[:, 0] <= begin]
        down = np.zeros(INSTRUMENTS, np.int64)
        down[held[:, 1]] = held[:, 2]  # of several rows the last is in force
        (held,) = np.nonzero(down)
        tempo = layout.tempo[(layout.tempo[:, 0] > begin) & (layout.tempo[:, 0] < stop)]
        now = layout.tempo[np.searchsorted(layout.tempo[:, 0], begin, "right") - 1, 1]
        parts = (
            _pack(np.array([begin]), FIRST, 0, 0, now),
            _pack(n["off"], OFF, n["instrument"], n["pitch"], 0)[closed],
            _pack(np.full(len(held), begin), SUSTAIN, held, 0, 1),
            _pack(pedal[:, 0], SUSTAIN, pedal[:, 1], 0, pedal[:, 2]),
            _pack(tempo[:, 0], TEMPO, 0, 0, tempo[:, 1]),
            _pack(n["on"], ON, n["instrument"], n["pitch"], n["velocity"]),
        )
        events = np.concatenate(parts)
        events.sort()
        return events - (begin << 20)

    def _write(self, events: np.ndarray, first: str) -> np.ndarray:
        """int32 ids of packed events: every event a row of shift, instrument, velocity, itself; -1: not written."""
        v = self.vocabulary
        step, stage = events >> 20, (events >> 17) & 7
        instrument, pitch, value = (events >> 13) & 15, (events >> 6) & 127, events & 63
        rows = np.full((len(events), 4), -1, np.int32)
        moved = np.diff(step, prepend=0)
        whole = np.maximum(moved - 1, 0) // SHIFTS  # longest shifts before the one that arrives
        rows[:, 0] = np.where(moved > 0, v.id("shift") - 1 + moved - SHIFTS * whole, -1)
        owned = np.flatnonzero((stage != FIRST) & (stage != TEMPO))
        changed = owned[np.diff(instrument[owned], prepend=-1) != 0]
        rows[changed, 1] = v.id("instrument") + instrument[changed]
        on = np.flatnonzero(stage == ON)
        changed = on[np.diff(value[on], prepend=-1) != 0]
        rows[changed, 2] = v.id("velocity") + value[changed]
        base = np.array([v.id(k) for k in ("tempo", "off", "sustain", "tempo", "on")])
        rows[:, 3] = base[stage] + np.where((stage == OFF) | (stage == ON), pitch, value)
        if whole.any():
            cells = np.insert(rows.ravel(), np.repeat(4 * np.arange(len(rows)), whole), v.id("shift", SHIFTS - 1))
        else:
            cells = rows.ravel()
        return np.append(np.int32(v.id(first)), cells[cells >= 0])

    def layout(self, score: Score) -> Layout:
        """The score on the grid of 1/64 s, with what does not fit counted in `lost`."""
        n, lost = score.notes, {}
        on, off = _steps(score, n["onset"]), _steps(score, n["onset"] + n["duration"])
        off = np.maximum(off, on + 1)
        family = np.where(score.tracks["is_drum"], -1, score.tracks["program"].astype(np.int64) // 8)
        instrument = family[n["track"]] if len(n) else on
        pitch, drum = n["pitch"].astype(np.int64) - LOW, instrument < 0
        outside = ~drum & ((pitch < 0) | (pitch >= PITCHES))
        fits = np.flatnonzero(~drum & ~outside)
        folded = score.tracks["program"][n["track"][fits]] % 8 != 0 if len(n) else drum
        lost |= {"drums": int(drum.sum()), "outside": int(outside.sum()), "folded": int(folded.sum())}
        note = _apart({"on": on[fits], "off": off[fits], "instrument": instrument[fits], "pitch": pitch[fits],
                       "velocity": n["velocity"][fits].astype(np.int64) // 4, "source": fits}, lost)  # fmt: skip
        played = family[family >= 0]
        lost["merged_tracks"] = len(played) - len(np.unique(played))
        pedal, tempo = _pedal(score, family, lost), _tempo(score, lost)
        last = max(int(off.max(initial=0)), int(pedal[:, 0].max(initial=0)), int(tempo[-1, 0]))
        return Layout(note, pedal, tempo, last // SEGMENT + 1, lost)

    # --- ids -> Score ----------------------------------------------------------------------------------------------

    def decode(self, tokens) -> Score:
        """The Score of ids that begin with `start` or `continue`: a track for each instrument; notes that no off ends
        (a window may break off) end with the sequence. Raises CodecError where ids make no sense."""
        v = self.vocabulary
        ids = v.written(tokens)
        kind, value, number = v.kind[ids], v.value[ids], v.index
        if not len(ids) or kind[0] not in (number["start"], number["continue"]):
            raise CodecError("a sequence of ids must begin with `start` or `continue`")
        if (again := np.flatnonzero(kind[1:] <= number["continue"])).size or (kind[:-1] == number["end"]).any():
            raise CodecError(f"id {again[0] + 1 if again.size else 'after `end`'} cannot stand within a piece")
        step = np.cumsum(np.where(kind == number["shift"], value + 1, 0))
        tempo = kind == number["tempo"]
        if len(ids) < 2 or not tempo[1]:
            raise CodecError("`start` or `continue` must be followed by a `tempo`")
        clock = _clock(step[tempo], value[tempo])
        instrument = _latest(kind == number["instrument"], value)
        owned = np.isin(kind, [number["on"], number["off"], number["sustain"]])
        if (instrument[owned] < 0).any():
            raise CodecError("a note or pedal comes before the first `instrument`")
        used = np.unique(instrument[owned])
        track = np.searchsorted(used, instrument)
        on, off, start = self._pairs(kind, value, instrument)
        velocity = _latest(kind == number["velocity"], value)[on]
        if (velocity < 0).any():
            raise CodecError("a note comes before the first `velocity`")
        stop = np.where(off < 0, np.maximum(step[-1], step[on] + 1), step[off])
        if (stop <= step[on]).any():
            raise CodecError("a note ends at the time it begins")
        notes = np.zeros(len(on), NOTE)
        notes["onset"] = clock.ticks(step[on] / RATE)
        notes["duration"] = clock.ticks(stop / RATE) - notes["onset"]
        notes["track"], notes["pitch"], notes["velocity"] = track[on], LOW + start, 4 * velocity + 2
        (pedal,) = np.nonzero(kind == number["sustain"])
        controls = np.zeros(len(pedal), CONTROL)
        controls["tick"], controls["track"] = clock.ticks(step[pedal] / RATE), track[pedal]
        controls["kind"], controls["number"], controls["value"] = CHANGE, PEDAL, 127 * value[pedal]
        return clock.replace(
            notes=notes, tracks=np.array([(8 * i, False) for i in used.tolist()], TRACK), controls=controls
        )

    def _pairs(self, kind: np.ndarray, value: np.ndarray, instrument: np.ndarray) -> tuple[np.ndarray, ...]:
        """(index of each on, index of its off or -1, pitch 0..87); CodecError unless they alternate."""
        number = self.vocabulary.index
        (at,) = np.nonzero((kind == number["on"]) | (kind == number["off"]))
        voice = instrument[at] * PITCHES + value[at]
        order = np.argsort(voice, kind="stable")
        at, voice = at[order], voice[order]
        on = kind[at] == number["on"]
        first = np.append(True, voice[1:] != voice[:-1])[: len(at)]
        before = np.append(False, on[:-1])[: len(at)] & ~first  # whether the note sounds already
        if (on == before).any():
            raise CodecError(f"id {at[on == before].min()} strikes a note that sounds, or ends one that does not")
        ended = np.append(before[1:], False)[: len(at)] & on
        if not ended[on].all() and kind[-1] == number["end"]:
            raise CodecError(f"id {at[on & ~ended].min()} begins a note that no `off` ends")
        off = np.where(ended, np.append(at[1:], -1)[: len(at)], -1)
        return at[on], off[on], value[at[on]]

    # --- what the model is told ------------------------------------------------------------------------------------

    def features(self, tokens) -> dict[str, np.ndarray]:
        """{name: int32 [T]} the grammar's features at every id, equal to stepping it, without the stepping."""
        from aurljax.music.codec.features import of_event

        return of_event(self.grammar, np.asarray(tokens))

    def loss_report(self, score: Score) -> dict[str, float]:
        """What encoding this score loses: counts, and worst errors in seconds, velocity steps and tempo."""
        from aurljax.music.codec.report import of_event

        return of_event(self, score)


def _steps(score: Score, ticks: np.ndarray) -> np.ndarray:
    """int64 the nearest step of each tick."""
    return np.floor(score.seconds(ticks) * RATE + 0.5).astype(np.int64)


def _pack(step, stage, instrument, pitch, value) -> np.ndarray:
    """int64 events that sort by step, stage, instrument and pitch."""
    return (np.asarray(step, np.int64) << 20) | (stage << 17) | (instrument << 13) | (pitch << 6) | value


def _latest(where: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[T] the value at the last true entry up to each id, -1 where there is none yet."""
    at = np.maximum.accumulate(np.where(where, np.arange(len(where)), -1))
    return np.where(at >= 0, values[at], -1).astype(np.int64)


def _apart(note: dict[str, np.ndarray], lost: dict[str, int]) -> dict[str, np.ndarray]:
    """Notes of which no two of one instrument and pitch sound at once: the longest of those that begin together stays
    (`doubled`), and one that is struck again ends there (`cut`). In the order in which they begin."""
    voice = note["instrument"] << 7 | note["pitch"]
    order = np.lexsort([-note["off"], note["on"] + (voice << 40)])
    voice, on = voice[order], note["on"][order]
    same = voice[1:] == voice[:-1]
    double = np.append(False, same & (on[1:] == on[:-1]))[: len(on)]
    note = {k: c[order[~double]] for k, c in note.items()}
    voice, on = voice[~double], on[~double]
    room = np.where(voice[1:] == voice[:-1], on[1:], np.iinfo(np.int64).max)
    room = np.append(room, np.iinfo(np.int64).max)[: len(on)]
    lost |= {"doubled": int(double.sum()), "cut": int((note["off"] > room).sum())}
    note["off"] = np.minimum(note["off"], room)
    order = np.argsort(note["on"], kind="stable")
    return {k: c[order] for k, c in note.items()}


def _pedal(score: Score, family: np.ndarray, lost: dict[str, int]) -> np.ndarray:
    """[P, 3] step, instrument, down or up; the last of a step counts, and nothing is written that is in force."""
    c = score.controls
    c = c[(c["kind"] == CHANGE) & (c["number"] == PEDAL)]
    instrument = family[c["track"]] if len(c) else np.zeros(0, np.int64)
    mine = instrument >= 0
    step, instrument, down = (
        _steps(score, c["tick"][mine]),
        instrument[mine],
        (c["value"][mine] >= DOWN).astype(np.int64),
    )
    order = np.lexsort([step, instrument])  # stable: rows of one step keep their order
    rows = np.stack([step, instrument, down], 1)[order]
    last = np.append((rows[1:, :2] != rows[:-1, :2]).any(1), True)[: len(rows)]
    rows = rows[last]
    new = np.append(True, rows[1:, 1] != rows[:-1, 1])[: len(rows)]
    before = np.where(new, 0, np.append(0, rows[:-1, 2])[: len(rows)])
    rows = rows[rows[:, 2] != before]
    lost["pedals"] = len(c) - len(rows)
    return rows[np.argsort(rows[:, 0], kind="stable")]


def _tempo(score: Score, lost: dict[str, int]) -> np.ndarray:
    """[M, 2] step and nearest of the tempi; the last of a step counts, and nothing is written that is in force."""
    tick, usec, _ = score.tempo_map
    step = _steps(score, tick)
    last = np.append(step[1:] != step[:-1], True)
    middle = np.sqrt(USEC[1:] * USEC[:-1].astype(float))  # between neighbours, descending
    tempo = np.searchsorted(-middle, -usec[last], "right")
    rows = np.stack([step[last], tempo], 1)
    rows = rows[np.append(True, tempo[1:] != tempo[:-1])]
    lost["tempi"] = len(tick) - len(rows)
    return rows


def _clock(step: np.ndarray, tempo: np.ndarray) -> Score:
    """A score of nothing but the tempo map, each change on the tick nearest to its step."""
    rows, at, start, before = [], 0, 0, int(USEC[tempo[0]])  # start: usec * resolution at tick `at`
    for now, usec in zip((step * (RESOLUTION * 1_000_000 // RATE)).tolist(), USEC[tempo].tolist(), strict=True):
        ticks = rounded(now - start, before)
        at, start, before = at + ticks, start + ticks * before, usec
        rows.append((at, usec))
    return Score(RESOLUTION, tempo=np.array(rows, TEMPO_ROW))
