"""Parameters are nested dicts of arrays, declared once: shape, logical axes and spread in one line.

Initialisation, shardings, the abstract tree and the count follow from the declaration. Keys come from the path, so a
new weight moves no other, and every mesh begins with the same bits.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from aurljax import mesh
from aurljax.mesh import Axes

Tree = Any  # nested dicts


@dataclass(frozen=True)
class Param:
    """One weight. init: "normal" (standard deviation `scale`), "ones" or "zeros". One axis name (or None) a dimension."""

    shape: tuple[int, ...]
    axes: Axes
    init: str = "normal"
    scale: float = 1.0
    dtype: str = "float32"

    def __post_init__(self):
        if len(self.shape) != len(self.axes):
            raise ValueError(f"Param: {len(self.shape)} dimensions, {len(self.axes)} axes")


def is_param(x) -> bool:
    return isinstance(x, Param)


def stacked(spec: Tree, layers: int) -> Tree:
    """The declaration of `layers` copies with a leading axis, as `jax.lax.scan` wants them."""
    return jax.tree.map(
        lambda p: replace(p, shape=(layers, *p.shape), axes=("layers", *p.axes)), spec, is_leaf=is_param
    )


def init(spec: Tree, key: jax.Array) -> Tree:
    """Draw every weight, sharded on the mesh in force. Jit it, or `jax.eval_shape` it for a restore target.

    Weights of one declaration are drawn together, so that the program stays short however many layers there are.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(spec, is_leaf=is_param)
    alike: dict[Param, list[int]] = {}
    for i, (_, p) in enumerate(leaves):
        alike.setdefault(p, []).append(i)
    drawn = {}
    for p, members in alike.items():
        drawn.update(zip(members, _draw(p, [leaves[i][0] for i in members], key), strict=True))
    return treedef.unflatten(drawn[i] for i in range(len(leaves)))


def abstract(spec: Tree) -> Tree:
    """ShapeDtypeStructs with shardings on the mesh in force: a target to restore onto."""
    return mesh.concrete(jax.eval_shape(lambda key: init(spec, key), jax.random.key(0)))


def count(spec: Tree) -> int:
    """Number of weights."""
    return sum(math.prod(p.shape) for p in jax.tree.leaves(spec, is_leaf=is_param))


def check(spec: Tree) -> None:
    """Refuse a declaration that the mesh in force does not divide: UserError with the nearest size that works."""
    for path, p in jax.tree_util.tree_leaves_with_path(spec, is_leaf=is_param):
        for size, axis in zip(p.shape, p.axes, strict=True):
            mesh.divide(f"parameter {'/'.join(k.key for k in path)}: {axis}", size, axis)


def stack(layers: dict[str, Tree]) -> Tree:
    """{"0": tree, "1": tree, ...} -> one tree with a leading layer axis."""
    return jax.tree.map(lambda *ws: jnp.stack(ws), *(layers[str(i)] for i in range(len(layers))))


def unstack(layers: Tree) -> dict[str, Tree]:
    """The inverse of `stack`: a tree with a leading layer axis -> {"0": tree, ...}."""
    number = jax.tree.leaves(layers)[0].shape[0]
    return {str(i): jax.tree.map(lambda w, i=i: w[i], layers) for i in range(number)}


def _draw(p: Param, paths: list, key: jax.Array) -> list[jax.Array]:
    """A weight for each path."""
    if p.init in ("ones", "zeros"):
        return [jnp.full(p.shape, float(p.init == "ones"), p.dtype, out_sharding=mesh.spec(p.axes)) for _ in paths]
    if p.init != "normal":
        raise ValueError(f"Param: init {p.init!r} is none of normal, ones, zeros")
    one = p if p.axes[0] != "layers" else replace(p, shape=p.shape[1:], axes=p.axes[1:])

    def normal(name, layer):
        bits = jax.random.fold_in(jax.random.fold_in(key, name), layer)
        return (p.scale * jax.random.normal(bits, one.shape, out_sharding=mesh.spec(one.axes))).astype(p.dtype)

    names, layers = (jnp.asarray(x) for x in zip(*(_seeds(path) for path in paths), strict=True))
    if one is p:
        return list(jax.vmap(normal)(names, layers))
    return list(jax.vmap(lambda name: jax.vmap(normal, (None, 0))(name, jnp.arange(p.shape[0])))(names))


def _seeds(path) -> tuple[int, int]:
    """What is folded into the key: the name, then the layer's number, so stacked and separate layers begin equal."""
    names = [k.key for k in path]
    number = next((int(n) for n in names if n.isdigit()), 0)
    return zlib.crc32("/".join(n for n in names if not n.isdigit()).encode()) & 0x7FFFFFFF, number
