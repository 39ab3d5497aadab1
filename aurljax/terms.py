"""What a run asks of its loss beside the cross-entropy: values only, so that a config can hold them without jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aurljax.fields import at_least, one_of, require


@dataclass(frozen=True)
class Terms:
    """Terms of the loss of next ids, of training alone. weights: of each id as a target; (): all alike. codec: whose
    grammar tells what `unlikelihood` is of."""

    z: float = 0.0
    smoothing: float = 0.0
    weights: tuple[float, ...] = ()
    unlikelihood: float = 0.0
    codec: Any = None

    def __bool__(self) -> bool:
        return bool(self.z or self.smoothing or self.weights or self.unlikelihood)


PLAIN = Terms()  # cross-entropy alone


@dataclass(frozen=True)
class Loss:
    """Section `loss`: terms beside the cross-entropy. The metric `loss` stays the plain one, so that runs compare."""

    z: float = 0.0  # of the squared log of the normaliser: keeps logits near zero, for bfloat16; 1e-4 is usual
    smoothing: float = 0.0  # share of a target's weight that all ids divide
    kinds: tuple[tuple[str, float], ...] = ()  # weights of kinds of ids; others: 1
    unlikelihood: float = 0.0  # of -log(1 - p), p being the mass on ids that the grammar forbids where they would stand

    def __post_init__(self) -> None:
        at_least(self, "loss", z=0, unlikelihood=0)
        require(0 <= self.smoothing < 1, f"loss.smoothing={self.smoothing} must be in [0, 1)")
        for kind, weight in self.kinds:
            require(weight >= 0, f"loss.kinds: the weight of {kind} is {weight}; it must be at least 0")

    def terms(self, codec: Any) -> Terms:
        """The terms over the ids of a codec; ConfigError for a kind it does not have."""
        given, vocabulary = dict(self.kinds), codec.vocabulary
        for kind in given:
            one_of("loss.kinds", kind, [k for k, _ in vocabulary.kinds])
        weights = tuple(given.get(kind, 1.0) for kind, size in vocabulary.kinds for _ in range(size)) if given else ()
        return Terms(self.z, self.smoothing, weights, self.unlikelihood, codec if self.unlikelihood else None)
