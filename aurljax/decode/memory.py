"""What a sampler remembers of the ids written: which came lately, the bars before this one, how much was asked for.

Registers of fixed size, like those of the grammar; a sampler that wants none of it has none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from aurljax.decode.sampler import Sampler
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import UNLIMITED

Memory = dict[str, jax.Array]
FACTOR = 0x9E3779B1  # odd, so that no digit of a hash is lost
ASIDE = ("bar", "meter", "tempo", "coarse", "fine")  # stand where they change, not where the music does
CLOSING = ("bar", "end")


def init(sampler: Sampler, codec: Codec | None, batch: int) -> Memory:
    """Registers before the first id."""
    memory, zero = {}, jnp.zeros(batch, jnp.int32)
    if sampler.repetition:
        size = len(codec.vocabulary)
        memory |= {"number": zero, "written": jnp.full((batch, size), -sampler.repetition.span, jnp.int32)}
    if sampler.unrepeated:
        kept = jnp.zeros((batch, sampler.unrepeated), jnp.uint32)
        memory |= {"bar": jnp.zeros(batch, jnp.uint32), "bars": kept, "begun": zero}
    return memory


def advance(sampler: Sampler, codec: Codec | None, m: Memory, ids: jax.Array) -> Memory:
    """Registers after writing ids [B]."""
    out = dict(m)
    if sampler.repetition:
        v = codec.vocabulary
        counted = jnp.asarray(_of(v, sampler.repetition.among(v)))[ids]
        now = m["number"] + counted
        mine = (jnp.arange(len(v)) == ids[:, None]) & counted[:, None]
        out |= {"number": now, "written": jnp.where(mine, now[:, None], m["written"])}
    if sampler.unrepeated:
        v = codec.vocabulary
        line = ids == v.id("bar")
        moved = jnp.concatenate([m["bars"][:, 1:], m["bar"][:, None]], 1)
        out |= {
            "bar": jnp.where(line, 0, jnp.where(jnp.asarray(_of(v, ASIDE))[ids], m["bar"], _hashed(v, m["bar"], ids))),
            "bars": jnp.where((line & (m["begun"] > 0))[:, None], moved, m["bars"]),
            "begun": m["begun"] + line,
        }
    return out


def read(sampler: Sampler, codec: Codec | None, prompt: jax.Array, start: jax.Array) -> Memory:
    """Registers after prompts [B, P], whose rows begin at start [B]."""
    memory = init(sampler, codec, len(start))
    if not memory:
        return memory

    def step(m, column):
        ids, begun = column
        then = advance(sampler, codec, m, ids)
        return jax.tree.map(lambda a, b: jnp.where(begun.reshape(-1, *[1] * (a.ndim - 1)), a, b), then, m), None

    return jax.lax.scan(step, memory, (prompt.T, jnp.arange(prompt.shape[1])[:, None] >= start))[0]


def weigh(
    sampler: Sampler, codec: Codec | None, m: Memory, state: dict, legal: jax.Array | None, logits: jax.Array
) -> tuple[jax.Array | None, jax.Array]:
    """(legal, logits) [B, V] with what was written lately made less likely, and no way to complete a bar again unless
    there is no other."""
    if sampler.repetition:
        lately = m["number"][:, None] - m["written"] < sampler.repetition.span
        logits = logits - np.log(sampler.repetition.penalty).astype(np.float32) * lately
    if sampler.unrepeated:
        others = legal & ~_repeats(codec, m, state)
        legal = jnp.where(jnp.any(others, -1, keepdims=True), others, legal)
    return legal, logits


def _repeats(codec: Codec, m: Memory, state: dict) -> jax.Array:
    """bool [B, V] the ids with which the current bar would be one of those before it."""
    v, count = codec.vocabulary, m["bars"].shape[1]
    there = jnp.arange(count) >= count - (m["begun"] - 1)[:, None]  # [B, bars]
    closed = jnp.any((m["bars"] == m["bar"][:, None]) & there, 1)
    found = closed[:, None] & jnp.asarray(_of(v, CLOSING))
    last = codec.grammar.completes(state, jnp)  # else the `bar` behind it closes a bar
    if last is not None:
        then = _hashed(v, m["bar"][:, None], jnp.arange(len(v)))
        same = jnp.any((m["bars"][:, None] == then[:, :, None]) & there[:, None], 2)
        found |= last[:, None] & same & ~jnp.asarray(_of(v, (*ASIDE, *CLOSING)))
    return found


def _hashed(vocabulary, before: jax.Array, ids: jax.Array) -> jax.Array:
    """A polynomial of random numbers, one for each id, modulo 2**32: two bars agree by chance once in 4e9."""
    codes = np.random.default_rng(len(vocabulary)).integers(0, 2**32, len(vocabulary), np.uint32)
    return before * jnp.uint32(FACTOR) + jnp.asarray(codes)[ids]


def _of(vocabulary, kinds: tuple[str, ...]) -> np.ndarray:
    """bool [V] which ids are of these kinds."""
    return np.isin(vocabulary.kind, [vocabulary.index[k] for k in kinds if k in vocabulary.index])


# ---- how far the piece is -------------------------------------------------------------------------------------------


def asked(sampler: Sampler, state: dict) -> Memory:
    """What a schedule runs over, read from the grammar's registers before the first new id."""
    if not any(s.scheduled for s in (sampler, *(own for _, own in sampler.kinds))):
        return {}
    names = {"bars_asked": "bars_left", "from": "clock", "until": "seconds", "ids_asked": "left"}
    return {name: state[register] for name, register in names.items()}


def progress(m: Memory, state: dict) -> jax.Array | None:
    """[B] share of what was asked for that is written: of bars, else of seconds, else of ids; None: nothing wants it."""
    if "from" not in m:
        return None
    bars, seconds = m["bars_asked"], m["until"] - m["from"]
    of_bars = (bars - state["bars_left"]) / jnp.maximum(bars, 1)
    of_seconds = (state["clock"] - m["from"]) / jnp.maximum(seconds, 1e-6)
    of_ids = (m["ids_asked"] - state["left"]) / m["ids_asked"]
    share = jnp.where(jnp.isfinite(seconds), of_seconds, of_ids)
    return jnp.clip(jnp.where((bars > 0) & (bars < UNLIMITED), of_bars, share), 0, 1)
