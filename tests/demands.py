"""Constraints drawn at random, each with the independent check that a score keeps to it."""

from __future__ import annotations

import keeping
import numpy as np

from aurljax.decode import constraints as c

MAJOR = {0, 2, 4, 5, 7, 9, 11}
CHANGES, BARS = "C | Am F | G7 | %", [["C"], ["Am", "F"], ["G7"], ["G7"]]
OWN = ((40, 55, 67), (128, 35, 50))  # ranges of two programs
SECONDS = 6.0


def draw(rng):
    """(constraints of every kind, the checks of those that matter, numbers for `crowded`): loose, where one is
    left out, so that one program serves all."""

    def maybe(share, kind, tight, loose, keeps):
        on = rng.random() < share
        out.append(kind(*(tight if on else loose)))
        if on:
            checks[kind.__name__] = keeps

    out, checks = [], {}
    share, low, span = float(rng.choice([0, 0.1, 0.3])), int(rng.integers(40, 60)), int(rng.integers(12, 30))
    every, own, most = int(rng.integers(1, 5)), int(rng.integers(1, 4)), float(rng.choice([0.5, 1, 4]))
    few = int(rng.integers(0, 4))
    many, tempo = few + int(rng.integers(1, 6)), float(rng.uniform(40, 200))
    maybe(0.5, c.Key, ("C major", share), ("C chromatic",), lambda x: keeping.keeps_key(x, MAJOR, share))
    maybe(0.5, c.Chords, (CHANGES,), ("N.C. N.C.",), lambda x: keeping.keeps_chords(x, BARS))
    maybe(0.5, c.Range, (low, low + span, OWN), (), lambda x: keeping.keeps_range(x, low, low + span, OWN))
    maybe(0.5, c.Longest, (most,), (128,), lambda x: keeping.longest(x) <= 24 * most)
    maybe(0.3, c.Meter, (((3, 4), (4, 4)),), (tuple((n, 4) for n in range(1, 9)),),
          lambda x: keeping.keeps_meter(x, {(3, 4), (4, 4)}))  # fmt: skip
    maybe(0.5, c.Tempo, (tempo, tempo * float(rng.choice([1, 1.2]))), (10, 500),
          lambda x: keeping.keeps_tempo(x, tempo, tempo * 1.2))  # fmt: skip
    maybe(0.3, c.Programs, ((0, 40, 128),), (tuple(range(129)),),
          lambda x: set(np.where(x.tracks["is_drum"], 128, x.tracks["program"])) <= {0, 40, 128})  # fmt: skip
    maybe(0.4, c.Tracks, (1, 3), (0, 16), lambda x: 1 <= len(x.tracks) <= 3)
    return out, checks, (every, own, few, many)


def crowded(rng, drawn):
    """More of them, of which the loop is another program: polyphony and density."""
    out, checks, (every, own, few, many) = drawn
    out += [c.Polyphony(every), c.TrackPolyphony(own), c.Density(few, many)]
    checks["Polyphony"] = lambda x: keeping.most_at_once(x)[0] <= every
    checks["TrackPolyphony"] = lambda x: keeping.most_at_once(x)[1] <= own
    checks["Density"] = lambda x, bars: all(few <= n <= many for n in keeping.notes_of_bars(x, bars))
    return out, checks


def fills(score):
    """Whether it has the fewest whole bars that reach the seconds asked for, to a position."""
    notes = keeping.spans(score)
    lines = keeping.bar_lines(score, max(e for _, e, *_ in notes))
    end, slack = score.seconds(lines * 20), 0.05
    return end[-1] >= SECONDS - slack and end[-2] < SECONDS + slack and max(a for a, *_ in notes) >= lines[-2]


def exact(rng, drawn):
    """A length on top, as (bars, seconds)."""
    out, checks = crowded(rng, drawn)
    bars = int(rng.integers(1, 4)) if rng.random() < 0.6 else None
    checks["Exact"] = fills if bars is None else lambda x: keeping.ends_in(x, bars)
    return [*out, c.Exact(), c.Leap(int(rng.integers(3, 9))), c.Parallels()], checks, bars
