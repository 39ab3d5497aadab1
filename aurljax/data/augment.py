"""Augmentation: transposition, and which effects with which parameters each example gets, drawn from its key alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aurljax.data import effects, order
from aurljax.fields import one_of, require
from aurljax.music import chords
from aurljax.music.preprocess import FAMILY
from aurljax.music.score import KEY_PRESSURE, Score

Schedule = float | tuple[float, float]  # a number, or its values at the first and the last step of the run
Plan = tuple[tuple[str, Any], ...]  # (name, parameters) of what is done to an example, in order

# --- settings ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Effect:
    """How often an effect is used, and how strong it then is; what a strength means is in `EFFECTS`."""

    probability: Schedule = 0.0
    strength: Schedule = 0.0


@dataclasses.dataclass(frozen=True)
class Augment:
    """The effects, off by default. `transpose`: "range" draws from data.transpose, "fit" from all that fit `pitches`."""

    transpose: str = "range"
    pitches: tuple[int, int] = (21, 108)  # lowest and highest that "fit" may reach: the keys of a piano
    slack: float = 0.1  # room kept for effects that add ids, as a share of a window; used where one of them is on
    drop: Effect = Effect(0.0, 0.3)
    instruments: Effect = Effect(0.0, 1.0)
    tempo: Effect = Effect(0.0, 0.1)
    swing: Effect = Effect(0.0, 1.0)
    humanise: Effect = Effect(0.0, 0.5)
    velocity: Effect = Effect(0.0, 0.2)
    curve: Effect = Effect(0.0, 0.3)

    def __post_init__(self) -> None:
        low, high = self.pitches
        one_of("data.augment.transpose", self.transpose, ("range", "fit"))
        require(0 <= low < high <= 127, f"data.augment.pitches={self.pitches} must be (lowest, highest) within 0..127")
        require(0 <= self.slack <= 1, f"data.augment.slack={self.slack} must be in [0, 1]")
        for name in EFFECTS:
            effect = getattr(self, name)
            for value in (effect.probability, effect.strength):
                what = "probability" if value is effect.probability else "strength"
                fits = all(0 <= v <= 1 for v in _ends(value))
                require(fits, f"data.augment.{name}.{what}={value} must lie in [0, 1], at the start and at the end")

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the effects that can be drawn."""
        return tuple(name for name in EFFECTS if any(_ends(getattr(self, name).probability)))

    @property
    def scheduled(self) -> bool:
        """Whether a value of an active effect changes with the step."""
        values = (getattr(getattr(self, n), f) for n in self.active for f in ("probability", "strength"))
        return any(isinstance(v, tuple) for v in values)


def _ends(value: Schedule) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)


def at(value: Schedule, progress: float) -> float:
    """The value of a schedule when the share `progress` (0..1) of the run is done."""
    start, end = _ends(value)
    return start + (end - start) * progress


# --- transposition ----------------------------------------------------------------------------------------------------


def transpose(score: Score, semitones: int) -> Score:
    """The score `semitones` higher: pitched notes, their key pressures, chord symbols, and keys round the circle of fifths.

    Drums and all other texts stay. Keys are spelled with 5 flats to 6 sharps. ValueError if a pitch would leave 0..127.
    """
    if semitones == 0:
        return score
    low, high = span(score)
    if not low <= semitones <= high:
        raise ValueError(f"a transposition by {semitones} leaves the pitches 0..127; this score allows {low}..{high}")
    notes, controls, key = score.notes.copy(), score.controls.copy(), score.key.copy()
    notes["pitch"] += np.where(score.is_drum, 0, semitones).astype(np.uint8)  # modulo 256, so down works too
    pressed = _pressed(score)
    controls["number"][pressed] += np.uint8(semitones % 256)
    key["fifths"] = (key["fifths"].astype(int) + 7 * semitones + 5) % 12 - 5
    texts = chords.transposed(score.texts, semitones)
    return score.replace(notes=notes, controls=controls, key=key, texts=texts)


def span(score: Score) -> tuple[int, int]:
    """(lowest, highest) transposition in semitones that keeps every pitch within 0..127."""
    pitches = np.concatenate([score.pitch[~score.is_drum], score.controls["number"][_pressed(score)]])
    return (-int(pitches.min()), 127 - int(pitches.max())) if len(pitches) else (-127, 127)


def draw(score: Score, key: tuple[int, ...], low: int, high: int) -> int:
    """A transposition uniform over those of low..high (low <= 0 <= high) that fit the score, following from `key`."""
    down, up = span(score)
    low, high = max(low, down), min(high, up)
    return low + order.number(*key) % (high - low + 1)


def _pressed(score: Score) -> np.ndarray:
    """[rows] which controls are pressures of a pitched key."""
    c = score.controls
    return (c["kind"] == KEY_PRESSURE) & ~score.tracks["is_drum"][c["track"]]


def fitting(score: Score, pitches: tuple[int, int]) -> tuple[int, int]:
    """(low <= 0, high >= 0): the transpositions in semitones that lead no note out of `pitches` that is not out already."""
    down, up = span(score)
    return min(0, down + pitches[0]), max(0, up - 127 + pitches[1])


# --- effects ----------------------------------------------------------------------------------------------------------

Chance = Callable[[int], int]  # the i-th 64-bit number of an effect of an example


class Kind(NamedTuple):
    """An effect: its own number in the keys of chance, draw(score, strength, chance) -> parameters, apply(score, them)."""

    number: int
    draw: Callable[[Score, float, Chance], Any]
    apply: Callable[..., Score]


def _unit(number: int) -> float:
    """A 64-bit number as one in [0, 1)."""
    return (number >> 11) * 2.0**-53


def _factor(score: Score, strength: float, chance: Chance) -> float:
    """Between 1 / (1 + strength) and 1 + strength, either way alike."""
    return (1 + strength) ** (2 * _unit(chance(0)) - 1)


def _some_tracks(score: Score, strength: float, chance: Chance) -> tuple[int, ...]:
    """Each track with probability `strength`, but one with notes stays."""
    heard = np.unique(score.track)
    stays = int(heard[chance(0) % len(heard)]) if len(heard) else 0
    return tuple(i for i in range(len(score.tracks)) if i != stays and _unit(chance(1 + i)) < strength)


def _programs(score: Score, strength: float, chance: Chance) -> tuple[int, ...]:
    """Each pitched track's program, with probability `strength` another draw from its family."""
    out = []
    for i, (program, is_drum) in enumerate(score.tracks.tolist()):
        changed = not is_drum and _unit(chance(2 * i)) < strength
        out.append(program // FAMILY * FAMILY + chance(2 * i + 1) % FAMILY if changed else program)
    return tuple(out)


EFFECTS = {  # in the order in which they are applied; the numbers stay, for runs are resumed
    "drop": Kind(1, _some_tracks, effects.without),  # strength: share of the tracks that go
    "instruments": Kind(2, _programs, effects.substitute),  # strength: share of the tracks that change
    "tempo": Kind(3, _factor, effects.stretch),  # strength 0.1: up to 1.1 times as fast or slow
    "swing": Kind(4, lambda _, s, c: s * _unit(c(0)), effects.swing),  # strength 1: up to triplets
    "humanise": Kind(5, lambda _, s, c: (s, c(0) >> 1), lambda score, drawn: effects.humanise(score, *drawn)),
    "velocity": Kind(6, _factor, effects.louder),  # strength 0.2: up to 1.2 times as loud or soft
    "curve": Kind(7, _factor, effects.curve),  # strength 0.3: exponents up to 1.3
}


# Steps of a plan that are no effects: they cannot make a window longer.
PLAIN: dict[str, Callable[..., Score]] = {"transpose": transpose, "without": effects.unlabelled}
STEPS = PLAIN | {name: kind.apply for name, kind in EFFECTS.items()}


def plan(score: Score, settings: Augment, key: tuple[int, ...], progress: float) -> Plan:
    """The effects an example gets and their parameters: they follow from `key`, and from `progress` by the schedules."""
    out = []
    for name in settings.active:
        kind, effect = EFFECTS[name], getattr(settings, name)
        if _unit(order.number(*key, kind.number, 0)) >= at(effect.probability, progress):
            continue
        out.append(
            (
                name,
                kind.draw(score, at(effect.strength, progress), lambda i, n=kind.number: order.number(*key, n, 1 + i)),
            )
        )
        if name == "drop":  # what is drawn for each track is drawn for those that stay
            score = effects.without(score, out[-1][1])
    return tuple(out)


def apply(score: Score, plan: Plan) -> Score:
    """The score after every step of a plan."""
    for name, values in plan:
        score = STEPS[name](score, values)
    return score
