"""What a corpus holds, as one picture of small charts. Needs the `pictures` extra (matplotlib)."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aurljax.data.contents import DRUMS as DRUM_NOTES
from aurljax.evaluate.pictures import COLOURS, DRUMS, FAINT, INK, PAPER, load_matplotlib, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aurljax.data.census import Census, Encoded, Histogram, Spread

MOST = 8  # bars of one chart


def overview(census: Census, path: str | os.PathLike, title: str) -> None:
    """Writes the charts of a corpus as a PNG, or another format by the name's ending; UserError where it cannot."""
    save(draw(census, title), path)


def draw(census: Census, title: str) -> Figure:
    """The figure of `overview`: eight axes, four in a row."""
    figure = load_matplotlib().figure.Figure(figsize=(14, 7.2), dpi=110, facecolor=PAPER, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15, rect=(0, 0, 1, 0.91))
    pieces = sum(census.splits.values())
    facts = f"{pieces:,} pieces · {census.notes:,} notes · {census.seconds / 3600:,.1f} hours"
    facts += f" · licence: {textwrap.shorten(census.licence, 90)}" * bool(census.licence)
    figure.text(0.012, 0.975, title, size=15, weight="bold", color=INK, va="top")
    figure.text(0.012, 0.93, facts, size=9, color=FAINT, va="top")
    charts = figure.subplots(2, 4)
    for axes in charts.flat:
        axes.set_facecolor(PAPER)
        plain(axes)
    found = census.histograms
    _columns(charts[0, 0], "length of pieces", "bars", found["bars"], COLOURS[3])
    _columns(charts[0, 1], "tempo, mean of a piece", "quarters a minute", found["tempo"], COLOURS[3])
    _columns(charts[0, 2], "polyphony, mean of a piece", "pitched notes at once", found["polyphony"], COLOURS[3])
    _velocities(charts[0, 3], census.velocities)
    _pitches(charts[1, 0], census.pitches)
    _shares(charts[1, 1], "meters", "share of bars", census.meters)
    _shares(charts[1, 2], "keys as written", "share of notes", census.keys)
    sample = f"of {census.sampled:,} pieces drawn" if census.sampled < pieces else "of a piece"
    _lengths(charts[1, 3], f"ids {sample}: median, 5 to 95 %, all", census.encoded)
    return figure


def _name(axes: Axes, title: str, x: str, y: str = "") -> None:
    axes.set_title(title, loc="left", weight="bold", size=10, color=INK)
    axes.set_xlabel(x, color=FAINT, size=8)
    axes.set_ylabel(y, color=FAINT, size=8)


def _columns(axes: Axes, title: str, x: str, found: Histogram, colour: str) -> None:
    axes.stairs(found.counts, found.edges, fill=True, color=colour)
    margin = (found.edges[1] - found.edges[0]) * max(10 - len(found.counts), 0) / 2  # few columns are no broader
    axes.set_xlim(max(found.edges[0] - margin, 0), found.edges[-1] + margin)
    axes.xaxis.get_major_locator().set_params(nbins=6, integer=x == "bars")
    axes.yaxis.get_major_locator().set_params(integer=True)
    if found.beyond:
        x += f" (pieces beyond: {found.beyond:,})"
    _name(axes, title, x, "pieces")


def _velocities(axes: Axes, shares: Mapping[int, float]) -> None:
    heights = np.zeros(128)
    heights[list(shares)] = list(shares.values())
    axes.stairs(heights, np.arange(129) - 0.5, fill=True, color=COLOURS[0])
    axes.set(xlim=(0.5, 127.5), xticks=(1, 32, 64, 96, 127))
    _percent(axes.yaxis)
    _name(axes, "velocity", "velocity", "share of notes")


def _pitches(axes: Axes, counts: Mapping[str, Sequence[int]]) -> None:
    """How often each pitch is, in a row for each family of programs, each row as high as its own most frequent one."""
    for row, (name, found) in enumerate(counts.items()):
        heights = row + 1 - 0.92 * np.array(found) / max(found)
        colour = DRUMS if name == DRUM_NOTES else COLOURS[row % len(COLOURS)]
        axes.stairs(heights, np.arange(129) - 0.5, baseline=row + 1, fill=True, color=colour)
    axes.set_yticks(np.arange(len(counts)) + 0.6, list(counts))
    axes.set_ylim(len(counts), 0)
    axes.tick_params(axis="y", length=0)
    used = np.flatnonzero(np.sum(list(counts.values()), 0))
    axes.set_xlim(used[0] - 2, used[-1] + 2)
    octaves = [c for c in range(0, 128, 12) if used[0] - 2 <= c <= used[-1] + 2]
    axes.set_xticks(octaves, [f"C{c // 12 - 1}" for c in octaves])
    _name(axes, "pitches, by family of programs", "pitch")


def _lengths(axes: Axes, x: str, encoded: Mapping[str, Encoded]) -> None:
    for row, made in enumerate(encoded.values()):
        _spread(axes, row, made.ids, COLOURS[4])
    _rows(axes, [f"{name}\nkeeps {made.kept:.1%}\nof notes" for name, made in encoded.items()])
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10**e for e in range(9) for d in digits if low <= d * 10**e <= high]
        if len(ticks) <= 5:
            break
    axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
    axes.set_xticks([], minor=True)
    _name(axes, "length in ids, by codec", x)


def _spread(axes: Axes, row: int, spread: Spread, colour: str) -> None:
    """A line from least to most, a broad one from 5 to 95 %, a mark at the median."""
    least, low, middle, high, most = spread
    axes.hlines(row, least, most, color=colour, lw=1)
    axes.hlines(row, low, high, color=colour, lw=7)
    axes.plot([middle], [row], "|", color=INK, ms=14, mew=2)


def _shares(axes: Axes, title: str, x: str, shares: Mapping[str, float]) -> None:
    """A bar for each of the most frequent, and one for all others."""
    rows = list(shares.items())
    if len(rows) > MOST:
        rows = [*rows[: MOST - 1], (f"{len(rows) - MOST + 1} others", sum(share for _, share in rows[MOST - 1 :]))]
    axes.barh(range(len(rows)), [share for _, share in rows], 0.62, color=COLOURS[2])
    for row, (_, share) in enumerate(rows):
        text = f"{share:.1%}" if share >= 0.0005 else "< 0.1%"
        axes.annotate(text, (share, row), (3, 0), textcoords="offset points", size=8, color=INK, va="center")
    _rows(axes, [name for name, _ in rows])
    axes.set_xlim(0, 1.2 * max(share for _, share in rows))
    _percent(axes.xaxis)
    _name(axes, title, x)


def _rows(axes: Axes, names: list[str]) -> None:
    """Names at the left, the first at the top; few rows are no broader than many."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 3) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)


def _percent(axis) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
