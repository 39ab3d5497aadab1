"""Taking turns as arithmetic: whose the n-th is follows from n, exactly, however large n is."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from aurljax.data import order
from aurljax.fields import require


def shares(further: Sequence[float]) -> tuple[Fraction, ...]:
    """The shares of the first corpus and of the further ones, exact as they are written; ConfigError if none is left."""
    given = [Fraction(str(share)) for share in further]
    fine = all(share > 0 for share in given) and sum(given) < 1
    require(fine, f"data.mixture: the shares {', '.join(map(str, further))} must be above 0 and together below 1; "
                  "data.corpus has the rest")  # fmt: skip
    return (1 - sum(given, Fraction(0)), *given)


def whole(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """Whole numbers in the same proportion."""
    scale = math.lcm(*(w.denominator for w in weights))
    return tuple(int(w * scale) for w in weights)


def turn(n: int, weights: Sequence[int]) -> tuple[int, int]:
    """(whose turn the n-th is, which of its own it is), from 0; each has the share of the turns that its weight says.

    The i-th turn of one with share p is due at (i + 1/2) / p; turns are taken in this order (Webster's rule of
    apportionment). Of any number of turns each has had its share, p of them, within 1/2 + p (k - 2) / 2 where k take
    turns: within 1/2 for two, within 1 for three.
    """
    total, k = sum(weights), len(weights)
    had = [max(((2 * n - k) * w + total) // (2 * total), 0) for w in weights]  # due by n - k/2: at most n together
    while True:
        who = min((i for i in range(k) if weights[i]), key=lambda i: Fraction(2 * had[i] + 1, weights[i]))
        if sum(had) == n:
            return who, had[who]
        had[who] += 1


class Cycles:
    """Steps of several kinds: after c cycles kind k has had floor(c * rates[k]) steps; shuffled within each cycle."""

    def __init__(self, rates: Sequence[Fraction], seed: int, shuffle: bool = True):
        self.rates, self.seed, self.shuffle = tuple(rates), seed, shuffle
        self._cycle = functools.lru_cache(maxsize=4)(self._draw)

    def at(self, step: int) -> tuple[int, int]:
        """(kind of a step, which of its kind it is), from 0."""
        rate = sum(self.rates)
        first = int(step // rate)  # c cycles have at most c * rate steps, and less by fewer than the kinds
        candidates = range(first, first + math.ceil((len(self.rates) + 1) / rate) + 1)
        cycle = first + bisect.bisect_right(candidates, step, key=lambda c: sum(self._before(c + 1)))
        kinds, numbers = self._cycle(cycle)
        place = step - sum(self._before(cycle))
        return int(kinds[place]), int(numbers[place])

    def _before(self, cycle: int) -> list[int]:
        """[kinds] steps of each before a cycle."""
        return [int(cycle * rate) for rate in self.rates]

    def _draw(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        """(kind, which of its kind) of every step of a cycle."""
        start, stop = self._before(cycle), self._before(cycle + 1)
        kinds = np.repeat(np.arange(len(start)), np.subtract(stop, start))
        if self.shuffle:
            kinds = kinds[order.permutation(len(kinds), self.seed, order.CYCLE, cycle)]
        numbers = np.empty(len(kinds), np.int64)  # each kind in turn
        numbers[np.argsort(kinds, kind="stable")] = np.concatenate(
            [np.arange(a, b) for a, b in zip(start, stop, strict=True)]
        )
        return kinds, numbers
