"""What "bfloat16" means, read from the program that is compiled."""

import re

import jax
import pytest
from runs import random_batch

from aurljax import config, state, step
from aurljax import mesh as meshes
from aurljax.models.decoder import DECODER, DecoderConfig

PRODUCT = re.compile(r"stablehlo\.dot_general .*: \(tensor<([^>]*)>, tensor<([^>]*)>\) -> tensor<([^>]*)>")


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_products_are_in_the_compute_type_and_all_else_is_float32(mesh, dtype, scan):
    """Every matrix product of a training step, forward and backward: operands in `dtype`, sums in float32. Parameters,
    optimizer and averages stay float32."""
    c = DecoderConfig(vocab=24, d_model=16, layers=2, heads=2, kv_heads=2, d_ff=32, scan=scan, remat=scan, dtype=dtype)
    tree = {"optim": {"ema": 0.9, "accumulation": 2}, "data": {"length": 16, "batch": 16}}
    p = config.Parts(config.from_dict(tree), None, DECODER, c)
    lowered = step.train_step(p).lower(meshes.concrete(state.abstract(p)), meshes.place(random_batch(0, 24)))
    found = [tuple(t.rpartition("x")[2] for t in m) for m in PRODUCT.findall(lowered.as_text())]
    short = {"bfloat16": "bf16", "float32": "f32"}[dtype]
    assert len(found) >= 3 * (2 * 4 + 1) - 8 * scan and set(found) == {(short, short, "f32")}
    now, _ = lowered.out_info
    kept = jax.tree.leaves((now.params, now.opt_state, now.ema))
    assert {str(x.dtype) for x in kept if x.ndim} == {"float32"}
