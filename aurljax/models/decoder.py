"""Family "decoder": a causal transformer over one stream of ids, with per-token features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from aurljax import legal, losses
from aurljax.errors import UserError
from aurljax.mesh import take
from aurljax.models import intervals, transformer
from aurljax.models.attention import Mask
from aurljax.models.cache import Cache
from aurljax.models.family import Aux, Family, Inputs
from aurljax.models.int8 import pack
from aurljax.models.layers import dropout, linear
from aurljax.params import Param, Tree, is_param
from aurljax.terms import PLAIN, Terms

ELAPSED = "elapsed"  # the feature by which `rotary_time` turns, in steps of 24 a quarter


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(transformer.BodyConfig):
    """vocab: ids; features: (name, size) of each per-token feature, whose embedding is added to the token's; a size of 0
    is that of a number without end, such as the time elapsed, and has no embedding.

    pitch_ids: the id of pitch 0 and how many there are; pitch_features: features to reckon the next pitch from.
    interval_head: score pitches by their intervals from those, too; what it learns in one key serves all.
    pitch_inputs: tell pitches apart where they are embedded; without, the model hears intervals alone.
    input_dropout: share of the embeddings, of ids and of each feature, left out. terms: of the loss, in training.
    """

    vocab: int
    features: tuple[tuple[str, int], ...] = ()
    pitch_ids: tuple[int, int] = (0, 0)
    pitch_features: tuple[str, ...] = ()
    tie_embeddings: bool = True
    interval_head: bool = False
    pitch_inputs: bool = True
    input_dropout: float = 0.0
    terms: Terms = PLAIN

    def __post_init__(self):
        super().__post_init__()
        if self.vocab < 2:
            raise UserError(f"model config: vocab = {self.vocab}: must be at least 2")
        if not 0 <= self.input_dropout < 1:
            raise UserError(f"model config: input_dropout = {self.input_dropout}: must be at least 0 and below 1")
        if self.rotary_time and ELAPSED not in dict(self.features):
            raise UserError(
                "model config: rotary_time: this codec tells no musical time; set rotary_time=0.0 or choose the codec score"
            )
        for field in ("interval_head", "rotary_pitch"):
            if getattr(self, field) and not self.pitch_features:
                raise UserError(f"model config: {field}: this codec tells of no pitches to reckon from; set "
                                f"{field}={type(getattr(self, field))()} or choose the codec voices or score")  # fmt: skip


def spec(c: DecoderConfig) -> Tree:
    """Declare every weight."""
    scale = c.d_model**-0.5
    table = {"tokens": c.vocab, **{f"feature_{name}": size for name, size in c.features if size}}
    tree = {
        "embed": {name: Param((size, c.d_model), ("vocab", "embed"), scale=scale) for name, size in table.items()},
        "body": transformer.spec(c),
    }
    if not c.tie_embeddings:
        tree["head"] = Param((c.d_model, c.vocab), ("embed", "vocab"), scale=scale)
    if c.interval_head:
        tree["intervals"] = intervals.spec(c.d_model, len(c.pitch_features), c.pitch_ids[1])
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
    key, first = (None, None) if key is None else jax.random.split(key)
    h = _embedded(c, params["embed"], inputs, first)
    mask, pitches = Mask(segments=inputs.segments, window=c.window), _pitches(c, inputs)
    times = inputs.features.get(ELAPSED)
    h, cache = transformer.body(c, params["body"], h, inputs.positions, mask, cache, key, pitches, times)
    head = params["embed"]["tokens"].T if c.tie_embeddings else params["head"]
    logits = linear(h, head, ("batch", None, "vocab"), c.dtype, "float32")
    if c.interval_head:
        logits = logits + intervals.logits(params["intervals"], h, pitches[1], *c.pitch_ids, c.vocab, c.dtype)
    return logits, cache


def _embedded(c: DecoderConfig, tables: Tree, inputs: Inputs, key: jax.Array | None) -> jax.Array:
    """[B, T, d] the sum of the embeddings of an id and its features."""
    named, h = {"tokens": inputs.tokens}, None
    named |= {f"feature_{name}": inputs.features[name] for name, size in c.features if size}
    if not c.pitch_inputs:
        first, count = c.pitch_ids
        lowest = {"tokens": first} | dict.fromkeys((f"feature_{name}" for name in c.pitch_features), 0)
        named |= {k: jnp.where((named[k] >= p) & (named[k] < p + count), p, named[k]) for k, p in lowest.items()}
    for i, (name, ids) in enumerate(named.items()):
        x = take(tables[name], ids)
        if key is not None and c.input_dropout:
            x = dropout(x, c.input_dropout, jax.random.fold_in(key, i), axes=2)
        h = x if h is None else h + x
    return dropout(h * c.d_model**0.5, c.dropout, key)


def _pitches(c: DecoderConfig, inputs: Inputs) -> transformer.Pitches | None:
    """The pitches of the ids and those to reckon the next ones from, if the model wants them."""
    if not (c.rotary_pitch or c.interval_head):
        return None
    first, count = c.pitch_ids
    pitch = jnp.stack([inputs.tokens - first], -1)
    base = jnp.stack([inputs.features[name] for name in c.pitch_features], -1)
    return tuple(jnp.where((x >= 0) & (x < count), x, -1) for x in (pitch, base))


def loss(c: DecoderConfig, params: Tree, batch, key: jax.Array | None, step=None) -> tuple[jax.Array, Aux]:
    """Sum over the batch of weight x next-id cross-entropy in nats, and the sums to divide it by.

    In training (with a key) with the terms that the config asks for; the metric stays the cross-entropy.
    """
    inputs = Inputs(batch.tokens, batch.positions, batch.features, batch.segments)
    drops = c.dropout or c.input_dropout or c.layer_dropout
    logits, _ = apply(c, params, inputs, key=key if drops else None)
    if key is not None and c.terms:
        cost, nats, correct = losses.objective(logits, batch.targets, c.terms.smoothing, c.terms.z)
        cost = cost * losses.of_targets(c.terms.weights, batch.targets)
        if c.terms.unlikelihood:
            may = legal.ids(c.terms.codec.grammar, batch.tokens, batch.positions)
            cost = cost + c.terms.unlikelihood * losses.unlikelihood(logits, may)
        cost = jnp.sum(cost * batch.weights)
    else:
        nats, correct = losses.cross_entropy(logits, batch.targets)
        cost = jnp.sum(nats * batch.weights)
    total = jnp.sum(nats * batch.weights)
    return cost, Aux({"loss": total, "weight": jnp.sum(batch.weights), "accuracy": jnp.sum(correct * batch.weights)})


def labels(c: DecoderConfig) -> Tree:
    """One optimizer for everything."""
    return jax.tree.map(lambda _: "main", spec(c), is_leaf=is_param)


def prepare(c: DecoderConfig, params: Tree, weights: str | None = None) -> tuple[DecoderConfig, Tree]:
    """Layers apart, for decoding, and a head of its own, since a product of few rows with the transpose of the embeddings
    takes twice as long; with weights = "int8", matrices of the body and the head in a byte a number."""
    c, body = transformer.unrolled(c, params["body"])
    head = params["embed"]["tokens"].T if c.tie_embeddings else params["head"]
    if weights == "int8":
        body, head = transformer.packed(body), pack(head, (0,))
    return replace(c, tie_embeddings=False), params | {"body": body, "head": head}


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
