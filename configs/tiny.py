"""A model that trains in seconds on a laptop's CPU, to see every part work.

aurljax train --config=configs/tiny.py --config.data.corpus=CORPUS --workdir=runs/tiny
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """d_model 32, two layers, windows of 64 ids."""
    return ConfigDict(
        {
            "data": {"length": 64, "batch": 8},
            "model": {"family": "decoder", "d_model": 32, "layers": 2, "heads": 2, "kv_heads": 2, "d_ff": 96},
            "optim": {"learning_rate": 3e-3, "warmup": 10},
            "run": {"steps": 100, "log_every": 10, "checkpoint_every": 50},
        }
    )
