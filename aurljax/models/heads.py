"""From the projected stream to queries, keys and values, turned by their positions and pitches."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Angles = tuple[jax.Array, jax.Array]
PERIODS = (12, 12 / 7, 48, 6, 128, 4, 24, 3)  # semitones: the octave, the circle of fifths, register, and finer ones


def rotary(positions: jax.Array, width: int, theta: float, period: float = 2 * math.pi) -> Angles:
    """Positions [B, T] -> cosine and signed sine [B, T, 2, width / 2] of the turn of each head (Su et al. 2021): with
    n = width / 2 pairs, periods of `period` theta^(i / n) slots."""
    rate = theta ** (-jnp.arange(width // 2, dtype=jnp.float32) / (width // 2)) * (2 * math.pi / period)
    angle = positions[..., None].astype(jnp.float32) * rate
    return jnp.stack([jnp.cos(angle)] * 2, -2), jnp.stack([-jnp.sin(angle), jnp.sin(angle)], -2)


def rotary_pitch(pitch: jax.Array, pairs: int) -> Angles:
    """Pitches [B, T, F], negative for none -> [B, T, 2, pairs]: pair i turns by pitch i % F, with one of `PERIODS`.

    Where queries and keys are turned so, their scores depend on differences of pitch alone. Without a pitch the pair is
    zero: it adds nothing to any score.
    """
    kinds = pitch.shape[-1]
    pitch = pitch[..., jnp.arange(pairs) % kinds]
    rate = 2 * jnp.pi / jnp.asarray([PERIODS[i // kinds % len(PERIODS)] for i in range(pairs)], jnp.float32)
    angle, sounds = pitch.astype(jnp.float32) * rate, pitch >= 0
    cos, sin = jnp.where(sounds, jnp.cos(angle), 0), jnp.where(sounds, jnp.sin(angle), 0)
    return jnp.stack([cos] * 2, -2), jnp.stack([-sin, sin], -2)


def join(a: Angles, b: Angles) -> Angles:
    """The pairs of both."""
    return jnp.concatenate([a[0], b[0]], -1), jnp.concatenate([a[1], b[1]], -1)


def still(a: Angles) -> Angles:
    """As many pairs that are not turned."""
    return jnp.ones_like(a[0]), jnp.zeros_like(a[1])


def back(a: Angles) -> Angles:
    """The turn the other way."""
    return a[0], -a[1]


class Turns(NamedTuple):
    """By what queries, keys, values and what is read of those are turned; None: values are not."""

    q: Angles
    k: Angles
    v: Angles | None = None
    out: Angles | None = None


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
def split_heads(x: jax.Array, turns: Turns) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x [B, T, KV, G + 2, D], of each key head its G queries, the key, the value -> q [B, KV G, T, D], k and v
    [B, KV, T, D]; turned, each by angles of their own. The backward pass keeps nothing but those."""
    b, t, kv, group, d = x.shape
    q = rotate(x[:, :, :, : group - 2], turns.q).transpose(0, 2, 3, 1, 4).reshape(b, kv * (group - 2), t, d)
    k, v = rotate(x[:, :, :, group - 2], turns.k), x[:, :, :, group - 1]
    v = v if turns.v is None else rotate(v, turns.v)
    return q, k.swapaxes(1, 2), v.swapaxes(1, 2)


def _split_heads_backward(turns, gradients):
    q, k, v = gradients
    q = rotate(grouped(q, k).transpose(0, 3, 1, 2, 4), back(turns.q))
    k, v = rotate(k.swapaxes(1, 2), back(turns.k)), v.swapaxes(1, 2)
    v = v if turns.v is None else rotate(v, back(turns.v))
    return jnp.concatenate([q, k[:, :, :, None], v[:, :, :, None]], 3), None


split_heads.defvjp(lambda x, turns: (split_heads(x, turns), turns), _split_heads_backward)
