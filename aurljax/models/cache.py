"""The cache of keys and values that decoding reads, and attention over it. Its layout in memory is known here alone."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct

from aurljax import mesh
from aurljax.models.attention import HIDDEN, Mask, attention
from aurljax.models.layers import contract, on_cpu


@struct.dataclass
class Cache:
    """Keys and values of slots 0..length-1, one buffer a layer, K and V apart so that both can be donated.

    All rows write at the common `index`; row b's slots begin at start[b] (rows are padded on the left).
    layout: the order of (batch, heads, time, width) in k and in v.
    """

    k: tuple[jax.Array, ...]
    v: tuple[jax.Array, ...]
    index: jax.Array
    start: jax.Array
    layout: tuple[str, str] = struct.field(pytree_node=False)

    @property
    def length(self) -> int:
        """Number of slots."""
        return self.k[0].shape[self.layout[0].index("t")]


def new_cache(layers: int, batch: int, length: int, heads: int, width: int, dtype) -> Cache:
    """An empty cache for `heads` key heads, in the layout its reads are fastest in (a CPU's; an accelerator's is bhtd)."""
    mesh.divide("batch (rows)", batch, "batch")
    layout = _layout(batch)
    size = {"b": batch, "h": heads, "t": length, "d": width}

    def buffers(order: str):
        shape = tuple(size[a] for a in order)
        return tuple(jnp.zeros(shape, dtype, out_sharding=mesh.spec(_axes(order))) for _ in range(layers))

    start = jnp.zeros(batch, jnp.int32, out_sharding=mesh.spec(("batch",)))
    return Cache(buffers(layout[0]), buffers(layout[1]), jnp.int32(0), start, layout)


def grow(cache: Cache, length: int) -> Cache:
    """The cache with room for `length` slots. A loop that grows it in segments reads only what exists."""

    def pad(x, order):
        return jnp.pad(x, [(0, length - cache.length if a == "t" else 0) for a in order])

    k, v = (tuple(pad(x, order) for x in xs) for xs, order in zip((cache.k, cache.v), cache.layout, strict=True))
    return cache.replace(k=k, v=v)


def cached_attention(q: jax.Array, k: jax.Array, v: jax.Array, cache: Cache, layer: int, backend: str, dtype: str):
    """Write k and v [B, KV, T, D] at the cache's index, let q [B, H, T, D] attend to all that is written.

    -> [B, H, T, D] and the layer's two buffers. More slots than the cache has: the caller grows it first.
    """
    keys = _write(cache.k[layer], k, cache.index, cache.layout[0])
    values = _write(cache.v[layer], v, cache.index, cache.layout[1])
    if q.shape[2] > 1:
        whole = (_ordered(x, order, "bhtd") for x, order in zip((keys, values), cache.layout, strict=True))
        mask = Mask(start=cache.start, offset=cache.index)
        return attention(q, *(x.astype(q.dtype) for x in whole), mask, backend, dtype), keys, values
    b, h, _, d = q.shape
    one = (q[:, :, 0] / math.sqrt(d)).reshape(b, k.shape[1], h // k.shape[1], d)
    scores = contract(f"bhgd,{cache.layout[0]}->bhgt", one, keys, dtype)
    slot = jnp.arange(scores.shape[-1])
    seen = (slot <= cache.index) & (slot >= cache.start[:, None])
    p = jax.nn.softmax(jnp.where(seen[:, None, None], scores, HIDDEN))
    out = contract(f"bhgt,{cache.layout[1]}->bhgd", p, values, dtype)
    return out.reshape(b, h, d)[:, :, None].astype(q.dtype), keys, values


def _layout(batch: int) -> tuple[str, str]:
    return ("bhtd", "bhtd") if not on_cpu() else ("bthd", "bthd") if batch == 1 else ("bhdt", "bhtd")


def _axes(order: str) -> mesh.Axes:
    return tuple({"b": "batch", "h": "heads"}.get(a) for a in order)


def _ordered(x: jax.Array, have: str, want: str) -> jax.Array:
    return x.transpose([have.index(a) for a in want])


def _write(buffer: jax.Array, new: jax.Array, index: jax.Array, order: str) -> jax.Array:
    new = jax.sharding.reshard(_ordered(new, "bhtd", order).astype(buffer.dtype), jax.typeof(buffer).sharding.spec)
    return jax.lax.dynamic_update_slice_in_dim(buffer, new, index, order.index("t"))
