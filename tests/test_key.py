"""The key of a piece: every cadence in its own key, transposed with the notes, and nothing of drums."""

import numpy as np
import pytest
from scores import random_score

from aurljax.data.augment import transpose
from aurljax.music.score import Score
from aurljax.music.theory import key

NAMES = {"C major": 0, "A minor": 0, "F♯ minor": 3, "B♭ major": -2, "E♭ major": -3, "C minor": -3, "F♯ major": 6}


def cadence(tonic: int, minor: bool) -> Score:
    """I IV V I in four parts."""
    third = 3 if minor else 4
    chords = [(0, third, 7), (5, 5 + third, 12), (7, 11, 14), (0, third, 7)]
    notes = [(480 * i, 480, 0, 48 + tonic + p, 80) for i, chord in enumerate(chords) for p in chord]
    bass = [(480 * i, 480, 1, 36 + tonic + chord[0], 80) for i, chord in enumerate(chords)]
    return Score(notes=notes + bass, tracks=[(0, False), (32, False)])


@pytest.mark.parametrize("minor", [False, True])
@pytest.mark.parametrize("tonic", range(12))
def test_a_cadence_is_in_its_key(tonic, minor):
    found = key.find(cadence(tonic, minor))
    assert (found.tonic, found.minor) == (tonic, minor) and -5 <= found.fifths <= 6
    scale = {(7 * (found.fifths + i)) % 12 for i in range(-1, 6)}  # what the signature says is natural
    third = 3 if minor else 4
    assert {tonic, (tonic + third) % 12, (tonic + 7) % 12} <= scale


def test_names():
    found = {str(key.find(cadence(t, m))): key.find(cadence(t, m)).fifths for t in range(12) for m in (False, True)}
    assert len(found) == 24 and NAMES.items() <= found.items()


@pytest.mark.parametrize("seed", range(5))
def test_a_transposed_piece_has_a_transposed_key(seed):
    score = random_score(seed, 100)
    found, moved = key.find(score), key.find(transpose(score, 5))
    assert ((found.tonic + 5) % 12, found.minor) == (moved.tonic, moved.minor)


def test_drums_have_no_key_and_change_none():
    score = cadence(9, True)
    drums = [(120 * i, 60, 2, 35 + i, 127) for i in range(40)]
    both = score.replace(notes=[*score.notes.tolist(), *drums], tracks=[(0, False), (32, False), (0, True)])
    assert key.find(both) == key.find(score)
    assert key.find(Score(notes=[(0, 9, 0, 40, 9)], tracks=[(0, True)])) is None and key.find(Score()) is None
    every = Score(notes=[(0, 9, 0, 60 + i, 9) for i in range(12)], tracks=[(0, False)])
    assert key.find(every) is None
    assert np.isfinite(key.PROFILES).all()
