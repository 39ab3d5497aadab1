"""The measure of the JSB chorales: distributions that are, that know no future, and that mix as they should."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import aurljax
from aurljax import config, mesh, params
from aurljax.evaluate import likelihood
from aurljax.model import Model

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import jsb
import jsb_score
from jsb_score import SYMBOLS, Mixture

CODEC = {"name": "voices", "options": {"barlines": False, "intervals": True}}
SIZES = {"d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 16, "rotary_pitch": 0.5, "interval_head": True}


def model(seed, length=256, **codec):
    tree = {"codec": {**CODEC, **codec}, "data": {"length": length}, "model": SIZES}
    parts = config.build(config.from_dict(tree))
    devices = mesh.make()
    rng = np.random.default_rng(seed)

    def draw(p):  # with numpy: compiling the initialisation takes long
        return np.ones(p.shape, "f") if p.init == "ones" else rng.normal(size=p.shape).astype("f") * min(p.scale, 0.5)

    with mesh.use(devices):
        spec = parts.family.spec(parts.model)
        drawn = jax.tree.map(draw, spec, is_leaf=params.is_param)
        weights = jax.tree.map(lambda w, x: jax.device_put(w, x.sharding), drawn, params.abstract(spec))
    return Model(parts, weights, devices)


def chorale(seed, frames):
    """[frames, 4] pitches of four voices that stay or move by a step, with rests; the last frame sounds."""
    rng = np.random.default_rng(seed)
    moves = rng.integers(-2, 3, (frames, 4)) * (rng.random((frames, 4)) < 0.3)
    out = np.clip(np.array([70, 65, 58, 48]) + moves.cumsum(0), 40, 76)
    out[rng.random((frames, 4)) < 0.05] = -1
    out[-1, 0] = 60
    return out


PIECES = [chorale(0, 30), chorale(1, 150), chorale(2, 12)]  # the second is longer than the context


@pytest.fixture(scope="module")
def models():
    return [model(0), model(1)]


@pytest.mark.parametrize("mixture", [Mixture(), Mixture(3), Mixture(3, 1.0), Mixture(2, 0.9, "geometric")], ids=str)
def test_distributions_sum_to_one_and_know_no_future(mixture, models):
    found = jsb_score.distributions(models, PIECES, mixture)
    later = [piece.copy() for piece in PIECES]
    cut = [17, 130, 3]
    for piece, at in zip(later, cut, strict=True):
        piece[at:, 1:] = chorale(9, len(piece))[at:, 1:]  # from the alto of a frame on
    changed = jsb_score.distributions(models, later, mixture)
    for x, y, piece, at in zip(found, changed, PIECES, cut, strict=True):
        assert x.shape == (piece.size, SYMBOLS)
        np.testing.assert_allclose(np.exp(x).sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(x[: 4 * at + 2], y[: 4 * at + 2], atol=1e-5)
        assert np.abs(x - y)[4 * at + 2 :].max() > 1e-3


def test_one_member_is_the_models_likelihood(models):
    """The plain likelihood, less what it gives to ids outside the measure: other pitches and ids, and the `end`."""
    piece, one = PIECES[0], models[0]
    ids = one.codec.encode(jsb.score(piece))
    inside = list(one.codec.vocabulary.id("pitch", 36) + np.arange(46)) + [one.codec.vocabulary.id("rest")]
    logs = jsb_score._batch(one, [ids], np.arange(len(one.codec.vocabulary)))[0]
    nats = -sum(logs[t, ids[t + 1]] for t in range(len(ids) - 1))
    np.testing.assert_allclose(nats, likelihood.of_scores(one, [jsb.score(piece)]).nats, rtol=1e-4)
    outside = sum(np.logaddexp.reduce(logs[t, inside]) for t in range(piece.size))
    (found,) = jsb_score.distributions([one], [piece], Mixture())
    measured = -found[np.arange(piece.size), jsb_score.symbols(piece)].sum()
    np.testing.assert_allclose(measured, nats + logs[piece.size, ids[-1]] + outside, rtol=1e-4)


def test_what_is_generated_step_by_step_is_what_the_measure_expects(models):
    """Greedy draws through cache and grammar are the likeliest ids of the plain forward pass."""
    one = models[0]
    score = one.generate(1, prompt=jsb.score(PIECES[2]), seconds=2.0, top_k=1)[0]
    ids, begun = one.codec.encode(score), 4 * len(PIECES[2]) + 1
    logs = jsb_score._batch(one, [ids], np.arange(len(one.codec.vocabulary)))[0]
    pitches = slice(one.codec.vocabulary.id("pitch"), None)
    assert len(ids) > begun + 40
    for t in range(begun, len(ids) - 5):  # the last frame is the last by force
        if ids[t] >= pitches.start:
            assert logs[t - 1, ids[t]] >= logs[t - 1, pitches].max() - 1e-3


def test_members_are_weighed_by_their_past_as_told():
    rng = np.random.default_rng(0)
    logs = np.log(rng.dirichlet(np.ones(SYMBOLS), (3, 20)))
    tokens = rng.integers(0, SYMBOLS, 20)
    p = np.exp(logs)
    even = jsb_score.mixed(logs, tokens, Mixture(3))
    np.testing.assert_allclose(np.exp(even), p.mean(0))
    bayes = jsb_score.mixed(logs, tokens, Mixture(3, 1.0))
    whole = np.exp(logs[:, np.arange(20), tokens].sum(1)).mean()  # the evidence of a mixture over whole pieces
    np.testing.assert_allclose(bayes[np.arange(20), tokens].sum(), np.log(whole))
    product = jsb_score.mixed(logs, tokens, Mixture(3, 0.0, "geometric"))
    ratio = product - logs.mean(0)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape))
    assert Mixture(4).shifts == [0, -1, 1, -2]


def test_the_table_has_what_the_measure_asks_for(models, tmp_path, monkeypatch, capsys):
    pieces = {split: [p.tolist() for p in PIECES] for split in jsb.SPLITS}
    (tmp_path / "jsb.json").write_text(json.dumps(pieces))
    monkeypatch.setattr(aurljax, "load_model", lambda path: models[int(path)], raising=False)
    out = tmp_path / "pred.json"
    command = ["score", "0", "1", "--json", str(tmp_path / "jsb.json"), "--split", "test", "--keys", "2"]
    assert jsb.main([*command, "--out", str(out)]) == 0
    table = json.loads(out.read_text())
    assert [len(x) for x in table["logp"]] == [p.size for p in PIECES] and len(table["probe"]) == 200
    for k, at, logs in table["probe"]:
        assert len(logs) == SYMBOLS and abs(np.logaddexp.reduce(logs)) < 1e-5
        assert logs[jsb_score.symbols(PIECES[k])[at]] == table["logp"][k][at]
    nats = -np.concatenate(table["logp"]).mean()
    assert f"test: {nats:.5f} nats per token, 3 pieces, 4 members" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("codec", "pieces", "how", "said"),
    [
        ({"name": "voices", "options": {}}, PIECES, {}, "barlines=False"),
        ({}, [np.array([[90, 60, 50, 40]])], {}, "outside 36..81"),
        ({}, [np.array([[60, 60, 50, 40], [-1] * 4])], {}, "frames of silence"),
        ({}, PIECES, {"keys": 0}, "keys: 0"),
        ({}, PIECES, {"memory": 2.0}, "memory: 2.0"),
    ],
)
def test_what_cannot_be_scored_is_refused(codec, pieces, how, said, models):
    with pytest.raises(aurljax.errors.UserError, match=said):
        one = model(0, **codec) if codec else models[0]
        jsb_score.prediction("test", pieces, jsb_score.distributions([one], pieces, Mixture(**how)), 3)
