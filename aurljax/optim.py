"""The optimizer of a run: one chain of optax transformations per label of the family.

What falls on a plateau is the `scale` of the schedule, part of the state (`aurljax.survival.plateau`). Not here: Sophia,
whose curvature optax takes by forward differentiation of the gradient, which layers with a backward pass of their own do
not have.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from aurljax import muon, params
from aurljax.sections import Optim

Tree = Any

SHAPES = {  # share of the way between peak (1) and end (0) after a share x of the steps
    "cosine": lambda x, fall, cycles: 0.5 * (1 + jnp.cos(jnp.pi * x)),
    "linear": lambda x, fall, cycles: 1 - x,
    "constant": lambda x, fall, cycles: jnp.ones_like(x),
    "wsd": lambda x, fall, cycles: jnp.minimum((1 - x) / fall, 1),  # stable, then linear over the last share `fall`
    "cyclical": lambda x, fall, cycles: 0.5 * (1 + jnp.cos(jnp.pi * jnp.where(x < 1, x * cycles % 1, 1))),
    "plateau": lambda x, fall, cycles: jnp.ones_like(x),  # it falls by `scale`
}
OPTIMIZERS = {  # of config, learning rate, mask of what decays, declaration of the weights
    "adamw": lambda o, rate, mask, spec: optax.adamw(rate, o.b1, o.b2, weight_decay=o.weight_decay, mask=mask),
    "lion": lambda o, rate, mask, spec: optax.lion(rate, o.b1, o.b2, weight_decay=o.weight_decay, mask=mask),
    "adafactor": lambda o, rate, mask, spec: _adafactor(o, rate, mask),
    "muon": lambda o, rate, mask, spec: muon.make(o, rate, mask, spec),
    "schedule_free": lambda o, rate, mask, spec: _schedule_free(o, rate, mask),
}


def schedule(config: Optim, steps: int, scale: jax.Array | float = 1.0) -> optax.Schedule:
    """Learning rate of update n = 0, 1, ...: a linear rise over `warmup` updates, then a fall to the end at `steps`; all
    times `scale`."""
    shape, end, fall, cycles = SHAPES[config.schedule], config.end_factor, config.fall, config.cycles

    def rate(count: jax.Array) -> jax.Array:
        rise = jnp.minimum((count + 1) / max(config.warmup, 1), 1)
        way = jnp.clip((count - config.warmup) / max(steps - config.warmup, 1), 0, 1)
        return scale * config.learning_rate * rise * (end + (1 - end) * shape(way, fall, cycles))

    return rate


def make(
    config: Optim, steps: int, spec: Tree, labels: Tree, scale: jax.Array | float = 1.0
) -> optax.GradientTransformation:
    """The transformation of a tree declared by `spec` ([path] -> Param) with a label on each leaf.

    Each label has a state and a clipping norm of its own. Weight decay acts on matrices: weights with two logical axes
    or more, the stacking of layers not counted.
    """
    decayed = jax.tree.map(lambda p: sum(a != "layers" for a in p.axes) > 1, spec, is_leaf=params.is_param)
    one = optax.chain(
        clip_by_unit(config.clip_ratio, spec) if config.clip_ratio else optax.identity(),
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        OPTIMIZERS[config.optimizer](config, schedule(config, steps, scale), decayed, spec),
    )
    return optax.partition(dict.fromkeys(jax.tree.leaves(labels), one), labels)


def clip_by_unit(ratio: float, spec: Tree) -> optax.GradientTransformation:
    """Scale down what is more than `ratio` of its weight's norm, unit by unit (Brock et al. 2021).

    A unit is what one number reads from or writes to the residual stream, or an embedding; of other weights the last
    axis. Norms of weights count at least 1e-3, so that what begins at zero can move.
    """
    along = jax.tree.map(lambda p: p.axes.index("embed") if "embed" in p.axes else -1, spec, is_leaf=params.is_param)

    def clip(g: Any, w: Any, axis: int) -> Any:
        if isinstance(g, optax.MaskedNode):
            return g
        norm, most = (jnp.sqrt((x * x).sum(axis, keepdims=True)) for x in (g, w))
        return g * jnp.minimum(1, ratio * jnp.maximum(most, 1e-3) / jnp.maximum(norm, 1e-30))

    return optax.stateless(
        lambda updates, weights: jax.tree.map(
            clip, updates, weights, along, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
        )
    )


def _adafactor(o: Optim, rate: optax.Schedule, mask: Tree) -> optax.GradientTransformation:
    """Adafactor (Shazeer and Stern 2018) with rates of AdamW's size and decoupled decay. b1 = 0 keeps no momentum, and
    then the state is a row and a column a matrix."""
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.ema(o.b1, debias=False) if o.b1 else optax.identity(),
        optax.add_decayed_weights(o.weight_decay, mask),
        optax.scale_by_learning_rate(rate),
    )


def _schedule_free(o: Optim, rate: optax.Schedule, mask: Tree) -> optax.GradientTransformation:
    """Schedule-free AdamW (Defazio et al. 2024); the weights to evaluate are `averaging.update`'s."""
    adam = optax.adamw(rate, b1=0.0, b2=o.b2, weight_decay=o.weight_decay, mask=mask)
    return optax.contrib.schedule_free(adam, rate, b1=o.b1)
