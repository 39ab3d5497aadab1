"""Which split each piece goes to: the one its file is named in, or the one its content falls in."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from aurljax.data import similar
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


@dataclasses.dataclass(frozen=True)
class Tunes:
    """What `by_tune` finds. split, cluster: of each digest; left_out: digest to reason."""

    split: dict[str, str]
    cluster: dict[str, str]
    left_out: dict[str, str]


def by_tune(
    sketches: dict[str, np.ndarray], fractions: tuple[float, float], before: dict[str, str] | None = None
) -> Tunes:
    """Splits of pieces by digest, one tune in one split.

    `before` holds the splits of an earlier corpus, some of whose pieces may not be among those to split but in
    `sketches`: its pieces stay, a new one goes where its tune is, and one that would join tunes of several splits is
    left out. A tune that is new goes where the content of its first digest falls.
    """
    before = before or {}
    digests = sorted(sketches)
    roots = similar.clusters(len(digests), similar.pairs([sketches[d] for d in digests]))
    tunes = collections.defaultdict(list)
    for digest, root in zip(digests, roots, strict=True):
        tunes[digests[root]].append(digest)
    out = Tunes({}, {}, {})
    for first, members in tunes.items():
        known = sorted({before[d] for d in members if d in before})
        for d in members:
            out.cluster[d] = first[:12]
            if d in before:
                out.split[d] = before[d]
            elif len(known) > 1:
                out.left_out[d] = f"is one tune with pieces of several splits ({', '.join(known)})"
            else:
                out.split[d] = known[0] if known else by_content(first, fractions)
    return out


def by_content(digest: str, fractions: tuple[float, float]) -> str:
    """The split of a tune from the digest of its first piece: tunes that are added later move no other.

    The digest is hashed again: the first of many is small.
    """
    valid, test = fractions
    u = int(hashlib.sha256(digest.encode()).hexdigest()[:13], 16) / 16**13
    return "test" if u < test else "valid" if u < test + valid else "train"
