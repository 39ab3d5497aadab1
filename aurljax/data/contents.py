"""What a piece holds, counted: the manifest says it of every piece, the census adds it up."""

from __future__ import annotations

import collections

import numpy as np

from aurljax.music.score import Score

DRUMS = "drums"
NO_KEY = "none stated"
FIFTHS = "FCGDAEB"  # the letters of keys, each a fifth above the one before


def meters(score: Score) -> dict[str, int]:
    """{"3/4": bars}, in the order in which they come; every piece has at least one bar."""
    found, bars = score.meters, score.bar_ticks[:-1]
    of_bar = np.bincount(np.searchsorted(found["tick"], bars, "right") - 1, minlength=len(found))
    out = collections.Counter()
    for (_, n, d), count in zip(found.tolist(), of_bar.tolist(), strict=True):
        out[f"{n}/{d}"] += count
    return dict(out)


def programs(score: Score) -> dict[str, int]:
    """{"0": notes} by General MIDI program, 0..127; notes of drums stand under "drums", whatever their program."""
    drum = score.is_drum
    out = {str(p): n for p, n in enumerate(np.bincount(score.program[~drum]).tolist()) if n}
    return out | ({DRUMS: int(drum.sum())} if drum.any() else {})


def keys(score: Score) -> dict[str, int]:
    """{"E♭ major": notes} by the key signature in force where they start, or "none stated"."""
    of_note = np.searchsorted(score.key["tick"], score.onset, "right")
    names = [NO_KEY, *(key_name(fifths, minor) for _, fifths, minor in score.key.tolist())]
    out = collections.Counter()
    for name, count in zip(names, np.bincount(of_note, minlength=len(names)).tolist(), strict=True):
        out[name] += count
    return {name: n for name, n in out.items() if n}


def key_name(fifths: int, minor: bool) -> str:
    """Name of the key with so many sharps (flats below zero): (-3, False) is "E♭ major"."""
    signs, letter = divmod(fifths + (4 if minor else 1), len(FIFTHS))
    return FIFTHS[letter] + ("♯" if signs > 0 else "♭") * abs(signs) + (" minor" if minor else " major")
