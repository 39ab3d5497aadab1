"""The cache of keys and values that decoding reads, and attention over it. Its layout in memory is known here alone."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct

from aurljax import mesh
from aurljax.models.attention import HIDDEN, Mask, attention
from aurljax.models.int8 import Int8, pack
from aurljax.models.layers import contract

LINE = 16  # float32 numbers of a line of memory: products over ragged ones take twice as long
DTYPES = ("float32", "bfloat16", "int8")  # of what is kept; int8 has a float32 scale for each slot and head
Buffer = jax.Array | Int8


@struct.dataclass
class Cache:
    """Keys and values, one buffer a layer, K and V apart so that both can be donated.

    index: the next slot to write, common to all rows (0, and known while tracing, as long as nothing is written); row b's
    slots begin at start[b] (rows are padded on the left). window: slots a query sees, in which case slot i is kept at i
    modulo the length; 0: all. axes: the order of b(atch), h(eads), t(ime) and d (width) in memory; a single row or head
    has none, since an axis of size one makes XLA:CPU copy the whole cache at every step.
    """

    k: tuple[Buffer, ...]
    v: tuple[Buffer, ...]
    index: jax.Array | int
    start: jax.Array
    axes: str = struct.field(pytree_node=False)
    window: int = struct.field(pytree_node=False, default=0)

    @property
    def length(self) -> int:
        """Number of slots."""
        return jax.tree.leaves(self.k)[0].shape[self.axes.index("t")]


def enough(length: int, window: int) -> int:
    """How many slots serve pieces of `length` where queries see `window` of them (0: all): whole lines of a window."""
    return min(length, -(-window // LINE) * LINE) if window else length


def new_cache(layers: int, batch: int, length: int, heads: int, width: int, dtype, window: int = 0) -> Cache:
    """An empty cache for `heads` key heads, in the layout its reads are fastest in; of a window no more than it needs."""
    mesh.divide("batch (rows)", batch, "batch")
    mesh.divide("kv_heads", heads, "heads")
    size = {"b": batch, "h": heads, "t": enough(length, window), "d": width}
    axes = "".join(a for a in "bhtd" if a in "td" or size[a] > 1)

    def zeros(axes: str, dtype):
        return jnp.zeros([size[a] for a in axes], dtype, out_sharding=mesh.spec(_logical(axes)))

    def buffers():
        if jnp.dtype(dtype) == jnp.int8:
            return tuple(Int8(zeros(axes, "int8"), zeros(axes.replace("d", ""), "float32")) for _ in range(layers))
        return tuple(zeros(axes, dtype) for _ in range(layers))

    start = jnp.zeros(batch, jnp.int32, out_sharding=mesh.spec(("batch",)))
    return Cache(buffers(), buffers(), 0, start, axes, window)


def grow(cache: Cache, length: int) -> Cache:
    """The cache with room for `length` slots, if it needs them; before a window is full, its slots are where they will be.
    A loop that grows it in segments reads only what exists."""
    more, at = enough(length, cache.window) - cache.length, cache.axes.index("t")

    def wider(x):
        return jnp.pad(x, [(0, more if i == at else 0) for i in range(x.ndim)])

    return cache.replace(k=jax.tree.map(wider, cache.k), v=jax.tree.map(wider, cache.v)) if more else cache


def take(cache: Cache, rows: jax.Array) -> Cache:
    """The cache of these of its rows [N], N at least as many as it has; a row may be there several times."""
    axes = cache.axes if "b" in cache.axes or len(rows) == 1 else "b" + cache.axes

    def taken(x):
        own = axes if x.ndim == len(axes) else axes.replace("d", "")  # scales have no width
        if "b" not in cache.axes:
            return x if axes == cache.axes else mesh.gather(jnp.broadcast_to(x[None], (len(rows), *x.shape)), _logical(own))
        whole = mesh.gather(x, _logical(own.replace("b", "t")))  # rows may come from any device
        return mesh.gather(jnp.take(whole, rows, own.index("b")), _logical(own))

    k, v = jax.tree.map(taken, (cache.k, cache.v))
    start = mesh.gather(mesh.gather(cache.start, (None,))[rows], ("batch",))
    return cache.replace(k=k, v=v, start=start, axes=axes)


def cached_attention(q: jax.Array, k: jax.Array, v: jax.Array, cache: Cache, layer: int, backend: str, dtype: str):
    """Write k and v [B, KV, T, D] at the cache's index, let q [B, H, T, D] attend to all that is written.

    -> [B, H, T, D] and the layer's two buffers. More slots than the cache has: the caller grows it first.
    """
    before = cache.k[layer], cache.v[layer]
    after = tuple(_write(cache, x, new) for x, new in zip(before, (k, v), strict=True))
    if q.shape[2] == 1:
        return _one(q, cache, *after, dtype), *after
    if isinstance(cache.index, int):  # nothing is written yet
        return attention(q, k, v, Mask(start=cache.start, window=cache.window), backend, dtype), *after
    if cache.window:  # what was there, from the oldest slot on, and what is new
        first = cache.index - cache.length
        old = (_read(cache, _in_order(cache, x)) for x in before)
        whole = [jnp.concatenate(pair, 2) for pair in zip(old, (k, v), strict=True)]
        mask = Mask(start=cache.start - first, offset=jnp.int32(cache.length), window=cache.window)
    else:
        whole, mask = [_read(cache, x) for x in after], Mask(start=cache.start, offset=cache.index)
    return attention(q, *(x.astype(q.dtype) for x in whole), mask, backend, dtype), *after


def _one(q: jax.Array, cache: Cache, keys: Buffer, values: Buffer, dtype: str) -> jax.Array:
    """Attention of one query a row."""
    b, h, _, d = q.shape
    axes, rows = cache.axes, cache.axes[:-2]
    heads = jax.tree.leaves(keys)[0].shape[axes.index("h")] if "h" in axes else 1
    size = {"b": b, "h": heads, "g": h // heads, "d": d}
    one = jnp.reshape(q / math.sqrt(d), [size[a] for a in rows + "gd"], out_sharding=mesh.spec(_logical(rows + "gd")))
    scores = _product(f"{rows}gd,{axes}->{rows}gt", one, keys, dtype)
    age = cache.index - jnp.arange(cache.length)  # how long ago a slot was written
    if cache.window:
        age = age % cache.length
    seen = (age >= 0) & (cache.index - age >= cache.start[:, None])
    if cache.window:
        seen &= age < cache.window
    seen = jnp.expand_dims(seen, range(1, len(rows) + 1)) if "b" in rows else seen
    p = jax.nn.softmax(jnp.where(seen, scores, HIDDEN))
    out = _product(f"{rows}gt,{axes}->{rows}gd", p, values, dtype)
    return jnp.reshape(out, q.shape, out_sharding=mesh.spec(_logical("bhtd"))).astype(q.dtype)


def _product(subscripts: str, a: jax.Array, b: Buffer, dtype: str) -> jax.Array:
    """einsum of a with a buffer whose scales are those of its slots: they multiply what has slots, a or the result."""
    if not isinstance(b, Int8):
        return contract(subscripts, a, b, dtype)
    scale = jnp.expand_dims(b.scale, -2)
    if subscripts.endswith("t"):
        return contract(subscripts, a, b.values, dtype) * scale
    return contract(subscripts, a * scale, b.values, dtype)


def _logical(order: str) -> mesh.Axes:
    return tuple({"b": "batch", "h": "heads"}.get(a) for a in order)


def _write(cache: Cache, buffer: Buffer, new: jax.Array) -> Buffer:
    """The buffer with new [B, KV, T, D] from the cache's index on; of a window the last ones."""
    new = new.squeeze([i for i, a in enumerate("bh") if a not in cache.axes])
    new = pack(new, (-1,)) if isinstance(buffer, Int8) else new.astype(buffer.dtype)
    at, length, count = cache.axes.index("t"), cache.length, jax.tree.leaves(new)[0].shape[cache.axes.index("t")]

    def write(x, y):
        y = jax.sharding.reshard(y, jax.typeof(x).sharding.spec)
        if not cache.window:
            return jax.lax.dynamic_update_slice_in_dim(x, y, cache.index, at)
        if count == 1:
            return jax.lax.dynamic_update_slice_in_dim(x, y, cache.index % length, at)
        both = jnp.concatenate([_in_order(cache, x), y], at)
        last = jax.lax.slice_in_dim(both, count, count + length, axis=at)
        return jnp.roll(last, (cache.index + count) % length, at)

    return jax.tree.map(write, buffer, new)


def _in_order(cache: Cache, buffer: Buffer) -> Buffer:
    """Of a window: with the oldest slot, the one to be written next, first."""
    return jax.tree.map(lambda x: jnp.roll(x, -cache.index % cache.length, cache.axes.index("t")), buffer)


def _read(cache: Cache, buffer: Buffer) -> jax.Array:
    """[B, KV, T, D]."""
    x = buffer.values * buffer.scale[..., None] if isinstance(buffer, Int8) else buffer
    x = jnp.expand_dims(x, [i for i, a in enumerate("bh") if a not in cache.axes])
    return mesh.gather(x, _logical("bhtd"))
