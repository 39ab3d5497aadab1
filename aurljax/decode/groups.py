"""The rows of a batch in groups, each decoded by a thread of its own.

XLA reads a cache on one core of a CPU, however many rows it has, while the others wait for its products. Rows know
nothing of each other, so groups of them run side by side, and each stops when its own rows have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from aurljax import mesh
from aurljax.data.workers import cores
from aurljax.models.layers import on_cpu

LEAST = 4  # rows of a group: with fewer, reading the weights once for each costs more than it gains


def count(batch: int) -> int:
    """How many groups of equal size `batch` rows are decoded in: 1 but on a CPU that is one device, where each group has
    a core."""
    if not on_cpu() or mesh.current().size > 1:
        return 1
    most = min(cores(), batch // LEAST)
    return next((n for n in range(most, 1, -1) if batch % n == 0), 1)


def apart(run: Callable[..., Any], rows: tuple, batch: int, together: int = 1) -> Any:
    """run(*rows), where each array of `rows`, and of what comes out, has the rows of the batch first. So many rows that
    follow each other stay `together`."""
    if (groups := count(batch // together)) == 1:
        return run(*rows)
    devices, size = jax.sharding.get_mesh(), batch // groups

    def part(number: int) -> Any:
        with mesh.use(devices):
            return run(*jax.tree.map(lambda x: x[number * size : (number + 1) * size], rows))

    with ThreadPoolExecutor(groups) as threads:
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *threads.map(part, range(groups)))
