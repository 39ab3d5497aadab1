"""Augmentations besides transposition: pure functions Score -> Score with their parameters drawn already.

What moves notes keeps each in its bar, so that a window's bars hold the same music before and after.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aurljax.data import order
from aurljax.music.preprocess import FAMILY, moved
from aurljax.music.score import DEFAULT_USEC, TEMPO, Score

MAX_USEC = (1 << 24) - 1
GRID = 24  # positions per quarter: no note is moved nearer to the next bar line than one of them
TIMING, LOUDNESS = 1 / 16, 16  # quarters and velocities by which `humanise` with amount 1 moves a note at most


def stretch(score: Score, factor: float) -> Score:
    """The score `factor` times as fast: tempi change, ticks do not."""
    tempo = score.tempo
    if not len(tempo) or tempo["tick"][0] > 0:
        tempo = np.concatenate([np.array([(0, DEFAULT_USEC)], TEMPO), tempo])
    tempo = tempo.copy()
    tempo["usec"] = np.clip(np.rint(tempo["usec"] / factor), 1, MAX_USEC)
    return score.replace(tempo=tempo)


def louder(score: Score, factor: float) -> Score:
    """Every velocity times `factor`, cut to 1..127."""
    return _velocities(score, score.velocity * factor)


def curve(score: Score, exponent: float) -> Score:
    """Velocities bent along (v / 127) ** exponent: above 1 soft notes become softer, the loudest stay."""
    return _velocities(score, 127 * (score.velocity / 127.0) ** exponent)


def substitute(score: Score, programs: Sequence[int]) -> Score:
    """The program of each track replaced by one of its General MIDI family; drums stay. ValueError for another family."""
    tracks, new = score.tracks.copy(), np.array(programs, np.int64).reshape(-1)
    pitched = ~tracks["is_drum"]
    if len(new) != len(tracks) or (new // FAMILY != tracks["program"] // FAMILY)[pitched].any():
        raise ValueError(f"programs {list(programs)} are not one of the same family for each of {len(tracks)} tracks")
    tracks["program"] = np.where(pitched, new, tracks["program"])
    return score.replace(tracks=tracks)


def swing(score: Score, amount: float) -> Score:
    """The second half of each quarter begins later: `amount` 1 is the triplet (2 : 1), 0 is straight.

    Both halves are stretched evenly, onsets and ends alike. Only whole quarters within a bar of quarters or halves.
    """
    half = 0.5 + amount / 6
    lines = score.bar_ticks
    meter = np.searchsorted(score.meters["tick"], lines[:-1], "right") - 1
    simple = score.meters["denominator"][meter] <= 4

    def warped(ticks: np.ndarray) -> np.ndarray:
        bar = np.clip(np.searchsorted(lines, ticks, "right") - 1, 0, len(simple) - 1)
        beat, part = np.divmod((ticks - lines[bar]) / score.resolution, 1)
        whole = lines[bar] + (beat + 1) * score.resolution <= lines[bar + 1]
        late = np.where(part < 0.5, part * 2 * half, half + (part - 0.5) * 2 * (1 - half))
        to = np.rint(lines[bar] + (beat + late) * score.resolution).astype(np.int64)
        return np.where(simple[bar] & whole, to, ticks)

    onset = _within_bar(score, warped(score.onset))
    return moved(score, onset, warped(score.onset + score.duration))


def humanise(score: Score, amount: float, seed: int) -> Score:
    """Every note moved and made softer or louder a little, each on its own: see TIMING and LOUDNESS. Lengths stay."""
    late, loud = amount * _noise(seed, 2, len(score))
    onset = _within_bar(score, score.onset + np.rint(late * TIMING * score.resolution).astype(np.int64))
    notes = _velocities(score, score.velocity + loud * LOUDNESS).notes
    return moved(score.replace(notes=notes), onset, onset + score.duration)


def unlabelled(score: Score, names: tuple[str, ...]) -> Score:
    """The score without the values of these controls."""
    return score.replace(meta={name: value for name, value in score.meta.items() if name not in names})


def without(score: Score, tracks: Sequence[int]) -> Score:
    """The score without these tracks, their notes and controls."""
    stay = np.ones(len(score.tracks), bool)
    stay[list(tracks)] = False
    number = (np.cumsum(stay) - 1).astype(np.uint16)
    notes, controls = score.notes[stay[score.track]], score.controls[stay[score.controls["track"]]]
    notes["track"], controls["track"] = number[notes["track"]], number[controls["track"]]
    names = tuple(n for n, s in zip(score.names, stay, strict=True) if s)
    return score.replace(notes=notes, controls=controls, tracks=score.tracks[stay], names=names)


def _velocities(score: Score, velocity: np.ndarray) -> Score:
    notes = score.notes.copy()
    notes["velocity"] = np.clip(np.rint(velocity), 1, 127)
    return score.replace(notes=notes)


def _noise(seed: int, rows: int, n: int) -> np.ndarray:
    """[rows, n] numbers in (-1, 1), small ones likelier: the difference of two uniform ones, from raw Philox words."""
    words = np.random.Philox(key=order.number(seed)).random_raw(2 * rows * n).reshape(2, rows, n)
    one, other = (words >> np.uint64(11)) * 2.0**-53
    return one - other


def _within_bar(score: Score, onset: np.ndarray) -> np.ndarray:
    """New onsets that stay in the bars of the old ones, as the nearest grid position has it: a note just before a line
    belongs to the bar it leads to. None goes before its line or within a position of the next, unless it was there."""
    lines, position = score.bar_ticks, score.resolution / GRID
    bar = np.minimum(np.searchsorted(lines, score.onset + position / 2, "right") - 1, len(lines) - 1)
    after = np.append(lines[1:], np.inf)[bar]
    return np.clip(
        onset, np.minimum(np.ceil(lines[bar]), score.onset), np.maximum(after - position, score.onset)
    ).astype(np.int64)
