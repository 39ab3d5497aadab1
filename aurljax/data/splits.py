"""Which split each piece goes to: the one its file is named in, or the one its content falls in."""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path

from aurljax.data.corpus import SPLITS
from aurljax.errors import UserError


def read(path: str | os.PathLike) -> dict[str, list[str]]:
    """{"train": [names], "valid": [...], "test": [...]} of a JSON file; UserError naming what is wrong in it."""
    try:
        table = json.loads(Path(path).read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: not a readable JSON file of splits ({e})") from e
    if not isinstance(table, dict) or not table or not set(table) <= set(SPLITS):
        raise UserError(f"{path}: must be an object with lists of names under {', '.join(SPLITS)}")
    if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in table.values()):
        raise UserError(f"{path}: each split must be a list of names")
    return table


def assign(ids: list[str], splits: dict[str, list[str]], path: str | os.PathLike) -> dict[str, str]:
    """{id: split} of the pieces that a table of splits names; `path` is the table's, for errors.

    A name is an id or the end of one (whole path parts), with or without its suffix. UserError if a name fits no file
    or several, or if one file is named twice.
    """
    owners = collections.defaultdict(list)
    for id in ids:
        for whole in {id, id.removesuffix(Path(id).suffix)}:
            parts = whole.split("/")
            for i in range(len(parts)):
                owners["/".join(parts[i:])].append(id)
    out: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            fits = owners.get(name, [])
            if len(fits) != 1:
                what = f"fits {len(fits)} files ({fits[0]}, {fits[1]})" if fits else "fits no file"
                raise UserError(f"{path}: '{name}' of split '{split}' {what}; name each file by its id")
            if fits[0] in out:
                raise UserError(f"{path}: {fits[0]} is named twice ('{name}' of split '{split}'); name it once")
            out[fits[0]] = split
    return out


def by_content(digest: str, fractions: tuple[float, float]) -> str:
    """The split of a piece from the hash of its music: files that are added later move no other."""
    valid, test = fractions
    u = int(digest[:13], 16) / 16**13
    return "test" if u < test else "valid" if u < test + valid else "train"
