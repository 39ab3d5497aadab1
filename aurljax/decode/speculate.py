"""Speculative decoding (Leviathan 2023): a small model drafts a few ids, the large one reads them all at once.

What is written has the distribution of the large model under the sampler, whatever the draft. One row at a time: rows that
keep different numbers of ids would part ways in the cache.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from aurljax import mesh
from aurljax.decode import loop, memory
from aurljax.decode.loop import Plan
from aurljax.decode.sampler import pick, weights
from aurljax.errors import UserError
from aurljax.models.cache import LINE, Cache, grow

OTHER = 2**31  # folded into a row's key, beyond its ids


@struct.dataclass
class Round:
    """What goes from round to round: `out` holds `count` ids, of which neither model has read the last."""

    count: jax.Array
    rounds: jax.Array
    caches: tuple[Cache, Cache]  # of the large model and the draft
    state: loop.State
    known: memory.Memory
    out: jax.Array


def check(model: Any, draft: Any) -> None:
    """UserError where one model cannot draft for the other."""
    if model.codec.fingerprint != draft.codec.fingerprint:
        raise UserError(f"draft: its codec '{draft.codec.name}' is not that of the model, with the same options; "
                        "train one on the same codec")  # fmt: skip
    if model.window or draft.window:
        raise UserError("draft: a model with a window forgets what ids taken back stood on; take two without model.window")
    if model.mesh != draft.mesh:
        raise UserError(f"draft: it lies on a mesh of {dict(draft.mesh.shape)}, the model on {dict(model.mesh.shape)}; "
                        "load both on the same")  # fmt: skip


def rows(plan: Plan, draft: Plan, ahead: int, params: Any, small: Any, arguments: tuple) -> np.ndarray:
    """int32 [B, most] as of `loop.generate`, one row after the other."""
    (plan, params), (draft, small) = loop.prepare(plan, params), loop.prepare(draft, small)
    out = []
    for i, key in enumerate(arguments[2]):
        own = jax.tree.map(lambda x, i=i: x[i : i + 1], arguments)
        out.append(generate(plan, draft, ahead, params, small, jax.random.fold_in(key, OTHER), *own)[0])
    return np.concatenate([np.asarray(x) for x in out])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def generate(plan: Plan, draft: Plan, ahead: int, params: Any, small: Any, key: jax.Array, *arguments):
    """(int32 [1, most] as of `loop.generate`, rounds): `ahead` ids are drafted a round.

    plan, draft: of the two models, else equal, as `loop.prepare` gave them with the weights; arguments: those of
    `loop.begin` behind the weights, of one row.
    """
    large, little = loop.begin(plan, params, *arguments), loop.begin(draft, small, *arguments)
    length = -(-(arguments[0].shape[1] + plan.most + ahead + 1) // LINE) * LINE
    first = pick(_shares(plan, large.state, large.memory, large.logits), large.random[0])
    state, _ = loop.advance(plan, large.state, first)
    begun = Round(
        jnp.int32(1),
        jnp.int32(0),
        tuple(_at(grow(c.cache, length), c.cache.index) for c in (large, little)),
        state,
        memory.advance(plan.sampler, plan.codec, large.memory, first),
        jnp.zeros((1, plan.most + ahead + 1), jnp.int32).at[:, 0].set(first),
    )
    step = functools.partial(_round, plan, draft, ahead, params, small, key)
    done = jax.lax.while_loop(lambda r: (r.count < plan.most) & ~jnp.all(loop.done(plan, r.state)), step, begun)
    return done.out[:, : plan.most], done.rounds


def _round(plan: Plan, draft: Plan, ahead: int, params, small, key, r: Round) -> Round:
    random = jax.random.uniform(jax.random.fold_in(key, r.rounds), (2 * ahead + 1, 1))
    pending = jax.lax.dynamic_slice_in_dim(r.out, r.count - 1, 1, 1)[:, 0]

    def write(carry, number):
        """The draft reads an id and draws the next."""
        ids, state, known, cache = carry
        features = {name: x[:, None] for name, x in plan.codec.grammar.features(state, jnp).items()}
        logits, cache = loop.read(draft, small, ids[:, None], features, cache)
        q = _shares(plan, state, known, logits)
        drawn = pick(q, number)
        then, _ = loop.advance(plan, state, drawn)
        told = memory.advance(plan.sampler, plan.codec, known, drawn)
        return (drawn, then, told, cache), (ids, features, state, known, q)

    numbers = jnp.concatenate([random[:ahead], jnp.zeros((1, 1))])  # the last id is read, what follows it not used
    carry = (pending, r.state, r.known, r.caches[1])
    (*_, little), (ids, features, states, knowns, q) = jax.lax.scan(write, carry, numbers)

    features = {name: x[:, :, 0].T for name, x in features.items()}
    logits, large = _all(plan, params, ids.T, features, r.caches[0])
    p = jax.vmap(functools.partial(_shares, plan))(states, knowns, logits[0][:, None])  # [ahead + 1, 1, V]

    x = ids[1:, 0]
    of_p, of_q = (jnp.take_along_axis(s[:ahead, 0], x[:, None], 1)[:, 0] for s in (p, q))
    kept = jnp.sum(jnp.cumprod((random[ahead : 2 * ahead, 0] * of_q < of_p).astype(jnp.int32)))
    here = jax.tree.map(lambda a: a[kept], (states, knowns, p, q))
    rest = jnp.where(kept < ahead, jnp.maximum(here[2] - here[3], 0), here[2])
    rest = jnp.where(jnp.sum(rest) > 0, rest, here[2])  # rounding alone has parted them
    drawn = pick(rest, random[-1])

    new = jnp.where(jnp.arange(ahead + 1) < kept, jnp.append(x, 0), drawn)[None]
    state, _ = loop.advance(plan, here[0], drawn)
    return Round(
        r.count + kept + 1,
        r.rounds + 1,
        tuple(_at(c, before.index + 1 + kept) for c, before in zip((large, little), r.caches, strict=True)),
        state,
        memory.advance(plan.sampler, plan.codec, here[1], drawn),
        jax.lax.dynamic_update_slice_in_dim(r.out, new, r.count, 1),
    )


def _all(plan: Plan, params, ids: jax.Array, features: dict[str, jax.Array], cache: Cache):
    """Logits [1, T, V] after each of ids [1, T], and the cache."""
    ids, features = jax.tree.map(lambda x: mesh.gather(x, ("batch", None)), (ids, features))
    logits, cache = plan.family.apply(plan.config, params, loop.Inputs(ids, None, features), cache=cache)
    return mesh.gather(logits, (None, None, None)), cache


def _shares(plan: Plan, state: loop.State, known: memory.Memory, logits: jax.Array) -> jax.Array:
    """[1, V] probabilities of the next id under the sampler."""
    legal, logits = loop.restricted(plan, state, logits)
    legal, logits = memory.weigh(plan.sampler, plan.codec, known, state, legal, logits)
    w = weights(plan.sampler, jnp.where(legal, logits, -jnp.inf), plan.codec.vocabulary, memory.progress(known, state))
    return w / jnp.sum(w, -1, keepdims=True)


def _at(cache: Cache, index: jax.Array) -> Cache:
    """The cache as if nothing had been written from `index` on."""
    return cache.replace(index=jnp.asarray(index, jnp.int32))
