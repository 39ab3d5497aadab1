"""The best of several: which of the candidates for each piece stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aurljax.errors import UserError
from aurljax.music.score import Score

Rank = Callable[[list[Score]], Sequence[float]]


def check(best_of: int, rank: Rank | None) -> None:
    """UserError for numbers of candidates that leave nothing to choose."""
    positive(best_of=best_of)
    if rank is not None and best_of == 1:
        raise UserError("rank: there is one score to choose from; set best_of")


def choose(scores: list[Score], best_of: int, rank: Rank | None, likelihood: Callable[[], Any]) -> list[int]:
    """The number of the best of each `best_of` scores by `rank`, without one by the `likelihood` of each; more is better.
    UserError: the rank does not give a number for each."""
    if best_of == 1:
        return list(range(len(scores)))
    ranks = rank(scores) if rank else likelihood()
    if np.shape(ranks) != (len(scores),):
        raise UserError(f"rank must give one number for each of {len(scores)} scores, not {np.shape(ranks)}")
    return [i + int(np.argmax(ranks[i : i + best_of])) for i in range(0, len(scores), best_of)]


def positive(**values: float | None) -> None:
    """UserError naming the first value that is given and not above 0."""
    for name, value in values.items():
        if value is not None and value <= 0:
            raise UserError(f"{name} must be above 0, not {value}")
