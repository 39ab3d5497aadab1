"""A few pieces drawn while a run trains, as MIDI files beside its metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from aurljax.config import Parts
from aurljax.model import Model
from aurljax.survival import collapse

FOLDER = "samples"


def write(parts: Parts, weights: Any, step: int, folder: epath.Path) -> Mapping[str, float]:
    """Draws run.samples pieces, writes folder/STEP-I.mid and, in folder/STEP.json, how they were made.

    Returns their mean number of notes, bars and pitches, and the measures of `aurljax.survival.collapse`.
    """
    scores = Model(parts, weights, jax.sharding.get_mesh()).generate(parts.config.run.samples, seed=step)
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for i, score in enumerate(scores):
            score.save_midi(folder / f"{step:07}-{i}.mid")
        (folder / f"{step:07}.json").write_text(json.dumps(made(parts, step)) + "\n")
    counts = [(len(s), s.bar_count, len(np.unique(s.pitch))) for s in scores]
    return dict(zip(("notes", "bars", "pitches"), np.mean(counts, 0).tolist(), strict=True)) | collapse.mean(scores)


def made(parts: Parts, step: int) -> dict[str, Any]:
    """How the pieces of a step are drawn: piece i is that of `aurljax generate -n` with this seed."""
    weights = "averaged" if parts.config.optim.ema else "as trained"
    return {"step": step, "seed": step, "prompt": None, "temperature": 1.0, "weights": weights,
            "most_ids": parts.config.data.length}  # fmt: skip
