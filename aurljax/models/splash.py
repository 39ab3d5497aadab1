"""Attention by JAX's TPU kernel "splash": nothing of size T x S is kept, and blocks that nothing is seen of are skipped."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as kernels
from jax.sharding import PartitionSpec

from aurljax.errors import UserError
from aurljax.models.layers import DTYPES

LANES = 128  # what the kernel's blocks are multiples of
BLOCKS = (512, 256, 128)  # slots of a block: the largest that divides the row


def refuse(slots: int, platform: str) -> str | None:
    """Why rows of so many slots cannot be attended to on a platform; None: they can."""
    if platform != "tpu":
        return f"attention = 'splash' is a kernel of TPUs and this is a {platform}; choose auto"
    if slots % LANES:
        near = max(LANES, round(slots / LANES) * LANES)
        return f"attention = 'splash' wants rows of a multiple of {LANES} ids, not {slots}; the nearest is {near}"
    return None


def attend(q, k, v, mask, dtype: str, interpret: bool = False) -> jax.Array:
    """q [B, KV, G, T, D], k and v [B, KV, S, D] -> [B, KV, G, T, D] float32, of whole rows: T = S, no cache.

    mask: causal or not, by segments or not, of a window or not. interpret: on any platform, slowly. UserError: `refuse`.
    """
    if why := refuse(q.shape[3], "tpu" if interpret else jax.default_backend()):
        raise UserError(why)
    segments = mask.segments
    rows = jax.typeof(k).sharding.spec
    by_head, by_row = PartitionSpec(rows[0], rows[1]), PartitionSpec(rows[0])
    run = partial(local, causal=mask.causal, window=mask.window, interpret=interpret)
    operands = [x.astype(DTYPES[dtype]) for x in (q / math.sqrt(q.shape[-1]), k, v)]
    ids = [] if segments is None else [segments]
    return jax.shard_map(
        run, in_specs=(by_head,) * 3 + (by_row,) * len(ids), out_specs=by_head, check_vma=False
    )(*operands, *ids).astype(jnp.float32)  # fmt: skip


def local(q, k, v, segments=None, *, causal: bool, window: int = 0, interpret: bool):
    """The same on the rows and heads of one device; segments [B, T] or None."""
    group, slots = q.shape[2:4]
    mask = (kernels.CausalMask if causal else kernels.FullMask)((slots, slots))
    if window:
        mask = kernels.LocalMask(mask.shape, (window - 1, 0 if causal else None), offset=0)
    size = next(b for b in BLOCKS if slots % b == 0)
    blocks = kernels.BlockSizes(
        block_q=size, block_kv=size, block_kv_compute=size, block_q_dkv=size, block_kv_dkv=size,
        block_kv_dkv_compute=size, block_q_dq=size, block_kv_dq=size,
    )  # fmt: skip
    kernel = kernels.make_splash_mqa_single_device(
        kernels.MultiHeadMask([mask] * group), block_sizes=blocks, interpret=interpret
    )
    if segments is None:
        return jax.vmap(jax.vmap(kernel))(q, k, v)
    of_row = jax.vmap(lambda q, k, v, s: kernel(q, k, v, segment_ids=kernels.SegmentIds(s, s)), (0, 0, 0, None))
    return jax.vmap(of_row)(q, k, v, segments)
