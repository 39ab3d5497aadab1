"""The transformer's body: blocks of grouped-query attention and gated MLP on a residual stream.

Layers are scanned over stacked weights (short programs, for accelerators) or unrolled over separate ones (1.2x faster on
a CPU); `params.stack` and `unstack` go between the two.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from aurljax import params as weights
from aurljax.errors import UserError
from aurljax.models.attention import BACKENDS, Mask, attention
from aurljax.models.cache import Cache, cached_attention, new_cache
from aurljax.models.heads import Turns, back, join, rotary, rotary_pitch, rotate, split_heads, still
from aurljax.models.int8 import pack
from aurljax.models.layers import DTYPES, carrier, dropout, gated, linear, norm
from aurljax.params import Param, Tree

STREAM = ("batch", None, None)
BASES = 2  # how many of the pitches to reckon from turn queries: the first ones
HALF, WIDEST = 12, 256  # steps of 24 a quarter: pairs that time turns have periods of half a quarter to 128 quarters
Pitches = tuple[jax.Array, jax.Array]  # [B, T, 1] of the ids and [B, T, F] to reckon the next ones from; -1: none


@dataclass(frozen=True, kw_only=True)
class BodyConfig:
    """Sizes and ways of computing. dtype: of matrix operands; parameters are float32. attention: a backend or "auto".
    window: slots that a query sees, its own and those before it (0: all); then pieces may be generated of any length.
    rope_period, rope_theta: pairs are turned with periods from `rope_period` slots to so many times `rope_theta`.
    rotary_time: share of each head's pairs that musical time turns, not positions, where the codec tells it.
    rotary_pitch: share of each head's pairs that pitches turn, not positions; rotary_values: values too, and back where
    they are read, so that a head can tell how often each interval was heard. layer_dropout: share of the blocks' outputs
    left out, by row, the last block's; of the first ones less (Huang et al. 2016)."""

    d_model: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    d_ff: int = 688
    dtype: str = "float32"
    scan: bool = False
    remat: bool = False
    attention: str = "auto"
    window: int = 0
    dropout: float = 0.0
    rope_theta: float = 10_000.0
    rope_period: float = 2 * math.pi
    rotary_time: float = 0.0
    rotary_pitch: float = 0.0
    rotary_values: bool = False
    layer_dropout: float = 0.0

    def __post_init__(self):
        for field in ("d_model", "layers", "heads", "kv_heads", "d_ff"):
            _require(getattr(self, field) >= 1, f"{field} = {getattr(self, field)}: must be at least 1")
        _require(
            self.heads % self.kv_heads == 0,
            f"kv_heads = {self.kv_heads}: must divide heads = {self.heads}, so that each serves as many queries",
        )
        _require(
            self.d_model % (2 * self.heads) == 0,
            f"d_model = {self.d_model}: must be a multiple of 2 x heads = {2 * self.heads} (rotary pairs); "
            f"the nearest is {max(1, round(self.d_model / (2 * self.heads))) * 2 * self.heads}",
        )
        _require(self.dtype in DTYPES, f"dtype = {self.dtype!r}: choose one of {', '.join(DTYPES)}")
        known = ("auto", *BACKENDS)
        _require(self.attention in known, f"attention = {self.attention!r}: choose one of {', '.join(known)}")
        for field in ("dropout", "layer_dropout", "rotary_pitch", "rotary_time"):
            value = getattr(self, field)
            _require(0 <= value < 1, f"{field} = {value}: must be at least 0 and below 1")
        _require(self.window == 0 or self.window > 1, f"window = {self.window}: must be at least 2 slots, or 0 for all")
        _require(self.rope_theta > 1, f"rope_theta = {self.rope_theta}: must be above 1")
        _require(bool(self.rotary_pitch) or not self.rotary_values, "rotary_values: set rotary_pitch too, such as 0.5")
        shared = self.rotary_time + self.rotary_pitch
        _require(shared < 1, f"rotary_time + rotary_pitch = {shared:g}: must be below 1, some pairs are left to positions")
        _require(self.rope_period >= 2, f"rope_period = {self.rope_period}: must be at least 2 slots")

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.d_model // self.heads

    @property
    def pitch_pairs(self) -> int:
        """How many pairs of each head pitches turn; at least one is left to positions."""
        return min(round(self.rotary_pitch * (self.head_width // 2)), self.head_width // 2 - 1)

    @property
    def time_pairs(self) -> int:
        """How many pairs of each head time turns; at least one is left to positions."""
        return min(round(self.rotary_time * (self.head_width // 2)), self.head_width // 2 - 1 - self.pitch_pairs)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise UserError(f"model config: {sentence}")


def spec(c: BodyConfig) -> Tree:
    """Declare the body's weights. qkv holds, for each key head, its query heads, the key and the value."""
    d, w, group = c.d_model, c.head_width, c.heads // c.kv_heads
    small = (2 * c.layers) ** -0.5  # each block adds 1 / (2 layers) of the variance
    layer = {
        "attention": {
            "norm": Param((d,), (None,), "ones"),
            "qkv": Param((d, c.kv_heads, group + 2, w), ("embed", "heads", None, None), scale=d**-0.5),
            "out": Param((c.heads, w, d), ("heads", None, "embed"), scale=small * d**-0.5),
        },
        "mlp": {
            "norm": Param((d,), (None,), "ones"),
            "up": Param((d, 2, c.d_ff), ("embed", None, "mlp"), scale=d**-0.5),
            "down": Param((c.d_ff, d), ("mlp", "embed"), scale=small * c.d_ff**-0.5),
        },
    }
    layers = weights.stacked(layer, c.layers) if c.scan else {str(i): layer for i in range(c.layers)}
    return {"layers": layers, "norm": Param((d,), (None,), "ones")}


def body(
    c: BodyConfig,
    params: Tree,
    h: jax.Array,
    positions: jax.Array | None,
    mask: Mask,
    cache: Cache | None = None,
    key: jax.Array | None = None,
    pitches: Pitches | None = None,
    times: jax.Array | None = None,
) -> tuple[jax.Array, Cache | None]:
    """Embeddings h [B, T, d] -> normed outputs [B, T, d] and the cache with T more slots.

    With a cache, positions and mask follow from its index and start. A key turns dropout on. `pitches` are read if
    `rotary_pitch` is set: keys are turned by those of the ids, queries by those to reckon from. `times` [B, T], in steps
    of 24 a quarter, are read if `rotary_time` is.
    """
    if cache is not None:
        positions = cache.index + jnp.arange(h.shape[1]) - cache.start[:, None]
    turns = _turns(c, positions, pitches, times)
    h = h.astype(carrier(c.dtype))

    def block(h, w, number):
        keys = [None] * 2 if key is None else jax.random.split(jax.random.fold_in(key, number))
        q, k, v = _heads(c, w["attention"], h, turns)
        seen = attention(q, k, v, mask, c.attention, c.dtype)
        return _mlp(c, w["mlp"], _join(c, w["attention"], h, seen, turns, keys[0], number), keys[1], number)

    if cache is not None:
        h, cache = _with_cache(c, params["layers"], h, turns, cache)
    elif c.scan:
        step = jax.checkpoint(block, prevent_cse=False) if c.remat else block
        h, _ = jax.lax.scan(lambda h, x: (step(h, *x), None), h, (params["layers"], jnp.arange(c.layers)))
    else:
        step = jax.checkpoint(block) if c.remat else block
        for i in range(c.layers):
            h = step(h, params["layers"][str(i)], i)
    return norm(h, params["norm"]), cache


def _turns(c: BodyConfig, positions: jax.Array, pitches: Pitches | None, times: jax.Array | None) -> Turns:
    n, of_time = c.pitch_pairs, c.time_pairs
    of_slot = rotary(positions, c.head_width - 2 * (n + of_time), c.rope_theta, c.rope_period)
    if of_time:
        of_slot = join(of_slot, rotary(times, 2 * of_time, WIDEST, HALF))
    if not n:
        return Turns(of_slot, of_slot)
    keys, queries = pitches[0], pitches[1][..., :BASES]
    keys = jnp.concatenate([keys] * queries.shape[-1], -1)  # so that a pair has one period in both
    q, k = rotary_pitch(queries, n), rotary_pitch(keys, n)
    values = (join(still(of_slot), k), join(still(of_slot), back(q))) if c.rotary_values else (None, None)
    return Turns(join(of_slot, q), join(of_slot, k), *values)


def _with_cache(c: BodyConfig, layers: Tree, h: jax.Array, turns: Turns, cache: Cache) -> tuple[jax.Array, Cache]:
    ks, vs = [], []
    layers = weights.unstack(layers) if c.scan else layers
    for i in range(c.layers):
        w = layers[str(i)]
        q, k, v = _heads(c, w["attention"], h, turns)
        seen, k, v = cached_attention(q, k, v, cache, i, c.attention, c.dtype)
        h = _mlp(c, w["mlp"], _join(c, w["attention"], h, seen, turns))
        ks.append(k)
        vs.append(v)
    return h, cache.replace(k=tuple(ks), v=tuple(vs), index=jnp.int32(cache.index + h.shape[1]))


def _heads(c: BodyConfig, w: Tree, h: jax.Array, turns: Turns) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries [B, H, T, D], keys and values [B, KV, T, D]."""
    return split_heads(linear(norm(h, w["norm"]), w["qkv"], ("batch", None, "heads", None, None), c.dtype), turns)


def _join(c: BodyConfig, w: Tree, h: jax.Array, seen: jax.Array, turns: Turns, key=None, number=0) -> jax.Array:
    seen = seen.swapaxes(1, 2)
    seen = seen if turns.out is None else rotate(seen, turns.out)
    return _add(c, h, linear(seen, w["out"], STREAM, c.dtype), key, number)


def _mlp(c: BodyConfig, w: Tree, h: jax.Array, key=None, number=0) -> jax.Array:
    x = gated(linear(norm(h, w["norm"]), w["up"], ("batch", None, None, "mlp"), c.dtype))
    return _add(c, h, linear(x, w["down"], STREAM, c.dtype), key, number)


def _add(c: BodyConfig, h: jax.Array, x: jax.Array, key, number) -> jax.Array:
    """h and what a layer says, x, with dropout."""
    x = dropout(x, c.dropout, key)
    if key is not None and c.layer_dropout:
        x = dropout(x, c.layer_dropout * (number + 1) / c.layers, jax.random.fold_in(key, 1), axes=1)
    return h + x


def init_cache(c: BodyConfig, batch: int, length: int, dtype=None) -> Cache:
    """An empty cache for pieces of `length` slots."""
    return new_cache(c.layers, batch, length, c.kv_heads, c.head_width, dtype or carrier(c.dtype), c.window)


def packed(params: Tree) -> Tree:
    """Separate layers with their matrices as int8, a scale for each output."""
    inputs = {"qkv": (0,), "out": (0, 1), "up": (0,), "down": (0,)}

    def pack_matrices(tree: Tree) -> Tree:
        return {k: pack(w, inputs[k]) if k in inputs else pack_matrices(w) if isinstance(w, dict) else w
                for k, w in tree.items()}  # fmt: skip

    return {**params, "layers": pack_matrices(params["layers"])}


def unrolled(c: BodyConfig, params: Tree) -> tuple[BodyConfig, Tree]:
    """The same model with separate layers: what decoding wants of one trained with `scan`."""
    if not c.scan:
        return c, params
    return dataclasses.replace(c, scan=False), {**params, "layers": weights.unstack(params["layers"])}
