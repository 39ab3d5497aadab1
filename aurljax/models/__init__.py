"""Models. FAMILIES is the only table of them."""

from __future__ import annotations

import difflib

from aurljax.errors import UserError
from aurljax.models.decoder import DECODER
from aurljax.models.family import Aux, Family, Inputs

__all__ = ["FAMILIES", "Aux", "Family", "Inputs", "family"]

FAMILIES: dict[str, Family] = {f.name: f for f in (DECODER,)}


def family(name: str) -> Family:
    """The family of that name; an unknown one is a UserError naming the nearest."""
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, 1) or list(FAMILIES)
        raise UserError(f"model family {name!r} is unknown; did you mean {near[0]!r}? (known: {', '.join(FAMILIES)})")
    return FAMILIES[name]
