"""Buckets and mixtures: by counting, every row in its turn, every corpus at its share, on any hosts, from any step."""

import collections
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from corpora import same, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import random_score

from aurljax import config
from aurljax.cli import main
from aurljax.data import packing, pipeline, turns
from aurljax.data.augment import Augment, Effect
from aurljax.data.corpus import Corpus
from aurljax.data.curriculum import Curriculum
from aurljax.data.ingest import ingest
from aurljax.data.pipeline import Dataset
from aurljax.errors import UserError
from aurljax.music import codec as codecs
from aurljax.music import midi

CODEC = codecs.make("score")
TINY = Path(__file__).parents[1] / "configs" / "tiny.py"
BUCKETS = (64, 128)
EFFECTS = Augment(velocity=Effect((0.0, 1.0), 0.3), swing=Effect(0.5, 0.5), slack=0.2)


def short_pieces(folder, count: int, seed: int) -> Corpus:
    """A corpus of pieces most of which are shorter than a row."""
    folder.mkdir()
    for i in range(count):
        score = random_score(seed + i, (6, 14, 24)[i % 3]).replace(controls=())
        midi.save(score if len(score) else random_score(seed), folder / f"{i:03}.mid")
    ingest([folder], folder / "corpus", workers=1, fractions=(0, 0))
    return Corpus(folder / "corpus")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timetable")
    return [short_pieces(folder / n, k, s) for n, k, s in (("many", 120, 0), ("few", 50, 500), ("three", 3, 900))]


def dataset(corpora, shares=(), batch=4, **options) -> Dataset:
    mixture = list(zip(corpora[1:], shares, strict=False))
    options = {"transpose": (-5, 6), "buckets": BUCKETS, "mixture": mixture, **options}
    return Dataset(corpora[0], CODEC, "train", 256, batch, **options)


# --- arithmetic -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.integers(0, 10**12))
@settings(max_examples=100, deadline=None)
def test_turns_are_each_ones_own_in_order_and_in_proportion(weights, start):
    had, k = {}, len(weights)
    for n in range(start, start + 60):
        who, own = turns.turn(n, weights)
        assert had.setdefault(who, own) == own
        had[who] += 1
        share = Fraction(weights[who], sum(weights))
        assert abs(had[who] - (n + 1) * share) <= Fraction(1, 2) + share * max(k - 2, 0) / 2


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(any))
@settings(max_examples=50, deadline=None)
def test_turns_are_those_of_the_rule_spelled_out(weights):
    had = [0] * len(weights)
    for n in range(200):
        due = {i: Fraction(2 * had[i] + 1, w) for i, w in enumerate(weights) if w}
        who = min(due, key=due.get)
        assert turns.turn(n, weights) == (who, had[who])
        had[who] += 1


@given(st.lists(st.fractions(0, 9, max_denominator=30), min_size=1, max_size=4).filter(any), st.booleans())
@settings(max_examples=50, deadline=None)
def test_cycles_hold_each_kind_as_often_as_its_rate_says(rates, shuffle):
    cycles, seen = turns.Cycles(rates, 5, shuffle), collections.Counter()
    ends = {sum(int(c * r) for r in rates): c for c in range(200)}  # the last cycle that ends there
    for step in range(150):
        if step in ends:
            assert [seen[k] for k in range(len(rates))] == [int(ends[step] * r) for r in rates]
        kind, number = cycles.at(step)
        assert number == seen[kind]
        seen[kind] += 1


def test_shares_are_exact_and_what_is_left_is_the_first_ones():
    assert turns.shares([]) == (1,)
    assert turns.shares([0.1, 0.2]) == (Fraction(7, 10), Fraction(1, 10), Fraction(1, 5))
    assert turns.whole(turns.shares([0.1, 0.2])) == (7, 1, 2)


@given(st.lists(st.integers(1, 32), min_size=1, max_size=80))
@settings(max_examples=50, deadline=None)
def test_a_row_is_as_long_as_its_longest_window_asks_for(slots):
    lengths = packing.lengths(32, (4, 8))
    packed = packing.pack_each(np.array(slots), lengths)
    assert sorted(w for p in packed for w in p.windows.tolist()) == list(range(len(slots)))
    assert sum(map(len, packed)) <= len(slots) and sum(len(p) for p in packed[2:]) <= sum(n > 8 for n in slots)
    for b, length in enumerate(lengths):
        for row in ([slots[w] for w in packed[b][r]] for r in range(len(packed[b]))):
            assert (lengths[b - 1] if b else 0) < max(row) and sum(row) <= length


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_batches_have_as_many_slots_and_hold_windows_whole(corpora):
    data = dataset(corpora, transpose=(0, 0))
    source = data.sources[0]
    for step in range(data.epoch_steps):
        batch, places = data.batch(step), data.timetable.places(step)
        rows, length = batch.tokens.shape
        assert rows * length == 4 * 256 and length == data.row_length(step) in (64, 128, 256)
        wanted = [source.window(w)[0] for place in places for w in data.timetable.windows(place)]
        for (ids, features), window in zip(unpacked(batch), wanted, strict=True):
            assert np.array_equal(ids, window)
            assert all(np.array_equal(v, CODEC.features(ids)[k][:-1]) for k, v in features.items())
    assert {data.row_length(s) for s in range(8 * data.epoch_steps)} == {64, 128, 256}


@pytest.mark.parametrize(("batch", "shares"), [(1, ()), (4, ()), (7, (0.3,)), (2, (0.5, 0.1)), (50, ())])
def test_every_row_of_every_bucket_once_in_each_of_its_epochs(corpora, batch, shares):
    data = dataset(corpora, shares, batch)
    t, seen = data.timetable, collections.defaultdict(list)
    for step in range(3 * data.epoch_steps + 3):
        for place in t.places(step):
            seen[place.source, place.bucket].append((place.epoch, place.row))
    orders = []
    for (source, bucket), rows in seen.items():
        n = t.counts[source][bucket]
        for epoch, at in enumerate(range(0, len(rows) - n + 1, n)):
            found = rows[at : at + n]
            assert sorted(found) == [(epoch, row) for row in range(n)]
            orders += [tuple(row for _, row in found)] * (n > 10)
    assert len(orders) > 1 and len(set(orders)) == len(orders)  # each epoch has its own


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_after_a_cycle_no_bucket_is_a_whole_batch_behind(corpora, batch):
    t, seen = dataset(corpora, batch=batch).timetable, np.zeros(3, int)
    rows, sizes, step = np.array(t.counts[0]), np.array(t.sizes), 0
    for cycle in range(1, 5):
        while step < (cycle * rows // sizes).sum():
            places, step = t.places(step), step + 1
            seen[places[0].bucket] += len(places)
        behind = cycle * rows - seen
        assert (behind >= 0).all() and (behind < sizes).all()


def test_without_shorter_rows_nothing_changes(corpora):
    one, two = (dataset(corpora, buckets=b) for b in ((), (2,)))  # no window is as short as 2
    assert two.timetable.counts[0][0] == 0
    assert all(same(one.batch(s), two.batch(s)) for s in (0, 7, 100))


def test_one_epoch_with_buckets_is_every_window(corpora):
    data = dataset(corpora, (0.3,), batch=6)
    batches = list(data.one_epoch())
    found = collections.Counter(tuple(ids) for b in batches for ids, _ in unpacked(b))
    windows = [(source, w) for source in data.sources for w in range(len(source.windows))]
    assert found == collections.Counter(tuple(source.window(w)[0].tolist()) for source, w in windows)
    for whole, *parts in zip(batches, *(list(data.one_epoch(i, 3)) for i in range(3)), strict=True):
        assert np.array_equal(whole.tokens, np.concatenate([p.tokens for p in parts]))


# --- corpora ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(0.3,), (0.5, 0.1), (0.125, 0.625)])
def test_each_corpus_has_its_share_of_the_rows(corpora, shares):
    data = dataset(corpora, shares, buckets=())
    seen = np.zeros(len(data.sources))
    for step in range(60):
        for place in data.timetable.places(step):
            seen[place.source] += 1
            assert (abs(seen - seen.sum() * np.array(data.shares, float)) < 1).all()


@pytest.mark.parametrize("shares", [(0.3,), (0.5, 0.1)])
def test_with_buckets_each_corpus_has_its_share_of_the_slots(corpora, shares):
    data = dataset(corpora, shares)
    seen = np.zeros(len(data.sources))
    for step in range(4 * data.epoch_steps):
        for place in data.timetable.places(step):
            seen[place.source] += data.timetable.lengths[place.bucket]
    assert np.allclose(seen / seen.sum(), np.array(data.shares, float), atol=0.02)


def test_a_row_is_of_one_corpus_and_draws_differ_between_them(corpora):
    data = dataset([corpora[0], corpora[0]], (0.5,))
    plans = [[source.plan(w, 0) for w in range(20)] for source in data.sources]
    assert plans[0] != plans[1]
    assert plans[0] == [dataset(corpora).sources[0].plan(w, 0) for w in range(20)]
    names = {e.piece.rpartition(" of ")[2] for s in range(6) for e in dataset(corpora, (0.5,)).examples(s, 0)}
    assert names == {"corpus"}  # both folders are called so


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(), (0.4,)])
def test_resumed_on_one_two_one_hosts_batches_are_those_of_the_whole_run(corpora, shares):
    """In the middle of an epoch, and across the end of the curriculum, with all that varies switched on."""

    def new():
        curriculum = Curriculum("length", 0.2, 0.5)
        return dataset(corpora, shares, 2, effects=EFFECTS, steps=24, curriculum=curriculum, cache_bytes=1 << 16)

    whole = list(new().iterate(0, 24))
    assert len({b.tokens.shape for b in whole[:12]}) > 1 and len({b.tokens.shape for b in whole[12:]}) > 1
    for start, stop, count in ((0, 5, 1), (5, 17, 2), (17, 24, 1)):
        parts = [list(new().iterate(start, stop, i, count)) for i in range(count)]  # each host reads for itself
        for step, rows in enumerate(zip(*parts, strict=True), start):
            features = {k: np.concatenate([p.features[k] for p in rows]) for k in rows[0].features}
            joined = [np.concatenate(leaves) for leaves in zip(*(p[:-1] for p in rows), strict=True)]
            assert same(type(rows[0])(*joined, features), whole[step])
    assert new().epoch_steps > 17  # restarts are in the middle of an epoch


def test_each_corpus_has_a_pool_of_its_own_easiest_rows(corpora):
    data = dataset(corpora, (0.4,), steps=201, curriculum=Curriculum("length", 0.2, 1.0))
    t, drawn = data.timetable, [(step, place) for step in range(200) for place in data.timetable.places(step)]
    ids = [source.windows.ids for source in data.sources]
    ranks = [np.sort([ids[k][p[r]].max() for p in t.packings[k] for r in range(len(p))]) for k in range(2)]
    for step, place in drawn:
        pool = data.curriculum.pool(len(ranks[place.source]), step / 200)
        assert ids[place.source][t.windows(place)].max() <= ranks[place.source][pool - 1]
    assert len({place.epoch for _, place in drawn}) == len(drawn)  # no two draws are the same
    assert {place[:2] for _, place in drawn} == {(k, b) for k in range(2) for b in range(3)}


def test_examples_are_the_rows_of_the_batch(corpora):
    data = dataset(corpora, (0.4,), effects=EFFECTS, steps=20, curriculum=Curriculum("length", 0.5, 0.3))
    for step in (0, 3, 8, 15):
        batch = data.batch(step)
        for row in range(len(batch.tokens)):
            found = [ids.tolist() for ids, _ in unpacked(batch, slice(row, row + 1))]
            assert found == [e.ids.tolist() for e in data.examples(step, row)]
    with pytest.raises(UserError, match=rf"rows are 0\.\.{len(batch.tokens) - 1}"):
        data.examples(15, len(batch.tokens))


def test_the_command_shows_a_row_of_any_bucket_and_corpus(corpora, capsys):
    first, second = (str(c.path) for c in corpora[:2])
    changes = {"length": 256, "batch": 4, "buckets": BUCKETS, "mixture": ((second, 0.4),)}
    overrides = [f"--config.data.{name}={value}" for name, value in changes.items()]
    data = dataset(corpora, (0.4,), transpose=(0, 0))
    for step in range(6):
        assert main(["corpus", first, "--example", f"{step},3", f"--config={TINY}", *overrides]) == 0
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.endswith(f"of {data.row_length(step)} slots")
        assert lines == [example.line() for example in data.examples(step, 3)]


# --- config -----------------------------------------------------------------------------------------------------------


def test_both_come_from_the_config_and_stand_in_provenance(corpora):
    first, second = (str(c.path) for c in corpora[:2])
    tree = {"corpus": first, "mixture": [[second, 0.25]], "length": 256, "batch": 4, "buckets": [64, 128]}
    chosen = config.from_dict({"data": tree})
    assert chosen.data.buckets == (64, 128) and chosen.data.mixture == ((second, 0.25),)
    assert config.from_dict(config.to_dict(chosen)) == chosen
    data = pipeline.training(chosen, CODEC, corpora[0])
    assert same(data.batch(9), dataset(corpora, (0.25,), transpose=(0, 0)).batch(9))
    p = data.provenance
    assert p["corpora"] == [c.digest for c in corpora[:2]] and p["shares"] == [0.75, 0.25] and p["buckets"] == BUCKETS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"buckets": [100]}, r"data.buckets=\(100,\) must be ascending lengths below data.length=256 that divide it"),
        ({"buckets": [128, 64]}, "data.buckets"),
        ({"buckets": [128, 256]}, "data.buckets"),
        ({"buckets": [1]}, "data.buckets"),
        (
            {"mixture": [["a", 0.5], ["b", 0.5]]},
            "data.mixture: the shares 0.5, 0.5 must be above 0 and together below 1",
        ),
        ({"mixture": [["a", 0.0]]}, "data.mixture"),
        ({"mixture": [["a", -1]]}, "data.mixture"),
        ({"mixture": [["a"]]}, "data.mixture must be"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields, words):
    with pytest.raises(UserError, match=words):
        config.from_dict({"data": {"length": 256, **fields}})
