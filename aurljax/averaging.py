"""Averages of the weights of a run, for generation and evaluation: of its steps, or of its checkpoints."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from aurljax.sections import Optim

Tree = Any


def kept(config: Optim) -> bool:
    """Whether a run keeps averaged weights beside those it trains."""
    return bool(config.ema or config.swa or config.optimizer == "schedule_free")


def update(config: Optim, steps: int, average: Tree, new: Tree, opt_state: Tree, count: jax.Array) -> Tree:
    """The average after update `count` = 0, 1, ... of `steps` gave the weights `new`."""
    if config.optimizer == "schedule_free":
        return _of_schedule_free(config.b1, new, opt_state)
    return jax.tree.map(lambda a, b: a + (b - a) * _share(config, steps, count), average, new)


def _share(config: Optim, steps: int, count: jax.Array) -> jax.Array:
    """What the newest weights count in the average."""
    if config.swa:  # each of the last updates counts as much (Izmailov et al. 2018); before those the newest alone
        return 1 / jnp.maximum(count - round((1 - config.swa) * steps) + 1, 1)
    return 1 - jnp.minimum(config.ema, (1 + count) / (10 + count))  # memory grows, so that early averages are useful


def _of_schedule_free(b1: float, y: Tree, opt_state: Tree) -> Tree:
    """The sequence x to evaluate at (Defazio et al. 2024), of the gradient's place y = (1 - b1) z + b1 x and z, which
    each label keeps for its own weights."""
    kept = [z for _, z in optax.tree.get_all_with_path(opt_state, "z")]
    z = jax.tree.map(lambda *zs: next(a for a in zs if not _is_masked(a)), *kept, is_leaf=_is_masked)
    return jax.tree.map(lambda a, b: (a - (1 - b1) * b) / b1, y, z)


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)
