"""Devices as a (replica, data, model) mesh, and the few words in which model code speaks of it.

Axes are explicit: an array's sharding is part of its type (`jax.typeof(x)`), so nothing is annotated and nothing is
guessed. Model code names logical axes; RULES alone knows what they are on the mesh. There is always a mesh, 1 x 1 on a
laptop. Parameters are cut along `data` and `model` and are whole in each replica, so that several slices or nodes on a
slow network exchange gradients alone; replicas of data = 1 are plain data parallelism.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from aurljax.errors import UserError

Axes = tuple[str | None, ...]

RULES: dict[str, str | tuple[str, ...] | None] = {
    "batch": ("replica", "data"),
    "embed": "data",  # how parameters are stored (fully sharded data parallel); gathered before they are used
    "heads": "model",
    "mlp": "model",
    "layers": None,
    "vocab": None,
}


def make(data: int = 1, model: int = 1, replica: int = 1) -> Mesh:
    """A mesh of replica x data x model devices; data=-1 takes all that remain. More than exist: UserError.

    A mesh of one replica has no such axis. Replicas are cut along slices (TPU) and processes, the slow links.
    """
    devices = jax.devices()
    if model < 1 or replica < 1 or (data < 1 and data != -1):
        raise UserError(f"mesh: data={data}, model={model}, replica={replica} must be positive (data may be -1: all "
                        "devices that remain)")  # fmt: skip
    if data == -1:
        data = max(1, len(devices) // (model * replica))
    shape = (data, model) if replica == 1 else (replica, data, model)
    if data * model * replica > len(devices):
        raise UserError(f"mesh: {' x '.join(map(str, shape))} needs {data * model * replica} devices and there are "
                        f"{len(devices)}; lower data or model")  # fmt: skip
    if replica == 1:
        return jax.make_mesh(shape, ("data", "model"), devices=devices[: data * model])
    return _replicas(devices, shape)


def _replicas(devices: list, shape: tuple[int, int, int]) -> Mesh:
    near = sorted(devices, key=lambda d: (getattr(d, "slice_index", 0) or 0, d.process_index, d.id))
    size = shape[1] * shape[2]
    groups = [near[i * size : (i + 1) * size] for i in range(shape[0])]
    whole = np.stack([jax.make_mesh(shape[1:], ("data", "model"), devices=group).devices for group in groups])
    return Mesh(whole, ("replica", "data", "model"), axis_types=(AxisType.Explicit,) * 3)


def use(mesh: Mesh) -> AbstractContextManager:
    """Enter the mesh: `with mesh.use(m): ...`; the previous one is restored on leaving."""
    return jax.set_mesh(mesh)


def current() -> jax.sharding.AbstractMesh:
    """The mesh in force, also while tracing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        raise RuntimeError("no mesh in force: enter one with `with aurljax.mesh.use(aurljax.mesh.make()):`")
    return mesh


def on(axis: str | None) -> str | tuple[str, ...] | None:
    """What a logical axis is on the mesh in force: a name, several, or nothing."""
    names = None if axis is None else RULES[axis]
    if not isinstance(names, tuple):
        return names
    there = tuple(name for name in names if name in current().axis_names)
    return there[0] if len(there) == 1 else there


def spec(axes: Axes) -> PartitionSpec:
    """Logical axes -> PartitionSpec, by RULES."""
    return PartitionSpec(*map(on, axes))


def sharding(axes: Axes) -> NamedSharding:
    """Logical axes -> sharding on the devices of the mesh in force (outside jit)."""
    return NamedSharding(jax.sharding.get_mesh(), spec(axes))


def concrete(tree):
    """What `jax.eval_shape` gives, with the devices of the mesh in force: a target to restore onto."""
    devices = jax.sharding.get_mesh()

    def put(x):
        where = PartitionSpec() if x.sharding is None else x.sharding.spec
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(devices, where))

    return jax.tree.map(put, tree)


def ways(axis: str | None) -> int:
    """Into how many parts the mesh in force cuts a logical axis."""
    names = on(axis)
    shape = current().shape
    return 1 if names is None else math.prod(shape[n] for n in ((names,) if isinstance(names, str) else names))


def divide(name: str, size: int, axis: str | None) -> None:
    """Refuse a size that the mesh would cut unevenly, naming the nearest that works."""
    n = ways(axis)
    if size % n:
        near = max(n, round(size / n) * n)
        raise UserError(
            f"{name} = {size} cannot be cut into {n} equal parts along the mesh axis {on(axis)!r}; "
            f"the nearest that works is {near}"
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
