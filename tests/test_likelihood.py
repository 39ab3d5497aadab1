"""Likelihood: sums that can be had another way, and every bar of a long piece scored once."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scores import long_piece, random_score

from aurljax import mesh as meshes
from aurljax import params
from aurljax.evaluate import likelihood
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.models.family import Inputs
from aurljax.music.codec import make

CODEC = make("score")
CONFIG = DecoderConfig(vocab=len(CODEC.vocabulary), features=tuple(CODEC.feature_sizes.items()), d_model=16, layers=1,
                       heads=2, kv_heads=2, d_ff=32)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    mesh = meshes.make()
    with meshes.use(mesh):
        weights = params.init(DECODER.spec(CONFIG), jax.random.key(0))
    parts = types.SimpleNamespace(family=DECODER, model=CONFIG)
    return types.SimpleNamespace(codec=CODEC, parts=parts, weights=weights, mesh=mesh, context=256)


def by_hand(model, ids):
    """Nats, nats within the grammar, and of the uniform legal model, one id at a time."""
    with meshes.use(model.mesh):
        features = {k: v[None] for k, v in CODEC.features(ids).items()}
        inputs = meshes.place(Inputs(ids[None], np.arange(len(ids))[None], features))
        logits = np.asarray(DECODER.apply(CONFIG, model.weights, inputs)[0][0], np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    state, out = CODEC.grammar.init(1), np.zeros(4)
    for i, token in enumerate(ids[:-1]):
        state = CODEC.grammar.advance(state, np.array([token]))
        legal = CODEC.grammar.allowed(state)[0]
        q, inside = p[i, ids[i + 1]], p[i, legal].sum()
        out += -np.log(q), -np.log(q / inside), np.log(legal.sum()), 1 - inside
    return out


def test_sums_are_those_taken_by_hand(model):
    scores = [random_score(s, 30) for s in (2, 4, 9)]
    sequences = [CODEC.encode(s) for s in scores]
    assert max(map(len, sequences)) <= model.context + 1
    found = likelihood.of_scores(model, scores)
    want = sum(by_hand(model, ids) for ids in sequences)
    np.testing.assert_allclose((found.nats, found.legal_nats, found.uniform_nats, found.illegal), want, rtol=1e-4)
    assert found.ids == sum(len(i) - 1 for i in sequences) and found.notes == sum(map(len, scores))
    assert found.legal_nats < found.nats


def test_equal_logits_give_the_uniform_figures(model):
    flat = types.SimpleNamespace(**vars(model) | {"weights": jax.tree.map(jnp.zeros_like, model.weights)})
    found = likelihood.of_scores(flat, [random_score(2, 30)]).summary()
    assert found["nats_per_id"] == pytest.approx(np.log(len(CODEC.vocabulary)), rel=1e-5)
    assert found["legal_nats_per_id"] == pytest.approx(found["uniform_nats_per_id"], rel=1e-5)
    assert found["bits_per_second"] == pytest.approx(
        found["nats_per_id"] * found["ids"] / np.log(2) / found["seconds"], rel=1e-6
    )


@pytest.mark.parametrize("seed", range(6))
def test_every_bar_of_a_long_piece_is_scored_once(seed):
    score = long_piece(60, seed) if seed % 2 else random_score(seed, 400)
    context = 200
    bar = CODEC.vocabulary.id("bar")
    whole, lengths = CODEC.encode(score), CODEC.bar_lengths(score)
    scored, rows = [], list(likelihood.rows(CODEC, score, context))
    for number, (ids, first) in enumerate(rows):
        assert len(ids) <= context + 1
        scored.append(ids[first:])
        if number and lengths.max() < context // 4:
            assert first >= context // 2
    if (lengths <= context - CODEC.overhead(score)).all():
        pitch = CODEC.vocabulary.index["pitch"]
        count = sum(int((CODEC.vocabulary.kind[s] == pitch).sum()) for s in scored)
        assert count == int((CODEC.vocabulary.kind[whole] == pitch).sum())
        assert sum(int((s == bar).sum()) for s in scored) == len(lengths)
