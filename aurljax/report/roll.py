"""A score as a piano roll in inline SVG; `evaluate.pictures` draws the same for paper."""

from __future__ import annotations

import numpy as np

from aurljax.evaluate.pictures import BLACK_KEYS, NAMES, heights
from aurljax.music.score import Score

SEMITONE = 4.5  # sizes in units of the picture
WIDE, QUARTER = 1150, (14, 32)  # a piece is as wide as the page where a quarter need not be less or more than this
LEFT, TOP, BOTTOM = 34, 14, 4
MOST_BARS = 64


def svg(score: Score, label: str = "") -> str:
    """The roll of a score's first MOST_BARS bars, x in quarters, y in semitones; nothing for a score without notes."""
    if not len(score):
        return ""
    lines = score.bar_ticks[: MOST_BARS + 1].astype(float)
    lines = lines[: np.searchsorted(lines, score.end, "left") + 1]
    y, drums = heights(score)
    low, high = int(y.min()) - 1, int(y.max()) + 2
    quarters = (lines[-1] - lines[0]) / score.resolution
    scale = float(np.clip((WIDE - LEFT) / quarters, *QUARTER)) / score.resolution
    width, height = LEFT + (lines[-1] - lines[0]) * scale + 1, TOP + BOTTOM + SEMITONE * (high - low)

    def across(ticks):
        return LEFT + (ticks - lines[0]) * scale

    def down(pitch):
        return TOP + SEMITONE * (high - pitch)

    parts = [f'<svg class="roll" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
             f'role="img" aria-label="{label}">']  # fmt: skip
    floor = max(drums.values()) + 1 if drums else low
    keys = [p for p in range(max(floor, low), high) if p % 12 in BLACK_KEYS]
    bands = "".join(f"M{LEFT} {down(p + 1):.1f}H{width - 1:.0f}v{SEMITONE}H{LEFT}z" for p in keys)
    parts.append(f'<path class="keys" d="{bands}"/>')
    for p in range(max(floor, low), high):
        if p % 12 == 0:
            parts.append(f'<text x="{LEFT - 5}" y="{down(p) - 0.4:.1f}" class="end">{NAMES[0]}{p // 12 - 1}</text>')
    if drums:
        middle = (max(drums.values()) + min(drums.values()) + 1) / 2
        parts.append(f'<text x="{LEFT - 5}" y="{down(middle) + 3:.1f}" class="end">drums</text>')
    bars = "".join(f"M{across(t):.1f} {TOP}V{height - BOTTOM:.0f}" for t in lines)
    parts.append(f'<path class="bars" d="{bars}"/>')
    every = 1 if len(lines) <= 17 else 4
    for i, t in enumerate(lines[:-1]):
        if i % every == 0:
            parts.append(f'<text x="{across(t) + 2:.1f}" y="{TOP - 4}">{i + 1}</text>')
    return "".join(parts) + _notes(score, y, lines, across, down) + "</svg>"


def _notes(score: Score, y: np.ndarray, lines: np.ndarray, across, down) -> str:
    """One path for each track and loudness (soft, middle, loud)."""
    start = across(score.onset.astype(float))
    end = across(np.minimum(score.onset + score.duration, lines[-1]))
    end = np.where(score.is_drum, np.minimum(end, start + 3), end)
    wide = np.maximum(end - start - 0.6, 1.2)
    top = down(y + 1) + 0.5
    loud = np.digitize(score.velocity, (50, 85))
    out = []
    for track in np.unique(score.track):
        for level in range(3):
            chosen = np.flatnonzero((score.track == track) & (loud == level) & (score.onset < lines[-1]))
            if len(chosen):
                boxes = "".join(
                    f"M{start[i]:.1f} {top[i]:.1f}h{wide[i]:.1f}v{SEMITONE - 1}h-{wide[i]:.1f}z" for i in chosen
                )
                colour = "drum" if score.tracks["is_drum"][track] else f"f{track % 8}"
                out.append(f'<path class="{colour} v{level}" d="{boxes}"/>')
    return "".join(out)
