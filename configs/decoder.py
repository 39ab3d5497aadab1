"""A decoder for a corpus of one's own, in three sizes; `base` and `large` want accelerators.

aurljax train --config=configs/decoder.py:base --config.data.corpus=CORPUS --workdir=runs/base
"""

from ml_collections import ConfigDict

SIZES = {  # d_model, layers, heads, kv_heads, d_ff; parameters without embeddings
    "small": (256, 4, 4, 4, 688),  # 3 M
    "base": (512, 12, 8, 8, 1376),  # 38 M
    "large": (1024, 24, 16, 4, 2752),  # 266 M
}


def get_config(size: str = "small") -> ConfigDict:
    """The decoder of a size: small, base or large."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: choose one of {', '.join(SIZES)}")
    d_model, layers, heads, kv_heads, d_ff = SIZES[size]
    big = size != "small"
    length, batch, rate = {"small": (1024, 16, 1e-3), "base": (2048, 64, 6e-4), "large": (2048, 64, 3e-4)}[size]
    return ConfigDict(
        {
            "data": {"length": length, "batch": batch, "transpose": (-5, 6)},
            "model": {
                "family": "decoder",
                "d_model": d_model,
                "layers": layers,
                "heads": heads,
                "kv_heads": kv_heads,
                "d_ff": d_ff,
                "dtype": "bfloat16" if big else "float32",
                "scan": big,
                "remat": size == "large",
                "dropout": 0.1,
            },
            "optim": {"learning_rate": rate, "warmup": 1000, "ema": 0.999},
            "run": {"steps": 50_000, "log_every": 50, "eval_every": 1000, "eval_batches": 32, "checkpoint_every": 1000},
        }
    )
