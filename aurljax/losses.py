"""Loss terms. A term stays only if its gradient is not zero and an ablation shows what it does."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp


@jax.custom_vjp
def cross_entropy(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits [..., V], ids [...] -> nats [...] and whether no id scored higher [...].

    The backward pass builds the probabilities again; nothing of size [..., V] is kept but the logits.
    """
    return _cross_entropy(logits, targets)[0]


def _cross_entropy(logits, targets):
    top = logits.max(-1)
    total = top + jnp.log(jnp.exp(logits - top[..., None]).sum(-1))
    chosen = jnp.where(_hits(logits, targets), logits, 0).sum(-1)
    return (total - chosen, chosen >= top), (logits, targets, total)


def _hits(logits, targets):
    return jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == targets[..., None]


def _cross_entropy_backward(saved, g):
    logits, targets, total = saved
    p = jnp.exp(logits - total[..., None])
    return (p - _hits(logits, targets)) * g[0][..., None], None


cross_entropy.defvjp(_cross_entropy, _cross_entropy_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def objective(logits: jax.Array, targets: jax.Array, smoothing: float, z: float):
    """Logits [..., V], ids [...] -> what to minimise [...], and nats and hits as `cross_entropy` gives them, which have
    no gradient.

    Of the target's weight a share `smoothing` is divided among all ids (Szegedy et al. 2016), and z times the square of
    the log of the normaliser is added (Chowdhery et al. 2022).
    """
    return _objective(logits, targets, smoothing, z)[0]


def _objective(logits, targets, smoothing, z):
    (nats, hit), (_, _, total) = _cross_entropy(logits, targets)
    cost = (1 - smoothing) * nats + smoothing * (total - logits.mean(-1)) + z * total**2
    return (cost, nats, hit), (logits, targets, total)


def _objective_backward(smoothing, z, saved, g):
    logits, targets, total = saved
    p = jnp.exp(logits - total[..., None]) * (1 + 2 * z * total)[..., None]
    return (p - (1 - smoothing) * _hits(logits, targets) - smoothing / logits.shape[-1]) * g[0][..., None], None


objective.defvjp(_objective, _objective_backward)


@jax.custom_vjp
def unlikelihood(logits: jax.Array, legal: jax.Array) -> jax.Array:
    """Logits and which ids may stand there [..., V] -> nats [...] -log(1 - p) of the mass p on the others.

    After Welleck et al. 2020, for all of them together. It is log(1 + illegal / legal) of their sums, exact for masses of
    any size; 0 where all ids may stand, or none. Nothing of size [..., V] is kept but what is given.
    """
    return _unlikelihood(logits, legal)[0]


def _unlikelihood(logits, legal):
    inside, outside = (jax.nn.logsumexp(logits, -1, where=ids) for ids in (legal, ~legal))
    known = legal.any(-1) & ~legal.all(-1)
    ratio = jnp.where(known, outside - inside, -jnp.inf)
    return jax.nn.softplus(ratio), (logits, legal, inside, outside, ratio)


def _unlikelihood_backward(saved, g):
    logits, legal, inside, outside, ratio = saved
    share = jnp.exp(logits - jnp.where(legal, inside[..., None], outside[..., None]))  # within either kind
    mass = jax.nn.sigmoid(ratio)[..., None]
    return jnp.where(mass > 0, jnp.where(legal, -share, share) * mass, 0) * g[..., None], None


unlikelihood.defvjp(_unlikelihood, _unlikelihood_backward)


def of_targets(weights: tuple[float, ...], targets: jax.Array) -> jax.Array:
    """Weights by id, () for all alike -> the weight of each target [...]."""
    if not weights:
        return jnp.ones((), jnp.float32)
    sharding = jax.typeof(targets).sharding.spec
    return jnp.asarray(weights, jnp.float32).at[targets].get(mode="clip", out_sharding=sharding)
