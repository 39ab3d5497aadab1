"""Records give back their score to the last bit, and no damage to a corpus goes unnoticed or unnamed."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from corpora import make_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import random_score

from aurljax.data import contents
from aurljax.data.corpus import MANIFEST, Corpus, CorpusError, digest, pack, unpack
from aurljax.music import midi
from aurljax.music.score import Score

tick, byte, text = st.integers(0, 2**20), st.integers(0, 127), st.text(st.characters(exclude_categories=()), max_size=8)
rows = {
    "notes": st.tuples(tick, st.integers(1, 2**20), st.integers(0, 2), byte, st.integers(1, 127)),
    "tempo": st.tuples(tick, st.integers(1, 2**31 - 1)),
    "meter": st.tuples(tick, st.integers(1, 255), st.sampled_from([1, 2, 4, 8, 16])),
    "key": st.tuples(tick, st.integers(-7, 7), st.booleans()),
    "controls": st.tuples(tick, st.integers(0, 2), st.integers(0, 3), byte, st.integers(-8192, 8191)),
}
scores = st.builds(
    Score,
    resolution=st.integers(1, 32767),
    tracks=st.just([(0, False), (127, False), (0, True)]),
    names=st.tuples(text, text),
    texts=st.lists(st.tuples(tick, st.sampled_from(["lyric", "marker"]), text), max_size=3).map(tuple),
    meta=st.dictionaries(st.sampled_from(["title", "composer", "genre"]), text),
    **{name: st.lists(row, max_size=6) for name, row in rows.items()},
)


@given(scores)
@settings(max_examples=60, deadline=None)
def test_unpack_undoes_pack(score):
    back = unpack(pack(score))
    assert back == score
    assert pack(back) == pack(score)
    assert not back.notes.flags.writeable


def test_large_numbers_are_kept():
    score = Score(
        32767, notes=[(2**60, 2**59, 0, 127, 127)], tracks=[(127, True)], controls=[(2**60, 65535, 3, 127, -8192)]
    )
    same = unpack(pack(score)) == score
    assert same  # not compared here: to print such a score, its bars are counted


@given(scores, st.data())
@settings(max_examples=40, deadline=None)
def test_a_wrong_byte_or_a_cut_is_an_error(score, data):
    record = bytearray(pack(score))
    cut = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(ValueError):
        unpack(bytes(record[:cut]))
    record[cut] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError):
        unpack(bytes(record))


def test_the_digest_is_of_the_music_alone():
    score = random_score(1)
    assert digest(score) == digest(score.replace(meta={"title": "x"}, names=("y",), texts=((0, "marker", "z"),)))
    other = score.notes.copy()
    other["velocity"][3] ^= 1
    assert len({digest(score), digest(score.replace(notes=other)), digest(score.replace(resolution=97))}) == 3
    assert digest(Score(tempo=[(0, 1)])) != digest(Score(meter=[(0, 1, 1)]))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copy(made, tmp_path):
    """The path of a corpus that may be damaged."""
    return shutil.copytree(made.path, tmp_path / "corpus")


def test_the_pieces_are_those_of_the_files(made):
    root = made.path.parent
    for i, piece in enumerate(made.pieces):
        score = midi.load(root / piece.id)
        assert made[i] == score
        assert (piece.digest, piece.notes, piece.tracks) == (digest(score), len(score), len(score.tracks))
        assert piece.seconds == pytest.approx(score.seconds(score.end), abs=1e-3)
        assert piece.bars == len(score.bar_ticks) - 1 == sum(piece.meters.values())
        assert (piece.meters, piece.programs) == (contents.meters(score), contents.programs(score))
        assert piece.source == hashlib.sha256((root / piece.id).read_bytes()).hexdigest()
    assert made[-1] == made[len(made) - 1]
    with pytest.raises(IndexError):
        made[len(made)]
    splits = {p.split for p in made.pieces}
    assert sorted(i for s in splits for i in made.split(s)) == list(range(len(made)))


def test_a_corpus_can_be_sent_to_another_process(made):
    made[0]
    other = pickle.loads(pickle.dumps(made))
    assert other.digest == made.digest and other[3] == made[3]


def test_an_unknown_split_names_those_there_are(made):
    with pytest.raises(CorpusError, match=r"corpus: no piece in split 'dev' \(pieces: .*train \d+"):
        made.split("dev")


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(CorpusError, match="nowhere: no corpus here"):
        Corpus(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [0, 0.1, 0.5, 0.99])
def test_a_cut_manifest_is_named(copy, keep):
    path = copy / MANIFEST
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(CorpusError, match=r"manifest.json: the manifest cannot be read"):
        Corpus(copy)


def test_a_changed_manifest_or_another_version_is_refused(copy):
    path = copy / MANIFEST
    manifest = json.loads(path.read_text())
    for version in (2, 99):
        path.write_text(json.dumps({**manifest, "version": version}))
        with pytest.raises(CorpusError, match=f"version {version}, this program reads 3; ingest the files again"):
            Corpus(copy)
    manifest["pieces"][2]["split"] = "test" if manifest["pieces"][2]["split"] == "train" else "train"
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match="changed after it was written"):
        Corpus(copy)


def test_a_missing_or_cut_shard_is_named(copy):
    shard = copy / "shard-00000.array_record"
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    for act in (Corpus(copy).check, lambda: Corpus(copy)[0]):
        with pytest.raises(CorpusError, match=r"shard-00000.array_record: the shard has \d+ bytes, not \d+"):
            act()
    shard.unlink()
    with pytest.raises(CorpusError, match=r"shard-00000.array_record: the shard is missing"):
        Corpus(copy)[0]


def test_a_wrong_byte_in_a_shard_costs_a_named_record_or_nothing(copy):
    shard = copy / "shard-00000.array_record"
    data, whole = shard.read_bytes(), [pack(s) for s in Corpus(copy)]
    seen = 0
    for at in np.random.default_rng(0).choice(np.flatnonzero(np.frombuffer(data, np.uint8)), 60):
        wrong = bytearray(data)
        wrong[at] ^= 4
        shard.write_bytes(wrong)
        damaged = Corpus(copy)
        for i, record in enumerate(whole):
            try:
                assert pack(damaged[i]) == record
            except CorpusError as e:
                assert "shard-00000.array_record: " in str(e)
                assert f"record {i} ({damaged.pieces[i].id}) is damaged" in str(e) or "the shard is damaged" in str(e)
                seen += 1
    assert seen > 20


def test_the_data_modules_import_neither_jax_nor_grain():
    code = """
import importlib, pkgutil, sys, aurljax.data
for m in pkgutil.iter_modules(aurljax.data.__path__): importlib.import_module(f"aurljax.data.{m.name}")
print([m for m in ("jax", "grain", "array_record", "orbax") if m in sys.modules])"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"
