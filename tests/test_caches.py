"""What a cache keeps: a ring of a window's slots, numbers of fewer bytes; and the sizes that programs are compiled for."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decode import CODEC, START, config, keys, plan, weights
from test_transformer import CONFIG, EVERY, T, create, forward, logits, pack, part

from aurljax import config as configs
from aurljax import mesh as meshes
from aurljax import params
from aurljax.decode import length, loop
from aurljax.errors import UserError
from aurljax.model import Model
from aurljax.models.cache import new_cache
from aurljax.models.decoder import DECODER
from aurljax.models.int8 import Int8
from aurljax.models.int8 import pack as pack_int8
from aurljax.models.layers import linear


def in_pieces(config, weights, batch, dtype, pieces):
    """Logits of a row read in pieces of so many ids through a cache."""
    cache, outs, at = DECODER.init_cache(config, len(batch.tokens), T, dtype), [], 0
    for n in pieces:
        out, cache = logits(config, weights, meshes.place(part(batch, slots=slice(at, at + n))), cache)
        outs.append(np.asarray(out))
        at += n
    return np.concatenate(outs, 1), cache


# ---- rings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [(19, 1, 1, 1, 1, 1), (4, 20), (11, 9, 1, 3)], ids=str)
def test_a_ring_read_in_any_pieces_is_the_whole(pieces):
    """A prompt longer than the ring, a piece that wraps, one id at a time."""
    with meshes.use(meshes.make()):
        model = replace(CONFIG, window=6)
        trained, batch = create(model), pack(rows=2)
        found, cache = in_pieces(model, trained, batch, None, pieces)
        assert cache.length == 16 < T
        np.testing.assert_allclose(found, forward(model, trained, batch), atol=1e-4)


def test_a_ring_has_as_many_slots_as_its_window_needs():
    with meshes.use(meshes.make()):
        for window, slots in ((0, 1000), (100, 112), (112, 112), (2000, 1000)):
            assert new_cache(1, 2, 1000, 2, 4, "float32", window).length == slots


# ---- fewer bytes ----------------------------------------------------------------------------------------------------


@settings(deadline=None)  # the first is compiled
@given(st.integers(0, 2**32 - 1), st.sampled_from([(0,), (1,), (0, 1), (-1,)]), st.floats(-20, 20))
def test_bytes_are_off_by_half_a_scale_at_most(seed, axes, size):
    x = np.random.default_rng(seed).normal(size=(3, 4, 5)).astype("f") * np.float32(10**size)
    x[0, 0] = 0
    low = pack_int8(jnp.asarray(x), axes)
    scale = np.expand_dims(low.scale, [a % 3 for a in axes])
    assert low.values.dtype == jnp.int8 and scale.size == x.size // np.prod([x.shape[a] for a in axes])
    assert (np.abs(low.values * scale - x) <= scale * 0.5001).all()


@pytest.mark.parametrize(("inputs", "outputs", "axes"), [((8,), (4, 3, 2), ("heads", None, None)),
                                                         ((4, 6), (8,), (None,)), ((48,), (8,), (None,))])  # fmt: skip
@pytest.mark.parametrize("shape", [(4, 2), (4, 1), (1, 1)], ids=str)
def test_a_product_of_bytes_is_that_of_the_numbers_they_stand_for(inputs, outputs, axes, shape, mesh):
    if mesh.size > shape[0] * shape[1]:
        pytest.skip("rows are not divided")
    rng, n = np.random.default_rng(0), len(inputs)
    x, w = rng.normal(size=(*shape, *inputs)).astype("f"), rng.normal(size=(*inputs, *outputs)).astype("f")
    of_x, of_w = tuple(range(2, 2 + n)), tuple(range(n))
    low_x, low_w = (jax.tree.map(np.asarray, pack_int8(jnp.asarray(v), a)) for v, a in ((x, of_x), (w, of_w)))
    whole = np.einsum("abk,kn->abn", low_x.values.astype(int).reshape(*shape, -1), low_w.values.astype(int).reshape(
        np.prod(inputs), -1)).reshape(*shape, *outputs)  # fmt: skip
    expected = whole * np.expand_dims(low_x.scale, tuple(range(2, 2 + len(outputs)))) * low_w.scale
    found = linear(meshes.place(x), pack_int8(jnp.asarray(w), of_w), ("batch", None, *axes), "float32")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "matrices", "most"), [("bfloat16", None, 0.01), ("int8", None, 0.01), ("int8", "int8", 0.05)], ids=str
)
def test_fewer_bytes_come_close(dtype, matrices, most, mesh):
    """Beside the spread of the logits; every matrix and every buffer is of the type asked for."""
    if mesh.size > 1 and matrices is None:
        pytest.skip("a mesh is tried with both")
    model = EVERY
    trained, batch = create(model), pack()
    prepared, low = DECODER.prepare(model, trained, matrices)
    found, cache = in_pieces(prepared, low, batch, dtype, (9, *[1] * (T - 9)))
    whole = forward(model, trained, batch)
    assert 1e-5 < np.abs(found - whole).max() < most * whole.std()
    kept = {x.dtype.name for x in jax.tree.leaves((cache.k, cache.v)) if x.ndim == 4}
    assert kept == {dtype or "float32"}
    parts = jax.tree.leaves((low["body"], low.get("head")), is_leaf=lambda x: isinstance(x, Int8))
    assert matrices is None or all(isinstance(w, Int8) or w.ndim == 1 for w in parts)


def test_types_that_there_are_not_are_refused():
    with pytest.raises(UserError, match="cache: 'int4' is none of float32, bfloat16, int8"):
        replace(plan(64), cache="int4")
    with pytest.raises(UserError, match="weights: 'bfloat16' is none of float32, int8"):
        replace(plan(64), weights="bfloat16")


# ---- how long, and how many programs --------------------------------------------------------------------------------


@given(st.integers(1, 10**6))
def test_sizes_are_few_and_not_much_too_large(n):
    size = length.bucket(n)
    assert n <= size <= max(64, 1.5 * n + 63) and length.bucket(size) == size


def test_prompts_of_every_length_ask_for_few_programs():
    shapes = {(length.bucket(n), length.bucket(1024 - n)) for n in range(1, 1017)}
    assert len(shapes) <= 16


def test_prompts_of_like_length_share_a_program():
    programs = loop.begin, loop.widen, loop.proceed
    before = [p._cache_size() for p in programs]
    with meshes.use(meshes.make()):
        for n in (65, 70, 128):
            ids, start = loop.left_padded([np.resize(START, n)])
            assert ids.shape == (1, 128) and start == 128 - n
            limits = loop.limits(1, None, None, False)
            left = np.array([16 - n % 2], np.int32)
            loop.generate(replace(plan(17), segments=1), weights(), ids, start, keys([0]), *limits, left)
    assert [p._cache_size() - n for p, n in zip(programs, before, strict=True)] == [1, 1, 1]


def test_the_loop_ends_with_its_last_row():
    """A program that may write a million ids writes those that are left to it."""
    steps = []

    def apply(*arguments, **options):
        jax.debug.callback(lambda: steps.append(1))
        return DECODER.apply(*arguments, **options)

    p = replace(plan(2**20), family=replace(DECODER, apply=apply), config=replace(config(CODEC), window=20))
    with meshes.use(meshes.make()):
        limits = loop.limits(2, None, None, False)
        left = np.array([9, 30], np.int32)
        out = loop.generate(p, weights(), np.tile(START, (2, 1)), np.zeros(2, np.int32), keys([0, 1]), *limits, left)
        jax.effects_barrier()
    count = (np.asarray(out) > 0).sum(1)
    assert len(steps) == 1 + count.max() <= 31 and (count <= left).all()


ROOM = dict(context=100, window=0, shortest=8)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (dict(prompts=[1, 40]), [99, 60]),
        (dict(prompts=[1, 40], max_ids=70), "max_ids: 70 are too many: the context of 100 ids holds 60 behind 40 of the"),
        (dict(prompts=[1, 40], max_ids=50), [50, 50]),
        (dict(prompts=[1], max_ids=7), "max_ids: 7 is too few to end a piece; give at least 8"),
        (dict(prompts=[1, 93]), "prompt: 93 ids leave no room in a context of 100"),
        (dict(prompts=[1], bars=100), "bars: 100 are too many: the context of 100 ids holds 99, and a bar takes at least"),
        (dict(prompts=[1], bars=99, seconds=1e6), [99]),
        (dict(prompts=[1, 500], window=20), [100, 100]),
        (dict(prompts=[500], window=20, bars=3), [1536]),
        (dict(prompts=[500], window=20, bars=3, seconds=2.5), [640]),
        (dict(prompts=[500], window=20, bars=3, max_ids=10**6), [10**6]),
    ],
    ids=str,
)  # fmt: skip
def test_room(given, expected):
    if isinstance(expected, str):
        with pytest.raises(UserError, match=re.escape(expected)):
            length.room(**ROOM | given)
    else:
        assert length.room(**ROOM | given) == expected


def test_a_window_writes_more_than_its_context():
    """Pieces of more ids than a training row has, under the grammar; in a batch as alone; in bytes, too."""
    tree = {
        "data": {"length": 64},
        "model": {"window": 32, "d_model": 32, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32},
    }
    parts = configs.build(configs.from_dict(tree))
    with meshes.use(meshes.make()):
        model = Model(parts, params.init(parts.family.spec(parts.model), jax.random.key(0)), meshes.make())
    asked = dict(max_ids=200, temperature=1.5, cache="int8", weights="int8")
    two = model.generate(2, **asked)
    assert model.window == 32 and model.context == 64
    assert max(len(model.codec.encode(score)) for score in two) > 100
    full = Model(
        configs.build(configs.from_dict(tree | {"model": tree["model"] | {"window": 0}})), model.weights, model.mesh
    )
    with pytest.raises(UserError, match="the context of 64 ids holds 63"):
        full.generate(max_ids=200)


def test_a_window_longer_than_a_row_is_refused():
    with pytest.raises(UserError, match="model.window=65 is more than the data.length=64 ids of a row.*window=32, say"):
        configs.build(configs.from_dict({"data": {"length": 64}, "model": {"window": 65}}))
