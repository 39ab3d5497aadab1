"""What a run, or a stage of one, begins with: weights that are drawn, those of another run, or those of the stage before.

Everything else of the state begins anew, whatever the weights are.
"""

from __future__ import annotations

from etils import epath

from aurljax import checkpoint, params, state
from aurljax.config import Parts
from aurljax.errors import UserError
from aurljax.stages import Stage
from aurljax.state import State


def check(parts: Parts) -> None:
    """Refuses a checkpoint to begin with that is of another codec, or whose weights are not those of the model."""
    found = checkpoint.describe(parts.config.run.init)
    try:
        checkpoint.check_codec(found, parts.codec)
        checkpoint.check_params(found, params.abstract(parts.family.spec(parts.model)))
    except UserError as error:
        raise UserError(f"run.init={parts.config.run.init}: {error}") from error


def where(workdir: epath.Path, count: int) -> tuple[int, int, int]:
    """Number of the stage that the newest checkpoint is of, the step which that begins after, and its own step."""
    steps = checkpoint.steps(workdir / checkpoint.FOLDER)
    stage = checkpoint.told(workdir / checkpoint.FOLDER / str(steps[-1])).get("stage") if steps else None
    number, begin = (stage["number"], stage["begin"]) if stage else (0, 0)
    if number >= count:
        raise UserError(f"{workdir} holds a run in its stage {number + 1}, {stage['name']}, and the config has {count}; "
                        "give it its stages again or choose another folder")  # fmt: skip
    return number, begin, steps[-1] if steps else 0


def origin(stage: Stage, workdir: epath.Path) -> epath.Path | None:
    """The checkpoint whose weights a stage begins with; None: they are drawn."""
    if stage.number:
        return workdir / checkpoint.FOLDER / str(stage.begin)
    init = stage.parts.config.run.init
    return checkpoint.find(init) if init else None


def first(stage: Stage, workdir: epath.Path) -> State:
    """The state that a stage begins with."""
    parts, source = stage.parts, origin(stage, workdir)
    spec = parts.family.spec(parts.model)
    given = checkpoint.load_params(source, params.abstract(spec)) if source else None
    return state.new(parts, stage.begin, given)
