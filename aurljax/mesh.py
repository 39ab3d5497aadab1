"""Devices as a (data, model) mesh, and the few words in which model code speaks of it.

Axes are explicit: an array's sharding is part of its type (`jax.typeof(x)`), so nothing is annotated and nothing is
guessed. Model code names logical axes; RULES alone knows what they are on the mesh. There is always a mesh, 1 x 1 on a
laptop.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aurljax.errors import UserError

Axes = tuple[str | None, ...]

RULES: dict[str, str | None] = {
    "batch": "data",
    "embed": "data",  # how parameters are stored (fully sharded data parallel); gathered before they are used
    "heads": "model",
    "mlp": "model",
    "layers": None,
    "vocab": None,
}


def make(data: int = 1, model: int = 1) -> Mesh:
    """A mesh of data x model devices; data=-1 takes all that remain. More than exist: UserError."""
    devices = jax.devices()
    if model < 1 or (data < 1 and data != -1):
        raise UserError(f"mesh: data={data}, model={model} must be positive (data may be -1: all devices that remain)")
    if data == -1:
        data = max(1, len(devices) // model)
    if data * model > len(devices):
        raise UserError(
            f"mesh: {data} x {model} needs {data * model} devices and there are {len(devices)}; lower data or model"
        )
    return jax.make_mesh((data, model), ("data", "model"), devices=devices[: data * model])


def use(mesh: Mesh) -> AbstractContextManager:
    """Enter the mesh: `with mesh.use(m): ...`; the previous one is restored on leaving."""
    return jax.set_mesh(mesh)


def current() -> jax.sharding.AbstractMesh:
    """The mesh in force, also while tracing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        raise RuntimeError("no mesh in force: enter one with `with aurljax.mesh.use(aurljax.mesh.make()):`")
    return mesh


def spec(axes: Axes) -> PartitionSpec:
    """Logical axes -> PartitionSpec, by RULES."""
    return PartitionSpec(*(None if a is None else RULES[a] for a in axes))


def sharding(axes: Axes) -> NamedSharding:
    """Logical axes -> sharding on the devices of the mesh in force (outside jit)."""
    return NamedSharding(jax.sharding.get_mesh(), spec(axes))


def concrete(tree):
    """What `jax.eval_shape` gives, with the devices of the mesh in force: a target to restore onto."""
    devices = jax.sharding.get_mesh()

    def put(x):
        on = PartitionSpec() if x.sharding is None else x.sharding.spec
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(devices, on))

    return jax.tree.map(put, tree)


def ways(axis: str | None) -> int:
    """Into how many parts the mesh in force cuts a logical axis."""
    name = None if axis is None else RULES[axis]
    return 1 if name is None else current().shape[name]


def divide(name: str, size: int, axis: str | None) -> None:
    """Refuse a size that the mesh would cut unevenly, naming the nearest that works."""
    n = ways(axis)
    if size % n:
        near = max(n, round(size / n) * n)
        raise UserError(
            f"{name} = {size} cannot be cut into {n} equal parts along the mesh axis "
            f"'{RULES[axis]}'; the nearest that works is {near}"
        )


# ---- the words of model code ----------------------------------------------------------------------------------------


def gather(w: jax.Array, axes: Axes) -> jax.Array:
    """All-gather a stored parameter into `axes`; its gradient is scattered back the same way."""
    return jax.sharding.reshard(w, spec(axes))


def einsum(subscripts: str, a: jax.Array, b: jax.Array, axes: Axes | PartitionSpec | None = None) -> jax.Array:
    """Contract a with b into float32 laid out as `axes`; a sum over a sharded axis is an all-reduce and needs `axes`."""
    out = axes if axes is None or isinstance(axes, PartitionSpec) else spec(axes)
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32, out_sharding=out)


def take(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows table[ids]: [V, d], [B, T] -> [B, T, d], NaN where an id is outside. The table is gathered first."""
    whole = gather(table, (None, None))
    return whole.at[ids].get(mode="fill", out_sharding=PartitionSpec(*jax.typeof(ids).sharding.spec, None))


def place(batch):
    """Host arrays with this host's rows first -> global arrays with rows along `data`; uneven rows: UserError."""

    def put(x):
        x = np.asarray(x)
        divide("batch (rows)", x.shape[0] * jax.process_count(), "batch")
        return jax.make_array_from_process_local_data(sharding(("batch",)), x)

    return jax.tree.map(put, batch)
