"""Pictures: a score as a piano roll, a run as a loss curve. Needs the `pictures` extra (matplotlib)."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from aurljax import atomic
from aurljax.errors import UserError
from aurljax.music.score import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, FAINT = "#fbfaf7", "#2b2d33", "#8a8d96"
COLOURS = ("#c8553d", "#e0a030", "#4f9a6b", "#3b6ea8", "#8a5aa8", "#c46a92", "#5aa3ad", "#7d7a55")
DRUMS = "#6b6e76"
BLACK_KEYS = (1, 3, 6, 8, 10)
NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
BAR_INCHES, SEMITONE_INCHES, MARGIN = 1.15, 0.1, (0.75, 0.3)  # margin: left and right


def piano_roll(score: Score, path: str | os.PathLike, title: str = "", bars_per_row: int = 12) -> None:
    """Writes a score as a PNG, or another format by the name's ending; the title is the score's own by default.

    Raises UserError where the score is empty, the path cannot be written or matplotlib is missing.
    """
    save(draw_roll(score, title, bars_per_row), path)


def draw_roll(score: Score, title: str = "", bars_per_row: int = 12) -> Figure:
    """The figure of `piano_roll`: one axes per row of at most `bars_per_row` bars, x in ticks, y in semitones."""
    figure_type = load_matplotlib().figure.Figure
    if not len(score):
        raise UserError("a score without notes has no piano roll: draw one with notes")
    lines = score.bar_ticks
    lines = lines[: np.searchsorted(lines, score.end, "left") + 1]
    count = len(lines) - 1
    bars_per_row = math.ceil(count / math.ceil(count / bars_per_row))  # rows of one length
    starts = range(0, count, bars_per_row)
    widest = max(lines[min(s + bars_per_row, count)] - lines[s] for s in starts)
    y, drums = heights(score)
    low, high = (int(y.min()) - 1, int(y.max()) + 2) if len(y) else (59, 62)
    width = BAR_INCHES * bars_per_row + sum(MARGIN)
    row = SEMITONE_INCHES * (high - low) + 0.35
    height = 0.8 + row * len(starts)
    figure = figure_type(figsize=(max(width, 6), height), dpi=110, facecolor=PAPER)
    left, right = MARGIN[0] / figure.get_figwidth(), 1 - MARGIN[1] / figure.get_figwidth()
    for i, start in enumerate(starts):
        bottom = (0.15 + row * (len(starts) - 1 - i)) / height
        axes = figure.add_axes((left, bottom + 0.1 / height, right - left, (row - 0.35) / height))
        axes.set(xlim=(lines[start], lines[start] + widest), ylim=(low, high))
        _draw_ruling(axes, score, lines[start : start + bars_per_row + 1], start, drums)
        _draw_notes(axes, score, y)
        _draw_keys(axes, low, high, drums)
    _draw_heading(figure, score, title)
    return figure


def before_and_after(
    before: Score, after: Score, path: str | os.PathLike, title: str = "", bars: tuple[int, int] = (0, 4)
) -> None:
    """Writes bars a..b-1 of a score above what became of it, where its old notes stay as outlines.

    Both have one resolution. Raises UserError as `piano_roll` does.
    """
    save(draw_change(before, after, title, bars), path)


def draw_change(before: Score, after: Score, title: str = "", bars: tuple[int, int] = (0, 4)) -> Figure:
    """The figure of `before_and_after`: two axes, x in ticks, y in semitones."""
    figure_type = load_matplotlib().figure.Figure
    if not len(before) or before.resolution != after.resolution:
        raise UserError("before and after: scores with notes and of one resolution can be compared")
    lines = before.bar_ticks
    lines = lines[min(bars[0], len(lines) - 2) : bars[1] + 1]
    y, drums = heights(before)
    shown = y[(before.onset < lines[-1]) & (before.onset + before.duration > lines[0])]
    low, high = (int(shown.min()) - 1, int(shown.max()) + 2) if len(shown) else (59, 62)
    row = SEMITONE_INCHES * 1.4 * (high - low) + 0.5
    figure = figure_type(figsize=(2.2 * len(lines) + sum(MARGIN), 0.7 + 2 * row), dpi=110, facecolor=PAPER)
    width, height = figure.get_size_inches()
    for score, ghost, name, place in ((before, None, "before", 1), (after, before, "after", 0)):
        left, bottom = MARGIN[0] / width, (0.15 + row * place) / height
        axes = figure.add_axes((left, bottom, 1 - sum(MARGIN) / width, (row - 0.45) / height))
        axes.set(xlim=(lines[0], lines[-1]), ylim=(low, high))
        _draw_ruling(axes, score, lines, bars[0], drums)
        _draw_notes(axes, score, heights(score)[0])
        if ghost is not None:
            _draw_outlines(axes, ghost, y)
        _draw_keys(axes, low, high, drums)
        figure.text(left, bottom + (row - 0.22) / height, name, size=9, weight="bold", color=INK, va="bottom")
    figure.text((MARGIN[0] - 0.25) / width, 1 - 0.2 / height, title, size=13, weight="bold", color=INK, va="top")
    return figure


def _draw_outlines(axes: Axes, score: Score, y: np.ndarray) -> None:
    left, right = axes.get_xlim()
    end = score.onset + score.duration
    seen = (end > left) & (score.onset < right)
    for start, stop, line in zip(score.onset[seen], end[seen], y[seen], strict=True):
        axes.add_patch(load_matplotlib().patches.Rectangle(
            (start, line + 0.12), stop - start, 0.76, fill=False, edgecolor=INK, lw=0.5, ls=(0, (2, 1.5)), zorder=4,
        ))  # fmt: skip


def heights(score: Score) -> tuple[np.ndarray, dict[int, int]]:
    """([N] semitone line of each note, {drum pitch: its line}); drums stand in lines of their own below the rest."""
    y = score.pitch.astype(int)
    struck = np.unique(y[score.is_drum])
    floor = int(y[~score.is_drum].min()) - 2 if (~score.is_drum).any() else 40
    drums = {int(pitch): floor - i for i, pitch in enumerate(struck[::-1])}
    y[score.is_drum] = [drums[int(p)] for p in y[score.is_drum]]
    return y, drums


def _draw_ruling(axes: Axes, score: Score, lines: np.ndarray, first: int, drums: Mapping[int, int]) -> None:
    """Black-key bands, beats, bar lines and bar numbers."""
    low, high = (int(v) for v in axes.get_ylim())
    top = low if not drums else max(drums.values()) + 1
    stop = lines[-1]
    for y in range(max(low, top), high):
        if y % 12 in BLACK_KEYS:
            axes.fill_between((lines[0], stop), y, y + 1, color="#efede6", lw=0, zorder=0)
        if y % 12 in (0, 5):
            axes.hlines(y, lines[0], stop, color="#dcd9cf", lw=0.6, zorder=1)
    meters = score.meters
    for i, (start, end) in enumerate(itertools.pairwise(lines)):
        meter = meters[np.searchsorted(meters["tick"], start, "right") - 1]
        beats = np.arange(start, end, 4 * score.resolution / int(meter["denominator"]))
        axes.vlines(beats[1:], low, high, color="#e3e0d6", lw=0.6, zorder=1)
        axes.text(start, high + 0.5, f"{first + i + 1}", color=FAINT, size=7, ha="left", va="bottom")
    axes.vlines(lines, low, high, color="#b9b6ab", lw=0.9, zorder=2)
    axes.hlines((low, high), lines[0], stop, color="#b9b6ab", lw=0.9, zorder=2)
    axes.axis("off")


def _draw_notes(axes: Axes, score: Score, y: np.ndarray) -> None:
    """A rectangle a note, its strength the velocity; a drum stroke is a short one."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    left, right = axes.get_xlim()
    per_inch = (right - left) / (axes.figure.get_figwidth() * axes.get_position().width)
    start, end = score.onset.astype(float), (score.onset + score.duration).astype(float)
    end = np.where(score.is_drum, np.minimum(end, start + 0.07 * per_inch), end)
    end = np.maximum(end - 0.015 * per_inch, start + 0.02 * per_inch)  # a gap, so that repeated notes are seen apart
    seen = (end > left) & (start < right)
    start, end, y = np.maximum(start, left)[seen], np.minimum(end, right)[seen], y[seen]
    inset = 0.12
    x = np.stack([start, end, end, start], 1)
    corners = np.stack([x, np.stack([y + inset, y + inset, y + 1 - inset, y + 1 - inset], 1)], 2)
    face = np.array([to_rgb(_colour(score, t)) for t in range(len(score.tracks))])[score.track[seen]]
    strength = 0.45 + 0.55 * np.minimum(score.velocity[seen] / 90, 1)[:, None]
    axes.add_collection(
        PolyCollection(corners, facecolors=1 - strength * (1 - face), edgecolors=0.72 * face, linewidths=0.5, zorder=3)
    )


def _draw_keys(axes: Axes, low: int, high: int, drums: Mapping[int, int]) -> None:
    """A keyboard left of the bars with the names of C and F, or a word for the drums."""
    left, right = axes.get_xlim()
    key = 0.2 * (right - left) / (axes.figure.get_figwidth() * axes.get_position().width)  # a fifth of an inch
    top = low if not drums else max(drums.values()) + 1
    for y in range(max(low, top), high):
        black = y % 12 in BLACK_KEYS
        axes.fill_between(
            (left - 1.15 * key, left - (0.45 if black else 0.1) * key), y, y + 1, facecolor=INK if black else "white",
            edgecolor="#b9b6ab", lw=0.4, clip_on=False, zorder=2,
        )  # fmt: skip
        if y % 12 in (0, 5):
            name = f"{NAMES[y % 12]}{y // 12 - 1}"
            axes.text(left - 1.3 * key, y + 0.5, name, size=6.5, color=INK, ha="right", va="center")
    if drums:
        middle = (max(drums.values()) + min(drums.values()) + 1) / 2
        axes.text(left - 0.3 * key, middle, "drums", size=6.5, color=INK, ha="right", va="center")


def _draw_heading(figure: Figure, score: Score, title: str) -> None:
    """Title at the left; meter, tempo and length below it; the tracks' colours at the right."""
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    x = (MARGIN[0] - 0.25) / width
    meter, minutes = score.meters[0], divmod(round(float(score.seconds(score.end))), 60)
    tempo = score.tempo["usec"][0] if len(score.tempo) else 500_000
    facts = f"{meter['numerator']}/{meter['denominator']} · ♩ = {60e6 / tempo:.0f} · {len(score)} notes · "
    facts += f"{minutes[0]}:{minutes[1]:02}"
    title = title or " · ".join(score.meta[k] for k in ("title", "composer") if k in score.meta) or "Piano roll"
    figure.text(x, 1 - 0.2 / height, title, size=13, weight="bold", color=INK, va="top")
    figure.text(x, 1 - 0.46 / height, facts, size=8, color=FAINT, va="top")
    used = [t for t in np.unique(score.track)][: 2 * len(COLOURS)]
    labels = [score.names[t] or ("drums" if score.tracks["is_drum"][t] else f"track {t + 1}") for t in used]
    figure.legend(
        handles=[Patch(color=_colour(score, t), label=label) for t, label in zip(used, labels, strict=True)],
        loc="upper right", bbox_to_anchor=(1 - MARGIN[1] / width, 1 - 0.12 / height), ncols=min(len(used), 8),
        frameon=False, fontsize=8, labelcolor=INK, handlelength=1, handleheight=0.8, columnspacing=1.2, borderpad=0,
    )  # fmt: skip


def _colour(score: Score, track: int) -> str:
    return DRUMS if score.tracks["is_drum"][track] else COLOURS[track % len(COLOURS)]


# --- the run ---------------------------------------------------------------------------------------------------------


def loss_curve(
    records: Iterable[Mapping[str, float]], path: str | os.PathLike, floors: Mapping[str, float] | None = None
) -> None:
    """Writes training and held-out loss over steps, in nats per token, with `floors` as horizontal lines.

    `records` are those of metrics.jsonl: {"step": ..., "loss": ..., "valid_loss": ...}, each key where it was measured.
    """
    figure = load_matplotlib().figure.Figure(figsize=(8, 4.5), dpi=110, facecolor=PAPER)
    axes = figure.add_axes((0.08, 0.12, 0.72, 0.76), facecolor=PAPER)
    records, values = list(records), list((floors or {}).values())
    for key, label, style in (
        ("loss", "training", {"color": COLOURS[3], "lw": 1.1, "alpha": 0.75}),
        ("valid_loss", "held out", {"color": COLOURS[0], "lw": 1.8, "marker": "o", "ms": 3.5}),
    ):
        points = np.array([(r["step"], r[key]) for r in records if key in r], float).reshape(-1, 2)
        if len(points):
            axes.plot(*points.T, label=f"{label}, {points[-1, 1]:.3g} at the end", **style)
            values += points[:, 1].tolist()
    if not axes.lines:
        raise UserError(f"no record of the run has a loss, so there is no curve for {path}: train first")
    bottom, top = np.log(0.93 * min(values)), np.log(1.04 * max(values))
    axes.set(yscale="log", ylim=np.exp((bottom, top)))  # logarithmic: the floors lie close together at the lower end
    _draw_floors(axes, floors or {}, bottom, top)
    ticks = [t for t in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 12) if bottom <= np.log(t) <= top]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xlabel("step", color=INK)
    axes.set_title("nats per token", loc="left", weight="bold", size=11, color=INK)
    axes.grid(axis="y", color="#e3e0d6", lw=0.6)
    plain(axes)
    axes.legend(fontsize=9, labelcolor=INK, loc="upper right", facecolor=PAPER, edgecolor="none", framealpha=1)
    save(figure, path)


def _draw_floors(axes: Axes, floors: Mapping[str, float], bottom: float, top: float, gap: float = 0.06) -> None:
    """Dashed lines with their names at the right, moved apart where they would touch."""
    place = 0.0
    for name, value in sorted(floors.items(), key=lambda item: item[1]):
        height = (np.log(value) - bottom) / (top - bottom)
        place = max(height, place + gap)
        axes.axhline(value, color=FAINT, lw=0.9, ls=(0, (4, 3)), zorder=1)
        leader = {"arrowstyle": "-", "color": FAINT, "lw": 0.6, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)}
        axes.annotate(
            f"{name}  {value:.3g}", (1, height), (1.04, place), "axes fraction", "axes fraction", size=8, color=INK,
            va="center", arrowprops=leader,
        )  # fmt: skip


def plain(axes: Axes) -> None:
    """Takes away what tells nothing."""
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b9b6ab")


def load_matplotlib():
    """The package, imported; UserError where it is missing."""
    try:
        import matplotlib.figure
    except ImportError:
        raise UserError("matplotlib is not installed: `pip install 'aurljax[pictures]'` for pictures") from None
    return matplotlib


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure in the format of the name's ending, whole or not at all; UserError where that cannot be."""
    try:
        with atomic.draft(path) as part:
            figure.savefig(part)
    except ValueError as error:
        raise UserError(f"{path}: the picture cannot be written there: {error}") from error
