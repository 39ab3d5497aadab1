"""A score on the grid of the `score` codec: what `encode` writes down and `loss_report` compares."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from aurljax.errors import UserError
from aurljax.music.codec import markings, tempo
from aurljax.music.codec.grammar import DURATIONS, TRACKS
from aurljax.music.codec.meters import Meters
from aurljax.music.score import Score, rounded

if TYPE_CHECKING:
    from aurljax.music.codec.score import ScoreCodec

GRID = 24  # positions per quarter
UNIT = 20  # ticks per position
RESOLUTION = GRID * UNIT
LONG = 31  # values of `long`
DRUMS = 128  # the `program` value of a drum track
BARS = Meters(GRID)
MICRO = np.array([m for m in range(-10, 10) if m])  # ticks beside the grid


@dataclasses.dataclass(frozen=True)
class Layout:
    """Bars, tempi, tracks and notes in positions; keys, chords and pedals of a codec that writes them."""

    lines: np.ndarray  # [bars + 1] first position of each bar
    meter: np.ndarray  # [bars] meter id
    tempo: np.ndarray  # [M, 2] position, step
    tracks: np.ndarray  # [<= 16] program values
    note: dict[str, np.ndarray]  # columns at, track, pitch, velocity, micro, length (positions), source (row)
    lost: dict[str, int]
    key: np.ndarray  # [K, 2] position, key
    chord: np.ndarray  # [C, 2] position, chord
    pedal: np.ndarray  # [P, 3] position, track, down
    control: np.ndarray  # [controls] value, -1 where it is not known

    @property
    def bars(self) -> int:
        """Number of bars."""
        return len(self.meter)

    def reaching(self, bar: int) -> Layout:
        """This layout with empty bars behind it, if it is too short to have a bar of that number."""
        more = max(bar + 1 - self.bars, 0)
        lines = self.lines[-1] + BARS.lengths[self.meter[-1]] * np.arange(1, more + 1)
        meter = np.append(self.meter, np.repeat(self.meter[-1:], more))
        return dataclasses.replace(self, lines=np.append(self.lines, lines), meter=meter)

    @property
    def kept(self) -> np.ndarray:
        """[kept] rows of the score's notes that are written, in the order of the notes of its decoding."""
        n = self.note
        return n["source"][np.lexsort([n["pitch"], n["track"], n["at"] * UNIT + n["micro"]])]


def of(score: Score, codec: ScoreCodec) -> Layout:
    """The score on the grid; UserError for a control out of range."""
    tracks, of_track, lost = _tracks(score)
    notes = _notes(score, of_track, codec.microtiming, lost)
    none = np.zeros((0, 2), np.int64)
    key = markings.keys(score, GRID) if codec.keys else none
    chord = markings.chords(score, GRID) if codec.chords else none
    pedal = markings.pedals(score, of_track, GRID) if codec.pedal else np.zeros((0, 3), np.int64)
    ticks = np.concatenate([score.tempo["tick"], score.meters["tick"]])
    events = rounded(ticks * GRID, score.resolution)
    last = max(int(at.max(initial=0)) for at in (notes["at"], key[:, 0], chord[:, 0], pedal[:, 0]))
    tempi = np.array(tempo.write(score, GRID, max(int(events.max()), last)))
    last = max(last, int(tempi[-1, 0]))
    lines, meter = BARS.bars(score, last, lost)
    count = (
        1
        + max(  # bars after the last thing written are not part of the piece
            int(np.searchsorted(lines, last, "right")) - 1,
            int(np.flatnonzero(np.append(True, meter[1:] != meter[:-1]))[-1]),
        )
    )
    control = np.array([_control(score, name, size) for name, size in codec.controls], np.int64)
    return Layout(lines[: count + 1], meter[:count], tempi, tracks, notes, lost, key, chord, pedal, control)


def _control(score: Score, name: str, size: int) -> int:
    text = score.meta.get(name, "")
    if text and not (text.isdecimal() and int(text) < size):
        raise UserError(f"meta[{name!r}] is {text!r}; a control of this codec takes whole numbers 0..{size - 1}")
    return int(text) if text else -1


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


def places(score: Score, ticks: np.ndarray, micro: bool) -> np.ndarray:
    """The position to which each tick of a score belongs (int64, of any shape); with micro-timing from 10 ticks of 480
    before it on."""
    if micro:
        return (rounded(ticks * RESOLUTION, score.resolution) + UNIT // 2) // UNIT
    return rounded(ticks * GRID, score.resolution)


def _notes(score: Score, of_track: np.ndarray, micro: bool, lost: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns of Layout.note, in order of position, track and pitch."""
    n, r = score.notes, score.resolution
    onset, end = n["onset"].astype(np.int64), (n["onset"] + n["duration"]).astype(np.int64)
    fine, at = rounded(onset * RESOLUTION, r), places(score, onset, micro)  # ticks of 480, positions
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
