"""The batches follow from the step alone, and hold every window once an epoch, whole."""

import collections
import itertools
import os

import numpy as np
import pytest
from corpora import make_corpus, same, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import random_score

from aurljax.data import augment, order
from aurljax.data.corpus import Corpus, CorpusError
from aurljax.data.ingest import ingest
from aurljax.data.pipeline import Dataset
from aurljax.errors import UserError
from aurljax.music import codec as codecs
from aurljax.music.score import Score

CODEC = codecs.make("score")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("pipeline"), fractions=(0, 0))


def dataset(corpus, batch=4, **options) -> Dataset:
    return Dataset(corpus, CODEC, "train", 256, batch, **{"transpose": (-5, 6), **options})


def encoded(data: Dataset, window: int) -> tuple[int, ...]:
    """A window as the codec alone writes it."""
    w = data.sources[0].windows
    score = data.sources[0].corpus[int(w.piece[window])]
    return tuple(CODEC.encode(score, bars=(int(w.start[window]), int(w.stop[window]))).tolist())


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_packed_row_is_its_windows(corpus):
    data = dataset(corpus, transpose=(0, 0), shuffle=False)
    source = data.sources[0]
    batches = itertools.islice((data.batch(s) for s in itertools.count()), data.epoch_steps)
    found = [w for b in batches for w in unpacked(b)][: len(source.windows)]
    assert len(found) == len(source.windows) > data.rows  # some rows hold several
    for (ids, features), window in zip(found, data.timetable.packings[0][0].windows, strict=True):
        assert tuple(ids) == encoded(data, window)
        for name, values in CODEC.features(ids).items():
            assert np.array_equal(features[name], values[:-1])


def test_what_is_no_window_weighs_nothing(corpus):
    b = dataset(corpus).batch(1)
    empty = b.segments == 0
    assert empty.any() and np.array_equal(b.weights, (~empty).astype(np.float32))
    pad = CODEC.vocabulary.id("pad")
    assert (b.tokens[empty] == pad).all() and (b.targets[empty] == pad).all() and (b.positions[empty] == 0).all()
    assert not any(v[empty].any() for v in b.features.values())
    assert (np.diff(empty.astype(int), axis=1) >= 0).all()  # padding stands at the end
    assert {v.dtype for v in b[:-1]} == {np.dtype(np.int32), np.dtype(np.float32)}


@pytest.mark.parametrize("batch", [1, 4, 7, 200])
def test_every_window_once_an_epoch(corpus, batch):
    data = dataset(corpus, batch, transpose=(0, 0))
    wanted = collections.Counter(encoded(data, w) for w in range(len(data.sources[0].windows)))
    rows = ([row, b] for s in itertools.count() for b in [data.batch(s)] for row in range(batch))
    orders = []
    for _ in range(2):
        epoch = [[tuple(ids) for ids, _ in unpacked(b, slice(r, r + 1))] for r, b in itertools.islice(rows, data.rows)]
        assert collections.Counter(itertools.chain(*epoch)) == wanted
        orders.append(epoch)
    assert orders[0] != orders[1] and data.epoch_steps == -(-data.rows // batch)


def test_one_epoch_is_every_window_as_it_is_written(corpus):
    data = dataset(corpus)
    size = next(n for n in (6, 12, 24) if data.rows % n)
    data = dataset(corpus, size)
    batches = list(data.one_epoch())
    found = collections.Counter(tuple(ids) for b in batches for ids, _ in unpacked(b))
    assert found == collections.Counter(encoded(data, w) for w in range(len(data.sources[0].windows)))
    assert sum(b.weights.sum() for b in batches) == data.summary["tokens"]
    assert all(b.tokens.shape == (size, 256) for b in batches)
    assert not batches[-1].weights[data.rows % size :].any()
    shares = [list(data.one_epoch(i, 3)) for i in range(3)]
    for whole, *parts in zip(batches, *shares, strict=True):
        assert np.array_equal(whole.tokens, np.concatenate([p.tokens for p in parts]))


def test_the_run_follows_from_seed_and_step(corpus):
    one, two = dataset(corpus), dataset(corpus, cache_bytes=0)
    for step in (9, 0, 3, 3, 10_000):
        assert same(one.batch(step), two.batch(step))
    assert not same(one.batch(0), one.batch(1))
    assert not same(one.batch(0), dataset(corpus, seed=1).batch(0))
    assert not same(one.batch(0), dataset(corpus, transpose=(0, 0)).batch(0))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_hosts_rows_make_the_global_batch(corpus, count):
    data = dataset(corpus)
    for step in (0, 5):
        parts = [data.host_batch(step, i, count) for i in range(count)]
        features = {k: np.concatenate([p.features[k] for p in parts]) for k in parts[0].features}
        joined = [np.concatenate(leaves) for leaves in zip(*(p[:-1] for p in parts), strict=True)]
        assert same(type(parts[0])(*joined, features), data.batch(step))


def test_iterating_is_asking_step_by_step(corpus):
    data = dataset(corpus)
    for start, index, count in ((0, 0, 1), (13, 0, 1), (13, 1, 2)):
        found = list(data.iterate(start, start + 6, index, count))
        assert len(found) == 6
        for i, b in enumerate(found):
            assert same(b, data.host_batch(start + i, index, count))
    endless = data.iterate(2)
    assert same(next(endless), data.batch(2)) and same(next(endless), data.batch(3))


def test_a_window_grown_too_long_is_cut_at_a_bar(corpus):
    data = dataset(corpus, transpose=(0, 0))
    source = data.sources[0]
    window = int(np.argmax(source.windows.stop - source.windows.start))
    source.slots[window] -= 3  # as if the augmentation had added three ids
    ids, features = source.window(window)
    whole = encoded(data, window)
    bar = CODEC.vocabulary.id("bar")
    last = max(i for i, x in enumerate(whole[: len(whole) - 2]) if x == bar)
    assert tuple(ids) == whole[:last] and source.cut == 1
    assert all(np.array_equal(v, CODEC.features(ids)[k]) for k, v in features.items())


def test_impossible_requests_are_refused(corpus):
    with pytest.raises(UserError, match=r"transpose: \(1, 6\) must hold 0"):
        dataset(corpus, transpose=(1, 6))
    with pytest.raises(UserError, match="batch: 0 rows"):
        dataset(corpus, batch=0)
    with pytest.raises(UserError, match="batch: 4 rows cannot be shared by 3 hosts"):
        dataset(corpus).host_batch(0, 0, 3)
    with pytest.raises(UserError, match="batch: 4 rows cannot be shared by 3 hosts"):
        dataset(corpus).iterate(0, 1, 0, 3)
    with pytest.raises(CorpusError, match="no piece in split 'valid'"):
        Dataset(corpus, CODEC, "valid", 256, 4)


# --- chance -----------------------------------------------------------------------------------------------------------


def test_chance_is_the_same_everywhere():
    """Written down: a run that is resumed elsewhere must go on in the same order."""
    assert order.number(0, 1, 2) == 8901564848246840783
    assert order.permutation(10, 0, 1).tolist() == [7, 9, 0, 5, 1, 3, 2, 6, 4, 8]


@given(st.integers(1, 300), st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 9)))
@settings(max_examples=50, deadline=None)
def test_a_permutation_is_one(n, key):
    assert sorted(order.permutation(n, *key)) == list(range(n))


# --- augmentation -----------------------------------------------------------------------------------------------------


def with_all(seed: int) -> Score:
    """A score with keys, pressed keys, bends and drums."""
    score = random_score(seed)
    rng = np.random.default_rng(seed)
    key = [(i * 100, int(rng.integers(-5, 7)), bool(rng.integers(2))) for i in range(4)]
    controls = [(i, int(rng.integers(len(score.tracks))), i % 4, int(rng.integers(40, 60)), 7) for i in range(12)]
    return score.replace(key=key, controls=controls)


@given(st.integers(0, 500), st.integers(-40, 67))
@settings(max_examples=80, deadline=None)
def test_there_and_back_is_identity(seed, semitones):
    score = with_all(seed)
    moved = augment.transpose(score, semitones)
    assert augment.transpose(moved, -semitones) == score
    drum = score.is_drum
    assert np.array_equal(np.sort(moved.pitch[drum]), np.sort(score.pitch[drum]))
    assert np.array_equal(moved.pitch[~drum].astype(int), score.pitch[~drum].astype(int) + semitones)
    assert np.array_equal(moved.onset, score.onset)
    tonic = (7 * score.key["fifths"].astype(int) + semitones) % 12
    assert np.array_equal((7 * moved.key["fifths"].astype(int)) % 12, tonic)
    for before, after in zip(score.controls, moved.controls, strict=True):
        pressed = before["kind"] == 3 and not score.tracks["is_drum"][before["track"]]
        assert int(after["number"]) == int(before["number"]) + (semitones if pressed else 0)
    if not drum.any() and len(score):
        moved.check()


def test_a_pitch_outside_is_refused():
    score = Score(notes=[(0, 1, 0, 3, 64), (0, 1, 0, 120, 64)], tracks=[(0, False)])
    assert augment.span(score) == (-3, 7)
    for semitones in (-4, 8):
        with pytest.raises(ValueError, match=r"this score allows -3\.\.7"):
            augment.transpose(score, semitones)


@given(st.lists(st.integers(0, 127), max_size=4), st.integers(-20, 0), st.integers(0, 20), st.integers(0, 2**40))
@settings(max_examples=80, deadline=None)
def test_draws_fit_the_score(pitches, low, high, seed):
    score = Score(notes=[(0, 1, 0, p, 64) for p in set(pitches)], tracks=[(0, False)])
    shift = augment.draw(score, (seed, 1), low, high)
    assert low <= shift <= high and shift == augment.draw(score, (seed, 1), low, high)
    moved = augment.transpose(score, shift)
    assert all(0 <= p + shift <= 127 for p in pitches) and len(moved) == len(score)


def test_every_shift_is_drawn():
    score = Score(notes=[(0, 1, 0, 60, 64)], tracks=[(0, False)])
    drawn = collections.Counter(augment.draw(score, (0, i), -5, 6) for i in range(1200))
    assert sorted(drawn) == list(range(-5, 7)) and min(drawn.values()) > 60


def test_shifts_vary_by_epoch_and_window(corpus):
    data, plain = dataset(corpus), dataset(corpus, transpose=(0, 0))
    source = data.sources[0]

    def shift(window, epoch):
        steps = set((source.window(window, epoch)[0] - plain.sources[0].window(window)[0]).tolist()) - {0}
        assert len(steps) < 2  # every pitch moves alike
        return steps.pop() if steps else 0

    windows = range(len(source.windows))
    assert {shift(w, 0) for w in windows} == {shift(w, 1) for w in windows} == set(range(-5, 7))
    assert len({shift(0, e) for e in range(30)}) > 6


# --- real music -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("AURLJAX_DATA" not in os.environ, reason="AURLJAX_DATA names no folder with pop909/")
def test_a_real_corpus_goes_through(tmp_path):
    pattern = os.path.join(os.environ["AURLJAX_DATA"], "pop909", "*", "[0-9]*.mid")
    report = ingest([pattern], tmp_path / "pop909", workers=2)
    assert report.pieces + len(report.duplicates) == report.files and not report.skipped
    data = Dataset(Corpus(tmp_path / "pop909"), CODEC, "train", 1024, 8, transpose=(-5, 6))
    assert data.summary["efficiency"] > 0.95
    assert sum(data.batch(s).weights.sum() for s in range(data.epoch_steps)) >= data.summary["tokens"]
    assert not data.sources[0].cut
