"""The optimizer of a run: one chain of optax transformations per label of the family, and averaged parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from aurljax import params
from aurljax.config import Optim

Tree = Any

SHAPES = {  # share of the way between peak (1) and end (0) after a share x of the steps
    "cosine": lambda x: 0.5 * (1 + jnp.cos(jnp.pi * x)),
    "linear": lambda x: 1 - x,
    "constant": lambda x: jnp.ones_like(x),
}
OPTIMIZERS = {
    "adamw": lambda o, rate, mask: optax.adamw(rate, b1=o.b1, b2=o.b2, weight_decay=o.weight_decay, mask=mask),
    "lion": lambda o, rate, mask: optax.lion(rate, b1=o.b1, b2=o.b2, weight_decay=o.weight_decay, mask=mask),
}


def schedule(config: Optim, steps: int) -> optax.Schedule:
    """Learning rate of update n = 0, 1, ...: a linear rise over `warmup` updates, then a fall to the end at `steps`."""
    shape, end = SHAPES[config.schedule], config.end_factor

    def rate(count: jax.Array) -> jax.Array:
        rise = jnp.minimum((count + 1) / max(config.warmup, 1), 1)
        way = jnp.clip((count - config.warmup) / max(steps - config.warmup, 1), 0, 1)
        return config.learning_rate * rise * (end + (1 - end) * shape(way))

    return rate


def make(config: Optim, steps: int, spec: Tree, labels: Tree) -> optax.GradientTransformation:
    """The transformation of a tree declared by `spec` ([path] -> Param) with a label on each leaf.

    Each label has a state and a clipping norm of its own. Weight decay acts on matrices: weights with two logical axes
    or more, the stacking of layers not counted.
    """
    decayed = jax.tree.map(lambda p: sum(a != "layers" for a in p.axes) > 1, spec, is_leaf=params.is_param)
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    one = optax.chain(clip, OPTIMIZERS[config.optimizer](config, schedule(config, steps), decayed))
    return optax.partition(dict.fromkeys(jax.tree.leaves(labels), one), labels)


def average(ema: Tree, new: Tree, count: jax.Array, decay: float) -> Tree:
    """Exponential moving average; its memory grows with the number of updates, so that early averages are useful."""
    kept = jnp.minimum(decay, (1 + count) / (10 + count))
    return jax.tree.map(lambda a, b: a + (1 - kept) * (b - a), ema, new)
