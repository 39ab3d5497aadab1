"""Interpolated modified Kneser-Ney n-grams over ids: the floor that a trained model has to beat.

Chen and Goodman, An empirical study of smoothing techniques for language modeling (1999). Grams get dense numbers by
sorting, one order after the other, so that fitting and scoring are a few array operations per order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from aurljax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Level:
    """The grams of one length n + 1: n ids of context and the id that follows."""

    keys: np.ndarray  # [grams] sorted: first id * (number of grams one shorter) + number of the gram without it
    left: np.ndarray  # [grams] count that interpolation keeps of a gram, after its discount
    total: np.ndarray  # [contexts] count of everything that followed a context
    spread: np.ndarray  # [contexts] count that discounts freed for the next shorter context


@dataclasses.dataclass(frozen=True)
class Ngram:
    """p(id | up to `order - 1` ids before it), positive and summing to one over `vocab` ids in every context."""

    vocab: int
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Length of the longest gram kept: what `fit` was asked for, or the longest sequence."""
        return len(self.levels)

    @classmethod
    def fit(cls, sequences: Iterable[np.ndarray], order: int, vocab: int) -> Ngram:
        """The model of integer sequences [T] with ids in 0..vocab-1; their first ids are given, not predicted."""
        return cls.fit_orders(sequences, [order], vocab)[0]

    @classmethod
    def fit_orders(cls, sequences: Iterable[np.ndarray], orders: Sequence[int], vocab: int) -> list[Ngram]:
        """The models of several orders, in little more time than that of the longest."""
        ids, position = _join(sequences, vocab)
        grams, keys = [np.zeros(len(ids), np.int32)], [np.zeros(1, np.int64)]  # of no ids: the empty gram
        for n in range(max(orders)):
            found, gram = np.unique(_keys(ids, grams[-1], len(keys[-1]), n, position), return_inverse=True)
            missing = int(found[0] == -1)  # no such gram ends here
            if missing == len(found):
                break  # no sequence is that long
            keys.append(found[missing:])
            grams.append((gram - missing).astype(np.int32))
        tops = [min(order, len(keys) - 1) for order in orders]
        shared = [_level(grams, keys, position, n, top=False) for n in range(max(tops) - 1)]
        return [cls(vocab, (*shared[: n - 1], _level(grams, keys, position, n - 1, top=True))) for n in tops]

    def nats(self, sequence: np.ndarray) -> np.ndarray:
        """[T - 1] float64 -log p of each id but the first of an integer sequence [T]."""
        ids, position = _join([sequence], self.vocab)
        p = np.full(max(len(ids) - 1, 0), 1 / self.vocab)
        gram, size = np.zeros(len(ids), np.int64), 1
        for n, level in enumerate(self.levels):
            context, key = gram[:-1], _keys(ids, gram, size, n, position)
            at = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
            gram, size = np.where(level.keys[at] == key, at, -1), len(level.keys)
            known = (context >= 0) & (level.total[context] > 0)
            kept = np.where(gram[1:] >= 0, level.left[gram[1:]], 0.0)
            total = np.where(known, level.total[context], 1.0)
            p = np.where(known, (kept + level.spread[context] * p) / total, p)
        return -np.log(p)


def _level(grams: list[np.ndarray], keys: list[np.ndarray], position: np.ndarray, n: int, top: bool) -> Level:
    """The level of n ids of context; `top`: no longer one is used."""
    gram, context = grams[n + 1][1:], grams[n][:-1]
    target = position[1:] >= max(n, 1)
    counted = target if top else target & (position[1:] == n)  # nothing stands before these
    count = np.bincount(gram[counted], minlength=len(keys[n + 1]))
    if not top:  # Kneser-Ney: how many different ids stand before the gram
        count += np.bincount(keys[n + 2] % len(count), minlength=len(count))
    owner = np.zeros(len(count), np.int64)
    owner[gram[target]] = context[target]
    cut = _discounts(count)[np.minimum(count, 3)]
    size = len(keys[n])
    return Level(keys[n + 1], count - cut, np.bincount(owner, count, size), np.bincount(owner, cut, size))


def _join(sequences: Iterable[np.ndarray], vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """([N] all ids, [N] position of each in its sequence)."""
    sequences = [np.asarray(s, np.int64) for s in sequences]
    ids = np.concatenate([np.zeros(0, np.int64), *sequences])
    if not len(ids) or ids.min() < 0 or ids.max() >= vocab:
        what = "no ids" if not len(ids) else f"ids from {ids.min()} to {ids.max()}"
        raise UserError(f"an n-gram over {vocab} ids got {what}: give it sequences of the codec it was made for")
    return ids, np.concatenate([np.arange(len(s)) for s in sequences])


def _keys(ids: np.ndarray, gram: np.ndarray, size: int, n: int, position: np.ndarray) -> np.ndarray:
    """[N] key of the gram of n + 1 ids ending at each place, -1 where there is none."""
    return np.where((gram >= 0) & (position >= n), np.roll(ids, n) * size + gram, -1)


def _discounts(count: np.ndarray) -> np.ndarray:
    """[4] what is taken from a count of 0, 1, 2, 3 or more; a half where counts are too few to estimate it."""
    n = np.bincount(np.minimum(count, 5), minlength=6).astype(float)
    cut = np.array([0.0, 0.5, 0.5, 0.5])
    if n[1:5].all():
        y = n[1] / (n[1] + 2 * n[2])
        cut[1:] = [j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3)]
    return np.clip(cut, [0, 0.05, 0.05, 0.05], [0, 0.95, 1.95, 2.95])
