"""Codecs: the only place that knows ids, their sizes and their masks."""

from __future__ import annotations

import difflib

from aurljax.errors import UserError
from aurljax.music.codec.base import Codec
from aurljax.music.codec.event import EventCodec
from aurljax.music.codec.score import ScoreCodec
from aurljax.music.codec.vocabulary import CodecError
from aurljax.music.codec.voices import VoicesCodec

CODECS: dict[str, type[Codec]] = {"score": ScoreCodec, "event": EventCodec, "voices": VoicesCodec}

__all__ = ["CODECS", "Codec", "CodecError", "make"]


def make(name: str, **options) -> Codec:
    """The codec of that name; raises UserError for an unknown name or option."""
    if name not in CODECS:
        near = difflib.get_close_matches(name, CODECS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"there is no codec {name!r} (there are: {', '.join(CODECS)}){hint}")
    try:
        return CODECS[name](**options)
    except TypeError:
        known = ", ".join(f.name for f in CODECS[name].__dataclass_fields__.values())
        raise UserError(
            f"codec {name!r} has no such option among {sorted(options)}; it has: {known or 'none'}"
        ) from None
