"""Family "decoder": a causal transformer over one stream of ids, with per-token features."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from aurljax import losses
from aurljax.errors import UserError
from aurljax.mesh import take
from aurljax.models import transformer
from aurljax.models.attention import Mask
from aurljax.models.cache import Cache
from aurljax.models.family import Aux, Family, Inputs
from aurljax.models.layers import dropout, linear
from aurljax.params import Param, Tree, is_param


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(transformer.BodyConfig):
    """vocab: ids; features: (name, size) of each per-token feature, whose embedding is added to the token's."""

    vocab: int
    features: tuple[tuple[str, int], ...] = ()
    tie_embeddings: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.vocab < 2:
            raise UserError(f"model config: vocab = {self.vocab}: must be at least 2")


def spec(c: DecoderConfig) -> Tree:
    """Declare every weight."""
    scale = c.d_model**-0.5
    table = {"tokens": c.vocab, **{f"feature_{name}": size for name, size in c.features}}
    tree = {
        "embed": {name: Param((size, c.d_model), ("vocab", "embed"), scale=scale) for name, size in table.items()},
        "body": transformer.spec(c),
    }
    if not c.tie_embeddings:
        tree["head"] = Param((c.d_model, c.vocab), ("embed", "vocab"), scale=scale)
    return tree


def apply(
    c: DecoderConfig,
    params: Tree,
    inputs: Inputs,
    condition=None,
    cache: Cache | None = None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Cache | None]:
    """Logits [B, T, V] float32 of the next id, and the cache.

    Training: cache None; rows are causal and isolated by `inputs.segments`. Prefill: a cache and left-padded rows
    (`cache.start`); decoding: the same with T = 1. With a cache, positions and segments of the inputs are not read.
    """
    if condition is not None:
        raise UserError("the family 'decoder' takes no condition; leave it out or choose another family")
    h = take(params["embed"]["tokens"], inputs.tokens)
    for name, _ in c.features:
        h = h + take(params["embed"][f"feature_{name}"], inputs.features[name])
    key, first = (None, None) if key is None else jax.random.split(key)
    h = dropout(h * c.d_model**0.5, c.dropout, first)
    h, cache = transformer.body(c, params["body"], h, inputs.positions, Mask(segments=inputs.segments), cache, key)
    head = params["embed"]["tokens"].T if c.tie_embeddings else params["head"]
    return linear(h, head, ("batch", None, "vocab"), c.dtype, "float32"), cache


def loss(c: DecoderConfig, params: Tree, batch, key: jax.Array | None, step=None) -> tuple[jax.Array, Aux]:
    """Sum over the batch of weight x next-id cross-entropy in nats, and the sums to divide it by."""
    inputs = Inputs(batch.tokens, batch.positions, batch.features, batch.segments)
    logits, _ = apply(c, params, inputs, key=key if c.dropout else None)
    nats, correct = losses.cross_entropy(logits, batch.targets)
    total = jnp.sum(nats * batch.weights)
    return total, Aux({"loss": total, "weight": jnp.sum(batch.weights), "accuracy": jnp.sum(correct * batch.weights)})


def labels(c: DecoderConfig) -> Tree:
    """One optimizer for everything."""
    return jax.tree.map(lambda _: "main", spec(c), is_leaf=is_param)


def prepare(c: DecoderConfig, params: Tree) -> tuple[DecoderConfig, Tree]:
    """Layers apart, for decoding."""
    c, body = transformer.unrolled(c, params["body"])
    return c, {**params, "body": body}


DECODER = Family(
    name="decoder",
    config=DecoderConfig,
    spec=spec,
    apply=apply,
    init_cache=transformer.init_cache,
    loss=loss,
    labels=labels,
    prepare=prepare,
)
