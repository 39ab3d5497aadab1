"""Beam search: the likeliest piece that a few hypotheses, carried side by side, lead to.

The hypotheses of a row are rows of the model's batch. At each step all their continuations and what has ended compete for
`width` places by normalised log-probability; caches and registers follow by the parent. Nothing is drawn.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from aurljax.decode import groups, loop, memory
from aurljax.decode.loop import Carry, Plan
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.models.cache import take

WIDEST = 1024
STUCK = 1e6  # what ends where constraints allow nothing ranks this much below what ends by itself
KEPT = ("repetition", "unrepeated")  # fields of a sampler that say what is likely, not how to draw


@dataclasses.dataclass(frozen=True)
class Beam:
    """How many hypotheses there are, and how much length counts: a piece of n new ids ranks by its log-probability
    divided by n ** length_penalty. 0: the likeliest piece, which is a short one; 1: the mean of its ids (Wu 2016, who
    has (5 + n) / 6 for n)."""

    width: int = 4
    length_penalty: float = 0.6

    def __post_init__(self):
        if isinstance(self.width, bool) or not isinstance(self.width, int) or not 1 <= self.width <= WIDEST:
            raise UserError(f"beam: width must be a whole number from 1 to {WIDEST}, not {self.width!r}")
        if not (isinstance(self.length_penalty, int | float) and 0 <= self.length_penalty <= 10):
            raise UserError(f"beam: length_penalty must be a number from 0 to 10, not {self.length_penalty!r}")

    def check(self, n: int, sampler: Sampler, best_of: int = 1, draft: Any = None) -> None:
        """UserError naming what does not go with it."""
        plain = Sampler()
        idle = [f.name for f in dataclasses.fields(Sampler)
                if f.name not in KEPT and getattr(sampler, f.name) != getattr(plain, f.name)]  # fmt: skip
        idle += ["best_of"] * (best_of > 1) + ["draft"] * (draft is not None)
        if idle:
            raise UserError(f"beam: it draws nothing, so {idle[0]} has no part in it; leave out one of them")
        if n > self.width:
            raise UserError(f"beam: of a width of {self.width} there are no {n} best pieces; ask for a wider one")


@struct.dataclass
class Search:
    """What goes from step to step: hypotheses [B, W], of which hypothesis w of row b is row b * W + w of the carry.

    nats: log-probability within the grammar; rank: normalised, of what has ended for good; -inf: there is none.
    """

    carry: Carry
    nats: jax.Array
    rank: jax.Array
    ended: jax.Array


def generate(plan: Plan, beam: Beam, params: Any, *arguments) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(ids [B, W, most], log-probability [B, W], rank [B, W]): the hypotheses of each row, best first.

    arguments: those of `loop.generate` behind the weights; its keys have no part. The log-probability is that of what the
    grammar and the constraints leave, as the sampler's repetition and unrepeated bars weigh it. Rank -inf: there are
    fewer hypotheses than the beam has room for.
    """
    plan, params = loop.prepare(plan, params)
    return groups.apart(functools.partial(_rows, plan, beam, params), arguments, len(arguments[1]))


def _rows(plan: Plan, beam: Beam, params, *arguments):
    search, penalty = _begin(plan, beam.width, params, *arguments), jnp.float32(beam.length_penalty)
    for length, stop in loop.segments(plan, arguments[0].shape[1], search.carry.cache.window):
        search = search.replace(carry=loop.widen(search.carry, length))
        search = _proceed(plan, params, search, penalty, stop)
    return search.carry.out.reshape(*search.nats.shape, -1), search.nats, search.rank


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begin(plan: Plan, width: int, params, *arguments) -> Search:
    """One hypothesis for each row, the prompt; the other places are empty."""
    carry = loop.begin(plan, params, *arguments)
    batch = len(arguments[1])
    carry = _follow(carry.replace(random=jnp.zeros(0)), jnp.repeat(jnp.arange(batch), width))
    there = jnp.broadcast_to(jnp.arange(width) == 0, (batch, width))
    nothing = jnp.where(there, 0.0, -jnp.inf)
    return Search(carry, nothing, nothing, ~there)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _proceed(plan: Plan, params, search: Search, penalty: jax.Array, stop: jax.Array) -> Search:
    """Steps up to index `stop`, or until every hypothesis has ended."""
    run = functools.partial(_step, plan, params, penalty)
    return jax.lax.while_loop(lambda s: (s.carry.index < stop) & ~jnp.all(s.ended), run, search)


def _step(plan: Plan, params, penalty: jax.Array, s: Search) -> Search:
    (batch, width), stay = s.nats.shape, len(plan.codec.vocabulary)
    nats, rank = _continuations(plan, penalty, s)
    best, place = jax.lax.top_k(rank.reshape(batch, -1), width)
    nats = jnp.take_along_axis(nats.reshape(batch, -1), place, 1)
    parent, chosen = place // (stay + 1), place % (stay + 1)
    kept = (chosen == stay) | jnp.isneginf(best)
    ids = jnp.where(kept, plan.codec.vocabulary.id("pad"), chosen).reshape(-1).astype(jnp.int32)

    c = _follow(s.carry, (parent + width * jnp.arange(batch)[:, None]).reshape(-1))
    out = jax.lax.dynamic_update_slice_in_dim(c.out, ids[:, None], c.index, 1)
    state, features = loop.advance(plan, c.state, ids)
    features = {name: x[:, None] for name, x in features.items()}
    logits, cache = loop.read(plan, params, ids[:, None], features, c.cache)
    known = memory.advance(plan.sampler, plan.codec, c.memory, ids)
    c = c.replace(index=c.index + 1, logits=logits, cache=cache, state=state, memory=known, out=out)
    return Search(c, nats, best, kept | loop.done(plan, state).reshape(batch, width))


def _continuations(plan: Plan, penalty: jax.Array, s: Search) -> tuple[jax.Array, jax.Array]:
    """(log-probability, rank) [B, W, V + 1] of each hypothesis with each id behind it, and as it is if it has ended."""
    c, pad = s.carry, plan.codec.vocabulary.id("pad")
    legal, logits = loop.restricted(plan, c.state, c.logits)
    legal, logits = memory.weigh(plan.sampler, plan.codec, c.memory, c.state, legal, logits)
    more = jax.nn.log_softmax(jnp.where(legal, logits, -jnp.inf)).reshape(*s.nats.shape, -1)
    nats = jnp.where(s.ended[..., None], -jnp.inf, s.nats[..., None] + more)
    rank = nats / (c.index + 1).astype(jnp.float32) ** penalty
    rank = rank.at[..., pad].add(-STUCK)  # written where nothing else may follow
    still = (jnp.where(s.ended, x, -jnp.inf)[..., None] for x in (s.nats, s.rank))
    nats, rank = (jnp.concatenate(pair, -1) for pair in zip((nats, rank), still, strict=True))
    return nats, rank


def _follow(c: Carry, rows: jax.Array) -> Carry:
    """The carry of these of its rows."""
    logits, state, known, out = jax.tree.map(lambda x: x[rows], (c.logits, c.state, c.memory, c.out))
    return c.replace(logits=logits, cache=take(c.cache, rows), state=state, memory=known, out=out)
