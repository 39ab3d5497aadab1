"""Augmentations: pure functions Score -> Score, and the draws that choose them."""

from __future__ import annotations

import numpy as np

from aurljax.data import order
from aurljax.music.score import CONTROL_KINDS, Score

_PRESSED = CONTROL_KINDS.index("key_pressure")


def transpose(score: Score, semitones: int) -> Score:
    """The score `semitones` higher: pitched notes, their key pressures, and keys round the circle of fifths.

    Drums stay. Keys are spelled with 5 flats to 6 sharps. ValueError if a pitch would leave 0..127.
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
    return score.replace(notes=notes, controls=controls, key=key)


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
    return (c["kind"] == _PRESSED) & ~score.tracks["is_drum"][c["track"]]
