"""Backends agree with each other and with the formula; the cache agrees with the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aurljax import mesh as meshes
from aurljax.models import attention as attend
from aurljax.models.attention import Mask
from aurljax.models.cache import cached_attention, grow, new_cache

HERE = [name for name in attend.BACKENDS if name != "splash"]  # that one runs on TPUs: see test_splash.py
T = 150  # more than one chunk, and not a multiple of it


def inputs(kv=2, heads=4, t=T, s=None, rows=4, width=6, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (rows, heads, t, width), (rows, kv, s or t, width), (rows, kv, s or t, width)
    return tuple(rng.normal(size=shape).astype("f") for shape in shapes)


def segments(t=T, rows=4):
    """Pieces of uneven lengths, zeros (padding) at the end."""
    ends = np.array([[20, 130, 140], [1, 2, 150], [128, 129, 145], [50, 100, 150]])[:rows, :, None]
    number = 1 + (np.arange(t) >= ends).sum(1)
    return np.where(number == 4, 0, number).astype(np.int32)


MASKS = {
    "causal": Mask(),
    "everything": Mask(causal=False),
    "segments": Mask(segments=segments()),
    "bidirectional segments": Mask(causal=False, segments=segments()),
    "start": Mask(start=np.array([0, 3, 129, 140], np.int32)),
    "window": Mask(window=37),
    "window over a block": Mask(window=70, segments=segments()),
    "window, start": Mask(window=20, start=np.array([0, 3, 100, 140], np.int32)),
    "window, bidirectional": Mask(causal=False, window=5, segments=segments()),
}


def by_hand(q, k, v, mask: Mask):
    """The formula in float64, one row and head at a time."""
    out = np.zeros(q.shape)
    for b, h in np.ndindex(*q.shape[:2]):
        g = h // (q.shape[1] // k.shape[1])
        s = q[b, h].astype(float) @ k[b, g].T / np.sqrt(q.shape[-1])
        query, slot = np.indices(s.shape)
        query = query + (0 if mask.offset is None else int(mask.offset))
        seen = (slot <= query) | (not mask.causal)
        seen &= (query - slot < mask.window) | (not mask.window)
        if mask.segments is not None:
            seen &= mask.segments[b][:, None] == mask.segments[b][None]
        if mask.start is not None:
            seen &= slot >= mask.start[b]
        seen |= ~seen.any(-1, keepdims=True)  # a row that sees nothing is padding: any mean will do
        p = np.where(seen, np.exp(s - s.max()), 0)
        out[b, h] = p / p.sum(-1, keepdims=True) @ v[b, g]
    return out


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("name", MASKS)
def test_backend_is_the_formula(name, backend):
    q, k, v = inputs()
    with meshes.use(meshes.make()):
        out = jax.jit(lambda *a: attend.attention(*a, backend))(q, k, v, MASKS[name])
    keep = np.ones(q.shape[0:1] + (1, T, 1), bool)
    if MASKS[name].start is not None:
        keep = (np.arange(T) >= MASKS[name].start[:, None])[:, None, :, None]
    np.testing.assert_allclose(np.where(keep, out, 0), np.where(keep, by_hand(q, k, v, MASKS[name]), 0), atol=2e-6)


def gradients(backend, mask, q, k, v, dtype="float32"):
    def f(q, k, v, mask):
        out = attend.attention(q, k, v, mask, backend, dtype)
        if mask.start is not None:  # padding sees nothing and counts nothing
            out = jnp.where((jnp.arange(T) >= mask.start[:, None])[:, None, :, None], out, 0)
        return (out * jnp.cos(jnp.arange(out.size).reshape(out.shape))).sum()

    return jax.jit(jax.grad(f, (0, 1, 2)))(q, k, v, mask)


@pytest.mark.parametrize(("name", "heads", "kv"), [("causal", 4, 4), ("segments", 4, 2), ("start", 2, 1),
                         ("window", 2, 1), ("window over a block", 4, 2)])  # fmt: skip
def test_gradients_agree(name, heads, kv, mesh):
    heads, kv = heads * 2, kv * 2
    q, k, v = (jax.device_put(x, meshes.sharding(("batch", "heads", None, None))) for x in inputs(kv, heads))
    mask = jax.tree.map(lambda x: jax.device_put(x, meshes.sharding(("batch",))), MASKS[name])
    for a, b in zip(gradients("blocks", mask, q, k, v), gradients("xla", mask, q, k, v), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
        assert jax.typeof(a) == jax.typeof(q if a.shape == q.shape else k)


@pytest.mark.parametrize("backend", HERE)
def test_bfloat16_operands_come_close(backend):
    q, k, v = inputs()
    with meshes.use(meshes.make()):
        for a, b in zip(
            gradients(backend, Mask(), q, k, v), gradients(backend, Mask(), q, k, v, "bfloat16"), strict=True
        ):
            assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(a)  # bfloat16 holds 8 bits


@pytest.mark.parametrize("backend", HERE)
def test_queries_may_begin_later_than_keys(backend):
    """Continuing a prompt: 40 queries from slot 60 of 130."""
    q, k, v = inputs(t=40, s=130)
    for window in (0, 15):
        mask = Mask(offset=np.int32(60), start=np.array([0, 3, 50, 60], np.int32), window=window)
        with meshes.use(meshes.make()):
            out = jax.jit(lambda *a: attend.attention(*a, backend))(q, k, v, mask)
        np.testing.assert_allclose(out, by_hand(q, k, v, mask), atol=2e-6)


@pytest.mark.parametrize("window", [1, 64, 65])
def test_blocks_that_a_window_hides_are_left_out(window):
    """One product a block that is seen, of 64 queries and slots: the program grows with the row, not with its square."""
    q, k, v = inputs(t=512)
    with meshes.use(meshes.make()):
        text = str(jax.make_jaxpr(lambda *a: attend.attention(*a, Mask(window=window), "blocks"))(q, k, v))
    seen = sum(len({max(0, i * 64 + r - d) // 64 for r in range(64) for d in range(window)}) for i in range(8))
    assert text.count("dot_general[") == 2 * seen


@pytest.mark.parametrize(("rows", "kv"), [(1, 1), (1, 2), (4, 1), (4, 2)])
def test_cache_is_the_whole_read_in_pieces(rows, kv):
    """Prefill 7, continue with 4, then one at a time, growing: the same as all at once."""
    q, k, v = inputs(rows=rows, kv=kv, t=20)
    start = np.array([5, 0, 2, 6], np.int32)[:rows]
    with meshes.use(meshes.make()):
        whole = attend.attention(q, k, v, Mask(start=start), "xla")
        cache = new_cache(1, rows, 12, kv, 6, jnp.float32).replace(start=jnp.asarray(start))
        step = jax.jit(lambda cache, q, k, v: cached_attention(q, k, v, cache, 0, "auto", "float32"))
        outs, at = [], 0
        for n in (7, 4, *[1] * 9):
            if at + n > cache.length:
                cache = grow(cache, 20)
            out, new_k, new_v = step(cache, *(x[:, :, at : at + n] for x in (q, k, v)))
            at += n
            cache = cache.replace(k=(new_k,), v=(new_v,), index=jnp.int32(at))
            outs.append(out)
    assert cache.length == 20
    keep = (np.arange(20) >= start[:, None])[:, None, :, None]
    np.testing.assert_allclose(np.where(keep, np.concatenate(outs, 2), 0), np.where(keep, whole, 0), atol=2e-6)
