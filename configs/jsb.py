"""The JSB chorales of the literature's benchmark, learned on a CPU; `tools/jsb.py` makes the corpus and takes the measure.

    aurljax train --config=configs/jsb.py --config.data.corpus=corpus --workdir=run
    python tools/jsb.py score run --json Jsb16thSeparated.json --split valid --keys 12

229 pieces of some 900 ids: too few to learn from twelve keys apart, so the model hears intervals alone and reckons in
them, and much is left out at random. Published on the validation split, nats per token: Transformer 0.417, Music
Transformer 0.335 (Huang et al. 2019).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A decoder of about 1 million parameters, each piece heard in twelve keys."""
    return ConfigDict(
        {
            "codec": {"name": "voices", "options": {"barlines": False, "intervals": True}},
            "data": {"length": 1024, "batch": 4, "transpose": (-6, 5)},
            "model": {
                "family": "decoder",
                "d_model": 128,
                "layers": 4,
                "heads": 4,
                "kv_heads": 4,
                "d_ff": 352,
                "dtype": "bfloat16",
                "interval_head": True,
                "pitch_inputs": False,
                "rotary_pitch": 0.5,
                "rotary_values": True,
                "rope_period": 4.0,  # slots: a frame of four voices, and doubled, the beat, the bar ... up to 512
                "rope_theta": 256.0,
                "dropout": 0.2,
                "input_dropout": 0.1,
            },
            "optim": {"learning_rate": 3e-3, "warmup": 100, "weight_decay": 0.1, "ema": 0.999, "end_factor": 0.02},
            "run": {"steps": 5000, "log_every": 50, "eval_every": 500, "eval_batches": 64, "checkpoint_every": 1000},
        }
    )
