"""What a corpus is said to hold is what its scores hold, counted in another way."""

import collections
import dataclasses
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from corpora import make_corpus, tree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scores import random_score
from strategies import scores
from test_similar import tune

from aurljax.cli import main
from aurljax.data import census, contents
from aurljax.data.corpus import Corpus
from aurljax.data.ingest import ingest
from aurljax.data.pipeline import Dataset
from aurljax.music import codec as codecs
from aurljax.music.score import Score


def folder(path: Path, *tunes: Score) -> Corpus:
    (path / "midi").mkdir(parents=True)
    for i, score in enumerate(tunes):
        score.save_midi(path / "midi" / f"{i}.mid")
    (path / "midi/broken.mid").write_bytes(b"MThd")
    ingest([path / "midi"], path / "corpus", workers=1, fractions=(0, 0))
    return Corpus(path / "corpus")


def test_a_census_counts_what_is_there(tmp_path, capsys):
    chords = [(q * 480 + 7 * (q % 2), 400, 0, p, 40 + q) for q in range(8) for p in (48, 60)]
    tune = Score(480, chords + [(0, 960, 1, 38, 100)], [(5, False), (0, True)], [(0, 400_000)], [(0, 4, 4)])
    waltz = Score(480, [(q * 480, 480, 0, 70 + q, 90) for q in range(6)], [(5, False)], [(0, 600_000)], [(0, 3, 4)])
    corpus = folder(tmp_path, tune, waltz)
    found = census.of(corpus)
    assert found.splits == {"train": 2} and found.notes == 23 and found.skipped is not None
    assert found.meters == {"3/4": 2 / 5, "4/4": 3 / 5} or found.meters == {"4/4": 0.5, "3/4": 0.5}
    assert found.programs == {"5": 22 / 23, "drums": 1 / 23}
    assert found.tempo[0] == pytest.approx(100) and found.tempo[-1] == pytest.approx(150)
    assert found.on_grid == pytest.approx(15 / 23) and found.on_sixteenths == pytest.approx(15 / 23)
    assert found.one_velocity == 0.5 and found.tracks[-1] == 2 and found.most_polyphony >= 2
    assert sum(found.skipped.values()) == 1 and not found.warnings()
    assert main(["corpus", str(corpus.path)]) == 0
    printed = capsys.readouterr().out
    assert "2 pieces (2 train), 23 notes" in printed and "skipped files: 1" in printed and "warning" not in printed
    large = dataclasses.replace(found, length_seconds=(99_999.94, 1_655_812.0, 1_655_812.0, 0.0, 0.0))
    assert "99,999.9 1,655,812 1,655,812       0.0" in "\n".join(large.lines())  # columns never touch
    assert main(["corpus", str(corpus.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == 23


def test_the_traps_are_told(tmp_path):
    rng = np.random.default_rng(0)
    loose = np.sort(rng.choice(40_000, 200, False))
    notes = [(int(t), 50, 0, i % 100, 64) for i, t in enumerate(loose)]
    trap = Score(480, notes, [(0, False)], [(0, 500_000)], [(0, 1, 4)])
    warnings = census.of(folder(tmp_path, trap)).warnings()
    assert len(warnings) == 3
    for words, text in zip(("bars are 1/4", "velocity 64", "on the grid of 24"), warnings, strict=True):
        assert words in text


def test_what_pieces_state_is_counted(tmp_path):
    named = random_score(1).replace(texts=(), meta={"title": "Air", "composer": "Bach"})
    symbols = random_score(2).replace(texts=[(0, "marker", "C:maj7"), (9, "marker", "G7")], meta={"title": "Song"})
    plain = random_score(3).replace(texts=(), meta={})
    found = census.of(folder(tmp_path, named, symbols, plain, random_score(4).replace(texts=(), meta={})))
    assert found.stated == {"title": 0.5, "composer": 0.25, "chords": 0.25}


def test_a_lost_report_is_said_and_a_damaged_one_refused(tmp_path, capsys):
    corpus = folder(tmp_path, random_score(1))
    report = corpus.path / "report.json"
    report.write_text("{}")
    assert main(["corpus", str(corpus.path)]) == 2 and "report.json: cannot be read" in capsys.readouterr().err
    report.unlink()
    assert main(["corpus", str(corpus.path)]) == 0 and "not known" in capsys.readouterr().out


# --- one piece, counted note by note ----------------------------------------------------------------------------------


def in_force(rows, tick, otherwise):
    """The last row at or before a tick."""
    return next((row[1:] for row in reversed(rows.tolist()) if row[0] <= tick), otherwise)


@given(scores())
@settings(max_examples=80, deadline=None)
def test_contents_are_those_of_every_note_and_bar(score):
    assume(score.bar_count < 5000)
    bars = collections.Counter("{}/{}".format(*in_force(score.meters, t, None)) for t in score.bar_ticks[:-1])
    assert contents.meters(score) == bars and list(contents.meters(score)) == list(bars)
    drums = zip(score.is_drum.tolist(), score.program.tolist(), strict=True)
    assert contents.programs(score) == collections.Counter("drums" if d else str(p) for d, p in drums)
    keys = [in_force(score.key, tick, None) for tick in score.onset.tolist()]
    assert contents.keys(score) == collections.Counter(contents.key_name(*k) if k else "none stated" for k in keys)


@pytest.mark.parametrize("minor", [False, True])
def test_a_key_is_named_by_its_tonic(minor):
    for fifths in range(-7, 8):
        tonic, mode = contents.key_name(fifths, minor).split()
        pitch = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))[tonic[0]]
        pitch += tonic.count("♯") - tonic.count("♭")
        assert (pitch - 7 * fifths - (9 if minor else 0)) % 12 == 0 and len(tonic) <= 2
        assert mode == ("minor" if minor else "major")
    names = [contents.key_name(f, m) for f, m in ((0, False), (-3, False), (7, False), (-7, True), (6, True))]
    assert names == ["C major", "E♭ major", "C♯ major", "A♭ minor", "D♯ minor"]


# --- spreads ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 127), min_size=1, max_size=60))
def test_a_spread_of_counts_is_that_of_the_values(values):
    counted = census._spread_of(np.bincount(values, minlength=128))
    assert counted == pytest.approx(census._spread(values))


@given(st.integers(0, 2**32), st.integers(1, 2000), st.floats(1, 2000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_histogram_has_every_value_or_says_so(seed, count, spread, whole):
    values = np.random.default_rng(seed).exponential(spread, count).astype(int)
    found = census._histogram(values if whole else values / 7, whole)
    edges, counts = np.array(found.edges), np.array(found.counts)
    assert counts.sum() + found.beyond == len(values) and found.beyond <= 2 + 0.01 * len(values)
    assert 1 <= len(counts) <= census.BINS and np.ptp(np.diff(edges)) < 1e-9 and edges[1] > edges[0]
    for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True) if whole else ():
        assert n == ((low < values) & (values < high)).sum() and low % 1 == 0.5


# --- a corpus ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("census"), 14)


def test_ids_are_those_of_the_codecs(corpus, capsys):
    found = census.of(corpus)
    assert found.sampled == len(corpus) and list(found.encoded) == list(codecs.CODECS)
    for name, made in found.encoded.items():
        codec = codecs.make(name)
        ids = [len(codec.encode(score)) for score in corpus]
        kept = [len(np.unique(codec.layout(score).source)) - 1 for score in corpus] if name == "voices" else [
            len(codec.decode(codec.encode(score))) for score in corpus
        ]  # fmt: skip
        assert made.ids == pytest.approx(np.quantile(ids, census.QUANTILES))
        assert made.kept == pytest.approx(sum(kept) / found.notes)
    few = census.of(corpus, sample=3)
    assert few == census.of(corpus, sample=3) and few.sampled == 3 and few.encoded != found.encoded
    assert dataclasses.replace(few, encoded=found.encoded, sampled=len(corpus)) == found
    assert "of 3 pieces drawn at random" in "\n".join(few.lines()) and "drawn" not in "\n".join(found.lines())


def test_repeated_tunes_and_files_are_counted(tmp_path):
    pieces = [tune(1), tune(1, shift=2), tune(1, bass=7), tune(2), tune(2, stretch=2), tune(3), tune(3)]
    found = census.of(folder(tmp_path, *pieces))
    assert (found.tunes, found.tune_pieces, found.largest_tune, found.duplicates) == (2, 5, 3, 1)
    words = "\n".join(found.lines())
    assert "tunes in several pieces: 2, of 5 pieces, the largest of 3" in words
    assert "repeat the music of another: 1" in words and "hold up" not in words


def test_a_file_that_holds_up_its_reader_is_told(tmp_path):
    """A pipe that nobody writes to; the same files again are still the same corpus."""
    tune(1).save_midi(tmp_path / "a.mid")
    os.mkfifo(tmp_path / "pipe.mid")
    paths, out = [tmp_path / "a.mid", tmp_path / "pipe.mid"], tmp_path / "corpus"
    report = ingest(paths, out, workers=1, timeout=1.0)
    reason = {f"{tmp_path.name}/pipe.mid": "not read within 1 s"}
    assert report.skipped == reason and report.quarantined == list(reason)
    assert ingest(paths, out, workers=1).unchanged
    found = census.of(Corpus(out))
    assert found.quarantined == reason and found.skipped == {"not read within 1 s": 1}
    assert "reader: 1\n  " + ": ".join(*reason.items()) in "\n".join(found.lines())


def test_a_licence_stays_with_the_corpus(tmp_path, capsys):
    tune(1).save_midi(tmp_path / "a.mid")
    path, one, two = str(tmp_path / "a.mid"), str(tmp_path / "one"), str(tmp_path / "two")
    assert main(["ingest", path, "--out", one, "--licence", "CC0, by nobody"]) == 0
    assert main(["ingest", path, "--out", two]) == 0
    assert Corpus(two).licence == "" and Corpus(one).digest == Corpus(two).digest
    capsys.readouterr()
    assert main(["ingest", path, "--out", two, "--licence", "CC0, by nobody"]) == 0
    assert "nothing to do" not in capsys.readouterr().out and tree(Path(one)) == tree(Path(two))
    assert ingest([path], one).unchanged and ingest([path], one, licence="CC0, by nobody").unchanged
    assert main(["corpus", one]) == 0 and "licence: CC0, by nobody\n" in capsys.readouterr().out
    data = Dataset(Corpus(two), codecs.make("score"), "train", 256, 1)
    assert data.provenance["licences"] == ["CC0, by nobody"]


# --- its picture ------------------------------------------------------------------------------------------------------


def one_drum(path: Path) -> Corpus:
    return folder(path, Score(notes=[(0, 480, 0, 36, 100)], tracks=[(0, True)]))


def within(axis, place) -> bool:
    """Whether a tick lies on the axis, and so is drawn."""
    low, high = sorted(axis.get_view_interval())
    return low <= place <= high


@pytest.mark.parametrize("kind", ["many", "tunes", "one drum"])
def test_no_two_words_of_a_picture_touch(kind, corpus, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no pictures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patches import StepPatch
    from matplotlib.text import Text

    from aurljax.evaluate import overview

    made = {"many": lambda: corpus, "tunes": lambda: folder(tmp_path, *(tune(i, 20 + 9 * i) for i in range(40))),
            "one drum": lambda: one_drum(tmp_path)}[kind]()  # fmt: skip
    found = census.of(made)
    figure = overview.draw(found, "corpus: what the corpus holds")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = [axis for a in figure.axes for axis in (a.xaxis, a.yaxis)]
    beyond = {t.label1 for axis in axes for t in axis.get_major_ticks() if not within(axis, t.get_loc())}
    words = {t for t in figure.findobj(Text) if t.get_visible() and t.get_text()} - beyond
    boxes = [(t.get_text(), t.get_window_extent()) for t in words]
    assert len(boxes) > 40 and all(figure.bbox.containsx(x) for _, box in boxes for x in box.intervalx)
    for (a, one), (b, other) in itertools.combinations(boxes, 2):
        assert not one.overlaps(other), (a, b)
    drawn = [[p.get_data() for p in axes.patches if isinstance(p, StepPatch)] for axes in figure.axes]
    assert [d[0].values.tolist() for d in drawn[:3]] == [h.counts for h in found.histograms.values()]
    assert len(drawn[4]) == len(found.pitches)


def test_the_report_draws_itself(corpus, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no pictures")
    command, out = ["corpus", str(corpus.path), "--out"], tmp_path / "out"
    assert main([*command, str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "corpus.png")
    assert (out / "corpus.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, str(out)]) == 2 and "corpus.png exists; choose another --out" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sampled"] == len(corpus) and (tmp_path / "json/corpus.png").exists()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*command, str(tmp_path / "none")]) == 2 and "aurljax[pictures]" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
