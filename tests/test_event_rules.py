"""Constraints on `event`: random walks under all at once keep to each, as told by code that reads the score alone."""

import keeping
import numpy as np
import pytest
import walking

from aurljax.decode import constraints as c
from aurljax.errors import UserError
from aurljax.music.codec import make

CODEC = make("event")
MAJOR = {0, 2, 4, 5, 7, 9, 11}
CHANGES, BARS, BAR = "C | Am F | G7 | %", [["C"], ["Am", "F"], ["G7"], ["G7"]], 0.7
OPEN = 2**30
ROWS = 64


def spans(score):
    """(first step, end step, pitch, program) of each note, in steps of 1/64 s and order of writing."""
    start, end = (np.rint(score.seconds(x) * 64).astype(int) for x in (score.onset, score.onset + score.duration))
    rows = zip(start, end, score.pitch, score.tracks["program"][score.track], strict=True)
    return sorted(((int(a), int(e), int(p), int(g)) for a, e, p, g in rows), key=lambda x: (x[0], x[3], x[2]))


def keeps_key(score, share):
    outside = np.cumsum([p % 12 not in MAJOR for _, _, p, _ in spans(score)])
    return all(o <= share * (i + 1) + 1e-3 for i, o in enumerate(outside))


def keeps_chords(score, begin=0):
    """Whether notes begin on the tones of bars of round(BAR * 64) steps, from step `begin` on."""
    steps = round(BAR * 64)
    for at, _, pitch, _ in spans(score):
        symbols = BARS[(at - begin) // steps % len(BARS)]
        symbol = symbols[(at - begin) % steps * len(symbols) // steps]
        tones = keeping.TRIADS[symbol[1:]]
        if at >= begin and (pitch - keeping.LETTERS[symbol[0]]) % 12 not in tones:
            return False
    return True


def most_at_once(score):
    """Most notes that sound in one step: (in all, of one program)."""
    notes = spans(score)
    every = [[g for a, e, _, g in notes if a <= m < e] for m in {a for a, *_ in notes}]
    return max(map(len, every), default=0), max((np.bincount(x).max() for x in every), default=0)


def draw(rng):
    """(constraints of every kind, {name: whether a score keeps to it}): loose, where one is left out."""
    out, checks = [], {}

    def maybe(kind, tight, loose, keeps):
        on = rng.random() < 0.5
        out.append(kind(*(tight if on else loose)))
        if on:
            checks[kind.__name__] = keeps

    share, low, span = float(rng.choice([0, 0.2])), int(rng.integers(15, 60)), int(rng.integers(18, 40))
    every, own, long = int(rng.integers(1, 5)), int(rng.integers(1, 3)), float(rng.choice([1 / 64, 0.1, 1, 9]))
    bounds = {40: (55, 70)}
    maybe(c.Key, ("C major", share), ("C chromatic",), lambda x: keeps_key(x, share))
    maybe(c.Chords, (CHANGES, BAR), ("N.C. N.C.", 1.0), keeps_chords)
    maybe(c.Range, (low, low + span, ((40, 55, 70),)), (),
          lambda x: all(a <= p <= b for *_, p, g in spans(x) for a, b in [bounds.get(g, (low, low + span))]))  # fmt: skip
    maybe(c.Programs, ((0, 40, 120),), (tuple(range(0, 128, 8)),), lambda x: set(x.tracks["program"]) <= {0, 40, 120})
    maybe(c.Polyphony, (every,), (64,), lambda x: most_at_once(x)[0] <= every)
    maybe(c.TrackPolyphony, (own,), (64,), lambda x: most_at_once(x)[1] <= own)
    maybe(c.Longest, (None, long), (None, 60), lambda x: max(e - a for a, e, *_ in spans(x)) <= 64 * long)
    return out, checks


def holds(walked, drawn, limits):
    """All decode and keep what is asked of them; the notes of each."""
    counts = []
    for ids, (asked, checks), (left, _, _) in zip(walked, drawn, limits, strict=True):
        score = CODEC.decode(ids)
        score.check()
        assert np.array_equal(CODEC.encode(score), ids) and len(ids) <= left + 1
        counts.append(len(score))
        for name, keeps in checks.items():
            assert not len(score) or keeps(score), (name, *map(str, asked))
    return counts


def test_walks_keep_to_what_is_asked():
    rng = np.random.default_rng(5)
    drawn = [draw(rng) for _ in range(ROWS)]
    limits = [(int(rng.integers(12, 200)), OPEN, float(rng.choice([2, 20, np.inf]))) for _ in drawn]
    walked = walking.walks(CODEC, [d[0] for d in drawn], limits, seed=1, compare=24)
    assert max(holds(walked, drawn, limits)) > 20


def test_walks_are_of_exactly_the_length_asked_for():
    rng = np.random.default_rng(6)
    drawn, limits = [draw(rng) for _ in range(ROWS)], []
    asked = [[*d[0], c.Exact()] for d in drawn]
    for row in asked:
        seconds = float(rng.choice([1 / 64, 2 / 64, 1.0, 8.0, 8.01, 20.3]))
        few = walking.enough(CODEC, row, seconds=seconds)
        limits.append((few + int(rng.choice([0, 1, 5, 100])), OPEN, seconds))
    walked = walking.walks(CODEC, asked, limits, seed=2, compare=24)
    holds(walked, drawn, limits)
    for ids, (_, _, seconds) in zip(walked, limits, strict=True):
        assert max(e for _, e, *_ in spans(CODEC.decode(ids))) == np.ceil(seconds * 64)
