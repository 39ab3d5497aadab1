"""Where a run's files lie: on this machine, or in a bucket."""

from __future__ import annotations

from etils import epath

from aurljax.errors import UserError


def named(path: epath.PathLike) -> epath.Path:
    """The path as it is written, so that messages name it alike. UserError as below."""
    return absolute(path) if "://" in str(path) else epath.Path(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The whole path; that of a bucket as it is. UserError: a kind of path that cannot be used here."""
    scheme, mark, _ = str(path).partition("://")
    if not mark:
        return epath.Path(path).resolve()
    try:
        found = epath.Path(path)  # its `resolve` would make of gs://bucket a folder gs:/bucket here
        found.exists()
    except KeyError:
        raise UserError(f"{path}: {scheme}:// is no place for files here; give gs://, s3:// or a plain path") from None
    except ImportError as error:
        raise UserError(f"{path}: {scheme}:// needs a package that is not installed: {error}") from None
    return found
