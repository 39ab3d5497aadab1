"""The JSB chorales of the literature's benchmark; `tools/jsb.py` makes the corpus and takes the measure.

    aurljax train --config=configs/jsb.py --config.data.corpus=corpus --workdir=run
    python tools/jsb.py score run --json Jsb16thSeparated.json --split valid --keys 12

229 pieces of some 900 ids, too few for any model that is left to learn them by heart: each is heard in twelve keys, and a
quarter of all embeddings is left out. On the validation split, nats per token: 0.335 for one key, 0.319 for the mean of
twelve (one seed, trained on an H200 in four minutes). `configs/jsb.py:small` is for a CPU: 5,000 steps in three quarters of
an hour on two cores, to 0.350 and 0.334 (test: 0.361, 0.345; one seed). Published: Transformer 0.417, Music Transformer
0.335 (Huang et al. 2019).
"""

from ml_collections import ConfigDict

SIZES = {  # d_model, heads, d_ff, rows, steps, dropout, share of embeddings left out
    "base": (192, 6, 512, 8, 4000, 0.2, 0.25),
    "small": (128, 4, 352, 4, 5000, 0.1, 0.2),
}


def get_config(size: str = "base") -> ConfigDict:
    """A decoder of four layers: base (2 M parameters) or small (1 M)."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: choose one of {', '.join(SIZES)}")
    d_model, heads, d_ff, batch, steps, dropout, input_dropout = SIZES[size]
    return ConfigDict(
        {
            "codec": {"name": "voices", "options": {"barlines": False}},
            "data": {"length": 1024, "batch": batch, "transpose": (-6, 5)},
            "model": {
                "family": "decoder",
                "d_model": d_model,
                "layers": 4,
                "heads": heads,
                "kv_heads": heads,
                "d_ff": d_ff,
                "dtype": "float32" if size == "base" else "bfloat16",
                "dropout": dropout,
                "input_dropout": input_dropout,
            },
            "optim": {"learning_rate": 3e-3, "warmup": 100, "weight_decay": 0.1, "ema": 0.999, "end_factor": 0.02},
            "run": {"steps": steps, "log_every": 50, "eval_every": 500, "eval_batches": 64, "checkpoint_every": 1000},
        }
    )
