"""Packing: windows into rows of one length or of several, best fit, longest first."""

from __future__ import annotations

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


def pack(slots: np.ndarray, length: int) -> Packing:
    """Packs windows of `slots` [W] (1..length each) into rows of `length` slots; deterministic, O(W).

    Every window goes to the fullest row that still holds it. Rows are found by their free slots: one bit of `free`
    for each amount, so that the smallest amount that suffices is a shift and a lowest bit.
    """
    if len(slots) and not 0 < slots.min() <= slots.max() <= length:
        raise ValueError(f"windows have {slots.min()}..{slots.max()} slots, rows {length}")
    longest_first = np.argsort(-np.asarray(slots, np.int64), kind="stable")
    row_of = np.empty(len(slots), np.int64)
    rows, free = 0, 0
    waiting: list[list[int]] = [[] for _ in range(length + 1)]  # rows by free slots
    for window, need in zip(longest_first.tolist(), np.asarray(slots)[longest_first].tolist(), strict=True):
        enough = free >> need
        if enough:
            room = need + (enough & -enough).bit_length() - 1
            row = waiting[room].pop()
            if not waiting[room]:
                free ^= 1 << room
        else:
            room, row, rows = length, rows, rows + 1
        row_of[window] = row
        left = room - need
        if left:
            waiting[left].append(row)
            free |= 1 << left
    by_row = np.argsort(row_of, kind="stable")  # within a row by window, so that a piece's windows stand in order
    starts = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))])
    filled = float(np.sum(slots)) / max(rows * length, 1)
    return Packing(by_row.astype(np.int32), starts.astype(np.int64), filled)


def lengths(longest: int, shorter: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of rows, ascending; ConfigError unless all `shorter` divide the longest: batches keep their slots."""
    fine = list(shorter) == sorted(set(shorter)) and all(1 < n < longest and longest % n == 0 for n in shorter)
    require(fine, f"data.buckets={shorter} must be ascending lengths below data.length={longest} that divide it, "
                  f"as ({longest // 4}, {longest // 2}) do for a length that 4 divides")  # fmt: skip
    return (*shorter, longest)


def pack_each(slots: np.ndarray, lengths: tuple[int, ...]) -> list[Packing]:
    """One packing for each length (ascending), of the windows for which it is the shortest that holds them."""
    bucket = np.searchsorted(lengths, slots)
    out = []
    for b, length in enumerate(lengths):
        windows = np.flatnonzero(bucket == b)
        packed = pack(slots[windows], length)
        out.append(dataclasses.replace(packed, windows=windows[packed.windows].astype(np.int32)))
    return out
