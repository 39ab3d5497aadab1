"""Scores of pitches by their intervals from pitches that are known: a head that is the same in every key."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from aurljax.models.layers import linear
from aurljax.params import Param

REACH = 60  # semitones: the widest interval that has a score


def spec(width: int, kinds: int, count: int) -> Param:
    """A score of each interval up to `REACH`, for each kind of pitch to reckon from; at first none."""
    return Param((width, kinds, 2 * min(REACH, count - 1) + 1), ("embed", None, None), init="zeros")


def logits(w: jax.Array, h: jax.Array, base: jax.Array, first: int, count: int, vocab: int, dtype: str) -> jax.Array:
    """h [B, T, d] -> [B, T, vocab] float32: at id `first` + p, for `count` pitches p, the scores of p - base, summed over
    base [B, T, kinds].

    A negative base scores nothing; nor do wider intervals and ids that are no pitches.
    """
    scores = linear(h, w, ("batch", None, None, None), dtype, "float32")
    wider = count - 1 - w.shape[-1] // 2
    scores = jnp.pad(scores, ((0, 0), (0, 0), (0, 0), (wider, wider)))
    of_pitch = jnp.where(base[..., None] >= 0, shifted(scores, count - 1 - jnp.maximum(base, 0), count), 0).sum(-2)
    return jnp.pad(of_pitch, ((0, 0), (0, 0), (first, vocab - first - count)))


def shifted(x: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """x[..., start : start + size] for each start [...] in 0..x.shape[-1] - size."""
    return _shifted(x, start, size, x.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted(x, start, size, width):
    return _read(x, start[..., None] + jnp.arange(size))


def _read(x: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, index, -1, mode="promise_in_bounds")


def _shifted_backward(size, width, start, g):
    """Reads too, where the gradient of a gather would add up number by number."""
    at = jnp.arange(width) - start[..., None]
    return jnp.where((at >= 0) & (at < size), _read(g, jnp.clip(at, 0, size - 1)), 0), None


_shifted.defvjp(lambda x, start, size, width: (_shifted(x, start, size, width), start), _shifted_backward)
