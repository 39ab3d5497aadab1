"""Classifier-free guidance (Ho & Salimans 2022): what a piece's controls make likelier is made likelier still.

Each row is read twice, with its controls and without, as neighbours in the batch; both write the same ids. A model knows
music without controls only if training left them out now and then (`data.controls_dropout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from aurljax.data.effects import unlabelled
from aurljax.errors import UserError
from aurljax.music.score import Score

if TYPE_CHECKING:
    from aurljax.model import Model

MOST = 100.0


def check(model: Model, prompts: Sequence[Score | None], weight: float) -> None:
    """UserError where there is nothing to be guided by."""
    names = _names(model.codec)
    if not (isinstance(weight, int | float) and 0 <= weight <= MOST):
        raise UserError(f"guidance must be a number from 0 to {MOST:g}, not {weight!r}")
    if not names:
        raise UserError(f"guidance: the codec '{model.codec.name}' of this model has no controls; leave it out")
    if not model.parts.config.data.controls_dropout:
        raise UserError("guidance: this model never read music without its controls; train one with data.controls_dropout")
    if any(prompt is None or not set(names) & prompt.meta.keys() for prompt in prompts):
        raise UserError(f"guidance: the prompt gives none of the controls {', '.join(names)}; set one in its meta")

def refuse(weight: float | None, other: str | None) -> None:
    """UserError beside the `other` setting that does not go with it."""
    if weight is not None and other:
        raise UserError(f"guidance: it does not go with a {other}; leave out one of them")


def both(codec: Any, prompt: Score) -> tuple[Score, Score]:
    """The prompt with its controls, and without."""
    return prompt, unlabelled(prompt, _names(codec))


def mixed(logits: jax.Array, weight: jax.Array) -> jax.Array:
    """[2 B, V] from rows that are pairs, with controls and without: of each pair weight * with + (1 - weight) * without.

    weight [2 B]. 1 gives the logits with controls, 0 those without, to the bit.
    """
    given, free, w = logits[::2], logits[1::2], weight[::2, None]
    return jnp.repeat(w * given + (1 - w) * free, 2, 0)


def _names(codec: Any) -> tuple[str, ...]:
    return tuple(name for name, _ in getattr(codec, "controls", ()))
