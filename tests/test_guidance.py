"""Guidance: windows without controls in training, and rows with and without them that write as one."""

import collections
import dataclasses

import jax
import numpy as np
import pytest
from scores import tune

from aurljax import mesh as meshes
from aurljax import params
from aurljax.cli import main
from aurljax.config import build, from_dict
from aurljax.data.augment import Augment, Effect
from aurljax.data.corpus import Corpus
from aurljax.data.ingest import ingest
from aurljax.data.pipeline import Dataset
from aurljax.decode import loop
from aurljax.decode.beam import Beam
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.export import provenance
from aurljax.model import Model
from aurljax.models.family import Inputs
from aurljax.music import codec as codecs

GENRES = 4
OPTIONS = {"controls": (("genre", GENRES),)}
CODEC = codecs.make("score", **OPTIONS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """20 tunes whose genre is told by a number."""
    folder = tmp_path_factory.mktemp("guidance")
    (folder / "midi").mkdir()
    for i in range(20):
        tune(i, 6).replace(meta={"genre": str(i % GENRES)}).save_midi(folder / "midi" / f"{i:02}.mid")
    ingest([folder / "midi"], folder / "corpus", workers=1, fractions=(0, 0))
    return Corpus(folder / "corpus")


def test_a_share_of_the_windows_goes_without_controls(corpus):
    """Another one in each epoch, by the seed alone, transposed as it would be; all else is there."""
    options = {"length": 128, "batch": 2, "transpose": (-3, 3)}
    plain, some = (Dataset(corpus, CODEC, "train", controls_dropout=share, **options) for share in (0.0, 0.3))
    again = Dataset(corpus, CODEC, "train", controls_dropout=0.3, **options).sources[0]
    control, first = CODEC.vocabulary.index["genre"], plain.sources[0]
    without = collections.Counter()
    for epoch in range(12):
        for window in range(len(first.windows)):
            (want, _), (ids, features) = (d.sources[0].window(window, epoch) for d in (plain, some))
            kept = CODEC.vocabulary.kind[want] != control
            assert kept.sum() == len(want) - 1
            gone = len(ids) < len(want)
            without[epoch] += gone
            assert np.array_equal(ids, want[kept] if gone else want)
            assert all(np.array_equal(features[k], x) for k, x in CODEC.features(ids).items())
            assert np.array_equal(again.window(window, epoch)[0], ids)
            assert ("without genre" in some.sources[0].example(window, epoch, 0.0).line()) == gone
    share = sum(without.values()) / (12 * len(first.windows))
    assert 0.2 < share < 0.4 and len(set(without.values())) > 1
    assert np.array_equal(some.sources[0].window(0)[0], first.window(0)[0])  # as it is written, as for validation
    assert some.provenance["controls_dropout"] == 0.3


def test_what_does_not_fit_goes_without_effects_and_controls(corpus):
    """And is counted; what has no effects is kept in memory."""
    options = {"length": 128, "batch": 2, "transpose": (-3, 3), "controls_dropout": 0.5}
    effects = Augment(slack=0.0, humanise=Effect(0.7, 1.0))
    tight = Dataset(corpus, CODEC, "train", effects=effects, **options).sources[0]
    alone = Dataset(corpus, CODEC, "train", **options).sources[0]
    fell = collections.Counter()
    for epoch in range(4):
        for window in range(len(tight.windows)):
            want, gone = alone.window(window, epoch), "without" in dict(alone.plan(window, epoch))
            assert alone.window(window, epoch)[0] is want[0]
            before, ids = tight.fell_back, tight.window(window, epoch)[0]
            example = tight.example(window, epoch, 0.0)
            assert np.array_equal(example.ids, ids) and ("without" in dict(example.done)) == gone
            assert (example.done != example.plan) == tight.fell_back - before
            if tight.fell_back > before:
                assert np.array_equal(ids, want[0])
                fell[gone] += 1
    assert fell[True] and fell[False] and fell.total() == tight.fell_back and not tight.cut + alone.fell_back
    assert alone.drawn == 8 * len(alone.windows)


@pytest.mark.parametrize(("share", "options", "words"), [
    (0.1, {}, "has none; declare them with codec.options.controls"), (1.0, OPTIONS, "below 1"),
    (-0.1, OPTIONS, "at least 0"),
])  # fmt: skip
def test_shares_that_make_no_sense_are_refused(share, options, words):
    with pytest.raises(UserError, match=words):
        build(from_dict({"data": {"controls_dropout": share}, "codec": {"name": "score", "options": options}}))


def model(dropout=0.2, options=OPTIONS, mesh=(1, 1)):
    """A model of random weights, whose controls tell."""
    small = {"family": "decoder", "d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32}
    data = {"length": 160, "controls_dropout": dropout}
    parts = build(from_dict({"model": small, "data": data, "codec": {"name": "score", "options": options}}))
    devices = meshes.make(*mesh)
    with meshes.use(devices):
        weights = params.init(parts.family.spec(parts.model), jax.random.key(2))
        return Model(parts, jax.tree.map(lambda w: 2 * w, weights), devices)


MODEL = model()
PROMPTS = [tune(i, 1).replace(meta={"genre": str(i)}) for i in (1, 2)]
BARE = [prompt.replace(meta={}) for prompt in PROMPTS]


def written(prompts, m=MODEL, **asked):
    """[ids behind each prompt], at temperature 0."""
    r = m._request(prompts, sampler=Sampler(0), seeds=[(5, i) for i in range(len(prompts))], bars=2, **asked)
    with meshes.use(m.mesh):
        return np.asarray(loop.generate(dataclasses.replace(r.plan, segments=1), m.weights, *r.arguments))


def test_one_is_plain_and_nought_is_without_controls():
    """Id for id; more than one is something else."""
    plain, bare = written(PROMPTS), written(BARE)
    found = {w: written(PROMPTS, guidance=w) for w in (0.0, 1.0, 4.0)}
    assert np.array_equal(found[1.0], plain) and np.array_equal(found[0.0], bare)
    assert not np.array_equal(plain, bare)
    assert not np.array_equal(found[4.0], plain) and not np.array_equal(found[4.0], bare)
    assert (plain > 0).sum() > 40


def test_a_mesh_is_guided_alike():
    """The two rows of a pair are on devices of their own."""
    found = written(PROMPTS, model(mesh=(4, 2)), guidance=3.0)
    assert np.array_equal(found, written(PROMPTS, guidance=3.0)) and (found > 0).sum() > 20


def passes(rows):
    """Logits [T, V] of each row of ids, by a full pass over all of it."""
    wide, features = max(map(len, rows)), [MODEL.codec.features(row) for row in rows]
    told = {k: np.stack([np.pad(f[k], (0, wide - len(f[k]))) for f in features]) for k in features[0]}
    ids = np.stack([np.pad(row, (0, wide - len(row))) for row in rows])
    family, config = MODEL.parts.family, MODEL.parts.model
    with meshes.use(MODEL.mesh):
        inputs = Inputs(ids, np.tile(np.arange(wide), (len(rows), 1)), told)
        return np.asarray(jax.jit(lambda w: family.apply(config, w, inputs)[0])(MODEL.weights))


def test_each_id_is_the_likeliest_of_the_mixture():
    """By full passes over both pieces with their controls and without, within the grammar."""
    weight, codec = 3.0, MODEL.codec
    answers = [ids[ids > 0] for ids in written(PROMPTS, guidance=weight)]
    given = [codec.opening(prompt)[0] for prompt in (*PROMPTS, *BARE)]
    logits = passes([np.concatenate([g, a]) for g, a in zip(given, answers * 2, strict=True)])
    for row, new in enumerate(answers):
        x, free = (logits[i, len(given[i]) - 1 :] for i in (row, row + len(answers)))
        state = codec.grammar.init(1)
        for id in given[row]:
            state = codec.grammar.advance(state, np.array([id]))
        state |= {"left": np.array([160 - len(given[row])]), "bars_left": np.array([1])}
        for at, id in enumerate(new):
            mixture = codec.grammar.within(state, (weight * x[at] - (weight - 1) * free[at])[None])[0]
            mixture = np.where(codec.grammar.allowed(state)[0], mixture, -np.inf)
            assert mixture[id] >= mixture.max() - 1e-3
            state = codec.grammar.advance(state, np.array([id]))
        assert len(new) > 10


@pytest.mark.slow
def test_a_stream_is_guided_alike():
    asked = {"prompt": PROMPTS[0], "bars": 2, "guidance": 2.0, "seed": 3}
    found = MODEL.stream(**asked)
    assert list(found) and found.score == MODEL.generate(**asked)[0]
    assert provenance.read(found.score)["guidance"] == 2.0


@pytest.mark.parametrize(("m", "asked", "words"), [
    (model(0.0), {"prompt": PROMPTS[0]}, "never read music without its controls; train one with data.controls_dropout"),
    (model(0.0, {}), {"prompt": BARE[0]}, "has no controls"),
    (MODEL, {"prompt": BARE[0]}, "none of the controls genre"),
    (MODEL, {}, "none of the controls genre"),
    (MODEL, {"prompt": PROMPTS[0], "guidance": -1.0}, "from 0 to 100"),
    (MODEL, {"prompt": PROMPTS[0], "beam": Beam(2)}, "go with a beam"),
    (MODEL, {"prompt": PROMPTS[0], "draft": MODEL}, "go with a draft"),
], ids=lambda x: x if isinstance(x, str) else "")  # fmt: skip
def test_what_cannot_be_guided_is_refused(m, asked, words):
    with pytest.raises(UserError, match=words):
        m.generate(**{"guidance": 2.0, **asked})


def test_tasks_take_no_guidance(tmp_path, capsys):
    flags = ["generate", "--checkpoint", "none", "--out", str(tmp_path / "out"), "--vary", "x.mid", "--guidance", "2"]
    assert main(flags) == 2 and "--vary takes no --guidance" in capsys.readouterr().err
