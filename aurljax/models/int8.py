"""Numbers in a byte each, with a float32 scale for all that share one: what decoding reads instead of four bytes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

MOST = 127


@struct.dataclass
class Int8:
    """values x scale. The scale has the shape of the values without the axes along which it is shared."""

    values: jax.Array
    scale: jax.Array


def pack(x: jax.Array, axes: tuple[int, ...]) -> Int8:
    """x with one scale along `axes`, by its largest number there: off by at most half a scale."""
    x = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x), axes, keepdims=True) / MOST
    scale = jnp.where(scale > 0, scale, 1)
    return Int8(jnp.round(x / scale).astype(jnp.int8), jnp.squeeze(scale, axes))
