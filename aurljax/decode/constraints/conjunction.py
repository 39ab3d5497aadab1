"""Constraints put together: their registers, and the functions by which the loop asks for all of them at once."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import numpy as np

from aurljax.decode.constraints import event_needs, voices_needs
from aurljax.decode.constraints.base import Constraint, State
from aurljax.decode.constraints.event_rules import EventRules
from aurljax.decode.constraints.score_rules import ScoreRules
from aurljax.decode.constraints.voices_rules import VoicesRules
from aurljax.errors import UserError
from aurljax.music.codec import Codec

RULES = {"score": ScoreRules, "voices": VoicesRules, "event": EventRules}
REFUSE = {"voices": voices_needs.refuse, "event": event_needs.refuse}  # what the codec's grammar makes impossible
SETS = 8  # sets of tones are padded to so many, so that few shapes are compiled
Kinds = tuple[type[Constraint], ...]


@functools.lru_cache(64)
def rules(codec: Codec, kinds: Kinds) -> ScoreRules | VoicesRules | EventRules:
    """The conjunction of constraints of these classes over the codec's grammar."""
    return RULES[codec.name](codec, kinds)


def kinds(constraints: Sequence[Constraint]) -> Kinds:
    """Their classes, in one order: what a program is compiled for."""
    return tuple(sorted({type(c) for c in constraints}, key=lambda kind: kind.__name__))


def registers(codec: Codec | None, constraints: Sequence[Constraint], batch: int) -> State:
    """{name: [batch, ...]} numbers and registers of the constraints before the first id; of none, none for any codec.

    UserError: two of a class, or one that the codec cannot keep.
    """
    if not constraints:
        return {}
    classes = [type(c) for c in constraints]
    for c in constraints:
        if codec.name not in c.codecs:
            can = ", ".join(sorted(k.__name__ for k in Constraint.__subclasses__() if codec.name in k.codecs))
            raise UserError(
                f"{type(c).__name__}: the codec '{codec.name}' of this model cannot keep it; it can keep {can or 'none'}"
            )
        if classes.count(type(c)) > 1:
            raise UserError(f"{type(c).__name__} is given twice; give it once")
    if codec.name in REFUSE:
        REFUSE[codec.name](codec, constraints)
    state = rules(codec, kinds(constraints)).init() | {"sets": sets(constraints)}
    for c in constraints:
        state |= c.init(codec)
    for c in constraints:
        state |= c.bound(codec, state)
    return {name: np.broadcast_to(x, (batch, *np.shape(x))).copy() for name, x in state.items()}


def sets(constraints: Sequence[Constraint]) -> np.ndarray:
    """bool [M, TONES] each set of tones that may be all there is at some time, padded by the last."""
    found = functools.reduce(operator.and_, (c.sets() for c in constraints))
    return found[np.minimum(np.arange(-(-len(found) // SETS) * SETS), len(found) - 1)]
