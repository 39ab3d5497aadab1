"""Where a piece that is longer than a row is cut: windows of whole bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from aurljax.music.score import Score

if TYPE_CHECKING:
    from aurljax.music.codec import Codec

CUTS = ("tile", "even", "slide", "truncate")
Window = tuple[int, int, int]  # first bar, bar after the last, ids


def cut(score: Score, codec: Codec, length: int, how: str = "tile") -> tuple[list[Window], int]:
    """(windows, bars in none of them) of one piece, windows of at most length + 1 ids; a piece that fits is one.

    tile: from bar 0, as many bars at a time as surely fit. even: as many windows, of about the same length. slide: each
    begins in the middle of the one before. truncate: the first of the tiles alone. A bar that is too long even alone is
    in no window.
    """
    lengths = codec.bar_lengths(score)
    ends = np.concatenate([[0], np.cumsum(lengths)])  # ids before each bar line
    layout, room = codec.layout(score), length + 1 - codec.overhead(score)

    def ids(a: int, b: int) -> int:
        return len(codec.framed(layout, (a, b)))

    if ends[-1] <= length + 1 and (whole := ids(0, len(lengths))) <= length + 1:
        return [(0, len(lengths), whole)], 0
    windows = list(_tiles(ids, length, room, ends))
    if how == "even":
        windows = list(_tiles(ids, length, room, ends, len(windows)))
    elif how == "slide":
        windows = list(_tiles(ids, length, room, ends, overlap=True))
    elif how == "truncate":
        windows = windows[:1]
    covered = np.zeros(len(lengths), bool)
    for a, b, _ in windows:
        covered[a:b] = True
    return windows, int((~covered).sum())


def _tiles(
    ids: Callable[[int, int], int],
    length: int,
    room: int,
    ends: np.ndarray,
    count: int = 0,
    overlap: bool = False,
) -> Iterator[Window]:
    """Windows from bar 0 to the last, each as long as surely fits, or with `count` as its share of what is left.

    `ids`: of the bars a..b-1; `room`: ids that bars may have for a window surely to fit.
    """
    last, a, told = len(ends) - 1, 0, 0
    while a < last:
        b = _reach(ends, a, room)
        if count:
            aim = ends[a] + (ends[-1] - ends[a]) / max(count, 1)
            near = int(np.searchsorted((ends[:-1] + ends[1:]) / 2, aim))  # the bar line that is nearest
            b, count = min(max(near, a + 1), b), count - 1
        while (has := ids(a, b)) > length + 1 and b > a + 1:
            b -= 1
        if has <= length + 1 and b > told:  # before a bar that is too long, the rest of a window is no other one
            yield a, b, has
            told = b
        if overlap and b < last:
            middle = int(np.searchsorted(ends, (ends[a] + ends[b]) / 2))
            a = min(max(middle, a + 1), b)
        else:
            a = b


def _reach(ends: np.ndarray, a: int, room: int) -> int:
    """The last bar line up to which bars from a on have at most `room` ids; the next one if there is none."""
    return max(int(np.searchsorted(ends, ends[a] + room, "right")) - 1, a + 1)
