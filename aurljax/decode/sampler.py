"""How an id is drawn from logits: data, not code, so that a sampler can be compared, hashed and written down."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from aurljax.errors import UserError

BLOCK = 32


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Temperature, then the ids that top-k, top-p (Holtzman 2020) and min-p (Nguyen 2024) all keep; 0 is greedy."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self):
        for name, low, high in (("temperature", 0, 100), ("top_k", 0, 2**31), ("top_p", 0, 1), ("min_p", 0, 1)):
            value = getattr(self, name)
            if not low <= value <= high or (name == "top_p" and value == 0):
                raise UserError(f"{name} must lie in {'(' if name == 'top_p' else '['}{low}, {high}], not {value}")


def sample(sampler: Sampler, logits: jax.Array, legal: jax.Array | None, uniform: jax.Array) -> jax.Array:
    """int32 [B] drawn from logits [B, V] among `legal` [B, V] by one uniform number in [0, 1) per row [B]."""
    if legal is not None:
        logits = jnp.where(legal, logits, -jnp.inf)
    best = jnp.argmax(logits, -1).astype(jnp.int32)
    if sampler.temperature == 0:
        return best
    weights = jnp.exp((logits - jnp.max(logits, -1, keepdims=True)) / sampler.temperature)
    weights = _truncate(sampler, weights)
    up_to = _cumulative(weights)
    drawn = jnp.sum(up_to <= (uniform * (1 - 1e-6))[:, None] * up_to[:, -1:], -1).astype(jnp.int32)
    # Rounding in the sums could step onto an id of no weight; it must never be written.
    return jnp.where(jnp.take_along_axis(weights, drawn[:, None], 1)[:, 0] > 0, drawn, best)


def uniforms(keys: jax.Array, steps: jax.Array) -> jax.Array:
    """float32 [T, B] numbers of keys [B] at steps [T]: a row draws the same ones in any batch."""
    draw = jax.vmap(lambda step: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, step)))(keys))
    return draw(steps)


def _truncate(sampler: Sampler, weights: jax.Array) -> jax.Array:
    """Weights [B, V] (the largest is 1) with those that the sampler does not keep set to 0."""
    keep = weights >= sampler.min_p
    if sampler.top_k or sampler.top_p < 1:
        ordered = -jnp.sort(-weights, -1)
        if sampler.top_k:
            keep &= weights >= ordered[:, min(sampler.top_k, weights.shape[-1]) - 1, None]
        if sampler.top_p < 1:
            before = jnp.cumsum(ordered, -1) - ordered  # mass of the ids more likely than each
            inside = before < sampler.top_p * jnp.sum(ordered, -1, keepdims=True)
            keep &= weights >= jnp.min(jnp.where(inside, ordered, jnp.inf), -1, keepdims=True)
    return jnp.where(keep, weights, 0)


def _cumulative(weights: jax.Array) -> jax.Array:
    """Running sums along the last axis in two levels of small products: XLA:CPU's own cumsum is quadratic."""
    batch, size = weights.shape
    blocks = -(-size // BLOCK)
    w = jnp.pad(weights, ((0, 0), (0, blocks * BLOCK - size))).reshape(batch, blocks, BLOCK)
    inner = jnp.einsum("abi,ij->abj", w, jnp.triu(jnp.ones((BLOCK, BLOCK))))
    outer = jnp.einsum("ab,bc->ac", inner[:, :, -1], jnp.triu(jnp.ones((blocks, blocks)), 1))
    return (inner + outer[:, :, None]).reshape(batch, -1)[:, :size]
