"""The sampling loop: prefill, then one compiled loop of draw, advance the grammar, run the model on one id a row.

Prompts of different length share a batch by padding on the left, so that all rows write the cache at one index.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aurljax import mesh
from aurljax.decode import constraints as wishes
from aurljax.decode.sampler import Sampler, sample, uniforms
from aurljax.models.cache import grow
from aurljax.models.family import Family, Inputs
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import UNLIMITED

State = dict[str, jax.Array]
LINE = 16  # float32 numbers


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compiled: the model, how to draw, and at most how many ids. `codec` None: no grammar, no features.
    `constraints`: the classes of those asked for; their numbers are registers."""

    family: Family
    config: Any
    codec: Codec | None
    sampler: Sampler
    most: int = 512
    segments: int = 4  # the cache grows so many times, so that attention reads little more than exists
    constraints: wishes.Kinds = ()


def left_padded(prompts: list[np.ndarray], multiple: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(ids [B, P], start [B]): prompts ending together, P rounded up so that few shapes are compiled."""
    longest = max(map(len, prompts))
    width = longest if longest == 1 else -(-longest // multiple) * multiple
    ids = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[width - len(prompt) :] = prompt
    return ids, np.array([width - len(p) for p in prompts], np.int32)


@functools.partial(jax.jit, static_argnums=0)
def generate(
    plan: Plan, params, prompt: jax.Array, start: jax.Array, keys: jax.Array, bars: jax.Array, seconds: jax.Array,
    asked: State | None = None,
) -> jax.Array:
    """int32 [B, most]: the ids that follow prompt [B, P], whose rows begin at start [B]; 0 after the end.

    keys [B]: one random key a row. bars, seconds [B]: no further bar begins after so many new bars, or once so much
    new music has passed; what would begin then becomes the end of the piece.
    asked: registers of the plan's constraints. A row without an `end` has ended where they allow nothing.
    """
    config, params = plan.family.prepare(plan.config, params)
    batch, width = prompt.shape
    cache = plan.family.init_cache(config, batch, width).replace(start=mesh.gather(start, ("batch",)))
    state, features = _read(plan, prompt, start, asked or {})
    state |= {"left": jnp.full_like(start, plan.most), "bars_left": bars, "seconds": state["clock"] + seconds}
    logits, cache = _apply(plan, config, params, prompt, features, cache)
    random = uniforms(keys, jnp.arange(plan.most))
    run = functools.partial(_step, plan, config, params, random)
    carry = (jnp.int32(0), logits, cache, state, jnp.zeros((batch, plan.most), jnp.int32))
    for length in _lengths(plan, width):
        index, logits, cache, state, out = carry
        carry = (index, logits, grow(cache, length), state, out)
        stop = min(length - width, plan.most)
        carry = jax.lax.while_loop(lambda c, stop=stop: (c[0] < stop) & ~jnp.all(_done(plan, c[3])), run, carry)
    return carry[4]


def _lengths(plan: Plan, width: int) -> list[int]:
    """Lengths the cache grows to: whole lines of memory, since products over ragged ones take twice as long."""
    parts = min(plan.segments, -(-plan.most // LINE))
    return sorted({-(-(width + plan.most * i // parts) // LINE) * LINE for i in range(1, parts + 1)})


def _step(plan: Plan, config, params, random: jax.Array, carry):
    index, logits, cache, state, out = carry
    legal, logits = _legal(plan, state, logits)
    ids = sample(plan.sampler, logits, legal, random[index])
    out = jax.lax.dynamic_update_slice_in_dim(out, ids[:, None], index, 1)
    state, features = _advance(plan, state, ids)
    features = {name: x[:, None] for name, x in features.items()}
    logits, cache = _apply(plan, config, params, ids[:, None], features, cache)
    return index + 1, logits, cache, state, out


def _apply(plan: Plan, config, params, ids: jax.Array, features: dict[str, jax.Array], cache):
    """Logits [B, V] after the last of ids [B, T], and the cache. The model's rows lie along the mesh; the registers and
    the draw are small and the same on every device."""
    ids, features = jax.tree.map(lambda x: mesh.gather(x, ("batch", None)), (ids, features))
    logits, cache = plan.family.apply(config, params, Inputs(ids, None, features), cache=cache)
    return mesh.gather(logits[:, -1], (None, None)), cache


# ---- the grammar in the loop ----------------------------------------------------------------------------------------


def _read(plan: Plan, prompt: jax.Array, start: jax.Array, asked: State) -> tuple[State, dict[str, jax.Array]]:
    """Registers after the prompts, and features [B, P] of their ids (of padding: anything, it is never seen)."""
    if plan.codec is None:
        return {"clock": jnp.zeros(len(start))}, {}
    grammar = plan.codec.grammar

    def read(state, column):
        ids, begun = column
        then = _written(plan, state, ids)
        kept = jax.tree.map(lambda a, b: jnp.where(begun.reshape(-1, *[1] * (a.ndim - 1)), a, b), then, state)
        return kept, grammar.features(kept, jnp)

    begun = jnp.arange(prompt.shape[1])[:, None] >= start
    state = grammar.init(len(start), xp=jnp) | ({"asked": asked} if plan.constraints else {})
    state, features = jax.lax.scan(read, state, (prompt.T, begun))
    if plan.constraints:
        state["asked"] = wishes.rules(plan.codec, plan.constraints).begin(state, state["asked"], jnp)
    return state, {name: x.T for name, x in features.items()}


def _legal(plan: Plan, state: State, logits: jax.Array) -> tuple[jax.Array | None, jax.Array]:
    """What may be written, and logits in which what would exceed the length asked for is what ends the piece."""
    if plan.codec is None:
        return None, logits
    grammar = plan.codec.grammar
    legal, logits = grammar.allowed(state, jnp), grammar.within(state, logits, jnp)
    if plan.constraints:
        rules = wishes.rules(plan.codec, plan.constraints)
        legal &= rules.allowed(state, state["asked"], jnp)
        logits = rules.penalised(state, state["asked"], logits, jnp)
        stuck = ~jnp.any(legal, -1, keepdims=True)  # then padding is written, by which the row ends
        legal |= stuck & (jnp.arange(legal.shape[1]) == plan.codec.vocabulary.id("pad"))
    return legal, logits


def _written(plan: Plan, state: State, ids: jax.Array) -> State:
    """Registers of the grammar, and of the constraints, after ids [B]."""
    grammar = plan.codec.grammar
    then = grammar.advance(state, ids, jnp)
    if plan.constraints:
        ended = ids == plan.codec.vocabulary.id("pad")
        then["phase"] = jnp.where(ended, grammar.phase.done, then["phase"])
        then["asked"] = wishes.rules(plan.codec, plan.constraints).advance(state, state["asked"], ids, jnp)
    return then


def _advance(plan: Plan, state: State, ids: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    if plan.codec is None:
        return state, {}
    state = _written(plan, state, ids)
    return state, plan.codec.grammar.features(state, jnp)


def _done(plan: Plan, state: State) -> jax.Array:
    """[B] rows that have ended."""
    if plan.codec is None:
        return jnp.zeros(1, bool)
    return state["phase"] == plan.codec.grammar.phase.done


def limits(
    batch: int, bars: int | None, seconds: float | None, begun: bool | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(bars, seconds) [B] for `generate`; `begun` [B] or one for all: the prompt already begins the first such bar."""
    count = UNLIMITED if bars is None else bars - begun
    return np.full(batch, count, np.int32), np.full(batch, np.inf if seconds is None else seconds, np.float32)
