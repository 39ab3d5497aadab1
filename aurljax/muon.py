"""Muon (Jordan 2024): the matrices inside the blocks move by the orthogonal part of their momentum, the rest by AdamW.

optax knows what a matrix is by its two dimensions alone, and would leave stacked layers and heads to Adam without a
word; here the declaration of a weight says it.
"""

from __future__ import annotations

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from aurljax import params
from aurljax.params import Param
from aurljax.sections import Optim

Tree = Any
INSIDE = {"heads", "mlp"}  # logical axes of the blocks' inner widths
RMS = 0.2  # of an update, about AdamW's, so that its learning rate and decay serve both (Liu et al. 2025)


def matrix(p: Param) -> MuonDimensionNumbers | None:
    """Which two dimensions of a weight are one matrix; None: it is none (an embedding, a head, a norm).

    The residual stream is one side, the last of the others is the other. What remains (layers, heads, gate and up)
    counts matrices: each head's query, key, value and output is orthogonalised by itself.
    """
    if "embed" not in p.axes or not INSIDE.intersection(p.axes):
        return None
    stream = p.axes.index("embed")
    other = max(i for i in range(len(p.shape)) if i != stream)
    return MuonDimensionNumbers(*((stream, other) if stream < other else (other, stream)))


def owned(spec: Tree) -> Tree:
    """Whether each weight of a declaration is Muon's."""
    return jax.tree.map(lambda p: matrix(p) is not None, spec, is_leaf=params.is_param)


def make(config: Optim, rate: optax.Schedule, decayed: Tree, spec: Tree) -> optax.GradientTransformation:
    """Muon for the matrices inside the blocks of `spec` and AdamW for all else; decay by the mask `decayed`."""
    numbers = jax.tree.map(matrix, spec, is_leaf=params.is_param)

    def of(tree: Tree) -> Tree:
        """The numbers of the matrices a (partly masked) tree holds."""
        return jax.tree.map(
            lambda x, n: x if isinstance(x, optax.MaskedNode) else n, tree, numbers, is_leaf=_is_masked
        )  # fmt: skip

    muon = _unsharded(optax.contrib.scale_by_muon(beta=config.b1, weight_dimension_numbers=of))
    sized = optax.stateless(lambda updates, _: jax.tree.map(_scaled, updates, of(updates), is_leaf=_is_masked))
    return optax.chain(
        optax.partition(
            {True: optax.chain(muon, sized), False: optax.scale_by_adam(config.b1, config.b2)}, owned(spec)
        ),
        optax.add_decayed_weights(config.weight_decay, decayed),
        optax.scale_by_learning_rate(rate),
    )


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _scaled(update: jax.Array, number: MuonDimensionNumbers) -> jax.Array:
    """A semi-orthogonal update to the size that RMS says."""
    return update if _is_masked(update) else update * (RMS * max(update.shape[i] for i in number) ** 0.5)


def _unsharded(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """tx with the mesh out of its sight: the compiler lays out what is inside, the ends stay as they are."""

    def update(updates: Tree, state: Tree, weights: Tree = None) -> tuple[Tree, Tree]:
        out = jax.tree.map(lambda x: jax.typeof(x).sharding.spec, (updates, state))
        return jax.sharding.auto_axes(lambda u, s: tx.update(u, s), out_sharding=out)(updates, state)

    return optax.GradientTransformation(tx.init, update)
