"""Loss terms. A term stays only if its gradient is not zero and an ablation shows what it does."""

from __future__ import annotations

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
