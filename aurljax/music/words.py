"""What the words of a MIDI file say of the piece: title, composer, genre, how it was generated; all others are texts.

A file has no fields for them. What a score's `meta` holds is written as markers ("Title: ..."), which `sort_out` reads
back; of foreign files it also takes what their events of text, copyright and sequence name say plainly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aurljax.music.score import META

EVENTS = {0x01: "marker", 0x02: "marker", 0x05: "lyric", 0x06: "marker"}  # meta events: kind of a score's text
LONGEST = 80  # characters of a composer, where he is not called so
_FIELD = re.compile(rf"({'|'.join(META)}):\s*(\S.*)", re.DOTALL | re.IGNORECASE)
_COMPOSER = re.compile(rf"(?:music |words and music )?composed by:?\s+(\S.{{,{LONGEST - 1}}})", re.IGNORECASE)
_OTHERS = re.compile(r"arr|seq|lyric|copyright|\(c\)|©|\d{4}", re.IGNORECASE)  # names more than a composer
_ROLES = r"tempo|conductor|control|master|meta|midi|timing|time signature|meter|system|setup|global"
_STOCK = re.compile(  # of programs, not of pieces; numbers and signs are gone
    rf"(?:new )?(?:|untitled|unnamed|no ?name|default|title|name|unknown|song|sequence|seq|{_ROLES}|(?:(?:{_ROLES}) )?"
    r"(?:track|map|file))",
    re.IGNORECASE,
)


def sort_out(
    texts: Iterable[tuple[int, str, str]], sequence: str = ""
) -> tuple[list[tuple[int, str, str]], dict[str, str]]:
    """(texts that remain, meta) of texts (tick, kind, text) in the order of the file and the name of its sequence.

    A marker at tick 0 "Title: ...", "Composer: ...", "Genre: ..." or "Generated: ..." is that field, and "Composed by ..."
    is the composer where it names no arranger, copyright or year; of several the first. Else the name of the sequence is
    the title, if it is no stock word such as "untitled" or "Tempo track". What is not plain stays a text.
    """
    rest, meta = [], {}
    for tick, kind, text in texts:
        field, value = _field(text) if kind == "marker" and tick == 0 else ("", "")
        if field and field not in meta:
            meta[field] = value
        else:
            rest.append((tick, kind, text))
    if "title" not in meta and not stock(sequence):
        meta["title"] = sequence.strip()
    return rest, meta


def markers(meta: dict[str, str]) -> list[tuple[int, str, str]]:
    """The texts that `sort_out` reads as these fields."""
    return [(0, "marker", f"{name.capitalize()}: {meta[name]}") for name in META if meta.get(name, "").strip()]


def stock(name: str) -> bool:
    """Whether the name of a sequence says nothing of the piece: a program gave it, or it has no letter."""
    plain = re.sub(r"[\W\d_]+", " ", name).strip()
    return _STOCK.fullmatch(plain) is not None


def may_tell(text: str) -> bool:
    """Whether a marker at tick 0 is a field and no text."""
    return bool(_field(text)[0])


def _field(text: str) -> tuple[str, str]:
    """(field, value) that a text states, or two empty strings."""
    if match := _FIELD.fullmatch(text.strip()):
        return match[1].lower(), match[2]
    match = _COMPOSER.fullmatch(text.strip())
    if match and not _OTHERS.search(match[1]):
        return "composer", match[1]
    return "", ""
