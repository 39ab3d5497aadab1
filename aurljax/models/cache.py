"""The cache of keys and values that decoding reads, and attention over it. Its layout in memory is known here alone."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct

from aurljax import mesh
from aurljax.models.attention import HIDDEN, Mask, attention
from aurljax.models.layers import contract


@struct.dataclass
class Cache:
    """Keys and values of slots 0..length-1, one buffer a layer, K and V apart so that both can be donated.

    All rows write at the common `index`; row b's slots begin at start[b] (rows are padded on the left).
    axes: the order of b(atch), h(eads), t(ime) and d (width) in memory; a single row or head has none, since an axis of
    size one makes XLA:CPU copy the whole cache at every step.
    """

    k: tuple[jax.Array, ...]
    v: tuple[jax.Array, ...]
    index: jax.Array
    start: jax.Array
    axes: str = struct.field(pytree_node=False)

    @property
    def length(self) -> int:
        """Number of slots."""
        return self.k[0].shape[self.axes.index("t")]


def new_cache(layers: int, batch: int, length: int, heads: int, width: int, dtype) -> Cache:
    """An empty cache for `heads` key heads, in the layout its reads are fastest in."""
    mesh.divide("batch (rows)", batch, "batch")
    mesh.divide("kv_heads", heads, "heads")
    size = {"b": batch, "h": heads, "t": length, "d": width}
    axes = "".join(a for a in "bhtd" if a in "td" or size[a] > 1)

    def buffers():
        shape = tuple(size[a] for a in axes)
        return tuple(jnp.zeros(shape, dtype, out_sharding=mesh.spec(_logical(axes))) for _ in range(layers))

    start = jnp.zeros(batch, jnp.int32, out_sharding=mesh.spec(("batch",)))
    return Cache(buffers(), buffers(), jnp.int32(0), start, axes)


def grow(cache: Cache, length: int) -> Cache:
    """The cache with room for `length` slots. A loop that grows it in segments reads only what exists."""

    wider = [(0, length - cache.length if a == "t" else 0) for a in cache.axes]
    k, v = (tuple(jnp.pad(x, wider) for x in xs) for xs in (cache.k, cache.v))
    return cache.replace(k=k, v=v)


def cached_attention(q: jax.Array, k: jax.Array, v: jax.Array, cache: Cache, layer: int, backend: str, dtype: str):
    """Write k and v [B, KV, T, D] at the cache's index, let q [B, H, T, D] attend to all that is written.

    -> [B, H, T, D] and the layer's two buffers. More slots than the cache has: the caller grows it first.
    """
    keys = _write(cache.k[layer], k, cache.index, cache.axes)
    values = _write(cache.v[layer], v, cache.index, cache.axes)
    if q.shape[2] > 1:
        mask = Mask(start=cache.start, offset=cache.index)
        whole = (_read(x, cache.axes).astype(q.dtype) for x in (keys, values))
        return attention(q, *whole, mask, backend, dtype), keys, values
    b, h, _, d = q.shape
    rows = cache.axes[:-2]
    size = {"b": b, "h": k.shape[1], "g": h // k.shape[1], "d": d}
    one = jnp.reshape(q / math.sqrt(d), [size[a] for a in rows + "gd"], out_sharding=mesh.spec(_logical(rows + "gd")))
    scores = contract(f"{rows}gd,{cache.axes}->{rows}gt", one, keys, dtype)
    slot = jnp.arange(scores.shape[-1])
    seen = (slot <= cache.index) & (slot >= cache.start[:, None])
    seen = jnp.expand_dims(seen, range(1, len(rows) + 1)) if "b" in rows else seen
    p = jax.nn.softmax(jnp.where(seen, scores, HIDDEN))
    out = contract(f"{rows}gt,{cache.axes}->{rows}gd", p, values, dtype)
    return jnp.reshape(out, q.shape, out_sharding=mesh.spec(_logical("bhtd"))).astype(q.dtype), keys, values


def _logical(order: str) -> mesh.Axes:
    return tuple({"b": "batch", "h": "heads"}.get(a) for a in order)


def _write(buffer: jax.Array, new: jax.Array, index: jax.Array, axes: str) -> jax.Array:
    new = new.squeeze([i for i, a in enumerate("bh") if a not in axes]).astype(buffer.dtype)
    new = jax.sharding.reshard(new, jax.typeof(buffer).sharding.spec)
    return jax.lax.dynamic_update_slice_in_dim(buffer, new, index, axes.index("t"))


def _read(buffer: jax.Array, axes: str) -> jax.Array:
    """[B, KV, T, D]."""
    return jnp.expand_dims(buffer, [i for i, a in enumerate("bh") if a not in axes])
