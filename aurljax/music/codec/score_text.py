"""The ids of bars of the `score` codec: every event a row of slots, -1 where nothing is written, rows in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aurljax.music.codec import tempo
from aurljax.music.codec.grammar import DURATIONS, TRACKS
from aurljax.music.codec.holes import MOST
from aurljax.music.codec.markings import NO_CHORD
from aurljax.music.codec.score_layout import MICRO, Layout
from aurljax.music.codec.vocabulary import Vocabulary

if TYPE_CHECKING:
    from aurljax.music.codec.score import ScoreCodec

SLOTS = ("position", "track", "pitch", "velocity", "micro", "long", "duration")
Cells = tuple[tuple[int, int], ...]  # (bar, track), ascending
Note = dict[str, np.ndarray]


def bars(codec: ScoreCodec, layout: Layout, a: int, b: int, cells: Cells = ()) -> np.ndarray:
    """int64 ids of bars a..b-1, with a hole for each of `cells`, and behind them what answers the holes."""
    begin, stop = layout.lines[a], layout.lines[b]
    note = {k: c[slice(*np.searchsorted(layout.note["at"], [begin, stop]))] for k, c in layout.note.items()}
    if not cells:
        return _piece(codec, layout, a, b, note, _note_rows(codec, note, begin), cells)
    lines = layout.lines[a:b]
    hole, count = _holes(note, lines, a, len(layout.tracks), cells)
    order = np.argsort(hole, kind="stable")  # as they are written: the notes of no hole first
    note, hole = {k: c[order] for k, c in note.items()}, hole[order]
    rows, free = _note_rows(codec, note, begin), np.count_nonzero(hole < 0)
    piece = _piece(codec, layout, a, b, {k: c[:free] for k, c in note.items()}, rows[:free], cells)
    answers = {k: c[free:] for k, c in note.items()}
    return np.append(piece, _fills(codec.vocabulary, answers, hole[free:], rows[free:], lines, count))


def _piece(codec: ScoreCodec, layout: Layout, a: int, b: int, note: Note, rows: np.ndarray, cells: Cells) -> np.ndarray:
    v, lines, meter = codec.vocabulary, layout.lines[a:b], layout.meter[a:b]
    at_bar = np.full((b - a, len(SLOTS)), -1)
    at_bar[:, 0] = v.id("bar")
    at_bar[:, 1] = np.where(np.append(True, meter[1:] != meter[:-1]), v.id("meter") + meter, -1)
    begun = lines
    if cells:
        bar, track = np.array(cells).T
        at_bar, begun = np.concatenate([at_bar, _rows({0: v.id("hole") + track})]), np.append(lines, layout.lines[bar])
    at, events = _events(codec, layout, lines[0], layout.lines[b], note, rows)
    events[:, 0] = _positions(v, at, at, lines)
    order = np.argsort(np.concatenate([2 * begun, 2 * at + 1]), kind="stable")
    rows = np.concatenate([at_bar, events])[order]
    if cells:  # the answers are the end, and no piece ends in empty bars
        (filled,) = np.nonzero((rows[:, 0] != v.id("bar")) | (rows[:, 1] >= 0))
        rows = rows[: filled[-1] + 1]
    return _written(rows)


def _events(codec: ScoreCodec, layout: Layout, begin: int, stop: int, note: Note, rows: np.ndarray):
    """(position [N], rows [N, slots] that lack their positions) of all that happens from `begin` to `stop`, in order."""
    v, tempi = codec.vocabulary, _in_force(layout.tempo, begin, stop)
    coarse, fine = np.divmod(tempi[:, 1], tempo.FINE)
    parts = [(tempi[:, 0], _rows({1: v.id("coarse") + coarse, 2: v.id("fine") + fine}))]
    if codec.keys:
        keys = _in_force(layout.key, begin, stop)
        parts.append((keys[:, 0], _rows({1: v.id("key") + keys[:, 1]})))
    if codec.chords:
        chords = _in_force(layout.chord, begin, stop)
        chords = chords[1:] if len(chords) and chords[0, 1] == NO_CHORD else chords  # what no chord is needs no saying
        parts.append((chords[:, 0], _rows({1: v.id("chord") + chords[:, 1]})))
    stated, track = sum(len(at) for at, _ in parts), note["track"]
    if codec.pedal:
        pedals = _pedals(layout.pedal, begin, stop)
        parts.append((pedals[:, 0], _rows({2: v.id("pedal") + pedals[:, 2]})))
        track = np.append(pedals[:, 1], track)
    at, rows = (np.concatenate(x) for x in zip(*parts, (note["at"], rows), strict=True))
    track = np.append(np.full(stated, -1), track)
    order = np.argsort(at if not codec.pedal else at * 32 + track, kind="stable")  # of a track, its pedal comes first
    rows, track = rows[order], track[order]
    (of_track,) = np.nonzero(track >= 0)
    new = of_track[np.diff(track[of_track], prepend=-1) != 0]
    rows[new, 1] = v.id("track") + track[new]
    return at[order], rows


def _fills(v: Vocabulary, note: Note, hole: np.ndarray, rows: np.ndarray, lines: np.ndarray, count: int):
    """Ids that answer `count` bars with the notes [N] of their holes, in their order."""
    rows[:, 0] = _positions(v, note["at"] + (hole << 40), note["at"], lines)
    new = np.diff(note["track"] + (hole << 8), prepend=-1) != 0
    rows[new, 1] = v.id("track") + note["track"][new]
    number = np.arange(count)
    ends = np.concatenate([_rows({0: np.full(count, v.id(kind))}) for kind in ("fill", "filled")])
    order = np.argsort(np.concatenate([3 * number, 3 * number + 2, 3 * hole + 1]), kind="stable")
    return _written(np.concatenate([ends, rows])[order])


def _note_rows(codec: ScoreCodec, note: Note, begin: int) -> np.ndarray:
    """[N, slots] notes in the order in which they are written; they lack their positions and tracks."""
    v, track, velocity, length = codec.vocabulary, note["track"], note["velocity"], note["length"] - 1
    rows = np.full((len(track), len(SLOTS)), -1)
    rows[:, 2] = v.id("pitch") + note["pitch"]
    rows[:, 3] = np.where(_changes(velocity, track), v.id("velocity") + velocity, -1)
    if codec.microtiming:
        micro = np.where(note["at"] == begin, np.maximum(note["micro"], 0), note["micro"])
        rows[:, 4] = np.where(micro != 0, v.id("micro") + np.searchsorted(MICRO, micro), -1)
    rows[:, 5] = np.where(length >= DURATIONS, v.id("long") + length // DURATIONS - 1, -1)
    rows[:, 6] = v.id("duration") + length % DURATIONS
    return rows


def _rows(slots: dict[int, np.ndarray]) -> np.ndarray:
    out = np.full((len(next(iter(slots.values()))), len(SLOTS)), -1)
    for slot, ids in slots.items():
        out[:, slot] = ids
    return out


def _written(rows: np.ndarray) -> np.ndarray:
    cells = rows.ravel()
    return cells[cells >= 0]


def _positions(v: Vocabulary, moment: np.ndarray, at: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """[N] the id of each row's position in its bar, where its moment is not that of the row before."""
    new = np.append(True, moment[1:] != moment[:-1])[: len(at)]
    return np.where(new, v.id("position") + at - lines[np.searchsorted(lines, at, "right") - 1], -1)


def _changes(value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """[N] whether each value differs from the one before it in its group."""
    order = np.argsort(group, kind="stable")
    v, g = value[order], group[order]
    out = np.empty(len(value), bool)
    out[order] = np.append(True, (v[1:] != v[:-1]) | (g[1:] != g[:-1]))[: len(v)]
    return out


def _holes(note: Note, lines: np.ndarray, a: int, tracks: int, cells: Cells) -> tuple[np.ndarray, int]:
    """([N] the number, among the bars with holes, of the one in whose hole each note lies, -1: none; how many bars there
    are). ValueError for cells that are not of the window."""
    for bar, track in cells:
        if not (a <= bar < a + len(lines) and 0 <= track < tracks):
            raise ValueError(f"hole ({bar}, {track}): bars are {a}..{a + len(lines) - 1} here, tracks 0..{tracks - 1}")
    bar, of_cell = np.unique([bar for bar, _ in cells], return_inverse=True)
    if len(bar) > MOST:
        raise ValueError(f"{len(bar)} bars with holes are more than {MOST}")
    number = np.full((len(lines), tracks), -1)
    number[tuple(np.subtract(cells, (a, 0)).T)] = of_cell
    return number[np.searchsorted(lines, note["at"], "right") - 1, note["track"]], len(bar)


def _in_force(table: np.ndarray, begin: int, stop: int) -> np.ndarray:
    """The rows (position, value) from `begin` to `stop`, what is in force at `begin` first."""
    first, last = np.searchsorted(table[:, 0], [begin, stop])
    rows = table[first:last]
    if first and (not len(rows) or rows[0, 0] > begin):
        rows = np.concatenate([[[begin, table[first - 1, 1]]], rows])
    return rows


def _pedals(table: np.ndarray, begin: int, stop: int) -> np.ndarray:
    """The rows (position, track, down) from `begin` to `stop`; first, those that are down at `begin`."""
    before, after = table[table[:, 0] <= begin], table[(table[:, 0] > begin) & (table[:, 0] < stop)]
    down = np.zeros(TRACKS, np.int64)
    down[before[:, 1]] = before[:, 2]  # of several rows the last is in force
    held = np.flatnonzero(down)
    return np.concatenate([np.stack([np.full_like(held, begin), held, np.ones_like(held)], 1), after])
