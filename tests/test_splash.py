"""The TPU's attention kernel, interpreted: equal to the reference, gradients too, and lowered for a TPU from here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aurljax import mesh as meshes
from aurljax.errors import UserError
from aurljax.models import attention as attend
from aurljax.models import splash
from aurljax.models.attention import Mask
from aurljax.models.heads import grouped

ROWS, KEYS, GROUP, SLOTS, WIDTH = 4, 2, 2, 256, 16


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    shapes = (ROWS, KEYS * GROUP, SLOTS, WIDTH), (ROWS, KEYS, SLOTS, WIDTH), (ROWS, KEYS, SLOTS, WIDTH)
    on = meshes.sharding(("batch", "heads", None, None))
    return tuple(jax.device_put(rng.normal(size=shape).astype("f"), on) for shape in shapes)


def packed():
    ends = np.array([[20, 130, 140], [1, 2, 256], [127, 128, 129], [50, 100, 250]])[:, :, None]
    number = 1 + (np.arange(SLOTS) >= ends).sum(1)
    return meshes.place(np.where(number == 4, 0, number).astype(np.int32))


@pytest.mark.parametrize(("causal", "segments", "window"), [(True, True, 0), (False, False, 0), (True, True, 100)])
def test_equals_the_reference(mesh, causal, segments, window):
    q, k, v = inputs()
    mask = Mask(causal=causal, segments=packed() if segments else None, window=window)

    def of(backend):
        def f(q, k, v):
            return jnp.sin(3 * backend(grouped(q, k), k, v, mask, "float32")).sum()

        return jax.jit(jax.value_and_grad(f, (0, 1, 2)))(q, k, v)

    def kernel(*arguments):
        return splash.attend(*arguments, interpret=True)

    (a, ours), (b, theirs) = of(kernel), of(attend.BACKENDS["xla"])
    np.testing.assert_allclose(a, b, rtol=1e-5)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
        assert jax.typeof(x) == jax.typeof(y)


@pytest.mark.parametrize("width", [16, 64, 128])
def test_it_is_lowered_for_a_tpu(width):
    """Forward, and backward for queries and for keys and values: three kernels."""

    def f(q, k, v, segments):
        return splash.local(q, k, v, segments, causal=True, interpret=False).astype("float32").sum()

    q, k = (jax.ShapeDtypeStruct((*lead, SLOTS, width), "bfloat16") for lead in ((2, KEYS, GROUP), (2, KEYS)))
    ids = jax.ShapeDtypeStruct((2, SLOTS), "int32")
    lowered = jax.jit(jax.grad(f, (0, 1, 2))).trace(q, k, k, ids).lower(lowering_platforms=("tpu",))
    assert lowered.as_text().count("tpu_custom_call") == 3


def test_it_is_refused_elsewhere_and_for_rows_it_cannot_cut():
    with meshes.use(meshes.make()):
        with pytest.raises(UserError, match="is a kernel of TPUs and this is a cpu; choose auto"):
            attend.attention(*inputs(), Mask(), "splash")
        q, k, v = (x[:, :, :200] for x in inputs())
        with pytest.raises(UserError, match="multiple of 128 ids, not 200; the nearest is 256"):
            splash.attend(grouped(q, k), k, v, Mask(), "float32", interpret=True)


def test_rows_beside_a_cache_are_left_to_the_reference():
    with meshes.use(meshes.make()):
        q, k, v = inputs()
        mask = Mask(start=jnp.array([0, 3, 129, 140], jnp.int32))
        found, expected = (attend.attention(q, k, v, mask, backend) for backend in ("splash", "xla"))
        np.testing.assert_array_equal(found, expected)
