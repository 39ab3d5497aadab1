"""Four-part chorales by Bach, learned on a CPU in minutes.

    aurljax train --config=configs/demo.py --config.data.corpus=demo/corpus --workdir=demo/run
    aurljax train --config=configs/demo.py:infill --config.data.corpus=demo/corpus --workdir=runs/infill

Some 400 pieces of about 800 ids, most of which the context holds whole. To reach on the test split, nats per id: 0.60
(13-grams that heard the same twelve keys: 0.89). `infill` fills in, accompanies and varies too: half of what it reads has
holes, and it takes twice the steps.
"""

from ml_collections import ConfigDict

HOLES = {"bars": 0.1, "tracks": 0.15, "span": 0.15, "cells": 0.1}


def get_config(task: str = "continue") -> ConfigDict:
    """A decoder of about 2 million parameters, each piece heard in twelve keys; task: continue or infill."""
    if task not in ("continue", "infill"):
        raise ValueError(f"task {task!r}: choose one of continue, infill")
    config = ConfigDict(
        {
            "data": {"length": 1024, "batch": 4, "transpose": (-5, 6)},
            "model": {
                "family": "decoder",
                "d_model": 192,
                "layers": 4,
                "heads": 6,
                "kv_heads": 6,
                "d_ff": 512,
                "dtype": "bfloat16",
            },
            "optim": {"learning_rate": 3e-3, "warmup": 50, "ema": 0.99},
            "run": {"steps": 500, "log_every": 10, "eval_every": 100, "checkpoint_every": 100, "sample_every": 250},
        }
    )
    if task == "infill":
        config.update({"codec": {"options": {"infill": True}}, "data": {"objective": HOLES}, "run": {"steps": 1000}})
    return config
