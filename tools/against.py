"""Reruns the rows of a file of benchmarks and marks what fell: `python tools/bench.py --against BENCHMARKS.md`.

A row stands in a table with these columns, in any order, among others or none:

    | key | ours | peer | figure | ratio |
    |---|---|---|---|---|
    | tokens_per_s | `python tools/bench.py train` | `$PEER_PYTHON $PEER/c_train_torch.py` | 5,896 | 1.06 |

key: of the JSON that both commands print; higher is better. figure: what ours gave; ratio: ours beside the peer's, in turn
with it. A row with a peer is held to its ratio, as machines differ; one without (peer and ratio empty) to its figure.
"""

from __future__ import annotations

import os
import re
import shlex
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import versus

COLUMNS = ("key", "ours", "peer", "figure", "ratio")
FALL = 0.1  # of what was: more is marked


@dataclass(frozen=True)
class Row:
    """A line of the table; peer "" and ratio 0 where there is none."""

    key: str
    ours: str
    peer: str
    figure: float
    ratio: float


def rows(text: str) -> Iterator[Row]:
    """The rows of all tables with the columns; ValueError for a number that is none."""
    names: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip().strip("`*") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            names = []
        elif set(COLUMNS) <= set(cells):
            names = cells
        elif names and len(cells) == len(names) and set("".join(cells)) - set("-: "):
            found = dict(zip(names, cells, strict=True))
            figure, ratio = (float(found[name].replace(",", "") or 0) for name in ("figure", "ratio"))
            yield Row(found["key"], found["ours"], found["peer"], figure, ratio)


def missing(command: str) -> list[str]:
    """Environment variables that a command names and that are not set."""
    return [name for name in re.findall(r"\$\{?(\w+)", command) if name not in os.environ]


def measure(row: Row, pairs: int) -> tuple[float, float]:
    """(our figure, ratio to the peer's, or 0): medians of commands run in turn."""
    ours, peer = (_whole(command) for command in (row.ours, row.peer))
    found = [(versus.measure(ours, row.key), versus.measure(peer, row.key) if peer else 0.0) for _ in range(pairs)]
    return statistics.median(a for a, _ in found), statistics.median(a / b if b else 0.0 for a, b in found)


def _whole(command: str) -> str:
    """With variables filled in and this Python for `python`."""
    command = os.path.expandvars(command)
    return re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", command)


def rerun(path: Path, peers: str | None = None, only: str = "", pairs: int = 3) -> int:
    """Prints a line for each row whose command holds `only`; 1 if any fell by more than FALL, else 0.

    peers: the folder that $PEER means; $PEER_PYTHON is this Python unless it is set. A row whose peer cannot be run is
    left out, and that is said.
    """
    os.environ.update({"PEER": peers} if peers else {})
    os.environ.setdefault("PEER_PYTHON", sys.executable)
    fell = 0
    for row in rows(path.read_text()):
        if only not in row.ours:
            continue
        if without := missing(row.ours) + missing(row.peer):
            print(f"left out  {row.ours}: ${without[0]} is not set; give --peer DIR", flush=True)
            continue
        figure, ratio = measure(row, pairs)
        was, now, what = (row.ratio, ratio, "times the peer") if row.peer else (row.figure, figure, row.key)
        bad = now < (1 - FALL) * was
        fell += bad
        print(f"{'FELL' if bad else 'ok':8}  {row.ours}: {now:,.4g} {what}, was {was:,.4g} "
              f"({row.key} {figure:,.4g}, was {row.figure:,.4g})", flush=True)  # fmt: skip
    return int(fell > 0)
