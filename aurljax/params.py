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
    return jax.tree.map(lambda p: replace(p, shape=(layers, *p.shape), axes=("layers", *p.axes)), spec, is_leaf=is_param)


def init(spec: Tree, key: jax.Array) -> Tree:
    """Draw every weight, sharded on the mesh in force. Jit it, or `jax.eval_shape` it for a restore target."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(spec, is_leaf=is_param)
    alike: dict[Param, list[tuple]] = {}  # weights of one declaration are drawn together: the program stays short
    for path, p in leaves:
        alike.setdefault(p, []).append(path)
    drawn = {path: w for p, paths in alike.items()
             for path, w in zip(paths, _draw(p, [_key(path, key) for path in paths]), strict=True)}
    return treedef.unflatten(drawn[path] for path, _ in leaves)


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
    return {str(i): jax.tree.map(lambda w: w[i], layers) for i in range(number)}


def _key(path, key: jax.Array) -> jax.Array:
    """Key by path. A layer's number is folded in after its name, so stacked and separate layers begin equal."""
    names = [k.key for k in path]
    key = jax.random.fold_in(key, zlib.crc32("/".join(n for n in names if not n.isdigit()).encode()))
    for n in names:
        key = jax.random.fold_in(key, int(n)) if n.isdigit() else key
    return key


def _draw(p: Param, keys: list[jax.Array]) -> list[jax.Array]:
    """One weight for each key."""
    if p.init in ("ones", "zeros"):
        return [jnp.full(p.shape, float(p.init == "ones"), p.dtype, out_sharding=mesh.spec(p.axes)) for _ in keys]
    if p.init != "normal":
        raise ValueError(f"Param: init {p.init!r} is none of normal, ones, zeros")
    if p.axes[:1] == ("layers",):
        one = replace(p, shape=p.shape[1:], axes=p.axes[1:])
        return [jnp.stack(_draw(one, [jax.random.fold_in(key, i) for i in range(p.shape[0])])) for key in keys]

    def normal(key):
        return (p.scale * jax.random.normal(key, p.shape, out_sharding=mesh.spec(p.axes))).astype(p.dtype)

    return list(jax.vmap(normal)(jnp.stack(keys)))
