"""The longest shared passage against a quadratic search, and planted passages found where they were put."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax.evaluate.copied import Copied, Index, longest
from aurljax.music.score import Score


def _score(notes, **fields):
    fields = {"tracks": [(0, False), (40, False)], **fields}
    return Score(notes=notes, **fields).repaired()[0]


def _random(rng, count, low=60, onset=0, spread=3):
    notes = []
    for _ in range(count):
        onset += int(rng.choice([0, 240, 480]))
        notes.append((onset, int(rng.integers(1, 900)), int(rng.integers(2)), low + int(rng.integers(spread)), 64))
    return notes


def _points(score):
    return sorted({(int(o), int(p)) for o, p in zip(score.onset, score.pitch, strict=True)})


def _quadratic(score, pieces, exact):
    """Notes of the longest run of equal steps, compared pair by pair."""
    lines = [_points(s) for s in (score, *pieces.values())]
    best = 0
    for line in lines[1:]:
        for i in range(len(lines[0])):
            for j in range(len(line)):
                shift = [a - b for a, b in zip(lines[0][i], line[j], strict=True)]
                n = 0
                while i + n < len(lines[0]) and j + n < len(line) and (shift[1] == 0 or not exact):
                    if [a - b for a, b in zip(lines[0][i + n], line[j + n], strict=True)] != shift:
                        break
                    n += 1
                best = max(best, n)
    return best if best > 1 else 0


@given(st.integers(0, 10**6), st.integers(0, 25), st.lists(st.integers(0, 30), max_size=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_equals_a_quadratic_search(seed, count, sizes, exact):
    rng = np.random.default_rng(seed)
    pieces = {str(i): _score(_random(rng, size, int(rng.integers(58, 62)))) for i, size in enumerate(sizes)}
    score = _score(_random(rng, count))
    assert longest(score, pieces, exact).notes == _quadratic(score, pieces, exact)


@pytest.mark.parametrize("semitones", [0, 5, -7])
@pytest.mark.parametrize("exact", [False, True])
def test_a_planted_passage_is_found(semitones, exact):
    rng = np.random.default_rng(1)
    pieces = {f"piece {i}": _score(_random(rng, 300, spread=20)) for i in range(8)}
    index = Index(pieces)
    source = pieces["piece 5"].notes[100:150]
    shift = 100 * 1920 + 480 - source["onset"][0] % 1920 - source["onset"][0]
    planted = [(o + shift, d // 2 + 1, 1, p + semitones, 20) for o, d, _, p, _ in source.tolist()]
    before, after = _random(rng, 200, 50), _random(rng, 200, 50, onset=1920 * 150)
    score = _score(before + planted + after, tempo=[(0, 1_000_000)])
    found = index.longest(score, exact)
    if exact and semitones:
        assert found.notes < 12
        return
    count = len({(n[0], n[3]) for n in source.tolist()})
    assert count <= found.notes <= count + 3 and found.semitones == semitones  # neighbours may agree by chance
    assert found.piece == "piece 5" and abs(found.piece_bar - 1 - source["onset"][0] // 1920) <= 1
    span = (source["onset"][-1] - source["onset"][0]) / 480
    assert abs(found.bar - 101) <= 1 and span <= found.seconds < span + 4 and span / 4 <= found.bars < span / 4 + 1


def test_other_resolution_tracks_durations_and_drums_do_not_hide_it():
    rng = np.random.default_rng(2)
    piece = _score(_random(rng, 80, spread=12))
    n = piece.notes
    hidden = Score(
        resolution=96,
        notes=[(o // 5, 1 + i % 7, 1 - t, p, 127) for i, (o, _, t, p, _) in enumerate(n.tolist())]
        + [(int(o) // 5, 10, 2, 38, 90) for o in n["onset"]],
        tracks=[(5, False), (6, False), (0, True)],
    ).repaired()[0]
    both = longest(hidden, {"it": piece}), longest(piece, {"it": hidden})
    assert both[0].notes == both[1].notes == len(_points(piece))
    assert both[0].bars < both[1].bars  # to the end of the last note, in the score's own lengths


def test_of_equal_passages_the_first_is_told():
    tune = [(480 * i, 400, 0, 60 + 3 * i * i % 17, 64) for i in range(8)]
    score = _score(tune + [(o + 8 * 1920, *rest) for o, *rest in tune])
    found = longest(score, {"a": _score([(o, d, t, p - 2, v) for o, d, t, p, v in tune[2:]])})
    assert found == Copied(6, 1.46, 2.92, 1, "a", 1, 2)
    assert str(found) == "6 notes (1.46 bars, 2.92 s) from bar 1 are those of a from bar 1, +2 semitones"


def test_nothing_to_find():
    one = _score([(0, 10, 0, 60, 64)])
    assert longest(one, {"a": one}) == longest(one, {}) == longest(_score([]), {"a": one, "b": _score([])}) == Copied(0)
