"""Preprocessing: pure functions Score -> Score that make a corpus more alike before windows are cut from it.

Notes that come to start together on one pitch of a track are merged, and one that runs into the next is ended there, as
`Score.repaired` does it; `prepare` counts the notes that went. Tempo, meter, controls and texts stay where they are.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from aurljax.fields import at_least, one_of, require
from aurljax.music.polyphony import reduce_polyphony
from aurljax.music.score import Score, rounded

MODES = ("strict", "groove")
FAMILY = 8  # programs of a General MIDI family
GRIDS = ((4, 1.0), (6, 2.0), (8, 2.0))  # steps per quarter, and how many times better than that the finer ones must fit


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What is done to every piece, in this order; nothing by default."""

    quantise: str = "none"  # none, strict, groove or adaptive
    steps: int = 4  # per quarter, for strict and groove
    strength: float = 1.0  # groove: share of what lies beyond the tolerance that is taken away
    tolerance: float = 0.0  # groove: quarters beside the grid that are left alone
    fold_instruments: bool = False
    polyphony: int = 0  # most pitched notes at once; 0: any number
    velocity_mean: float = 0.0  # of each piece; 0: velocities stay
    velocity_spread: float = 0.0  # standard deviation in each piece; 0: it stays

    def __post_init__(self) -> None:
        name = "data.preprocess"
        one_of(f"{name}.quantise", self.quantise, ("none", *MODES, "adaptive"))
        at_least(self, name, steps=1, polyphony=0, tolerance=0, velocity_spread=0)
        require(self.steps <= 96, f"{name}.steps={self.steps} must be at most 96")
        require(0 <= self.strength <= 1, f"{name}.strength={self.strength} must be in [0, 1]")
        mean, spread = self.velocity_mean, self.velocity_spread
        require(mean == 0 or 1 <= mean <= 127, f"{name}.velocity_mean={mean} must be in 1..127, or 0 for no change")
        require(mean > 0 or spread == 0, f"{name}.velocity_spread={spread} needs a {name}.velocity_mean; set one")


def prepare(score: Score, how: Preprocess) -> tuple[Score, dict[str, int]]:
    """(the score preprocessed, notes that went by reason: `merged` on the grid, `thinned` out of the polyphony)."""
    before = len(score)
    if how.quantise == "adaptive":
        score = quantise_adaptive(score)
    elif how.quantise != "none":
        score = quantise(score, how.steps, how.quantise, how.strength, how.tolerance)
    merged, before = before - len(score), len(score)
    if how.fold_instruments:
        score = fold_instruments(score)
    if how.polyphony:
        score = reduce_polyphony(score, how.polyphony)
    if how.velocity_mean:
        score = normalise_velocity(score, how.velocity_mean, how.velocity_spread)
    return score, {"merged": merged, "thinned": before - len(score)}


# --- time -------------------------------------------------------------------------------------------------------------


def quantise(
    score: Score, steps: int = 4, mode: str = "strict", strength: float = 1.0, tolerance: float = 0.0
) -> Score:
    """Onsets and ends drawn to the nearest of `steps` positions per quarter, counted from tick 0.

    strict: onto it; a note lasts at least one step. groove: what lies up to `tolerance` quarters beside it stays, of
    what lies beyond that the share `strength` is taken away; a note lasts at least one tick.
    """
    onset, end = score.onset, score.onset + score.duration
    if mode == "strict":
        first, last = rounded(onset * steps, score.resolution), rounded(end * steps, score.resolution)
        last = np.maximum(last, first + 1)
        return moved(score, rounded(first * score.resolution, steps), rounded(last * score.resolution, steps))
    one_of("mode", mode, MODES)
    most = round(tolerance * score.resolution)

    def drawn(at: np.ndarray) -> np.ndarray:
        grid = _on_grid(at, steps, score.resolution)
        beside = at - grid
        kept = np.clip(beside, -most, most)
        return grid + kept + np.rint((beside - kept) * (1 - strength)).astype(np.int64)

    return moved(score, drawn(onset), drawn(end))


def quantise_adaptive(score: Score) -> Score:
    """Onsets and ends onto sixteenths, sixteenth triplets or thirty-seconds, in each quarter those its onsets fit best.

    A finer grid must fit twice as well. An onset up to a sixteenth of a quarter early belongs to the quarter it leads
    to. Ends take the grid of their own quarter, and a note lasts at least a step of the grid it starts on.
    """
    r, onset, end = score.resolution, score.onset, score.onset + score.duration
    beats, beat = np.unique((16 * onset + r) // (16 * r), return_inverse=True)
    cost = []
    for steps, weight in GRIDS:
        beside = (onset - _on_grid(onset, steps, r)) / r
        cost.append(weight * np.sqrt(np.bincount(beat, beside**2, len(beats))))
    best = np.argmin(cost, 0)  # the first of equals
    of_onset = best[beat]
    at = (16 * end + r) // (16 * r)
    i = np.minimum(np.searchsorted(beats, at), max(len(beats) - 1, 0))
    of_end = np.where(beats[i] == at, best[i], 0) if len(beats) else of_onset
    table = np.array([steps for steps, _ in GRIDS])
    begin = _on_grid(onset, table[of_onset], r)
    step = np.maximum(r // table[of_onset], 1)
    return moved(score, begin, np.maximum(_on_grid(end, table[of_end], r), begin + step))


def moved(score: Score, onset: np.ndarray, end: np.ndarray) -> Score:
    """The score with its notes at other ticks ([N] each), at least a tick long, repaired."""
    notes = score.notes.copy()
    notes["onset"], notes["duration"] = onset, np.maximum(end - onset, 1)
    return score.replace(notes=notes).repaired()[0]


def _on_grid(ticks: np.ndarray, steps: int | np.ndarray, resolution: int) -> np.ndarray:
    """The nearest tick of a grid of `steps` per quarter."""
    return rounded(rounded(ticks * steps, resolution) * resolution, steps)


# --- sound ------------------------------------------------------------------------------------------------------------


def normalise_velocity(score: Score, mean: float = 64.0, spread: float = 0.0) -> Score:
    """Velocities shifted to a mean and scaled to a standard deviation (0: as it is), then cut to 1..127.

    One rising line for the whole piece: of two notes the louder never becomes the softer one.
    """
    if not len(score):
        return score
    velocity = score.velocity.astype(np.float64)
    deviation = velocity.std()
    factor = spread / deviation if spread and deviation else 1.0
    notes = score.notes.copy()
    notes["velocity"] = np.clip(np.rint(mean + (velocity - velocity.mean()) * factor), 1, 127)
    return score.replace(notes=notes)


def fold_instruments(score: Score) -> Score:
    """Every program replaced by the first of its General MIDI family of eight; drums stay."""
    tracks = score.tracks.copy()
    tracks["program"] = np.where(tracks["is_drum"], tracks["program"], tracks["program"] // FAMILY * FAMILY)
    return score.replace(tracks=tracks)
