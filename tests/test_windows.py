"""Windows are whole bars that fit, each in one row and whole; what is kept on disk is what would be computed."""

import itertools
import sys
import time
import types

import numpy as np
import pytest
from corpora import make_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import long_piece, random_score

from aurljax.data import cuts, files, packing, windows
from aurljax.errors import UserError
from aurljax.music import codec as codecs
from aurljax.music.score import Score

CODEC = codecs.make("score")


def equal(a: windows.Windows, b: windows.Windows) -> bool:
    names = ("piece", "start", "stop", "ids")
    return a.left_out == b.left_out and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("windows"), fractions=(0, 0))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AURLJAX_CACHE", str(tmp_path / "user"))


@given(st.integers(0, 400), st.integers(8, 600))
@settings(max_examples=40, deadline=None)
def test_windows_cover_a_piece_bar_by_bar(seed, length):
    score = long_piece(30, seed) if seed % 4 == 0 else random_score(seed)
    found, left_out = cuts.cut(score, CODEC, length)
    bars = CODEC.bars(score)
    covered = [bar for a, b, _ in found for bar in range(a, b)]
    assert covered == sorted(set(covered)) and set(covered) <= set(range(bars))
    assert left_out == bars - len(covered)
    for a, b, ids in found:
        assert ids == len(CODEC.encode(score, bars=(a, b))) <= length + 1
    for bar in set(range(bars)) - set(covered):
        assert len(CODEC.encode(score, bars=(bar, bar + 1))) > length + 1
    if len(CODEC.encode(score)) <= length + 1:
        assert found == [(0, bars, len(CODEC.encode(score)))]


@pytest.mark.parametrize("name", codecs.CODECS)
def test_a_piece_is_laid_out_once_for_all_its_windows(name, monkeypatch):
    """Else a file of many hours takes the square of its length."""
    codec, score, seen = codecs.make(name), long_piece(100), []
    plain = type(codec).layout
    monkeypatch.setattr(type(codec), "layout", lambda self, score: seen.append(score) or plain(self, score))
    assert len(cuts.cut(score, codec, 64)[0]) > 10 and len(seen) <= 5


def test_a_window_is_as_long_as_the_bound_allows():
    score = long_piece(100)
    lengths, room = CODEC.bar_lengths(score), 257 - CODEC.overhead(score)
    found, _ = cuts.cut(score, CODEC, 256)
    assert all(lengths[a : b + 1].sum() > room for a, b, _ in found[:-1])


@given(st.integers(0, 400), st.integers(64, 600))
@settings(max_examples=40, deadline=None)
def test_every_way_of_cutting_keeps_to_whole_bars_that_fit(seed, length):
    score = long_piece(40, seed) if seed % 2 == 0 else random_score(seed)
    bars, (tiles, left_out) = CODEC.bars(score), cuts.cut(score, CODEC, length)
    found = {how: cuts.cut(score, CODEC, length, how) for how in cuts.CUTS}
    for how, (parts, left) in found.items():
        assert all(ids == len(CODEC.encode(score, bars=(a, b))) <= length + 1 for a, b, ids in parts)
        assert left == bars - len({bar for a, b, _ in parts for bar in range(a, b)}), how
    assert found["truncate"][0] == tiles[:1]
    assert found["even"][1] == found["slide"][1] == left_out
    slide = found["slide"][0]
    assert all(a < c and (c <= b or left_out) for (a, b, _), (c, _, _) in itertools.pairwise(slide))


def test_even_windows_are_as_many_as_tiles_and_differ_less():
    score = long_piece(100)
    for length in (100, 256, 400):
        tiles, even = (np.array(cuts.cut(score, CODEC, length, how)[0])[:, 2] for how in ("tile", "even"))
        assert len(even) == len(tiles) and np.ptp(even) <= 2 * CODEC.bar_lengths(score).max() < np.ptp(tiles)
        slide = cuts.cut(score, CODEC, length, "slide")[0]
        shared = sum(b - c for (_, b, _), (c, _, _) in itertools.pairwise(slide)) / CODEC.bars(score)
        assert 0.35 < shared < 1  # about every bar is heard twice


def test_no_window_slides_within_the_one_before():
    notes = [(480 * i, 480, 0, 60, 64) for i in range(64)]
    crowd = [(32 * 480 + 20 * i, 20, 0, pitch, 64) for i in range(96) for pitch in (40, 50)]  # bar 8 fits no row
    score = Score(480, notes=notes[:32] + crowd + notes[36:], tracks=[(0, False)])
    found, left_out = cuts.cut(score, CODEC, 120, "slide")
    assert left_out == 1
    assert all(a < c and b < d for (a, b, _), (c, d, _) in itertools.pairwise(found))


def test_the_index_is_the_tiles_of_the_split_in_order(corpus, monkeypatch):
    monkeypatch.setattr(windows, "CHUNK", 5)
    index = windows.compute(corpus, CODEC, "train", 128)
    tiles = [cuts.cut(corpus[i], CODEC, 128) for i in corpus.split("train")]
    rows = [(i, *w) for i, (found, _) in zip(corpus.split("train"), tiles, strict=True) for w in found]
    assert list(zip(index.piece, index.start, index.stop, index.ids, strict=True)) == rows
    assert index.left_out == sum(out for _, out in tiles) > 0
    assert equal(windows.compute(corpus, CODEC, "train", 128, processes=2), index)


def test_a_kept_index_is_the_computed_one(corpus, tmp_path):
    computed = windows.compute(corpus, CODEC, "train", 200)
    assert equal(windows.load(corpus, CODEC, "train", 200), computed)
    (kept,) = (corpus.path / "cache").glob("*.npz")
    assert equal(windows.load(corpus, CODEC, "train", 200), computed)
    other = windows.load(corpus, codecs.make("score", microtiming=True), "train", 200)
    assert not equal(other, computed) and not equal(windows.load(corpus, CODEC, "train", 201), computed)
    kept.write_bytes(kept.read_bytes()[:-30])
    assert equal(windows.load(corpus, CODEC, "train", 200), computed)
    assert len(list((corpus.path / "cache").iterdir())) == 3


def test_an_index_kept_on_disk_is_taken_from_there(corpus, monkeypatch):
    first = windows.load(corpus, CODEC, "train", 77)
    monkeypatch.setattr(windows, "compute", lambda *a: pytest.fail("computed again"))
    assert equal(windows.load(corpus, CODEC, "train", 77), first)


def test_what_other_code_derived_is_not_taken_over(tmp_path):
    for name in ("__init__.py", "inner.py"):
        (tmp_path / name).write_text("a = 1")
    package, module = types.ModuleType("package"), types.ModuleType("module")
    package.__file__, module.__file__ = str(tmp_path / "__init__.py"), str(tmp_path / "inner.py")
    before = files.code(package), files.code(module), files.code(package, module)
    assert len(set(before)) == 3
    (tmp_path / "inner.py").write_text("a = 2")
    after = files.code(package), files.code(module), files.code(package, module)
    assert not set(before) & set(after)
    (tmp_path / "__init__.py").write_text("a = 3")
    assert files.code(module) == after[1] and files.code(package) != after[0]


def test_an_index_follows_from_the_modules_that_codecs_ask(corpus, monkeypatch):
    asked = []
    monkeypatch.setattr(files, "code", lambda *modules: asked.extend(modules) or "code")
    windows.load(corpus, CODEC, "train", 300)
    mine = [vars(module).values() for name, module in sys.modules.items() if name.startswith(codecs.__name__)]
    used = {m.__name__ for values in mine for m in values if isinstance(m, types.ModuleType)}
    music = {m for m in used if m.startswith("aurljax.music.") and not m.startswith(codecs.__name__)}
    assert music and music <= {m.__name__ for m in asked}


def test_a_corpus_that_cannot_be_written_keeps_its_index_with_the_user(tmp_path):
    corpus = make_corpus(tmp_path, 6, fractions=(0, 0))
    (corpus.path / "cache").write_text("in the way")
    first = windows.load(corpus, CODEC, "train", 100)
    (kept,) = (tmp_path / "user" / "windows").iterdir()
    kept.rename(corpus.path.parent / "moved")
    assert equal(windows.load(corpus, CODEC, "train", 100), first) and kept.exists()


def test_indices_in_the_corpus_keep_to_the_limit(corpus, monkeypatch):
    """What was used longest ago goes first."""
    folder = corpus.path / "cache"
    seen, names = {p.name for p in folder.glob("*")}, {}

    def load(length):
        windows.load(corpus, CODEC, "train", length)
        for name in {p.name for p in folder.glob("*")} - seen:
            names[length] = name
            seen.add(name)
        time.sleep(0.02)

    for length in (300, 301, 302, 300):
        load(length)
    monkeypatch.setenv("AURLJAX_CACHE_BYTES", str(int(3.5 * (folder / names[300]).stat().length)))
    load(303)
    assert {p.name for p in folder.glob("*")} == {names[n] for n in (300, 302, 303)}


def test_a_length_that_holds_no_bar_is_refused(corpus):
    with pytest.raises(UserError, match=r"corpus: no bar of split 'train' fits length 3; choose a longer one"):
        windows.load(corpus, CODEC, "train", 3)


# --- packing ----------------------------------------------------------------------------------------------------------


def best_fit(slots, length):
    """The same rule, spelled out: rows of windows, found by looking at every row."""
    rows, free = [], []
    for w in sorted(range(len(slots)), key=lambda w: -slots[w]):
        fits = [r for r in range(len(rows)) if free[r] >= slots[w]]
        if fits:
            r = min(fits, key=lambda r: free[r])
        else:
            r = len(rows)
            rows.append([])
            free.append(length)
        rows[r].append(w)
        free[r] -= slots[w]
    return sorted(free)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), max_size=60))))
@settings(max_examples=200, deadline=None)
def test_packing_is_best_fit_decreasing(case):
    length, slots = case
    packed = packing.pack(np.array(slots, np.int32), length)
    assert sorted(packed.windows.tolist()) == list(range(len(slots)))
    free = [length - sum(slots[w] for w in packed[r]) for r in range(len(packed))]
    assert sorted(free) == best_fit(slots, length) and all(f >= 0 for f in free)
    assert all(len(packed[r]) and np.all(np.diff(packed[r]) > 0) for r in range(len(packed)))
    assert packed.efficiency == pytest.approx(sum(slots) / max(length * len(packed), 1))


def test_packing_many_windows_wastes_little():
    slots = np.random.default_rng(0).integers(1, 2049, 100_000)
    packed = packing.pack(slots, 2048)
    assert packed.efficiency > 0.99
    assert np.array_equal(packing.pack(slots, 2048).windows, packed.windows)


@pytest.mark.parametrize("slots", [[5, 9], [0, 3]])
def test_a_window_that_no_row_holds_is_an_error(slots):
    with pytest.raises(ValueError, match="windows have"):
        packing.pack(np.array(slots), 8)
