"""What a training step computes, and what part of the devices' peak that is.

Counted as in Chowdhery et al. 2022 (PaLM, appendix B): 6 operations for each multiplied weight and slot (2 forward, 4
backward) and 12 x layers x d_model x T for the scores and sums of attention over rows of T slots, hidden or not. Slots that
are padding count; what `remat` computes again does not. A test holds this beside XLA's own count of the compiled step.
"""

from __future__ import annotations

import jax

from aurljax import state
from aurljax.config import Parts
from aurljax.params import is_param

# Dense bfloat16 operations per second, from the makers' data sheets; the longest name that begins a device's kind counts.
PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,  # SXM and GH200
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}
UNLIKE = ("TPU v4 lite", "NVIDIA H200 NVL")  # begin with a name above and are another device


def peak(kind: str) -> float | None:
    """Operations per second of a device of this kind, as `jax.Device.device_kind` has it; None: not known."""
    fits = [name for name in (*PEAKS, *UNLIKE) if kind == name or kind.startswith((f"{name} ", f"{name}-"))]
    return PEAKS.get(max(fits, key=len)) if fits else None


def per_slot(parts: Parts, length: int) -> float:
    """Operations of a training step for each of its slots, in rows of `length` slots."""
    optimised, _, frozen = state.split(parts)
    model = parts.model
    attention = 12 * getattr(model, "layers", 0) * getattr(model, "d_model", 0) * length
    weights = 6 * _multiplied(optimised) + 4 * _multiplied(frozen)  # a frozen weight has no gradient of its own
    if getattr(model, "tie_embeddings", False):  # the table that is looked up is the head, too
        weights += 6 * model.vocab * model.d_model
    return float(weights + attention)


def _multiplied(spec) -> int:
    """Weights that are factors of products: matrices other than tables looked up by id, and not gains or biases."""
    count = 0
    for p in jax.tree.leaves(spec, is_leaf=is_param):
        matrix = len([a for a in p.axes if a != "layers"]) > 1
        size = 1
        for n in p.shape:
            size *= n
        count += size * (matrix and p.axes[0] != "vocab")
    return count
