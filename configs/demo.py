"""Four-part chorales by Bach, learned on a CPU in minutes.

    aurljax train --config=configs/demo.py --config.data.corpus=demo/corpus --workdir=demo/run

Some 400 pieces of about 1,000 ids. To reach: a held-out loss to be measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A decoder of about 2 million parameters, each piece heard in twelve keys."""
    return ConfigDict(
        {
            "data": {"length": 512, "batch": 8, "transpose": (-5, 6)},
            "model": {
                "family": "decoder",
                "d_model": 192,
                "layers": 4,
                "heads": 6,
                "kv_heads": 6,
                "d_ff": 512,
                "dtype": "bfloat16",
                "dropout": 0.1,
            },
            "optim": {"learning_rate": 2e-3, "warmup": 50, "ema": 0.99},
            "run": {"steps": 600, "log_every": 10, "eval_every": 100, "checkpoint_every": 100, "sample_every": 200},
        }
    )
