"""From the projected stream to queries, keys and values, turned by their positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Angles = tuple[jax.Array, jax.Array]


def rotary(positions: jax.Array, width: int, theta: float) -> Angles:
    """Positions [B, T] -> cosine and signed sine [B, T, 2, width / 2] of the turn of each head (Su et al. 2021)."""
    rate = theta ** (-jnp.arange(width // 2, dtype=jnp.float32) / (width // 2))
    angle = positions[..., None].astype(jnp.float32) * rate
    return jnp.stack([jnp.cos(angle)] * 2, -2), jnp.stack([-jnp.sin(angle), jnp.sin(angle)], -2)


def rotate(x: jax.Array, angles: Angles) -> jax.Array:
    """Turn the pairs (x[i], x[i + width / 2]) of x [B, T, ..., width] by `angles` from `rotary`.

    Written as a flip of the two halves: a concatenation keeps a CPU from vectorising it.
    """
    cos, sin = (jnp.expand_dims(a, range(2, x.ndim - 1)) for a in angles)
    y = x.astype(jnp.float32).reshape(*x.shape[:-1], 2, x.shape[-1] // 2)
    return (y * cos + jnp.flip(y, -2) * sin).reshape(x.shape).astype(x.dtype)


def grouped(q: jax.Array, k: jax.Array) -> jax.Array:
    """Queries [B, H, T, D] by the key heads of k [B, KV, S, D] that they read: [B, KV, H / KV, T, D], laid out as k is
    (of a single key head a bare reshape would not know whose axis it is)."""
    b, h, t, d = q.shape
    batch, heads, *_ = jax.typeof(k).sharding.spec
    spec = PartitionSpec(batch, heads, None, None, None)
    return jnp.reshape(q, (b, k.shape[1], h // k.shape[1], t, d), out_sharding=spec)


@jax.custom_vjp
def split_heads(x: jax.Array, angles: Angles) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x [B, T, KV, G + 2, D], of each key head its G queries, the key, the value -> q [B, KV G, T, D], k and v
    [B, KV, T, D]; queries and keys turned. The backward pass keeps nothing but the angles."""
    b, t, kv, group, d = x.shape
    q = rotate(x[:, :, :, : group - 2], angles).transpose(0, 2, 3, 1, 4).reshape(b, kv * (group - 2), t, d)
    return q, rotate(x[:, :, :, group - 2], angles).swapaxes(1, 2), x[:, :, :, group - 1].swapaxes(1, 2)


def _split_heads_backward(angles, gradients):
    q, k, v = gradients
    back = angles[0], -angles[1]
    q = rotate(grouped(q, k).transpose(0, 3, 1, 2, 4), back)
    k, v = rotate(k.swapaxes(1, 2), back), v.swapaxes(1, 2)
    return jnp.concatenate([q, k[:, :, :, None], v[:, :, :, None]], 3), None


split_heads.defvjp(lambda x, angles: (split_heads(x, angles), angles), _split_heads_backward)
