"""Sizes in bytes, read and told."""

from __future__ import annotations

import re

UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse(text: str) -> float:
    """Bytes of a text such as 80GB, 512 MiB or 1e9; ValueError."""
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    unit = (found[2] or "b").upper() if found else ""
    if unit not in UNITS or float(found[1]) <= 0:
        raise ValueError(f"must be a size such as 80GB, not {text}")
    return float(found[1]) * UNITS[unit]


def size(count: float) -> str:
    """Bytes in words: 1.25 GB."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
