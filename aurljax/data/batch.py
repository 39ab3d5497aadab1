"""The Batch: what a training step eats."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jax

    Array = np.ndarray | jax.Array


class Batch(NamedTuple):
    """Rows of packed windows, numpy or jax leaves; a pytree as it stands.

    A window of n ids fills n - 1 slots: `tokens` ids[:-1], `targets` ids[1:], `features` those of ids[:-1].
    """

    tokens: Array  # int32 [B, T]
    targets: Array  # int32 [B, T]
    weights: Array  # float32 [B, T], 0 on padding
    segments: Array  # int32 [B, T], 1.. in order within a row, 0 on padding
    positions: Array  # int32 [B, T], 0.. within each segment
    features: dict[str, Array]  # int32 [B, T] each


def blank(rows: int, length: int, pad: int, features: tuple[str, ...] = ()) -> Batch:
    """A Batch [rows, length] of nothing but padding, to be filled."""

    def zeros(dtype=np.int32):
        return np.zeros((rows, length), dtype)

    return Batch(
        tokens=np.full((rows, length), pad, np.int32),
        targets=np.full((rows, length), pad, np.int32),
        weights=zeros(np.float32),
        segments=zeros(),
        positions=zeros(),
        features={name: zeros() for name in features},
    )
