"""One tune is one cluster and one split, in any key and tempo, however the corpus grows."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import random_score

from aurljax.data import augment, similar, splits
from aurljax.data.corpus import Corpus
from aurljax.data.ingest import ingest
from aurljax.errors import UserError
from aurljax.music import midi
from aurljax.music.score import Score


def tune(seed: int, notes: int = 80, shift: int = 0, stretch: int = 1, bass: int = 40) -> Score:
    """A melody over a bass, both random; the melody follows from `seed` alone."""
    pitches = 72 + shift + np.clip(np.cumsum(np.random.default_rng(seed).integers(-4, 5, notes)), -15, 15)
    low = np.random.default_rng(bass).integers(30, 48, notes)
    rows = [(240 * stretch * i, 240 * stretch, 0, int(p), 80) for i, p in enumerate(pitches)]
    rows += [(240 * stretch * i, 240 * stretch, 1, int(p), 60) for i, p in enumerate(low)]
    return Score(480, notes=rows, tracks=[(0, False), (32, False)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(-5, 5), st.integers(1, 3), st.integers(0, 99))
def test_key_tempo_and_accompaniment_do_not_count(seed, shift, stretch, bass):
    one, other = similar.sketch(tune(seed)), similar.sketch(tune(seed, shift=shift, stretch=stretch, bass=bass))
    assert len(one) and np.array_equal(one, other)
    assert similar.likeness(one, similar.sketch(tune(seed + 100))) == 0


def test_likeness_is_the_share_of_shingles_that_both_have():
    """Short pieces' sketches hold every shingle, so that sets can be counted."""
    a, b = similar.sketch(tune(1, 50)), similar.sketch(tune(1, 40))
    both, either = set(a.tolist()) & set(b.tolist()), set(a.tolist()) | set(b.tolist())
    assert similar.likeness(a, b) == len(both) / len(either) > 0.5
    assert similar.likeness(a, a) == 1
    assert np.array_equal(similar.unpacked(similar.packed(a)), a)


def test_scales_and_few_notes_make_no_pair():
    scale = Score(480, notes=[(i * 240, 240, 0, 40 + i, 64) for i in range(60)], tracks=[(0, False)])
    for score in (scale, Score(480), tune(1, 8)):
        assert len(similar.sketch(score)) == 0
    assert similar.likeness(*[np.zeros(0, np.uint64)] * 2) == 0
    drums = Score(480, notes=tune(1).notes, tracks=[(0, True), (0, True)])
    assert len(similar.sketch(drums)) == 0


def test_pairs_are_those_of_every_comparison():
    pieces = [tune(s, notes=n) for s in range(6) for n in (60, 70, 90)] + [random_score(s) for s in range(5)]
    sketches = [similar.sketch(p) for p in pieces]
    every = [
        (i, j)
        for i in range(len(pieces))
        for j in range(i + 1, len(pieces))
        if similar.likeness(sketches[i], sketches[j]) >= similar.SHARED
    ]
    assert similar.pairs(sketches) == every and len(every) == 18
    assert similar.clusters(len(pieces), every)[:18] == [3 * (i // 3) for i in range(18)]
    assert similar.pairs([]) == []


def test_an_old_tune_keeps_its_split_and_takes_new_pieces_along():
    near = {d: similar.sketch(tune(1, notes=n)) for d, n in (("a", 60), ("b", 64), ("c", 68))}
    alone = splits.by_tune(near, (0.3, 0.3))
    assert len(set(alone.split.values())) == 1 and set(alone.cluster.values()) == {"a"}
    for split in ("train", "valid", "test"):
        assert splits.by_tune(near, (0.3, 0.3), {"b": split}).split == dict.fromkeys("abc", split)
    torn = splits.by_tune(near, (0.3, 0.3), {"a": "train", "c": "test"})
    assert torn.split == {"a": "train", "c": "test"}
    assert torn.left_out == {"b": "is one tune with pieces of several splits (test, train)"}


def test_large_tunes_fall_into_splits_as_small_ones_do():
    """The first digest of many is small; a split must not follow from that."""
    for size in (1, 9):
        pieces = {
            f"{s * 7919 + k * 104729:032x}"[::-1]: similar.sketch(tune(s)) for s in range(300) for k in range(size)
        }
        found = splits.by_tune(pieces, (0.2, 0.3))
        assert len(set(found.cluster.values())) == 300
        share = {name: sum(s == name for s in found.split.values()) / len(pieces) for name in ("valid", "test")}
        assert abs(share["valid"] - 0.2) < 0.08 and abs(share["test"] - 0.3) < 0.08


def write(folder: Path, pieces: dict[str, Score]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, score in pieces.items():
        midi.save(score, folder / f"{name}.mid")
    return folder


def test_corpora_hold_a_tune_in_one_split(tmp_path):
    pieces = {f"t{s}_{k}": tune(s, shift=k, bass=k) for s in range(12) for k in range(3)}
    folder = write(tmp_path / "midi", pieces)
    report = ingest(folder, tmp_path / "a", workers=1, fractions=(0.3, 0.3))
    corpus = Corpus(tmp_path / "a")
    by_cluster = {}
    for p in corpus.pieces:
        assert by_cluster.setdefault(p.cluster, p.split) == p.split
    assert report.tunes == len(by_cluster) == 12 and not report.straddling
    assert len(set(by_cluster.values())) > 1

    more = {f"t{s}_{k}": tune(s, shift=k, bass=k) for s in range(12, 20) for k in range(2)}
    write(folder, {**more, **{f"u{s}": tune(s, notes=70, bass=9) for s in range(12)}})
    ingest(folder, tmp_path / "b", workers=1, fractions=(0.3, 0.3), earlier=tmp_path / "a")
    old = {p.digest: p.split for p in corpus.pieces}
    new = {p.id.split("/")[-1][:-4]: p for p in Corpus(tmp_path / "b").pieces}
    assert all(old.get(p.digest, p.split) == p.split for p in new.values()) and len(new) == 36 + 16 + 12
    assert all(new[f"u{s}"].split == new[f"t{s}_0"].split for s in range(12))
    with pytest.raises(UserError, match="cannot both decide"):
        ingest(folder, tmp_path / "c", splits=tmp_path / "s.json", earlier=tmp_path / "a")


@pytest.mark.skipif("AURLJAX_DATA" not in os.environ, reason="AURLJAX_DATA: a folder with nottingham, is not set")
def test_real_tunes():
    """Nottingham's tunes in another key and accompanied by nothing meet themselves and few others."""
    files = sorted((Path(os.environ["AURLJAX_DATA"]) / "nottingham").rglob("*.mid"))[:300]
    pieces = [midi.load(f) for f in files]
    sketches = [similar.sketch(p) for p in pieces]
    moved = [similar.sketch(augment.transpose(p, 3)) for p in pieces]
    met = [similar.likeness(a, b) for a, b in zip(sketches, moved, strict=True) if len(a)]
    assert min(met) == 1 and len(met) > 290
    assert len(similar.pairs(sketches)) < 40
