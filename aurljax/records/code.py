"""Which code runs: the commit of this package's own repository, or the version that was installed; and its packages."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record", "ml-collections", "numpy",
            "scipy", "symusic", "etils", "tensorboardX")  # fmt: skip


def version(folder: Path | None = None) -> dict[str, Any]:
    """{"aurljax": version, "commit": hash or None, "changed": files that differ from it}.

    The commit is None where git does not follow the package's files, as in an installed package or without git.
    """
    folder = folder or Path(__file__).parents[1]
    found = {"aurljax": packages(("aurljax",)).get("aurljax"), "commit": None, "changed": []}
    if _git(folder, "ls-files", "__init__.py") == "__init__.py\n":
        found["commit"] = (_git(folder, "rev-parse", "HEAD") or "").strip() or None
        lines = (_git(folder, "status", "--porcelain", "--", ".") or "").splitlines()
        found["changed"] = [line[3:] for line in lines]
    return found


def packages(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """The versions of those that are installed, and of Python where all are asked for."""
    found = {"python": platform.python_version()} if names is PACKAGES else {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
