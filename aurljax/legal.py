"""Which ids the grammar of a codec allows at each position of packed rows: the automaton of sampling run over them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec


def ids(grammar: Any, tokens: jax.Array, positions: jax.Array) -> jax.Array:
    """Ids and positions [B, T] -> bool [B, T, V]: those that may follow each id, laid out as the rows are.

    A piece or window begins wherever its position is 0. All are allowed where no grammar can tell: on padding, and behind
    an id that may not stand where it does.
    """
    rows = PartitionSpec(jax.typeof(tokens).sharding.spec[0])
    walk = jax.shard_map(lambda *own: _walk(grammar, *own), in_specs=rows, out_specs=rows, check_vma=False)
    return walk(tokens, positions)


def _walk(grammar: Any, tokens: jax.Array, positions: jax.Array) -> jax.Array:
    """`ids` of the rows that one device has."""
    first = grammar.init(len(tokens), xp=jnp)
    opening = grammar.allowed(first, jnp)  # what a piece may begin with
    fresh = (first, opening, jnp.ones(len(tokens), bool))

    def step(carry: Any, column: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        token, begins = column

        def restart(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(begins.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        state, may, lawful = jax.tree.map(restart, fresh, carry)
        lawful &= jnp.any(may & (jnp.arange(may.shape[1]) == token[:, None]), 1)
        state = grammar.advance(state, token, jnp)
        may = grammar.allowed(state, jnp)
        return (state, may, lawful), may | ~lawful[:, None]

    return jnp.moveaxis(jax.lax.scan(step, fresh, (tokens.T, positions.T == 0))[1], 0, 1)
