"""Attention: one function, a description of what may be seen, and backends that must agree.

q is [B, H, T, D], k and v are [B, KV, S, D] with H a multiple of KV (grouped queries, Ainslie et al. 2023): query head h
reads key head h // (H / KV).
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from aurljax.models.layers import contract, moved, on_cpu

HIDDEN = -1e30  # finite: a row that sees nothing (padding) gives a mean, not NaN
CHUNK = 128


@struct.dataclass
class Mask:
    """Which slots a query may see. Never a [T, S] matrix: backends ask for the block they need.

    causal: only slots up to its own. segments [B, T]: only its own segment (T = S). start [B]: only slots from there on.
    offset: the slot of the first query (None: 0).
    """

    causal: bool = struct.field(pytree_node=False, default=True)
    segments: jax.Array | None = None
    start: jax.Array | None = None
    offset: jax.Array | None = None

    def end(self, stop: int, slots: int) -> int:
        """How many slots queries before `stop` can need; known while tracing."""
        return min(stop, slots) if self.causal and self.offset is None else slots

    def block(self, scores: jax.Array, first: int) -> jax.Array:
        """Hide what queries first.. may not see in scores [B, KV, G, q, s] (slots 0..s-1)."""
        rows, slots = scores.shape[-2:]
        seen = None

        def both(a, b):
            return b if a is None else a & b

        slot = jax.lax.broadcasted_iota(jnp.int32, (rows, slots), 1)
        if self.causal:
            query = jax.lax.broadcasted_iota(jnp.int32, (rows, slots), 0) + first
            query = query if self.offset is None else query + self.offset
            seen = (slot <= query)[None]
        if self.segments is not None:
            seen = both(seen, self.segments[:, first : first + rows, None] == self.segments[:, None, :slots])
        if self.start is not None:
            seen = both(seen, slot[None] >= self.start[:, None, None])
        return scores if seen is None else jnp.where(seen[:, None, None], scores, HIDDEN)


def attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, backend: str = "auto", dtype: str = "float32"):
    """softmax(q k / sqrt(D)) v over what `mask` shows -> [B, H, T, D] in q's type; products with operands in `dtype`."""
    if backend == "auto":
        backend = "chunked" if on_cpu() else "xla"
    b, h, t, d = q.shape
    kv = k.shape[1]
    out = BACKENDS[backend](q.reshape(b, kv, h // kv, t, d), k, v, mask, dtype)
    return out.reshape(b, h, t, d).astype(q.dtype)


def _xla(q, k, v, mask: Mask, dtype: str):
    """The reference: as the formula is written."""
    scores = contract("bhgqd,bhkd->bhgqk", q / math.sqrt(q.shape[-1]), k, dtype)
    return contract("bhgqk,bhkd->bhgqd", jax.nn.softmax(mask.block(scores, 0)), v, dtype)


def _chunked(q, k, v, mask: Mask, dtype: str):
    """By chunks of queries, nothing of size T x S kept: the backward pass builds the probabilities again
    (Dao et al. 2022), transposed by a move in memory where a product would contract two leading axes."""

    dot = partial(contract, dtype=dtype)

    def scores(q, k, mask, first):
        return mask.block(dot("bhgqd,bhkd->bhgqk", q, k), first)

    def forward(q, k, v, mask):
        outs, logs = [], []
        q = q / math.sqrt(q.shape[-1])
        for first in range(0, q.shape[3], CHUNK):
            qi = q[:, :, :, first : first + CHUNK]
            end = mask.end(first + qi.shape[3], k.shape[2])
            s = scores(qi, k[:, :, :end], mask, first)
            top = s.max(-1, keepdims=True)
            p = jnp.exp(s - top)
            total = p.sum(-1, keepdims=True)
            outs.append(dot("bhgqk,bhkd->bhgqd", p, v[:, :, :end]) / total)
            logs.append(top + jnp.log(total))
        out = jnp.concatenate(outs, 3)
        return out, (q, k, v, mask, out, jnp.concatenate(logs, 3))

    def backward(saved, g):
        q, k, v, mask, out, log = saved
        mean = (g * out).sum(-1, keepdims=True)
        dq, dk, dv = [], jnp.zeros_like(k), jnp.zeros_like(v)
        for first in range(0, q.shape[3], CHUNK):
            part = (slice(None),) * 3 + (slice(first, first + CHUNK),)
            qi, gi = q[part], g[part]
            end = mask.end(first + qi.shape[3], k.shape[2])
            ki, vi = k[:, :, :end], v[:, :, :end]
            p = jnp.exp(scores(qi, ki, mask, first) - log[part])
            ds = p * (dot("bhgqd,bhkd->bhgqk", gi, vi) - mean[part])
            dq.append(dot("bhgqk,bhkd->bhgqd", ds, ki) / math.sqrt(q.shape[-1]))
            order = "bhgqk"
            if on_cpu() and dtype == "bfloat16":
                order, p, ds = "bhkgq", *(moved(z.astype(dtype), (0, 1, 4, 2, 3)) for z in (p, ds))
            dv = dv.at[:, :, :end].add(dot(f"{order},bhgqd->bhkd", p, gi).astype(v.dtype))
            dk = dk.at[:, :, :end].add(dot(f"{order},bhgqd->bhkd", ds, qi).astype(k.dtype))
        return jnp.concatenate(dq, 3).astype(q.dtype), dk, dv, None

    @jax.custom_vjp
    def attend(q, k, v, mask):
        return forward(q, k, v, mask)[0]

    attend.defvjp(forward, backward)
    return attend(q, k, v, mask)


BACKENDS = {"xla": _xla, "chunked": _chunked}
