"""The key of a piece, measured from its notes: the tonic and mode whose profile the pitch classes resemble most.

The profiles are those of Albrecht and Shanahan, "The use of large corpora to train a new type of key-finding
algorithm", Music Perception 31 (2013); resemblance is Pearson's correlation, as in Krumhansl's method (1990).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aurljax.music.score import Score

MAJOR = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
MINOR = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)
PROFILES = np.array([np.roll(p, tonic) for p in (MAJOR, MINOR) for tonic in range(12)])  # [24, 12]
LETTERS = "FCGDAEB"  # in fifths


class Key(NamedTuple):
    """A key as MIDI writes it: sharps (+) or flats (-) of its signature, -5..6, and its mode."""

    fifths: int
    minor: bool

    @property
    def tonic(self) -> int:
        """Pitch class of the tonic, 0 for C."""
        return (7 * self.fifths + 9 * self.minor) % 12

    def __str__(self) -> str:
        fifth = self.fifths + 1 + 3 * self.minor  # of the tonic, F being 0
        sign = "♯" * (fifth // 7) if fifth >= 0 else "♭" * -(fifth // 7)
        return f"{LETTERS[fifth % 7]}{sign} {'minor' if self.minor else 'major'}"


def find(score: Score) -> Key | None:
    """The key of a whole score; None where no note has a pitch (drums have none) or all pitch classes weigh the same."""
    pitched = ~score.is_drum
    weight = np.bincount(score.pitch[pitched] % 12, score.duration[pitched], 12)
    if np.ptp(weight) == 0:
        return None
    best = int(np.argmax([np.corrcoef(weight, profile)[0, 1] for profile in PROFILES]))
    tonic, minor = best % 12, best >= 12
    return Key((7 * (tonic - 9 * minor) + 5) % 12 - 5, minor)
