"""What every codec says of ids that are not its own."""

from __future__ import annotations

import numpy as np

from aurljax.errors import UserError


class CodecError(UserError):
    """Ids that no codec of this kind wrote."""


def unpadded(tokens, size: int) -> np.ndarray:
    """int64 ids without the padding (0) at their end; CodecError unless all lie in 0..size-1."""
    ids = np.asarray(tokens, np.int64)
    ids = ids[: len(ids) - np.argmax(ids[::-1] != 0)] if ids.any() else ids[:0]
    if len(ids) and not 0 <= ids.min() <= ids.max() < size:
        raise CodecError(f"ids must lie in 0..{size - 1}; this sequence has {ids.min()}..{ids.max()}")
    return ids
