"""How an id is drawn from logits: data, not code, so that a sampler can be compared, hashed and written down."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import jax
import jax.numpy as jnp

from aurljax.errors import UserError
from aurljax.music.codec.vocabulary import Vocabulary

BLOCK = 32
LIMITS = {"temperature": (0, 100), "top_k": (0, 2**31), "top_p": (0, 1), "min_p": (0, 1), "typical": (0, 1),
          "penalty": (1, 1000), "span": (1, 2**20), "unrepeated": (0, 1024)}  # fmt: skip
NOT_ZERO = ("top_p", "typical")
WHOLE = ("top_k", "span", "unrepeated")
TRUNCATING = ("top_k", "top_p", "min_p", "typical")


@dataclasses.dataclass(frozen=True)
class Repetition:
    """Divides the probability of every id that is among the last `span` ids of `kinds` by `penalty`.

    After Keskar 2019, who divides logits; a difference of logits does not depend on where they count from. Without
    `kinds`: those that begin a note. What is not of these kinds, such as bars, is neither counted nor penalised.
    """

    penalty: float = 1.2
    span: int = 32
    kinds: tuple[str, ...] = ()

    def __post_init__(self):
        _check(self, ("penalty", "span"))

    def among(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """The kinds that are counted."""
        return self.kinds or tuple(kind for kind in ("pitch", "on") if kind in vocabulary.index)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Temperature, then the ids that top-k, top-p (Holtzman 2020) and min-p (Nguyen 2024) all keep, and of these the
    locally typical ones (Meister 2023) of mass `typical`.

    temperature: 0 is greedy; (a, b) goes from a to b with the share of the bars, seconds or ids asked for.
    unrepeated: no bar is completed with the ids, meter and tempo aside, of one of so many before it.
    kinds: (kind of id, its own Sampler); the sampler itself still weighs the kinds against each other.
    """

    temperature: float | tuple[float, float] = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical: float = 1.0
    repetition: Repetition | None = None
    unrepeated: int = 0
    kinds: tuple[tuple[str, Sampler], ...] = ()

    def __post_init__(self):
        _check(self, (*TRUNCATING, "unrepeated"))
        for end in self.ends:
            _within("temperature", end)
        if self.scheduled and (len(self.ends) != 2 or not all(self.ends)):
            raise UserError(f"temperature: a schedule goes from one number above 0 to another, not {self.temperature}")
        if self.temperature == 0 and (idle := [f for f in TRUNCATING if getattr(self, f) != _DEFAULT[f]]):
            raise UserError(f"{idle[0]}: temperature 0 always takes the likeliest id; leave out one of them")
        names = [kind for kind, _ in self.kinds]
        if twice := [kind for kind in names if names.count(kind) > 1]:
            raise UserError(f"kinds: {twice[0]!r} is there twice")
        for kind, own in self.kinds:
            if own.kinds or own.repetition or own.unrepeated:
                raise UserError(f"kinds: {kind!r} can have a temperature and {', '.join(TRUNCATING)} of its own; the rest "
                                "belongs to the sampler as a whole")  # fmt: skip

    @property
    def ends(self) -> tuple[float, ...]:
        """The temperatures it names."""
        return self.temperature if self.scheduled else (self.temperature,)

    @property
    def scheduled(self) -> bool:
        """Whether its own temperature follows the piece."""
        return isinstance(self.temperature, tuple)

    def check(self, vocabulary: Vocabulary, name: str) -> None:
        """UserError where it speaks of what the codec of that name does not write."""
        wanted = [("kinds", kind) for kind, _ in self.kinds]
        if self.repetition:
            wanted += [("repetition", kind) for kind in self.repetition.among(vocabulary) or ("pitch",)]
        wanted += [("unrepeated", "bar")] if self.unrepeated else []
        for field, kind in wanted:
            if kind not in vocabulary.index:
                near = difflib.get_close_matches(kind, vocabulary.index, 1, 0.4)
                hint = f"; did you mean {near[0]!r}?" if near else f" (its kinds: {', '.join(vocabulary.index)})"
                raise UserError(f"{field}: the codec '{name}' of this model writes no {kind!r}{hint}")


def make(sampler: Sampler | None, settings: dict[str, Any]) -> Sampler:
    """The sampler, or one of these settings; UserError for both, or for a name that a sampler lacks."""
    if sampler is not None and settings:
        raise UserError(f"{next(iter(settings))}: set it in the sampler that is given, or give no sampler")
    for name in settings:
        if name not in _DEFAULT:
            near = difflib.get_close_matches(name, _DEFAULT, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; a sampler has {', '.join(_DEFAULT)}"
            raise UserError(f"there is no setting {name!r}{hint}")
    return sampler or Sampler(**settings)


def _check(data: Any, names: tuple[str, ...]) -> None:
    for name in names:
        _within(name, getattr(data, name))


def _within(name: str, value: Any) -> None:
    low, high = LIMITS[name]
    whole = name in WHOLE
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise UserError(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}")
    if not low <= value <= high or (name in NOT_ZERO and value == 0):
        raise UserError(f"{name} must lie in {'(' if name in NOT_ZERO else '['}{low}, {high}], not {value}")


# ---- drawing --------------------------------------------------------------------------------------------------------


def sample(
    sampler: Sampler,
    logits: jax.Array,
    legal: jax.Array | None,
    uniform: jax.Array,
    vocabulary: Vocabulary | None = None,
    progress: jax.Array | None = None,
) -> jax.Array:
    """int32 [B] drawn from logits [B, V] among `legal` [B, V] by one uniform number in [0, 1) per row [B].

    vocabulary: of a sampler with kinds; progress [B]: share of the piece that is written, for a schedule.
    """
    if legal is not None:
        logits = jnp.where(legal, logits, -jnp.inf)
    if sampler.temperature == 0 and not sampler.kinds:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    return pick(weights(sampler, logits, vocabulary, progress), uniform)


def pick(w: jax.Array, uniform: jax.Array) -> jax.Array:
    """int32 [B] drawn in proportion to weights w [B, V] by one uniform number in [0, 1) per row [B]."""
    best = jnp.argmax(w, -1).astype(jnp.int32)
    up_to = _cumulative(w)
    drawn = jnp.sum(up_to <= (uniform * (1 - 1e-6))[:, None] * up_to[:, -1:], -1).astype(jnp.int32)
    # Rounding in the sums could step onto an id of no weight; it must never be written.
    return jnp.where(jnp.take_along_axis(w, drawn[:, None], 1)[:, 0] > 0, drawn, best)


def weights(
    sampler: Sampler, logits: jax.Array, vocabulary: Vocabulary | None = None, progress: jax.Array | None = None
) -> jax.Array:
    """[B, V] what the draw is proportional to; 0 where a logit is -inf."""
    w = _own(sampler, logits, progress)
    for kind, own in sampler.kinds:
        first = vocabulary.id(kind)
        part = slice(first, first + vocabulary.size(kind))
        inner = _own(own, logits[:, part], progress)
        mass = jnp.sum(w[:, part], -1, keepdims=True) / jnp.maximum(jnp.sum(inner, -1, keepdims=True), 1e-30)
        w = w.at[:, part].set(inner * mass)
    return w


def _own(sampler: Sampler, logits: jax.Array, progress: jax.Array | None) -> jax.Array:
    """Weights [B, V] without those of kinds; where every logit is -inf, 0 or, if greedy, anything."""
    if sampler.temperature == 0:
        return (jnp.arange(logits.shape[-1]) == jnp.argmax(logits, -1)[:, None]).astype(jnp.float32)
    temperature = sampler.temperature
    if sampler.scheduled:
        first, last = temperature
        temperature = (first + (last - first) * progress)[:, None]
    top = jnp.maximum(jnp.max(logits, -1, keepdims=True), -1e30)
    return _truncate(sampler, jnp.exp((logits - top) / temperature))


def uniforms(keys: jax.Array, steps: jax.Array) -> jax.Array:
    """float32 [T, B] numbers of keys [B] at steps [T]: a row draws the same ones in any batch."""
    draw = jax.vmap(lambda step: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, step)))(keys))
    return draw(steps)


def _truncate(sampler: Sampler, weights: jax.Array) -> jax.Array:
    """Weights [B, V] (the largest is 1) with those that the sampler does not keep set to 0."""
    keep = weights >= sampler.min_p
    if sampler.top_k or sampler.top_p < 1:
        ordered = -jnp.sort(-weights, -1)
        if sampler.top_k:
            keep &= weights >= ordered[:, min(sampler.top_k, weights.shape[-1]) - 1, None]
        if sampler.top_p < 1:
            before = jnp.cumsum(ordered, -1) - ordered  # mass of the ids more likely than each
            inside = before < sampler.top_p * jnp.sum(ordered, -1, keepdims=True)
            keep &= weights >= jnp.min(jnp.where(inside, ordered, jnp.inf), -1, keepdims=True)
    weights = jnp.where(keep, weights, 0)
    return _typical(sampler.typical, weights) if sampler.typical < 1 else weights


def _typical(share: float, weights: jax.Array) -> jax.Array:
    """Weights [B, V] of the fewest ids that make up `share` of the mass, those whose surprise is nearest to the mean."""
    p = weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-30)
    surprise = -jnp.log(jnp.maximum(p, 1e-37))
    apart = jnp.where(p > 0, jnp.abs(surprise - jnp.sum(p * surprise, -1, keepdims=True)), jnp.inf)
    nearest, mass = jax.lax.sort((apart, p), num_keys=1)
    inside = jnp.cumsum(mass, -1) - mass < share
    return jnp.where(apart <= jnp.max(jnp.where(inside, nearest, 0), -1, keepdims=True), weights, 0)


def _cumulative(weights: jax.Array) -> jax.Array:
    """Running sums along the last axis in two levels of small products: XLA:CPU's own cumsum is quadratic."""
    batch, size = weights.shape
    blocks = -(-size // BLOCK)
    w = jnp.pad(weights, ((0, 0), (0, blocks * BLOCK - size))).reshape(batch, blocks, BLOCK)
    inner = jnp.einsum("abi,ij->abj", w, jnp.triu(jnp.ones((BLOCK, BLOCK))))
    outer = jnp.einsum("ab,bc->ac", inner[:, :, -1], jnp.triu(jnp.ones((blocks, blocks)), 1))
    return (inner + outer[:, :, None]).reshape(batch, -1)[:, :size]


_DEFAULT = {f.name: f.default for f in dataclasses.fields(Sampler)}
