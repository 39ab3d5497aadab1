"""Packing: windows into rows of one length or of several, best fit, longest first."""

from __future__ import annotations

import bisect
import dataclasses

import numpy as np

from aurljax.fields import require


@dataclasses.dataclass(frozen=True)
class Packing:
    """Rows of windows: row r holds windows[starts[r]:starts[r + 1]], in this order."""

    windows: np.ndarray  # int32 [W]
    starts: np.ndarray  # int64 [R + 1]
    efficiency: float  # share of the slots that are filled

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.windows[self.starts[row] : self.starts[row + 1]]


def lengths(longest: int, shorter: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of rows, ascending; ConfigError unless all `shorter` divide the longest: batches keep their slots."""
    fine = list(shorter) == sorted(set(shorter)) and all(1 < n < longest and longest % n == 0 for n in shorter)
    require(fine, f"data.buckets={shorter} must be ascending lengths below data.length={longest} that divide it, "
                  f"as ({longest // 4}, {longest // 2}) do for a length that 4 divides")  # fmt: skip
    return (*shorter, longest)


def pack(slots: np.ndarray, length: int) -> Packing:
    """Packs windows of `slots` [W] (1..length each) into rows of `length` slots; deterministic, O(W)."""
    return pack_each(slots, (length,))[0]


def pack_each(slots: np.ndarray, lengths: tuple[int, ...]) -> list[Packing]:
    """Packs windows of `slots` [W] (1..lengths[-1] each) into rows of several lengths (ascending): a packing of each.

    Every window goes to the fullest row that still holds it; where there is none, it opens a row of the shortest length
    that holds it. So a row is as long as its longest window asks for, and what is left free in it takes shorter ones.
    """
    slots = np.asarray(slots, np.int64)
    if len(slots) and not 0 < slots.min() <= slots.max() <= lengths[-1]:
        raise ValueError(f"windows have {slots.min()}..{slots.max()} slots, rows {lengths[-1]}")
    row_of, bucket_of = _best_fit(slots, lengths)
    return [_gather(slots, row_of, bucket_of == b, length) for b, length in enumerate(lengths)]


def _best_fit(slots: np.ndarray, lengths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(row of each window, which of the lengths each row has).

    Rows are found by their free slots: one bit of `free` for each amount, so that the smallest amount that suffices is a
    shift and a lowest bit.
    """
    longest_first = np.argsort(-slots, kind="stable")
    row_of, bucket_of, free = np.empty(len(slots), np.int64), [], 0
    waiting: list[list[int]] = [[] for _ in range(lengths[-1] + 1)]  # rows by free slots
    for window, need in zip(longest_first.tolist(), slots[longest_first].tolist(), strict=True):
        enough = free >> need
        if enough:
            room = need + (enough & -enough).bit_length() - 1
            row = waiting[room].pop()
            if not waiting[room]:
                free ^= 1 << room
        else:
            row, bucket = len(bucket_of), bisect.bisect_left(lengths, need)
            room = lengths[bucket]
            bucket_of.append(bucket)
        row_of[window] = row
        left = room - need
        if left:
            waiting[left].append(row)
            free |= 1 << left
    return row_of, np.array(bucket_of, np.int64)


def _gather(slots: np.ndarray, row_of: np.ndarray, chosen: np.ndarray, length: int) -> Packing:
    """The packing of the rows chosen [R]."""
    windows, rows = np.flatnonzero(chosen[row_of]), int(chosen.sum())
    row = (np.cumsum(chosen) - 1)[row_of[windows]]
    by_row = windows[np.argsort(row, kind="stable")]  # within a row by window, so that a piece's windows stand in order
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    filled = float(np.sum(slots[windows])) / max(rows * length, 1)
    return Packing(by_row.astype(np.int32), starts.astype(np.int64), filled)
