"""The n-gram floor against a dictionary implementation of the same formulas, and its sum over the vocabulary."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax.errors import UserError
from aurljax.evaluate.ngram import Ngram


def reference(train, order, vocab):
    """p(w | h) by the book: raw counts at the top and where nothing stands before, else distinct ids before a gram."""
    occurrences, before = Counter(), defaultdict(set)
    for s in train:
        for t in range(1, len(s)):
            for n in range(min(order, t + 1)):
                gram = tuple(s[t - n : t + 1])
                occurrences[gram] += n == order - 1 or t == n
                if n < order - 1 and t > n:
                    before[gram].add(s[t - n - 1])
    count = {g: occurrences[g] + len(before[g]) for g in occurrences.keys() | before.keys()}
    cut = {}
    for n in range(order):
        n_ = Counter(c for g, c in count.items() if len(g) == n + 1)
        cut[n] = {0: 0.0, 1: 0.5, 2: 0.5, 3: 0.5}
        if all(n_[j] for j in (1, 2, 3, 4)):
            y = n_[1] / (n_[1] + 2 * n_[2])
            for j in (1, 2, 3):
                cut[n][j] = min(max(j - (j + 1) * y * n_[j + 1] / n_[j], 0.05), j - 0.05)

    def p(h, w):
        n = len(h)
        below = 1 / vocab if n == 0 else p(h[1:], w)
        row = {g[-1]: c for g, c in count.items() if len(g) == n + 1 and g[:-1] == h}
        total = sum(row.values())
        if not total:
            return below
        free = sum(cut[n][min(c, 3)] for c in row.values())
        c = row.get(w, 0)
        return (c - cut[n][min(c, 3)] + free * below) / total

    return p


def test_orders_fitted_together_are_those_fitted_alone():
    rng = np.random.default_rng(1)
    train, query = [rng.integers(0, 4, n) for n in (3, 60, 9)], rng.integers(0, 4, 30)
    for model, order in zip(Ngram.fit_orders(train, [5, 2, 70], 4), [5, 2, 70], strict=True):
        assert model.order == min(order, 60)
        np.testing.assert_array_equal(model.nats(query), Ngram.fit(train, order, 4).nats(query))


sequences = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=30), min_size=1, max_size=5)


@given(sequences, st.lists(st.integers(0, 5), min_size=2, max_size=8), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_equals_the_formulas(train, query, order):
    p = reference(train, order, 6)
    expected = [-np.log(p(tuple(query[max(0, t - order + 1) : t]), query[t])) for t in range(1, len(query))]
    np.testing.assert_allclose(Ngram.fit(train, order, 6).nats(query), expected, rtol=1e-12)


@given(sequences, st.lists(st.integers(0, 6), min_size=1, max_size=8), st.sampled_from([1, 2, 3, 5, 9, 13]))
@settings(max_examples=40, deadline=None)
def test_sums_to_one(train, context, order):
    model = Ngram.fit(train, order, 7)
    assert sum(np.exp(-model.nats([*context, w])[-1]) for w in range(7)) == pytest.approx(1, abs=1e-12)


def test_estimated_discounts_and_order_of_models():
    """A second-order source: longer contexts help up to its order, and the source's own entropy is the limit."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(8, 0.3), (8, 8))
    draws = []
    for _ in range(40):
        s = [0, 0]
        for _ in range(500):
            s.append(rng.choice(8, p=table[s[-2], s[-1]]))
        draws.append(s)
    train, test = draws[:30], draws[30:]
    nats = {n: np.mean([Ngram.fit(train, n, 8).nats(s).mean() for s in test]) for n in (1, 2, 3, 5)}
    entropy = np.mean([-np.log(table[s[t - 2], s[t - 1], s[t]]) for s in test for t in range(2, len(s))])
    assert nats[1] > nats[2] > nats[3] > entropy > 0.95 * nats[3] and nats[5] < 1.1 * nats[3]
    assert nats[1] < np.log(8)


def test_train_and_query_edges():
    model = Ngram.fit([[1, 2, 3]], 3, 5)
    assert model.order == 3 and model.nats([4]).shape == (0,)
    with pytest.raises(UserError, match="ids from 0 to 9"):
        Ngram.fit([[0, 9]], 2, 5)
    with pytest.raises(UserError, match="no ids"):
        Ngram.fit([], 2, 5)
    with pytest.raises(UserError, match="ids from -1 to 2"):
        model.nats([2, -1])
