"""The timetable of a run: which rows of which corpus a step holds, by arithmetic on its number."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aurljax.data import order, packing, turns
from aurljax.data.curriculum import Curriculum

if TYPE_CHECKING:
    from aurljax.data.encoding import Source

Table = list[list[int]]  # [source][bucket] rows


class Place(NamedTuple):
    """A row: of which source, in which bucket, its number in that packing, and the epoch that draws it."""

    source: int
    bucket: int
    row: int
    epoch: int | None  # None: as it is written


class Timetable:
    """Which rows a step holds.

    A step has one bucket b: sizes[b] rows of lengths[b] slots, as many slots whatever b is. A cycle has as many slots
    as all sources have in their rows, shared among them by `shares`; in it each bucket has the batches that this comes
    to, in shuffled order. Rows of one bucket number on through the run; whose row it is, is `turns.turn`. The rows of
    one source in one bucket are seen in epochs of their own, each in its own order, each row once. While a curriculum
    lasts, rows (and the bucket, by its slots) are drawn from each source's pool instead.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        shares: Sequence[Fraction],
        lengths: tuple[int, ...],
        batch: int,
        seed: int,
        shuffle: bool,
        steps: int,
        curriculum: Curriculum,
    ):
        self.sources, self.shares, self.lengths, self.seed = sources, shares, lengths, seed
        self.shuffle, self.steps, self.curriculum = shuffle, steps, curriculum
        self.sizes = tuple(batch * lengths[-1] // length for length in lengths)
        self.packings = [packing.pack_each(source.slots, lengths) for source in sources]
        self.counts = [[len(p) for p in packings] for packings in self.packings]
        amounts = self._amounts(self.counts)
        self._weights = [turns.whole(column) for column in zip(*amounts, strict=True)]
        rates = [sum(column) / size for column, size in zip(zip(*amounts, strict=True), self.sizes, strict=True)]
        self._cycles = turns.Cycles(rates, seed, shuffle)
        self._order = functools.lru_cache(maxsize=4 * len(sources) * len(lengths))(self._permutation)
        self._easiest = functools.lru_cache(maxsize=None)(self._ranking)

    @property
    def slots(self) -> int:
        """Slots of all rows."""
        return sum(self._slots(self.counts))

    def windows(self, place: Place) -> list[int]:
        """The windows of a row."""
        return self.packings[place.source][place.bucket][place.row].tolist()

    def progress(self, step: int) -> float:
        """The share of the run before a step."""
        return min(step / max(self.steps - 1, 1), 1.0)

    def places(self, step: int, index: int = 0, count: int = 1) -> list[Place]:
        """The contiguous rows of a step that host `index` of `count` reads."""
        pool = self._pool(self.progress(step))
        bucket, number = self._cycles.at(step) if pool is None else (self._bucket(step, pool), step)
        size = self.sizes[bucket] // count
        mine = range(index * size, (index + 1) * size)
        if pool is None:
            return [self._in_turn(bucket, number * self.sizes[bucket] + i) for i in mine]
        weights = turns.whole([row[bucket] for row in self._amounts(pool)])
        return [self._drawn(bucket, step * self.sizes[0] + i, pool, weights) for i in mine]

    # --- in turn -------------------------------------------------------------------------------------------------

    def _in_turn(self, bucket: int, number: int) -> Place:
        """The row with this number among those of its bucket."""
        source, own = turns.turn(number, self._weights[bucket])
        epoch, at = divmod(own, self.counts[source][bucket])
        return Place(source, bucket, int(self._order(source, bucket, epoch)[at]) if self.shuffle else at, epoch)

    def _permutation(self, source: int, bucket: int, epoch: int) -> np.ndarray:
        length = self.lengths[bucket]
        bucket_key = () if length == self.lengths[-1] else (length,)
        return order.permutation(
            self.counts[source][bucket], self.sources[source].seed, order.ORDER, epoch, *bucket_key
        )

    def _slots(self, counts: Table) -> list[int]:
        """[source] slots of so many rows."""
        return [sum(n * length for n, length in zip(row, self.lengths, strict=True)) for row in counts]

    def _amounts(self, counts: Table) -> list[list[Fraction]]:
        """[source][bucket] rows where all of `counts` together, in slots, are shared by `shares`."""
        slots = self._slots(counts)
        factors = [share * sum(slots) / own for share, own in zip(self.shares, slots, strict=True)]
        return [[n * factor for n in row] for row, factor in zip(counts, factors, strict=True)]

    # --- from a pool ---------------------------------------------------------------------------------------------

    def _pool(self, progress: float) -> Table | None:
        """[source][bucket] how many rows, the easiest, are drawn from; None: all, in turn.

        A row is in a shorter bucket because its longest window is shorter, so by length a pool fills the buckets from
        there on; by density each bucket has its own.
        """
        if self.curriculum.by == "density":
            tables = [[self.curriculum.pool(n, progress) for n in row] for row in self.counts]
            if tables[0][0] is None:
                return None
            return [
                [min(pool, n) for pool, n in zip(*both, strict=True)] for both in zip(tables, self.counts, strict=True)
            ]
        pools = [self.curriculum.pool(sum(row), progress) for row in self.counts]
        if pools[0] is None:
            return None
        return [
            [min(max(pool - sum(row[:b]), 0), n) for b, n in enumerate(row)]
            for pool, row in zip(pools, self.counts, strict=True)
        ]

    def _bucket(self, step: int, pool: Table) -> int:
        """A bucket drawn with the share of the pool's slots that lies in it."""
        amounts = self._amounts(pool)
        slots = [sum(column) * length for column, length in zip(zip(*amounts, strict=True), self.lengths, strict=True)]
        drawn = Fraction(order.number(self.seed, order.BUCKET, step), 2**64) * sum(slots)
        return next(b for b in range(len(slots)) if drawn < sum(slots[: b + 1]))

    def _drawn(self, bucket: int, number: int, pool: Table, weights: Sequence[int]) -> Place:
        """A row drawn with replacement; each draw is an epoch of its own, for what augmentation draws."""
        source, _ = turns.turn(number, weights)
        drawn = order.number(self.sources[source].seed, order.POOL, number) % pool[source][bucket]
        return Place(source, bucket, int(self._easiest(source, bucket)[drawn]), number)

    def _ranking(self, source: int, bucket: int) -> np.ndarray:
        """[rows] the rows of a packing from the easiest on: a row is as hard as its hardest window."""
        windows, rows = self.sources[source].windows, self.packings[source][bucket]
        bars = windows.stop - windows.start if self.curriculum.by == "density" else 1
        hardness = windows.ids / bars
        return np.argsort([hardness[rows[r]].max() for r in range(len(rows))], kind="stable")
