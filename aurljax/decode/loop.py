"""The sampling loop: prefill, then a compiled loop of draw, advance the grammar, run the model on one id a row.

The loop is compiled once for each length of the cache and runs up to any index, so that a batch and a stream, which stops
every few ids to look, run the same programs.

Prompts of different length share a batch by padding on the left, so that all rows write the cache at one index.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from aurljax import mesh
from aurljax.decode import constraints as wishes
from aurljax.decode import groups, memory
from aurljax.decode import guidance as guiding
from aurljax.decode.length import bucket
from aurljax.decode.sampler import Sampler, sample, uniforms
from aurljax.errors import UserError
from aurljax.models.cache import DTYPES, LINE, enough, grow
from aurljax.models.family import WEIGHTS, Family, Inputs
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import UNLIMITED

State = dict[str, jax.Array]


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
    cache: str | None = None  # the type of keys and values; None: what the model carries
    weights: str | None = None  # the type of matrices

    def __post_init__(self):
        for name, types in (("cache", DTYPES), ("weights", WEIGHTS)):
            if (given := getattr(self, name)) not in (None, *types):
                raise UserError(f"{name}: {given!r} is none of {', '.join(types)}")


def left_padded(prompts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(ids [B, P], start [B]): prompts ending together, P rounded up so that few shapes are compiled."""
    width = bucket(max(map(len, prompts)))
    ids = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[width - len(prompt) :] = prompt
    return ids, np.array([width - len(p) for p in prompts], np.int32)


@struct.dataclass
class Carry:
    """What goes from step to step: `index` ids are written to `out` [B, most], `logits` [B, V] are of the next one."""

    index: jax.Array
    logits: jax.Array
    cache: Any
    state: State
    memory: memory.Memory
    out: jax.Array
    random: jax.Array  # [most, B] a uniform number for each id
    guidance: jax.Array | None = None  # [B] of rows that are pairs, with controls and without


def generate(
    plan: Plan,
    params,
    prompt: jax.Array,
    start: jax.Array,
    keys: jax.Array,
    bars: jax.Array,
    seconds: jax.Array,
    left: jax.Array | None = None,
    asked: State | None = None,
    guidance: jax.Array | None = None,
) -> jax.Array:
    """int32 [B, most]: the ids that follow prompt [B, P], whose rows begin at start [B]; 0 after the end.

    keys [B]: one random key a row. bars, seconds [B]: no further bar begins after so many new bars, or once so much
    new music has passed; what would begin then becomes the end of the piece. left [B]: ids a row may write, if fewer
    than `most`. asked: registers of the plan's constraints. A row without an `end` has ended where they allow nothing.
    guidance [B]: rows are pairs, with controls and without, which write as one; then there are B / 2 rows of ids.
    """
    plan, params = prepare(plan, params)
    rows = (prompt, start, keys, bars, seconds, left, asked, guidance)
    return groups.apart(functools.partial(_rows, plan, params), rows, len(start), 1 if guidance is None else 2)


def _rows(plan: Plan, params, prompt: jax.Array, *asked) -> jax.Array:
    carry = begin(plan, params, prompt, *asked)
    for length, stop in segments(plan, prompt.shape[1], carry.cache.window):
        carry = proceed(plan, params, widen(carry, length), stop)
    return carry.out if carry.guidance is None else carry.out[::2]


def prepare(plan: Plan, params) -> tuple[Plan, Any]:
    """Plan and weights as the steps want them: a model trained with scanned layers is laid out for decoding, and matrices
    are of the type asked for."""
    config, params = plan.family.prepare(plan.config, params, plan.weights)
    return dataclasses.replace(plan, config=config), params


@functools.partial(jax.jit, static_argnums=0)
def begin(plan: Plan, params, prompt, start, keys, bars, seconds, left=None, asked=None, guidance=None) -> Carry:
    """What there is before the first new id. Plan and weights as `prepare` gave them; the rest as for `generate`."""
    batch, width = prompt.shape
    cache = plan.family.init_cache(plan.config, batch, width, plan.cache).replace(start=mesh.gather(start, ("batch",)))
    state, features = _read(plan, prompt, start, asked or {})
    left = jnp.full_like(start, plan.most) if left is None else left
    state |= {"left": left, "bars_left": bars, "seconds": state["clock"] + seconds}
    logits, cache = read(plan, params, prompt, features, cache)
    random = uniforms(keys, jnp.arange(plan.most))
    known = memory.read(plan.sampler, plan.codec, prompt, start) | memory.asked(plan.sampler, state)
    return Carry(jnp.int32(0), logits, cache, state, known, jnp.zeros((batch, plan.most), jnp.int32), random, guidance)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def proceed(plan: Plan, params, carry: Carry, stop: jax.Array) -> Carry:
    """Steps up to index `stop`, or until every row has ended."""
    run = functools.partial(_step, plan, params)
    return jax.lax.while_loop(lambda c: (c.index < stop) & ~jnp.all(done(plan, c.state)), run, carry)


@functools.partial(jax.jit, static_argnums=1)
def widen(carry: Carry, length: int) -> Carry:
    """The carry with a cache of `length` slots."""
    return carry.replace(cache=grow(carry.cache, length))


def segments(plan: Plan, width: int, window: int) -> list[tuple[int, int]]:
    """[(length of the cache, index up to which it serves)] for prompts of `width` ids. Lengths are whole lines of
    memory, since products over ragged ones take twice as long; one that holds the window serves to the end."""
    last = enough(-(-(width + plan.most) // LINE) * LINE, window)
    first = min(width, last)
    parts = max(1, min(plan.segments, (last - first) // LINE))
    lengths = sorted({-(-(first + (last - first) * i // parts) // LINE) * LINE for i in range(1, parts + 1)})
    return [(n, n - width) for n in lengths[:-1]] + [(lengths[-1], plan.most)]


def _step(plan: Plan, params, c: Carry) -> Carry:
    logits = c.logits if c.guidance is None else guiding.mixed(c.logits, c.guidance)
    legal, logits = restricted(plan, c.state, logits)
    legal, logits = memory.weigh(plan.sampler, plan.codec, c.memory, c.state, legal, logits)
    progress = memory.progress(c.memory, c.state)
    vocabulary = plan.codec and plan.codec.vocabulary
    ids = sample(plan.sampler, logits, legal, c.random[c.index], vocabulary, progress)
    ids = ids if c.guidance is None else jnp.repeat(ids[::2], 2)  # what is legal, the row with controls says
    out = jax.lax.dynamic_update_slice_in_dim(c.out, ids[:, None], c.index, 1)
    state, features = advance(plan, c.state, ids)
    features = {name: x[:, None] for name, x in features.items()}
    logits, cache = read(plan, params, ids[:, None], features, c.cache)
    known = memory.advance(plan.sampler, plan.codec, c.memory, ids)
    return c.replace(index=c.index + 1, logits=logits, cache=cache, state=state, memory=known, out=out)


def read(plan: Plan, params, ids: jax.Array, features: dict[str, jax.Array], cache):
    """Logits [B, V] after the last of ids [B, T], and the cache. The model's rows lie along the mesh; the registers and
    the draw are small and the same on every device."""
    ids, features = jax.tree.map(lambda x: mesh.gather(x, ("batch", None)), (ids, features))
    logits, cache = plan.family.apply(plan.config, params, Inputs(ids, None, features), cache=cache)
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


def restricted(plan: Plan, state: State, logits: jax.Array) -> tuple[jax.Array | None, jax.Array]:
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


def advance(plan: Plan, state: State, ids: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    """(registers, features {name: [B]}) after writing ids [B]."""
    if plan.codec is None:
        return state, {}
    state = _written(plan, state, ids)
    return state, plan.codec.grammar.features(state, jnp)


def done(plan: Plan, state: State) -> jax.Array:
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
