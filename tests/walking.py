"""Random walks through what grammar and constraints allow, all rows at once; each step is told by numpy and by jax."""

import jax
import jax.numpy as jnp
import numpy as np

from aurljax.decode import constraints as c
from aurljax.errors import UserError


class Drawn:
    """Constraints of every kind: some as asked for, with how to tell that a score keeps to them, the others loose."""

    def __init__(self, rng):
        self.rng, self.asked, self.checks = rng, [], {}

    def __call__(self, kind, tight, loose, keeps):
        on = self.rng.random() < 0.5
        self.asked.append(kind(*(tight if on else loose)))
        if on:
            self.checks[kind.__name__] = keeps


def registers(codec, asked):
    """Registers of rows, each with constraints of its own."""
    rows = [c.registers(codec, row, 1) for row in asked]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def walks(codec, asked, limits, seed, prompt=None, compare=0, ids=1200):
    """[ids of each row], drawn evenly from the kinds that may follow (`end` less) and of a kind evenly, until all end.

    limits: (ids, bars, seconds) of each row; compare: steps of which jax must tell the same. Something may always follow.
    """
    rng, grammar, v = np.random.default_rng(seed), codec.grammar, codec.vocabulary
    rules, rows = c.rules(codec, c.kinds(asked[0])), len(asked)

    def both(s, r, ids, xp=np):
        return grammar.allowed(s, xp) & rules.allowed(s, r, xp), rules.advance(s, r, ids, xp)

    automaton = jax.jit(lambda s, r, ids: both(s, r, ids, jnp))
    s, r = grammar.init(rows), registers(codec, asked)
    prompt = [v.id("start")] if prompt is None else prompt
    for id in prompt:
        s, r = grammar.advance(s, np.full(rows, id)), rules.advance(s, r, np.full(rows, id))
    left, bars, seconds = (np.array(x) for x in zip(*limits, strict=True))
    s |= {"left": left.astype(np.int32), "bars_left": bars.astype(np.int32)}
    s |= {"seconds": (s["clock"] + seconds).astype(np.float32)}
    r, written = rules.begin(s, r), [np.full(rows, id) for id in prompt]
    for step in range(ids):
        live = s["phase"] != grammar.phase.done
        if not live.any():
            break
        may = grammar.allowed(s) & rules.allowed(s, r)
        assert may[live].any(1).all(), f"nothing may follow in rows {np.flatnonzero(live & ~may.any(1))}"
        kinds = np.array([may[:, v.kind == i].any(1) for i in range(len(v.kinds))]).T
        liking = rng.random(kinds.shape) * np.where(np.arange(len(v.kinds)) == v.index["end"], 0.6, 1)
        chosen = np.argmax(np.where(kinds, liking, -1), 1)
        of_kind = may & (v.kind[None] == chosen[:, None])
        drawn = np.argmax(np.where(of_kind, rng.random(may.shape), -1), 1) * live
        then = rules.advance(s, r, drawn)
        if step < compare:
            legal, theirs = automaton(s, r, drawn)
            assert np.array_equal(legal, may)
            assert theirs.keys() == then.keys()
            assert all(np.array_equal(then[k], theirs[k]) and then[k].dtype == theirs[k].dtype for k in then)
        s, r = grammar.advance(s, drawn), then
        written.append(drawn)
    return [row[: np.count_nonzero(row)] for row in np.array(written).T]


def enough(codec, asked, bars=2**30, seconds=np.inf, most=4096):
    """The fewest ids with which a piece from nothing is not refused."""
    low, high, prompt = 0, most, np.array([codec.vocabulary.id("start")])
    while high - low > 1:
        middle = (low + high) // 2
        try:
            c.check(codec, asked, prompt, (middle, bars, seconds))
            high = middle
        except UserError:
            low = middle
    return high
