"""The few layers everything is made of: linear maps with their own backward pass, norm, gate, dropout.

Numbers: parameters are float32. "bfloat16" compute means bfloat16 operands and float32 sums in every matrix product, of
the backward pass too. Between the products a CPU carries float32 (it would convert back and forth), an accelerator
bfloat16.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec

from aurljax import mesh
from aurljax.mesh import Axes
from aurljax.models.int8 import Int8, pack

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def on_cpu() -> bool:
    """Whether programs are built for a CPU."""
    return jax.default_backend() == "cpu"


def carrier(dtype: str):
    """The type of activations between matrix products."""
    return jnp.float32 if on_cpu() else DTYPES[dtype]


def moved(x: jax.Array, order: tuple[int, ...]) -> jax.Array:
    """x transposed in memory: pinned row-major, so that XLA cannot fold the transpose into a neighbouring product.

    On a CPU, products that contract the leading axis of both sides want one side moved first: they run half as fast in
    bfloat16, and some not at all.
    """
    return with_layout_constraint(x.transpose(order), Layout(tuple(range(x.ndim))))


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def contract(subscripts: str, a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
    """einsum over unsharded axes with operands in `dtype` and a float32 result; likewise its gradients."""
    return mesh.einsum(subscripts, a.astype(DTYPES[dtype]), b.astype(DTYPES[dtype]))


def _contract_forward(subscripts, a, b, dtype):
    return contract(subscripts, a, b, dtype), (a, b)


def _contract_backward(subscripts, dtype, saved, g):
    (a, b), (inputs, result) = saved, subscripts.split("->")
    of_a, of_b = inputs.split(",")
    da = contract(f"{result},{of_b}->{of_a}", g, b, dtype)
    db = contract(f"{of_a},{result}->{of_b}", a, g, dtype)
    return da.astype(a.dtype), db.astype(b.dtype)


contract.defvjp(_contract_forward, _contract_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def linear(x: jax.Array, w: jax.Array, axes: Axes, dtype: str, out: str | None = None) -> jax.Array:
    """x[..., in] w[in, out] -> [..., out] laid out as `axes`; in and out may be several dimensions each.

    w comes as stored; it is gathered here, and its gradient is scattered back. `out` is the type of the result
    (default: what is carried between products). An Int8 w is multiplied in int8, and has no gradient.
    """
    if isinstance(w, Int8):
        return _linear_int8(x, w, axes).astype(out or carrier(dtype))
    lead, ins, outs = _letters(x, w, axes)
    y = mesh.einsum(
        f"{lead}{ins},{ins}{outs}->{lead}{outs}", x.astype(DTYPES[dtype]), _whole(x, w, axes, dtype), mesh.spec(axes)
    )
    return y.astype(out or carrier(dtype))


def _linear_int8(x: jax.Array, w: Int8, axes: Axes) -> jax.Array:
    """Rows of x get a scale each, too, so that bytes are multiplied and summed as whole numbers."""
    lead, ins, outs = _letters(x, w.values, axes)
    n, k = len(lead), len(ins)
    low = pack(x, tuple(range(n, n + k)))
    values, used = low.values, jax.typeof(x).sharding.spec[n:]
    single = on_cpu() and math.prod(x.shape[:n]) == 1  # of a single row XLA:CPU would convert the whole matrix first
    values = jnp.concatenate([values, values], n - 1) if single else values
    weights = jax.sharding.reshard(w.values, PartitionSpec(*used, *mesh.spec(axes)[n:]))
    y = jnp.einsum(f"{lead}{ins},{ins}{outs}->{lead}{outs}", values, weights, preferred_element_type=jnp.int32,
                   out_sharding=mesh.spec(axes))  # fmt: skip
    y = jax.lax.slice_in_dim(y, 0, 1, axis=n - 1) if single else y
    of_row = jnp.expand_dims(low.scale, range(n, n + len(outs)))
    return y.astype(jnp.float32) * of_row * mesh.gather(w.scale, axes[n:])


def _letters(x, w, axes: Axes) -> tuple[str, str, str]:
    """einsum letters of the leading, contracted and new dimensions."""
    n = (x.ndim + w.ndim - len(axes)) // 2
    letters = iter("abcdefghijklmnop")
    return tuple("".join(next(letters) for _ in range(k)) for k in (x.ndim - n, n, w.ndim - n))


def _whole(x, w, axes: Axes, dtype: str):
    """w in the compute type (cast first: half the traffic), gathered where its use needs it whole."""
    n = (x.ndim + w.ndim - len(axes)) // 2
    used = (*jax.typeof(x).sharding.spec[x.ndim - n :], *mesh.spec(axes)[x.ndim - n :])
    return jax.sharding.reshard(w.astype(DTYPES[dtype]), PartitionSpec(*used))


def _linear_forward(x, w, axes, dtype, out):
    return linear(x, w, axes, dtype, out), (x, w)


def _linear_backward(axes, dtype, out, saved, g):
    x, w = saved
    lead, ins, outs = _letters(x, w, axes)
    k = len(lead)
    of_x, of_w = (jax.typeof(z).sharding.spec for z in (x, w))
    g, low = g.astype(DTYPES[dtype]), x.astype(DTYPES[dtype])
    dx = mesh.einsum(f"{lead}{outs},{ins}{outs}->{lead}{ins}", g, _whole(x, w, axes, dtype), of_x)
    if not on_cpu():
        dw = mesh.einsum(f"{lead}{ins},{lead}{outs}->{ins}{outs}", low, g, of_w)
    elif x.size <= g.size:  # move the narrower of the two
        low = moved(low, (*range(k, x.ndim), *range(k)))
        dw = moved(mesh.einsum(f"{ins}{lead},{lead}{outs}->{ins}{outs}", low, g, of_w), tuple(range(w.ndim)))
    else:
        g, n = moved(g, (*range(k, g.ndim), *range(k))), len(ins)
        dw = mesh.einsum(f"{outs}{lead},{lead}{ins}->{outs}{ins}", g, low, PartitionSpec(*of_w[n:], *of_w[:n]))
        dw = moved(dw, tuple(range(dw.ndim))).transpose(*range(len(outs), w.ndim), *range(len(outs)))
    return dx.astype(x.dtype), dw.astype(w.dtype)


linear.defvjp(_linear_forward, _linear_backward)


def norm(x: jax.Array, scale: jax.Array, epsilon: float = 1e-6) -> jax.Array:
    """Root-mean-square norm over the last axis, in float32 (Zhang and Sennrich 2019)."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + epsilon)
    return (y * scale).astype(x.dtype)


@jax.custom_vjp
def gated(x: jax.Array) -> jax.Array:
    """[..., 2, f] -> [..., f]: silu(gate) * up (SwiGLU, Shazeer 2020). The backward pass keeps nothing but x."""
    gate, up = x[..., 0, :], x[..., 1, :]
    return gate * jax.nn.sigmoid(gate) * up


def _gated_backward(x, g):
    gate, up = x[..., 0, :], x[..., 1, :]
    s = jax.nn.sigmoid(gate)
    return (jnp.stack([g * up * s * (1 + gate * (1 - s)), g * gate * s], -2),)


gated.defvjp(lambda x: (gated(x), x), _gated_backward)


def dropout(x: jax.Array, rate: float, key: jax.Array | None, axes: int | None = None) -> jax.Array:
    """Zero a share `rate` of x and scale the rest; x itself without a key. What the first `axes` axes address is kept or
    zeroed as a whole (None: every number for itself)."""
    if key is None or rate == 0:
        return x
    n = x.ndim if axes is None else axes
    spec = PartitionSpec(*jax.typeof(x).sharding.spec[:n], *[None] * (x.ndim - n))
    keep = jax.random.bernoulli(key, 1 - rate, (*x.shape[:n], *[1] * (x.ndim - n)), out_sharding=spec)
    return jnp.where(keep, x / (1 - rate), 0)
