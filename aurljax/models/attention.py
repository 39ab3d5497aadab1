"""Attention: one function, a description of what may be seen, and backends that must agree.

q is [B, H, T, D], k and v are [B, KV, S, D] with H a multiple of KV (grouped queries, Ainslie et al. 2023): query head h
reads key head h // (H / KV).
"""

from __future__ import annotations

import functools
import math
import operator
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from aurljax.models.heads import grouped
from aurljax.models.layers import contract, moved, on_cpu

HIDDEN = -1e30  # finite: a row that sees nothing (padding) gives a mean, not NaN
BLOCK, MOST = 64, 8  # slots of a block, blocks of a row (then blocks grow): more would take long to compile


@struct.dataclass
class Mask:
    """Which slots a query may see. Never a [T, S] matrix: backends ask for the block they need.

    causal: only slots up to its own. segments [B, T]: only its own segment (T = S). start [B]: only slots from there on.
    offset: the slot of the first query (None: 0). window: of the slots before its own, only the last window - 1 (0: all).
    """

    causal: bool = struct.field(pytree_node=False, default=True)
    segments: jax.Array | None = None
    start: jax.Array | None = None
    offset: jax.Array | None = None
    window: int = struct.field(pytree_node=False, default=0)

    def reach(self, first: int, stop: int, slots: int) -> tuple[int, int]:
        """From which slot to before which the queries first..stop-1 can see; known while tracing."""
        if self.offset is not None:
            return 0, slots
        return max(0, first - self.window + 1) if self.window else 0, min(stop, slots) if self.causal else slots

    def block(self, scores: jax.Array, row: int = 0, column: int = 0) -> jax.Array:
        """Hide what may not be seen in scores [B, KV, G, q, s] of the queries from `row` and the slots from `column`."""
        rows, slots = scores.shape[-2:]
        slot = jax.lax.broadcasted_iota(jnp.int32, (rows, slots), 1) + column
        query = jax.lax.broadcasted_iota(jnp.int32, (rows, slots), 0) + row
        query = query if self.offset is None else query + self.offset
        parts = []
        if self.causal and (self.offset is not None or column + slots > row + 1):
            parts.append((slot <= query)[None])
        if self.window and (self.offset is not None or column < row + rows - self.window):
            parts.append((slot > query - self.window)[None])
        if self.segments is not None:
            own, others = self.segments[:, row : row + rows], self.segments[:, column : column + slots]
            parts.append(own[:, :, None] == others[:, None, :])
        if self.start is not None:
            parts.append(slot[None] >= self.start[:, None, None])
        if not parts:
            return scores
        return jnp.where(functools.reduce(operator.and_, parts)[:, None, None], scores, HIDDEN)


def attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, backend: str = "auto", dtype: str = "float32"):
    """softmax(q k / sqrt(D)) v over what `mask` shows -> [B, H, T, D] in q's type; products with operands in `dtype`."""
    if backend == "auto":
        backend = "blocks" if on_cpu() else "xla"
    return BACKENDS[backend](grouped(q, k), k, v, mask, dtype).reshape(q.shape).astype(q.dtype)


def _xla(q, k, v, mask: Mask, dtype: str):
    """The reference: as the formula is written."""
    scores = contract("bhgqd,bhkd->bhgqk", q / math.sqrt(q.shape[-1]), k, dtype)
    return contract("bhgqk,bhkd->bhgqd", jax.nn.softmax(mask.block(scores)), v, dtype)


def _blocks(q, k, v, mask: Mask, dtype: str):
    """By blocks of queries and slots, nothing of size T x S kept: the backward pass builds the probabilities again
    (Dao et al. 2022). Unrolled, so that blocks nothing is seen of are left out and a block stays in a core's cache."""

    dot = partial(contract, dtype=dtype)
    size = BLOCK * -(-k.shape[2] // (MOST * BLOCK))

    def cut(x, axis):
        return [
            jax.lax.slice_in_dim(x, i, min(i + size, x.shape[axis]), axis=axis) for i in range(0, x.shape[axis], size)
        ]

    def scores(qi, kj, i, j, mask):
        return mask.block(dot("bhgqd,bhkd->bhgqk", qi, kj), i * size, j * size)

    def reach(qs, ks, i, mask):
        first, stop = mask.reach(i * size, i * size + qs[i].shape[3], sum(x.shape[2] for x in ks))
        return range(first // size, -(-stop // size))

    def forward(q, k, v, mask):
        qs, ks, vs = cut(q / math.sqrt(q.shape[-1]), 3), cut(k, 2), cut(v, 2)
        outs, logs = [], []
        for i, qi in enumerate(qs):
            seen = reach(qs, ks, i, mask)
            s = [scores(qi, ks[j], i, j, mask) for j in seen]
            top = functools.reduce(jnp.maximum, (x.max(-1, keepdims=True) for x in s))
            p = [jnp.exp(x - top) for x in s]
            total = sum(x.sum(-1, keepdims=True) for x in p)
            outs.append(sum(dot("bhgqk,bhkd->bhgqd", x, vs[j]) for x, j in zip(p, seen, strict=True)) / total)
            logs.append(top + jnp.log(total))
        return jnp.concatenate(outs, 3), (qs, ks, vs, mask, outs, logs)

    def backward(saved, g):
        qs, ks, vs, mask, outs, logs = saved
        dq, dk, dv = ([jnp.zeros_like(x) for x in xs] for xs in (qs, ks, vs))
        for i, (qi, gi) in enumerate(zip(qs, cut(g, 3), strict=True)):
            mean = (gi * outs[i]).sum(-1, keepdims=True)
            for j in reach(qs, ks, i, mask):
                p = jnp.exp(scores(qi, ks[j], i, j, mask) - logs[i])
                ds = p * (dot("bhgqd,bhkd->bhgqk", gi, vs[j]) - mean)
                dq[i] += dot("bhgqk,bhkd->bhgqd", ds, ks[j]).astype(q.dtype)
                order = "bhgqk"
                if on_cpu() and dtype == "bfloat16":
                    order, p, ds = "bhkgq", *(moved(z.astype(dtype), (0, 1, 4, 2, 3)) for z in (p, ds))
                dv[j] += dot(f"{order},bhgqd->bhkd", p, gi).astype(v.dtype)
                dk[j] += dot(f"{order},bhgqd->bhkd", ds, qi).astype(k.dtype)
        return jnp.concatenate(dq, 3) / math.sqrt(q.shape[-1]), jnp.concatenate(dk, 2), jnp.concatenate(dv, 2), None

    @jax.custom_vjp
    def attend(q, k, v, mask):
        return forward(q, k, v, mask)[0]

    attend.defvjp(forward, backward)
    return attend(q, k, v, mask)


def _splash(q, k, v, mask: Mask, dtype: str):
    """By the TPU's kernel; rows beside a cache are short or left-padded, and not its business."""
    from aurljax.models import splash  # here: pallas takes its time to import

    if mask.start is not None or mask.offset is not None or q.shape[3] != k.shape[2]:
        return _xla(q, k, v, mask, dtype)
    return splash.attend(q, k, v, mask, dtype)


BACKENDS = {"xla": _xla, "blocks": _blocks, "splash": _splash}
