"""The objective mix: windows with holes as asked for, the same on every host and after every resume, lawful and exact."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from corpora import make_corpus, same, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax import config
from aurljax.data import objective, pipeline
from aurljax.data.augment import Augment, Effect
from aurljax.data.objective import KINDS, Objective
from aurljax.data.pipeline import Dataset
from aurljax.errors import UserError
from aurljax.music import codec as codecs

CODEC = codecs.make("score", infill=True, pedal=True, chords=True)
MIX = Objective(bars=0.2, tracks=0.2, span=0.2, cells=0.2)
TINY = "configs/tiny.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("objective"), fractions=(0, 0))


def dataset(corpus, objective=MIX, **options) -> Dataset:
    return Dataset(corpus, CODEC, "train", 384, 4, **{"transpose": (-5, 6), "objective": objective, **options})


def accepted(rows: list[np.ndarray]) -> bool:
    """Whether the grammar allows every id of every row where it stands."""
    state, longest = CODEC.grammar.init(len(rows)), max(map(len, rows))
    ids = np.stack([np.pad(row, (0, longest - len(row)), constant_values=-1) for row in rows])
    for column in ids.T:
        legal = CODEC.grammar.allowed(state)[np.arange(len(rows)), column]
        if not legal[column >= 0].all():
            return False
        state = CODEC.grammar.advance(state, np.maximum(column, 0))
    return True


def test_windows_with_holes_are_lawful_and_hold_the_music(corpus):
    source, plain = (dataset(corpus, mix, transpose=(0, 0)).sources[0] for mix in (MIX, Objective()))
    assert source.windows.digest == plain.windows.digest
    seen, rows = collections.Counter(), []
    for window in range(len(source.windows)):
        for epoch in range(2):
            example = source.example(window, epoch, 0.0)
            ids, features = source.window(window, epoch)
            assert np.array_equal(ids, example.ids) and len(ids) <= source.slots[window] + 1
            if example.asked is None:
                assert np.array_equal(ids, plain.window(window)[0])
                continue
            seen[example.kind] += 1
            (a, b), cells = example.bars, example.asked.cells
            assert CODEC.holes(ids) == [(bar - a, track) for bar, track in cells]
            piece = corpus[int(source.windows.piece[window])]
            assert CODEC.decode(ids) == CODEC.decode(CODEC.encode(piece, (a, b)))  # nothing is lost by asking
            assert all(np.array_equal(v, CODEC.features(ids)[k]) for k, v in features.items())
            rows.append(ids)
    assert accepted(rows[::3]) and not accepted([rows[0][::-1]])
    assert set(seen) == set(KINDS) and source.shortened


def test_shares_come_out_as_asked(corpus):
    mix = Objective(bars=0.1, tracks=0.2, span=0.05, cells=0.3, slack=1.0)
    source = dataset(corpus, mix, transpose=(0, 0)).sources[0]
    kinds = collections.Counter(source.kind(w, e) for w in range(len(source.windows)) for e in range(100))
    for kind in KINDS:
        assert kinds[kind] / kinds.total() == pytest.approx(getattr(mix, kind), abs=0.02)
    assert source.kind(0, None) is None  # validation


@given(st.integers(0, 2**40), st.integers(1, 40), st.lists(st.integers(0, 15), unique=True), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_masks_are_what_they_are_called(seed, count, tracks, most):
    bars, tracks = range(7, 7 + count), sorted(tracks)
    for kind in KINDS:
        cells = objective.draw(kind, bars, tracks, most, objective.chance(seed))
        assert cells == objective.draw(kind, bars, tracks, most, objective.chance(seed))
        assert cells == sorted(set(cells)) and bool(cells) == bool(tracks)
        if not cells:
            continue
        rows, columns = (sorted({c[i] for c in cells}) for i in (0, 1))
        assert set(rows) <= set(bars) and set(columns) <= set(tracks)
        if kind == "cells":
            assert len(cells) <= max(most * count * len(tracks), 1)
            continue
        assert len(cells) == len(rows) * len(columns) and rows == list(range(rows[0], rows[-1] + 1))
        assert columns == tracks if kind == "bars" else True
        if kind == "tracks":
            assert rows == list(bars) and len(columns) <= max(len(tracks) - 1, 1)
        else:
            assert len(rows) <= max(most * count, 1)


def test_every_length_and_place_is_drawn():
    masks = [objective.draw("bars", range(8), [0, 1], 0.5, objective.chance(i)) for i in range(400)]
    runs = collections.Counter((mask[0][0], mask[-1][0]) for mask in masks)
    assert set(runs) == {(a, a + n) for n in range(4) for a in range(8 - n)}
    some = collections.Counter(
        tuple(sorted({t for _, t in objective.draw("tracks", range(2), [0, 1, 2], 0.5, objective.chance(i))}))
        for i in range(400)
    )
    assert set(some) == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)} and min(some.values()) > 30


def test_a_resumed_run_on_any_hosts_sees_the_same_holes(corpus):
    effects = Augment(drop=Effect(0.5, 0.3), tempo=Effect(0.5, 0.1))
    one, two, other = (
        dataset(corpus, effects=effects, cache_bytes=n, seed=s) for n, s in ((0, 0), (1 << 20, 0), (0, 1))
    )
    steps = range(9, 13)
    whole = [one.batch(s) for s in range(13)][9:]
    assert all(same(a, b) for a, b in zip(whole, two.iterate(9, 13), strict=True))
    fresh = dataset(corpus, effects=effects)
    for step, batch in zip(reversed(steps), reversed(whole), strict=True):
        parts = [fresh.host_batch(step, i, 2) for i in range(2)]
        assert np.array_equal(np.concatenate([p.tokens for p in parts]), batch.tokens)
        assert np.array_equal(np.concatenate([p.weights for p in parts]), batch.weights)
    assert not same(whole[0], other.batch(9))
    assert not same(whole[0], dataset(corpus, dataclasses.replace(MIX, most=0.1), effects=effects).batch(9))


def test_only_where_holes_are_weighs_nothing(corpus):
    data, v = dataset(corpus), CODEC.vocabulary
    holes = 0
    for step in range(3):
        batch = data.batch(step)
        is_hole = v.kind[batch.targets] == v.index["hole"]
        assert np.array_equal(batch.weights, ((batch.segments > 0) & ~is_hole).astype(np.float32))
        for row in range(4):
            found, told = list(unpacked(batch, slice(row, row + 1))), data.examples(step, row)
            assert [tuple(ids) for ids, _ in found] == [tuple(e.ids) for e in told]
        holes += is_hole.sum()
    assert holes


def test_the_mix_changes_no_other_draw_and_validation_has_no_holes(corpus):
    data, plain = dataset(corpus), dataset(corpus, Objective())
    for w in range(len(data.sources[0].windows)):
        assert data.sources[0].plan(w, 2) == plain.sources[0].plan(w, 2)
    for batch in data.one_epoch():
        assert not (CODEC.vocabulary.kind[batch.tokens] == CODEC.vocabulary.index["hole"]).any()


def test_what_does_not_fit_goes_without_and_is_counted_and_told(corpus):
    tight = dataset(corpus, dataclasses.replace(MIX, slack=0.0), transpose=(0, 0))
    source, told = tight.sources[0], []
    for w in range(len(source.windows)):
        source.window(w, 0)
        told.append(source.example(w, 0, 0.0).line())
    lost = [line for line in told if "bars at the end" in line or "no room for holes" in line]
    assert 0 < len(lost) == source.shortened == tight.shortened
    assert any("holes over" in line for line in told)


def test_settings_come_from_the_config(corpus):
    on = [
        "codec.options.infill=True",
        "data.objective.span=0.25",
        "data.objective.most=0.3",
        f"data.corpus={corpus.path}",
    ]
    chosen = config.load(TINY, on)
    assert chosen.data.objective == Objective(span=0.25, most=0.3)
    assert config.from_dict(json.loads(json.dumps(config.to_dict(chosen)))) == chosen
    data = pipeline.training(chosen, chosen.codec.make(), corpus)
    assert data.objective == chosen.data.objective and data.provenance["objective"]["span"] == 0.25


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.objective.span=0.5"], "'score' as it is set writes no holes; set codec.options.infill=True"),
        (
            ["data.objective.span=0.5", "codec.name=voices"],
            "no holes; choose codec.name=score and codec.options.infill",
        ),
        (
            ["data.objective.bars=0.6", "data.objective.cells=0.6"],
            "bars + tracks + span + cells = 1.2 is more than all",
        ),
        (["data.objective.tracks=-0.1"], "data.objective.tracks=-0.1 must be in [0, 1]"),
        (["data.objective.most=0"], "data.objective.most=0.0 must be above 0"),
        (["data.objective.slack=2"], "data.objective.slack"),
        (["data.objective.spans=1"], "did you mean data.objective.span"),
    ],
)
def test_wrong_settings_are_refused_by_name(overrides, words):
    with pytest.raises(UserError) as caught:
        config.load(TINY, overrides)
    assert words in str(caught.value)


def test_data_refuse_a_codec_without_holes(corpus):
    with pytest.raises(UserError, match="writes no holes"):
        Dataset(corpus, codecs.make("event"), "train", 256, 4, objective=MIX)
