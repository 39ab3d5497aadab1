"""Metrics to Weights & Biases, where a run asks for it with run.wandb="project"."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from etils import epath

from aurljax import paths
from aurljax.config import Config, to_dict
from aurljax.errors import UserError

ID = "wandb.id"  # a file of the workdir, so that a resumed run goes on in the same place


def load(project: str) -> Any:
    """The package, imported; UserError where it is missing."""
    try:
        import wandb
    except ImportError:
        raise UserError(
            f"run.wandb={project} asks for Weights & Biases, which is not installed: `pip install wandb`, or leave it out"
        ) from None
    return wandb


class Board:
    """A run of Weights & Biases, the same one when WORKDIR is resumed."""

    def __init__(self, config: Config, workdir: epath.Path, start: int):
        path = workdir / ID
        if not (start and path.exists()):
            path.write_text(uuid.uuid4().hex[:12])
        self._run = load(config.run.wandb).init(
            project=config.run.wandb, id=path.read_text(), name=paths.absolute(workdir).name, config=to_dict(config),
            resume="allow", dir=str(workdir),
        )  # fmt: skip

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The values of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run there."""
        self._run.finish()
