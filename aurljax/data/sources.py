"""Which files to ingest, and under which ids."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from aurljax.errors import UserError

SUFFIXES = (".mid", ".midi")


def find(paths: Iterable[str | os.PathLike]) -> list[tuple[str, str]]:
    """[(id, absolute path)] by id of the MIDI files that files, globs and folders name, each file once.

    An id is the path from the name of the folder that was given (of a glob: its last folder without a wildcard; of a
    file: its own folder). UserError for a path that names nothing, or two files of one id.
    """
    files: dict[str, str] = {}
    ids: dict[str, str] = {}
    for given in paths:
        found = False
        for base, path in _expand(os.fspath(given)):
            found = True
            real = os.path.realpath(path)
            id = "/".join(filter(None, (base.name, *path.relative_to(base).parts)))
            if ids.setdefault(id, real) != real:
                raise UserError(f"{path}: has the same id ({id}) as {ids[id]}; rename a folder, or give one above both")
            files[real] = min(files.get(real, id), id)  # reached by two ways
        if not found:
            raise UserError(f"{given}: no MIDI file here ({', '.join(SUFFIXES)}); give files, folders or patterns")
    return sorted((id, real) for real, id in files.items())


def _expand(given: str) -> Iterator[tuple[Path, Path]]:
    """(base folder, file) of every MIDI file a path or pattern names."""
    path = Path(os.path.abspath(given))
    if path.is_dir():
        yield from ((path, p) for p in _walk(path))
    elif path.exists():
        yield path.parent, path
    elif glob.has_magic(given):
        fixed = next(p for p in path.parents if not glob.has_magic(str(p)))
        for match in glob.iglob(str(path), recursive=True):
            match = Path(match)
            yield from ((fixed, p) for p in (_walk(match) if match.is_dir() else [match]) if _is_midi(p))
    else:
        raise UserError(f"{given}: no such file or folder")


def _walk(folder: Path) -> Iterator[Path]:
    """MIDI files at any depth, through links, each folder once."""
    seen = set()
    for here, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (p for p in (Path(here, n) for n in names) if _is_midi(p))


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable or leave it out")


def _is_midi(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()
