"""Chance as arithmetic: numbers and permutations that follow from their keys, on every machine and version alike."""

from __future__ import annotations

import hashlib
import struct

import numpy as np

# What a number is for: no two draws share a key.
ORDER, SHIFT, EFFECTS, POOL, CYCLE, CORPUS, BUCKET, HOLES, CONTROLS = range(1, 10)


def number(*key: int) -> int:
    """A uniform 64-bit number that depends on the whole key."""
    words = struct.pack(f"<{len(key)}q", *key)
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little")


def permutation(n: int, *key: int) -> np.ndarray:
    """A permutation of range(n), int64 [n]: raw Philox words sorted, as numpy keeps only raw words stable (NEP 19)."""
    return np.argsort(np.random.Philox(key=number(*key)).random_raw(n), kind="stable")
