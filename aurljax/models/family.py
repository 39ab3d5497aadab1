"""The only abstraction over models: what training, decoding and evaluation may ask of any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

Tree = Any
WEIGHTS = ("float32", "int8")  # types that `prepare` may lay matrices out in


class Inputs(NamedTuple):
    """What a model reads: ids [B, T], their positions [B, T], per-token features name -> [B, T], and segments [B, T]
    (None: one piece a row)."""

    tokens: jax.Array
    positions: jax.Array | None
    features: dict[str, jax.Array]
    segments: jax.Array | None = None


class Aux(NamedTuple):
    """What a loss reports. metrics: sums ("loss", "weight", ...), added over microbatches before any division;
    stats: sums over examples for `update`."""

    metrics: dict[str, jax.Array]
    stats: Tree = ()


@dataclass(frozen=True)
class Family:
    """A kind of model as pure functions of (config, params, ...); it does not sample.

    spec(config) -> tree of Param. apply(config, params, inputs, condition=None, cache=None, key=None) -> logits
    [B, T, V] float32, cache; the key turns dropout on. init_cache(config, batch, length, dtype=None) -> cache.
    loss(config, params, batch, key, step) -> sum of weighted losses, Aux. prepare(config, params, weights=None) -> the same
    model laid out for decoding, its matrices in the type `weights`, one of WEIGHTS (None: as they are).
    condition(config, params, request, key) -> what `apply` takes. labels(config) -> tree of optimizer labels.
    update(config, params, stats, key) -> params, once a step, after the optimizer.
    """

    name: str
    config: type
    spec: Callable
    apply: Callable
    init_cache: Callable
    loss: Callable
    labels: Callable
    prepare: Callable = lambda config, params, weights=None: (config, params)
    condition: Callable = lambda config, params, request, key: None
    update: Callable = lambda config, params, stats, key: params
