"""A curriculum shows the easier rows first, by arithmetic on the step alone, and then changes nothing."""

import math

import numpy as np
import pytest
from corpora import make_corpus, same
from hypothesis import given
from hypothesis import strategies as st

from aurljax import config
from aurljax.data.augment import Augment, Effect
from aurljax.data.curriculum import SHAPES, Curriculum
from aurljax.data.pipeline import Dataset
from aurljax.errors import UserError
from aurljax.music import codec as codecs

CODEC = codecs.make("score")
STEPS = 40


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("curriculum"), 60, fractions=(0, 0))


def dataset(corpus, **options) -> Dataset:
    options = {"curriculum": Curriculum("length", 0.2, 0.5), "transpose": (-5, 6), "steps": STEPS, **options}
    return Dataset(corpus, CODEC, "train", 256, 4, **options)


@given(st.sampled_from(sorted(SHAPES)), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 10**6), st.floats(0, 1))
def test_the_pool_grows_from_its_share_to_everything(shape, start, until, rows, progress):
    c = Curriculum("length", start, until, shape)
    first, now, last = c.pool(rows, 0), c.pool(rows, progress), c.pool(rows, until * (1 - 1e-9))
    assert first == max(1, math.ceil(rows * start))
    assert now is None if progress >= until else first <= now <= rows
    assert last >= rows * (1 - 1e-6)
    assert c.pool(rows, until) is None and Curriculum().pool(rows, progress) is None


@pytest.mark.parametrize("buckets", [(), (64, 128)])
def test_sparse_rows_come_first_by_density(corpus, buckets):
    data = dataset(corpus, buckets=buckets, curriculum=Curriculum("density", 0.2, 0.5))
    windows, table = data.sources[0].windows, data.timetable
    density = windows.ids / (windows.stop - windows.start)
    for bucket, packing in enumerate(table.packings[0]):
        ranks = np.sort([density[packing[r]].max() for r in range(len(packing))])
        for step in range(STEPS // 2):
            pool = data.curriculum.pool(len(packing), step / (STEPS - 1))
            drawn = [p for p in table.places(step) if p.bucket == bucket]
            assert all(density[table.windows(p)].max() <= ranks[pool - 1] for p in drawn)
    assert same(data.batch(30), dataset(corpus, buckets=buckets, curriculum=Curriculum()).batch(30))


def test_shapes_differ_in_the_middle():
    middle = {shape: Curriculum("length", 0.1, 1.0, shape).pool(1000, 0.25) for shape in SHAPES}
    assert middle["linear"] == 325 and middle["exponential"] == math.ceil(1000 * 0.1**0.75)
    assert middle["cosine"] == math.ceil(1000 * (0.1 + 0.9 * (1 - math.sqrt(0.5)) / 2))


def longest(data: Dataset, windows) -> int:
    """The ids of the longest of some windows."""
    return int(data.sources[0].windows.ids[windows].max())


def hardest(data: Dataset, step: int) -> int:
    """The longest window among the rows of a step."""
    return max(longest(data, data.timetable.windows(place)) for place in data.timetable.places(step))


@pytest.mark.parametrize("buckets", [(), (64, 128)])
def test_easy_rows_come_first_and_then_all(corpus, buckets):
    data, plain = dataset(corpus, buckets=buckets), dataset(corpus, buckets=buckets, curriculum=Curriculum())
    ranks = np.sort([longest(data, p[r]) for p in data.timetable.packings[0] for r in range(len(p))])
    for step in range(STEPS // 2):
        pool = data.curriculum.pool(data.rows, step / (STEPS - 1))
        assert hardest(data, step) <= ranks[pool - 1]
    assert hardest(data, 0) < ranks[-1]
    assert not same(data.batch(3), plain.batch(3))
    for step in (20, 30, 50):
        assert same(data.batch(step), plain.batch(step))


def test_resumed_on_any_hosts_it_is_the_same(corpus):
    effects = Augment(velocity=Effect((0.0, 1.0), 0.3), slack=0.2)
    one, two = dataset(corpus, effects=effects, cache_bytes=0), dataset(corpus, effects=effects)
    whole = [one.batch(step) for step in range(16, 23)]  # across its end
    assert all(same(a, b) for a, b in zip(whole, two.iterate(16, 23), strict=True))
    for step, batch in reversed(list(enumerate(whole, 16))):
        parts = [two.host_batch(step, i, 2) for i in range(2)]
        assert np.array_equal(np.concatenate([p.tokens for p in parts]), batch.tokens)
    assert not same(whole[0], dataset(corpus, effects=effects, seed=1).batch(16))


def test_it_is_named_in_the_config_and_in_provenance(corpus):
    chosen = config.from_dict({"data": {"curriculum": {"by": "length", "shape": "cosine"}}})
    assert chosen.data.curriculum == Curriculum("length", shape="cosine")
    assert dataset(corpus).provenance != dataset(corpus, curriculum=Curriculum()).provenance
    for wrong, words in (
        ({"by": "age"}, "data.curriculum.by"),
        ({"shape": "square"}, "data.curriculum.shape"),
        ({"start": 0}, "data.curriculum.start=0"),
        ({"until": 1.5}, "data.curriculum.until=1.5"),
    ):
        with pytest.raises(UserError, match=words):
            config.from_dict({"data": {"curriculum": wrong}})
    for missing in ({"steps": 0}, {"shuffle": False}):
        with pytest.raises(UserError, match="curriculum: needs"):
            dataset(corpus, **missing)
