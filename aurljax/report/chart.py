"""Curves over steps as inline SVG, with the values in JSON beside it for the pointer."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 560, 236
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 34
POINTS = 240  # of a line: more records are drawn as means, with a band from least to most


@dataclass(frozen=True)
class Line:
    """One curve: name, number of its colour, steps [N], values [N]; `bold`: few points, each marked."""

    name: str
    colour: int
    steps: np.ndarray
    values: np.ndarray
    bold: bool = False


@dataclass(frozen=True)
class Chart:
    """A title, what the axis counts ("%" and "B" have their own forms), the curves, and steps that are marked."""

    title: str
    unit: str
    lines: Sequence[Line]
    logarithmic: bool = False
    marks: Sequence[tuple[int, str]] = ()

    def svg(self) -> str:
        """The figure; nothing where no line has a finite value."""
        lines = [_finite(line) for line in self.lines]
        lines = [line for line in lines if len(line.steps)]
        if not lines:
            return ""
        drawn = [_thinned(line) for line in lines]
        x, y = self._axes(lines)
        shown = "".join(_band(x, y, low, high, line) for line, low, high in drawn)
        shown += "".join(_curve(x, y, line) for line, _, _ in drawn)
        per = max(math.ceil(len(line.steps) / POINTS) for line in lines)
        note = f"each point the mean of up to {per} records, the band from least to most" if per > 1 else ""
        data = {
            "x": [x.low, x.high], "box": [LEFT, WIDTH - RIGHT, WIDTH], "unit": self.unit,
            "lines": [{"name": line.name, "colour": line.colour, "steps": line.steps.astype(int).tolist(),
                       "values": [float(f"{v:.5g}") for v in line.values]} for line, _, _ in drawn],
        }  # fmt: skip
        embedded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # a name cannot end the script
        legend = "".join(
            f'<span><i class="f{line.colour}{" bold" * line.bold}"></i>{html.escape(line.name)} '
            f"<b>{number(line.values[-1], self.unit)}</b></span>"
            for line in lines
        )
        label = f"{self.title}: " + ", ".join(f"{line.name} {number(line.values[-1], self.unit)}" for line in lines)
        return (
            f'<figure class="chart"><figcaption><h3>{html.escape(self.title)}</h3><div class="legend">{legend}</div>'
            f'</figcaption><div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{html.escape(label)}">{self._frame(x, y)}{shown}{self._marked(x)}'
            f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></svg><div class="tip"></div></div>'
            f"{f'<p class=note>{note}</p>' if note else ''}"
            f'<script type="application/json">{embedded}</script></figure>'
        )

    def _axes(self, lines: Sequence[Line]) -> tuple[Scale, Scale]:
        steps, values = (np.concatenate([getattr(line, name) for line in lines]) for name in ("steps", "values"))
        low, high = float(values.min()), float(values.max())
        logarithmic = self.logarithmic and low > 0 and high > 1.5 * low
        if logarithmic:
            low, high = low / (high / low) ** 0.04, high * (high / low) ** 0.04
        else:
            room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
            bottom = low - room
            # A share or an amount is seen against nothing; a curve that stays far above it is not.
            low, high = (0.0 if low >= 0 and (self.unit in ("%", "B") or bottom < 0.4 * high) else bottom), high + room
        x = Scale(float(steps.min()), float(max(steps.max(), steps.min() + 1)), LEFT, WIDTH - RIGHT)
        return x, Scale(low, high, HEIGHT - BOTTOM, TOP, logarithmic)

    def _frame(self, x: Scale, y: Scale) -> str:
        """Grid, ticks and names of the axes."""
        parts = []
        for value in y.ticks(5):
            at = y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text x="{LEFT - 7}" y="{at + 3.5:.1f}" class="end">{number(value, self.unit)}</text>')
        for value in x.ticks(6):
            parts.append(
                f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 15}" class="mid">{number(value, "step")}</text>'
            )
        ground = HEIGHT - BOTTOM
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{ground}" y2="{ground}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" class="end faint">step</text>')
        unit = {"%": "", "B": ""}.get(self.unit, self.unit) + (", logarithmic" if y.logarithmic else "")
        parts.append(f'<text x="{LEFT}" y="{HEIGHT - 4}" class="faint">{html.escape(unit.strip(", "))}</text>')
        return "".join(parts)

    def _marked(self, x: Scale) -> str:
        seen = [(step, what) for step, what in self.marks if x.low <= step <= x.high]
        return "".join(
            f'<path class="mark" d="M{x(step):.1f} {TOP}V{HEIGHT - BOTTOM}"><title>{html.escape(what)}</title></path>'
            for step, what in seen
        )


@dataclass(frozen=True)
class Scale:
    """Values low..high -> places first..last."""

    low: float
    high: float
    first: float
    last: float
    logarithmic: bool = False

    def __call__(self, value: np.ndarray | float) -> np.ndarray | float:
        low, high, value = (np.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.first + (value - low) / (high - low) * (self.last - self.first)

    def ticks(self, count: int) -> list[float]:
        """Round values within, about `count`."""
        if self.logarithmic:
            for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
                powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                found = [d * 10.0**e for e in powers for d in digits if self.low <= d * 10.0**e <= self.high]
                if len(found) <= count + 1:
                    break
            if len(found) >= 2:
                return found[:: math.ceil(len(found) / (count + 2))]
        rough = (self.high - self.low) / count
        power = 10 ** math.floor(math.log10(rough))
        size = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first, last = math.ceil(self.low / size - 1e-9), math.floor(self.high / size + 1e-9)
        return [k * size for k in range(first, last + 1)]


def number(value: float, unit: str = "") -> str:
    """A value as people write it: 43%, 1.5 GB, 12,345, 0.00031."""
    if unit == "%":
        return f"{100 * value:.3g}%"
    if unit == "B":
        return f"{value / 1e9:.3g} GB"
    if unit == "step":
        return f"{value:,.0f}" if value == int(value) else ""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.2e}".replace("e-0", "e-").replace(".00e", "e")
    return text


def _finite(line: Line) -> Line:
    fine = np.isfinite(line.values)
    return Line(line.name, line.colour, line.steps[fine], line.values[fine], line.bold)


def _thinned(line: Line) -> tuple[Line, np.ndarray, np.ndarray]:
    """(the line in at most POINTS points, least [n], most [n] of what each stands for)."""
    if len(line.steps) <= POINTS:
        return line, line.values, line.values
    cuts = np.linspace(0, len(line.steps), POINTS + 1).astype(int)[:-1]
    sizes = np.diff(np.append(cuts, len(line.steps)))
    steps = line.steps[np.append(cuts[1:], len(line.steps)) - 1]  # a mean stands at the last step of its records
    values = np.add.reduceat(line.values, cuts) / sizes
    thin = Line(line.name, line.colour, steps, values, line.bold)
    return thin, np.minimum.reduceat(line.values, cuts), np.maximum.reduceat(line.values, cuts)


def _curve(x: Scale, y: Scale, line: Line) -> str:
    px, py = x(line.steps), y(line.values)
    points = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(px, py, strict=True))
    out = f'<path class="line s{line.colour}{" bold" * line.bold}" d="M{points}"/>' if len(px) > 1 else ""
    if len(px) == 1 or (line.bold and len(px) <= 60):
        out += "".join(f'<circle class="f{line.colour}" cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>'
                       for a, b in zip(px, py, strict=True))  # fmt: skip
    return out


def _band(x: Scale, y: Scale, low: np.ndarray, high: np.ndarray, line: Line) -> str:
    if low is high or (low == high).all():
        return ""
    there = [f"{a:.1f} {b:.1f}" for a, b in zip(x(line.steps), y(high), strict=True)]
    back = [f"{a:.1f} {b:.1f}" for a, b in zip(x(line.steps), y(low), strict=True)]
    return f'<path class="band f{line.colour}" d="M{"L".join(there + back[::-1])}Z"/>'
