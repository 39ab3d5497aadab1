"""One training step and one evaluation step for every family, every optimizer label and every mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from aurljax import averaging, optim
from aurljax.config import Parts
from aurljax.state import State, optimizer
from aurljax.survival.guard import Guard

Tree = Any
Metrics = dict[str, jax.Array]
MEMORY = 100  # updates in the running mean of the gradient's norm


def train_step(parts: Parts) -> Callable[[State, Tree], tuple[State, Metrics]]:
    """The jitted step (state, batch) -> (state, metrics); the old state's buffers are given away.

    Metrics are scalars: the family's own, as means over the batch's weight, and weight, grad_norm, learning_rate and
    skipped. A step whose loss or gradient is not finite, or whose gradient is a spike by `config.guard`, changes nothing
    but the step number and the guard's counts.
    """
    family, model, config = parts.family, parts.model, parts.config

    def step(state: State, batch: Tree) -> tuple[State, Metrics]:
        now = state.step - state.guard["begin"]

        def gradient(part: Tree, key: jax.Array) -> tuple[Tree, Any]:
            def loss(params: Tree) -> tuple[jax.Array, Any]:
                return family.loss(model, {**params, **state.frozen}, part, key, now)

            return jax.grad(loss, has_aux=True)(state.params)

        key = jax.random.fold_in(state.key, now)
        grads, aux = accumulate(gradient, batch, key, config.optim.accumulation)
        metrics = means(aux.metrics)
        grads = jax.tree.map(lambda g: g / metrics["weight"], grads)
        norm = optax.tree.norm(grads)
        count = now - state.guard["skipped"]  # updates made before this one
        fine = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm) & ~spike(config.guard, state.guard, count, norm)

        scale = state.guard["scale"]
        updates, opt_state = optimizer(parts, scale).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        written = family.update(model, {**params, **state.frozen}, aux.stats, key)
        params = {name: written[name] for name in params}
        ema = state.ema and averaging.update(config.optim, config.run.steps, state.ema, params, opt_state, count)

        old, new = (state.params, state.opt_state, state.ema), (params, opt_state, ema)
        params, opt_state, ema = jax.tree.map(lambda a, b: jnp.where(fine, b, a), old, new)
        missed = (~fine).astype(jnp.int32)
        counts = {
            "skipped": state.guard["skipped"] + missed,
            "in_a_row": missed * (state.guard["in_a_row"] + 1),
        }
        mean = state.guard["norm"]
        mean = jnp.where(fine, mean + (norm - mean) / jnp.minimum(count + 1, MEMORY), mean)
        guard = state.guard | counts | {"norm": mean}
        metrics |= {
            "grad_norm": norm,
            "learning_rate": optim.schedule(config.optim, config.run.steps, scale)(count),
            **counts,
        }
        return State(params, opt_state, ema, state.step + 1, state.key, guard, state.frozen), metrics

    return jax.jit(step, donate_argnums=0)


def spike(config: Guard, guard: dict[str, jax.Array], count: jax.Array, norm: jax.Array) -> jax.Array:
    """Whether a gradient's norm lies far above the mean of the updates before it, once there have been enough."""
    if not config.spike:
        return jnp.zeros((), bool)
    return (count >= config.after) & (norm > config.spike * guard["norm"])


def eval_step(parts: Parts) -> Callable[[Tree, Tree], Metrics]:
    """The jitted (weights, batch) -> sums of the family's metrics, without dropout; add them up, then `means`."""

    def step(weights: Tree, batch: Tree) -> Metrics:
        return parts.family.loss(parts.model, weights, batch, None, None)[1].metrics

    return jax.jit(step)


def accumulate(function: Callable[[Tree, jax.Array], Tree], batch: Tree, key: jax.Array, count: int) -> Tree:
    """The sum of function(part, its key) over `count` parts of the batch, holding one part's activations at a time.

    Part i takes rows i, i + count, ...: each device cuts the rows it has and none travels.
    """
    if count == 1:
        return function(batch, jax.random.fold_in(key, 0))
    parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0), batch)
    shape = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts), key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype, out_sharding=s.sharding), shape)

    def body(total: Tree, item: tuple[jax.Array, Tree]) -> tuple[Tree, None]:
        index, part = item
        return jax.tree.map(jnp.add, total, function(part, jax.random.fold_in(key, index))), None

    return jax.lax.scan(body, zeros, (jnp.arange(count), parts))[0]


def means(sums: Metrics) -> Metrics:
    """Sums over weighted tokens -> means; "weight" is kept."""
    return {k: v if k == "weight" else v / sums["weight"] for k, v in sums.items()}
