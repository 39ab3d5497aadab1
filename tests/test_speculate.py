"""Speculative decoding: the distribution of the large model whatever the draft, and its greedy choice id for id."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aurljax import mesh as meshes
from aurljax import params
from aurljax.config import build, from_dict
from aurljax.decode import loop, speculate
from aurljax.decode.sampler import Repetition, Sampler
from aurljax.errors import UserError
from aurljax.export import provenance
from aurljax.model import Model
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.music import codec as codecs

FRAMES = codecs.make("voices", voices=1, grid=1, barlines=False)


def plan(codec, sampler, most, width, seed):
    sizes = {"vocab": len(codec.vocabulary), "features": tuple(codec.feature_sizes.items())}
    config = DecoderConfig(**sizes, d_model=width, layers=1, heads=2, kv_heads=2, d_ff=2 * width)
    weights = params.init(DECODER.spec(config), jax.random.key(seed))
    return loop.Plan(DECODER, config, codec, sampler, most, segments=1), weights


def asked(codec, keys, left, bars=None, prompt=("start",)):
    begin = [codec.vocabulary.id(kind, 3 * (codec.vocabulary.size(kind) > 1)) for kind in prompt]
    ids = np.tile(np.array(begin, np.int32), (len(keys), 1))
    limits = loop.limits(len(keys), bars, None, False)
    return jnp.asarray(ids), jnp.zeros(len(keys), jnp.int32), keys, *map(jnp.asarray, limits), jnp.full(len(keys), left)


@pytest.mark.slow
def test_the_distribution_is_the_large_models():
    """Chi-square of the first three ids in 10,000 pieces, and of the same against the draft's, which must fail."""
    n, sampler = 10_000, Sampler(0.7, top_k=3, repetition=Repetition(1.5, 2))
    with meshes.use(meshes.make()):
        (large, w), (small, v) = (plan(FRAMES, sampler, 8, *x) for x in ((16, 1), (8, 2)))

        @jax.jit
        def pieces(keys):
            one = functools.partial(speculate.generate, large, small, 3, w, v)
            return jax.lax.map(lambda k: one(jax.random.fold_in(k, 7), *asked(FRAMES, k[None], 8))[0][0], keys)

        drawn = np.asarray(pieces(jax.random.split(jax.random.key(1), n)))
        plain, draft = (np.asarray(loop.generate(p, x, *asked(FRAMES, jax.random.split(jax.random.key(2), n), 8)))
                        for p, x in ((large, w), (small, v)))  # fmt: skip

    def apart(a, b):
        """Standard deviations of chi-square of two samples."""
        found, which = np.unique(np.concatenate([a, b])[:, :3], axis=0, return_inverse=True)
        x, y = (np.bincount(part, minlength=len(found)) for part in (which[:n], which[n:]))
        often = x + y >= 10
        chi, free = ((x - y)[often] ** 2 / (x + y)[often]).sum(), often.sum() - 1
        return (chi - free) / np.sqrt(2 * free), free

    away, free = apart(drawn, plain)
    assert free > 8 and away < 4
    assert apart(drawn, draft)[0] > 20
    assert all(FRAMES.decode(np.append(FRAMES.vocabulary.id("start"), ids)) for ids in drawn[:200])


@pytest.mark.parametrize("seed", [4, 1], ids=["another", "itself"])
def test_the_greedy_choice_is_the_plain_one(seed):
    codec, sampler = codecs.make("voices", voices=2, grid=1), Sampler(0, unrepeated=2)
    prompt = ("start", "bar", "meter", "tempo")
    with meshes.use(meshes.make()):
        (large, w), (small, v) = (plan(codec, sampler, 64, 32, x) for x in (1, seed))
        keys = jax.random.key(3)[None]
        want = np.asarray(loop.generate(large, w, *asked(codec, keys, 64, 6, prompt)))
        found, rounds = speculate.generate(large, small, 3, w, v, keys[0], *asked(codec, keys, 64, 6, prompt))
    assert np.array_equal(found, want)
    count = int((want > 0).sum())
    assert count > 40 and rounds <= count - 1
    if seed == 1:  # its own draft: every id is kept
        assert rounds == -(-(count - 1) // 4)


def model(name="voices", length=64, window=0, seed=1, **options):
    small = {"family": "decoder", "d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32, "window": window}
    parts = build(from_dict({"model": small, "data": {"length": length}, "codec": {"name": name, "options": options}}))
    devices = meshes.make()
    with meshes.use(devices):
        return Model(parts, params.init(parts.family.spec(parts.model), jax.random.key(seed)), devices)


@pytest.mark.slow
def test_a_model_generates_with_a_draft():
    large, small = (model(seed=seed, voices=2, grid=1) for seed in (1, 2))
    asked = {"bars": 2, "temperature": 0}
    plain = large.generate(2, **asked)
    fast = large.generate(2, draft=small, ahead=2, **asked)
    assert [s.notes.tobytes() for s in fast] == [s.notes.tobytes() for s in plain]
    assert provenance.read(fast[0])["ahead"] == 2
    hot = large.generate(2, draft=small, ahead=2, bars=2, seed=3)
    assert hot[1] == large.generate(2, draft=small, ahead=2, bars=2, seed=3)[1] and len(hot[0]) > 0


def test_drafts_that_do_not_fit_are_refused():
    large = model(voices=2, grid=1)
    for draft, words in (
        (model(voices=2, grid=2), "not that of the model"),
        (model(voices=2, grid=1, window=16), "model.window"),
    ):
        with pytest.raises(UserError, match=words):
            large.generate(draft=draft)
    with pytest.raises(UserError, match="ahead must be above 0"):
        large.generate(draft=large, ahead=0)
