"""Whether a score keeps to what was asked, found from its notes and maps alone: shares no code with the constraints."""

from __future__ import annotations

import numpy as np

TICKS = 20  # of a position of the `score` codec, of 480 a quarter; onsets may lie 10 before to 9 behind it
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
TRIADS = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "dim": (0, 3, 6), "maj7": (0, 4, 7, 11)}


def spans(score):
    """(first position, end position, pitch, track, drum, program) of each note, in order of writing."""
    t = score.tracks[score.track]
    at = (np.rint(score.onset * 480 / score.resolution).astype(int) + TICKS // 2) // TICKS
    position = score.resolution / 24
    end = at + np.maximum(np.ceil(score.duration / position), 1)  # a note cut by micro-timing has taken its last position
    rows = zip(at, end, score.pitch, score.track, t["is_drum"], t["program"], strict=True)
    return sorted((int(a), int(e), int(p), int(k), bool(d), int(g)) for a, e, p, k, d, g in rows)


def bar_lines(score, upto):
    """Positions of the bar lines from 0 to the first one at or after `upto`."""
    lines, meter = [0], [(int(m["tick"]) * 24 // score.resolution, 96 * int(m["numerator"]) // int(m["denominator"]))
                         for m in score.meters]  # fmt: skip
    while lines[-1] < upto:
        lines.append(lines[-1] + [length for at, length in meter if at <= lines[-1]][-1])
    return np.array(lines)


def bar_of(lines, at):
    return int(np.searchsorted(lines, at, "right")) - 1


def keeps_key(score, classes, share=0.0):
    """Every prefix has at most that share of pitched notes outside; in order of position, track and pitch."""
    notes = sorted((a, k, p) for a, _, p, k, drum, _ in spans(score) if not drum)
    outside = np.cumsum([p % 12 not in classes for _, _, p in notes])
    return all(o <= share * (i + 1) + 1e-3 for i, o in enumerate(outside))


def keeps_chords(score, bars):
    """`bars`: symbols of each bar, such as [["C"], ["Am", "F"]]; they repeat."""
    notes = spans(score)
    lines = bar_lines(score, max((a for a, *_ in notes), default=0) + 1)
    for at, _, pitch, _, drum, _ in notes:
        bar = bar_of(lines, at)
        symbols = bars[bar % len(bars)]
        symbol = symbols[(at - lines[bar]) * len(symbols) // (lines[bar + 1] - lines[bar])]
        root = LETTERS[symbol[0]] + symbol[1:2].count("#")
        tones = TRIADS[symbol[1:].lstrip("#")]
        if not drum and (pitch - root) % 12 not in tones:
            return False
    return True


def keeps_range(score, low, high, programs=()):
    own = {p: (a, b) for p, a, b in programs}
    for _, _, pitch, _, drum, program in spans(score):
        a, b = own.get(128, (0, 127)) if drum else own.get(program, (low, high))
        if not a <= pitch <= b:
            return False
    return True


def most_at_once(score):
    """Most notes that sound in one position: (of all tracks, of one track)."""
    notes = spans(score)
    moments = sorted({a for a, *_ in notes})
    every = [[k for a, e, _, k, _, _ in notes if a <= m < e] for m in moments]
    return max(map(len, every), default=0), max((np.bincount(x).max() for x in every), default=0)


def longest(score):
    return max((e - a for a, e, *_ in spans(score)), default=0)


def notes_of_bars(score, bars):
    """[bars] notes that begin in each bar of the piece."""
    notes = spans(score)
    lines = bar_lines(score, notes[-1][0] + 1 if notes else 0)
    counts = np.zeros(bars, int)
    for at, *_ in notes:
        counts[bar_of(lines, at)] += 1
    return counts


def keeps_tempo(score, low, high, slack=6e-4):
    """Quarters a minute, rounded as finely as the codec's steps; before the first row there is nothing."""
    minute = 60e6 / score.tempo["usec"]
    return bool(((minute >= low * (1 - slack)) & (minute <= high * (1 + slack))).all())


def keeps_meter(score, meters):
    return all((int(m["numerator"]), int(m["denominator"])) in meters for m in score.meter)


def ends_in(score, bars):
    """Whether the piece is that many bars long: a note begins in the last, none sounds beyond."""
    notes = spans(score)
    if not notes:
        return False
    lines = bar_lines(score, max(e for _, e, *_ in notes))
    return len(lines) == bars + 1 and max(a for a, *_ in notes) >= lines[-2]
