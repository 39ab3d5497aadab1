"""The state of a run: everything that changes from step to step, and the frozen weights beside it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from aurljax import averaging, optim, params
from aurljax.config import Parts

Tree = Any
FROZEN = "frozen"  # label of weights that are not optimised: whole top-level entries of the spec


@struct.dataclass
class State:
    """A pytree. The arrays are sharded on the mesh that was in force when it was made."""

    params: Tree
    opt_state: Tree
    ema: Tree  # averaged params, or {} where none are kept
    step: jax.Array  # int32: batches seen, the address of the next one
    key: jax.Array  # root of all random numbers; never advanced, each step folds its number in
    guard: dict[str, jax.Array]  # see `guard`
    frozen: Tree  # entries of the spec labelled "frozen" (a teacher, the base of an adapter), or {}

    @property
    def weights(self) -> Tree:
        """The tree that the family declared, as generation and evaluation use it: averaged where that is kept."""
        return {**(self.ema or self.params), **self.frozen}


def split(parts: Parts) -> tuple[Tree, Tree, Tree]:
    """(spec of the optimised entries, their labels, spec of the frozen entries)."""
    spec, labels = parts.family.spec(parts.model), parts.family.labels(parts.model)
    frozen = {name for name, tree in labels.items() if set(jax.tree.leaves(tree)) == {FROZEN}}
    optimised = {name: spec[name] for name in spec if name not in frozen}
    return optimised, {name: labels[name] for name in optimised}, {name: spec[name] for name in frozen}


def optimizer(parts: Parts, scale: jax.Array | float = 1.0) -> optax.GradientTransformation:
    """The optax transformation of a run, its learning rate times `scale`."""
    spec, labels, _ = split(parts)
    return optim.make(parts.config.optim, parts.config.run.steps, spec, labels, scale)


def create(parts: Parts, key: jax.Array, begin: int = 0, given: Tree = None) -> State:
    """A new state under the mesh in force; jit it, or `jax.eval_shape` it (see `abstract`).

    begin: the step before its first one. given: the family's whole tree of weights; None: they are drawn.
    """
    spec, _, frozen = split(parts)
    draw, run = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    weights = params.init(spec, draw) if given is None else {name: given[name] for name in spec}
    return State(
        params=weights,
        opt_state=optimizer(parts).init(weights),
        ema=jax.tree.map(jnp.copy, weights) if averaging.kept(parts.config.optim) else {},
        step=jnp.asarray(begin, jnp.int32),
        key=run,
        guard=guard(begin),
        frozen=params.init(frozen, draw) if given is None else {name: given[name] for name in frozen},
    )


def guard(begin: int = 0) -> dict[str, jax.Array]:
    """What the guards of a run remember, at its beginning; see `aurljax.survival.recovery` for those from
    `scale` on."""
    zero, step = jnp.zeros((), jnp.int32), jnp.asarray(begin, jnp.int32)
    return {
        "begin": step,  # the step before its first one: not 0 in a later stage
        "skipped": zero,  # batches that left no trace in the weights
        "in_a_row": zero,  # of them, until now
        "norm": jnp.zeros((), jnp.float32),  # running mean of the gradient's norm over updates
        "scale": jnp.ones((), jnp.float32),
        "rollbacks": zero,
        "candidate": step,
        "anchor": step,
    }


def remembering(now: State, **values: float) -> State:
    """The state with other numbers in its guard, of the same types, so that the step is not compiled again."""
    return now.replace(guard=now.guard | {name: scalar(v, now.guard[name]) for name, v in values.items()})


def scalar(value: float, like: jax.Array) -> jax.Array:
    """A number with the type and place of another."""
    return jax.device_put(np.asarray(value, like.dtype), like.sharding)


def new(parts: Parts, begin: int = 0, given: Tree = None) -> State:
    """The state at step `begin`, by the config's seed, with weights of its own or those `given`, which are used up."""
    made = jax.jit(lambda key, given: create(parts, key, begin, given), donate_argnums=1)
    return made(jax.random.key(parts.config.seed), given)


def abstract(parts: Parts) -> State:
    """Shapes, dtypes and shardings of the state on the mesh in force: what a checkpoint is loaded into."""
    return jax.eval_shape(lambda: create(parts, jax.random.key(0)))
