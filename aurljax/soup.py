"""One checkpoint of several: the mean of their weights (Izmailov et al. 2018, Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from etils import epath

from aurljax import checkpoint, config, mesh, params, state
from aurljax.checkpoint import CheckpointError, Checkpoints
from aurljax.errors import UserError
from aurljax.paths import named


def average(paths: Sequence[epath.PathLike], out: epath.PathLike, last: int = 0) -> epath.Path:
    """Writes the mean of the weights that each checkpoint would generate with to `out`, a folder to generate from.

    last: take so many of the newest steps that each path, a run's folder, holds; 0: one of each. UserError: fewer than
    two checkpoints, those of different models or codecs, `out` that holds some already.
    """
    found = [checkpoint.describe(p) for path in paths for p in _steps(path, last)]
    if len(found) < 2:
        raise UserError(f"{len(found)} checkpoint is no average; name two or more, or a run that kept --last N of them")
    if checkpoint.steps(named(out) / checkpoint.FOLDER):
        raise UserError(f"{out} holds checkpoints; choose another --out")
    parts = config.build(config.from_dict(found[0].metadata["config"]))
    for other in found:
        checkpoint.check_codec(other, parts.codec)
        theirs = config.build(config.from_dict(other.metadata["config"]))
        if (theirs.family.name, theirs.family.spec(theirs.model)) != (
            parts.family.name,
            parts.family.spec(parts.model),
        ):
            raise CheckpointError(f"{other.path} is of another model than {found[0].path}; average those of one")
    with mesh.use(mesh.make()):
        abstract, mean = params.abstract(parts.family.spec(parts.model)), None
        for i, other in enumerate(found):  # one at a time: two copies of the weights in memory
            weights = checkpoint.load_params(other.path, abstract)
            mean = weights if mean is None else jax.tree.map(lambda a, b, i=i: a + (b - a) / (i + 1), mean, weights)
        fixed = state.split(parts)[2].keys()
        frozen = {name: tree for name, tree in mean.items() if name in fixed}
        step = max(other.step for other in found)
        made = state.State(
            params={name: tree for name, tree in mean.items() if name not in fixed},
            opt_state={}, ema={}, step=jnp.int32(step), key=jax.random.key(0), guard={}, frozen=frozen,
        )  # fmt: skip
        metadata = dict(found[-1].metadata) | {"averaged": [str(other.path) for other in found]}
        with Checkpoints(out, 1, metadata) as saver:
            saver.save(made, step)
    return epath.Path(out) / checkpoint.FOLDER / str(step)


def _steps(path: epath.PathLike, last: int) -> list[epath.Path]:
    newest = checkpoint.find(path)
    if not last:
        return [newest]
    kept = checkpoint.steps(newest.parent)
    if len(kept) < last:
        raise UserError(f"--last {last}: {path} keeps {len(kept)}; give fewer, or train with run.keep={last}")
    return [newest.parent / str(step) for step in kept[-last:]]
