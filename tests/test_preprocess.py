"""Preprocessing gives lawful scores, is told apart in the cache of windows, and changes what it says and no more."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from corpora import make_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import random_score
from strategies import scores

import aurljax
from aurljax.data import windows
from aurljax.data.pipeline import Dataset
from aurljax.fields import ConfigError
from aurljax.music import codec as codecs
from aurljax.music import preprocess
from aurljax.music.polyphony import reduce_polyphony, sounding
from aurljax.music.preprocess import Preprocess
from aurljax.music.score import Score

CODEC = codecs.make("score")
SOME = settings(max_examples=60, deadline=None)


def piano(notes, resolution=480) -> Score:
    return Score(resolution, notes=notes, tracks=[(0, False)])


def on_grid(ticks, steps, resolution):
    """Whether each tick is the one nearest to some position: steps from both sides, without the code's arithmetic."""
    return np.abs(np.rint(ticks * steps / resolution) * resolution / steps - ticks) <= 0.5


# --- time -------------------------------------------------------------------------------------------------------------


@given(scores(), st.sampled_from([1, 3, 4, 6, 7, 24]))
@SOME
def test_strict_puts_everything_on_the_grid_and_once_is_enough(score, steps):
    once = preprocess.quantise(score, steps)
    once.check()
    assert preprocess.quantise(once, steps) == once
    assert on_grid(once.onset, steps, score.resolution).all()
    assert on_grid(once.onset + once.duration, steps, score.resolution).all()
    assert len(once) <= len(score) and once.tempo.tobytes() == score.tempo.tobytes()
    half = score.resolution / steps / 2 + 0.5
    assert all(np.abs(score.onset - t).min() <= half for t in once.onset.tolist())


@given(scores(), st.sampled_from([4, 6]), st.floats(0, 1), st.floats(0, 0.1))
@SOME
def test_groove_lies_between_the_score_and_the_grid(score, steps, strength, tolerance):
    def groove(strength, tolerance=0.0):
        return preprocess.quantise(score, steps, "groove", strength, tolerance)

    groove(strength, tolerance).check()
    assert groove(0.0) == score and groove(strength, 1.0) == score
    assert np.array_equal(np.unique(groove(1.0).onset), np.unique(preprocess.quantise(score, steps).onset))


def test_groove_takes_its_share_of_what_is_beyond_the_tolerance():
    score = piano([(0, 100, 0, 60, 64), (130, 100, 0, 62, 64), (270, 100, 0, 64, 64)])
    assert preprocess.quantise(score, 4, "groove", 0.5).onset.tolist() == [0, 125, 255]
    assert preprocess.quantise(score, 4, "groove", 1.0, tolerance=10 / 480).onset.tolist() == [0, 130, 250]
    with pytest.raises(ConfigError, match="mode=grove is none of strict, groove; did you mean groove"):
        preprocess.quantise(score, 4, "grove")


@given(scores())
@SOME
def test_adaptive_is_lawful(score):
    once = preprocess.quantise_adaptive(score)
    once.check()
    fits = [on_grid(once.onset, steps, score.resolution) for steps, _ in preprocess.GRIDS]
    assert np.logical_or.reduce(fits).all() and len(once) <= len(score)


@given(st.lists(st.sampled_from([4, 6, 8]), min_size=1, max_size=8), st.integers(0, 1000))
@SOME
def test_adaptive_finds_the_grid_each_beat_was_played_on(grids, seed):
    """Beats of sixteenths, triplets and thirty-seconds, played up to 6 ticks of 480 off, come back as written."""
    onset = np.concatenate([480 * i + np.arange(g) * 480 // g for i, g in enumerate(grids)])
    late = np.random.default_rng(seed).integers(-6, 7, len(onset))
    rows = [
        (max(t + d, 0), 40, 0, 40 + i, 64) for i, (t, d) in enumerate(zip(onset.tolist(), late.tolist(), strict=True))
    ]
    assert preprocess.quantise_adaptive(piano(rows)).onset.tolist() == onset.tolist()


def test_notes_that_meet_on_the_grid_are_merged_and_counted():
    score = piano([(0, 100, 0, 60, 64), (10, 200, 0, 62, 64), (20, 400, 0, 62, 30), (130, 9, 0, 62, 64)])
    assert score.repaired()[1]["cut"] == 2  # the given one is not lawful yet
    out, gone = preprocess.prepare(score.repaired()[0], Preprocess(quantise="strict"))
    out.check()
    assert gone == {"merged": 1, "thinned": 0} and len(out) == 3


# --- velocity, polyphony, instruments ---------------------------------------------------------------------------------


@given(scores(), st.floats(1, 127), st.floats(0, 40))
@SOME
def test_velocities_keep_their_order(score, mean, spread):
    out = preprocess.normalise_velocity(score, mean, spread)
    out.check()
    order = np.argsort(score.velocity, kind="stable")
    assert (np.diff(out.velocity[order].astype(int)) >= 0).all()
    assert np.array_equal(out.notes[["onset", "pitch"]], score.notes[["onset", "pitch"]])


def test_velocities_reach_their_mean_and_spread():
    velocity = np.random.default_rng(0).integers(20, 60, 500)
    score = piano([(i, 1, 0, 60, int(v)) for i, v in enumerate(velocity)])
    out = preprocess.normalise_velocity(score, 70, 9).velocity
    assert abs(out.mean() - 70) < 0.1 and abs(out.std() - 9) < 0.2
    assert abs(preprocess.normalise_velocity(score, 70).velocity.std() - velocity.std()) < 0.2


def extremes(score: Score) -> set:
    """Notes that start above, or below, all other pitched notes then sounding; found one note at a time."""
    rows = score.notes[~score.is_drum].tolist()
    out = set()
    for onset, _, track, pitch, _ in rows:
        others = [p for o, d, t, p, _ in rows if o <= onset < o + d and (o, t, p) != (onset, track, pitch)]
        if all(pitch > p for p in others):
            out.add(("melody", onset, track, pitch))
        if all(pitch < p for p in others):
            out.add(("bass", onset, track, pitch))
    return out


@given(scores(), st.integers(1, 5))
@SOME
def test_fewer_voices_keep_bass_and_melody(score, most):
    out = reduce_polyphony(score, most)
    out.check()
    assert sounding(out).max(initial=0) <= most
    drums = score.notes[score.is_drum]
    assert np.array_equal(out.notes[out.is_drum], drums)
    there = set(map(tuple, out.notes[["onset", "track", "pitch"]].tolist()))
    assert there <= set(map(tuple, score.notes[["onset", "track", "pitch"]].tolist()))
    wanted = {
        note
        for what, *note in ((w, *n) for w, *n in extremes(score))
        for note in [tuple(note)]
        if most > 1 or what == "melody"
    }
    assert wanted <= there
    assert reduce_polyphony(out, most) == out and reduce_polyphony(score, 1000) == score


def test_sounding_counts_what_a_loop_counts():
    score = random_score(5)
    rows = score.notes[~score.is_drum].tolist()
    assert sounding(score).tolist() == [sum(o <= at < o + d for o, d, *_ in rows) for at, *_ in rows]


@given(scores())
@SOME
def test_instruments_fold_into_their_family(score):
    out = preprocess.fold_instruments(score)
    out.check()
    for (before, drum), (after, same) in zip(score.tracks.tolist(), out.tracks.tolist(), strict=True):
        assert drum == same and after == (before if drum else before - before % 8)
    assert preprocess.fold_instruments(out) == out


# --- in the pipeline --------------------------------------------------------------------------------------------------

EVERYTHING = Preprocess("groove", 4, 0.9, 0.01, True, 3, 70, 12)


def test_windows_are_cut_from_preprocessed_pieces(tmp_path, monkeypatch):
    monkeypatch.setenv("AURLJAX_CACHE", str(tmp_path / "user"))
    corpus = make_corpus(tmp_path, 14, fractions=(0, 0))
    raw, data = (Dataset(corpus, CODEC, "train", 256, 4, preprocess=p) for p in (Preprocess(), EVERYTHING))
    source, index = data.sources[0], data.sources[0].windows
    assert index.digest != raw.sources[0].windows.digest
    for w in range(len(index)):
        piece, a, b, ids = (int(c[w]) for c in (index.piece, index.start, index.stop, index.ids))
        score = preprocess.prepare(corpus[piece], EVERYTHING)[0]
        assert sounding(score).max(initial=0) <= 3
        wanted = CODEC.encode(score, bars=(a, b))
        assert np.array_equal(source.window(w)[0], wanted) and len(wanted) == ids <= 257
    parallel = windows.compute(corpus, CODEC, "train", 256, 2, EVERYTHING)
    assert parallel.digest == index.digest
    assert data.provenance["preprocess"] == dataclasses.asdict(EVERYTHING)


def test_every_setting_has_its_own_index(tmp_path, monkeypatch):
    monkeypatch.setenv("AURLJAX_CACHE", str(tmp_path / "user"))
    corpus = make_corpus(tmp_path, 4, fractions=(0, 0))
    for how in (Preprocess(), Preprocess("strict"), Preprocess("strict", 6), Preprocess(polyphony=2)):
        windows.load(corpus, CODEC, "train", 256, how)
        windows.load(corpus, CODEC, "train", 256, how)
    assert len(list((corpus.path / "cache").iterdir())) == 4


@pytest.mark.skipif("AURLJAX_DATA" not in os.environ, reason="AURLJAX_DATA names no folder with pop909/")
def test_real_performances_quantise_with_few_notes_merged():
    files = sorted(Path(os.environ["AURLJAX_DATA"]).glob("pop909/**/[0-9]*.mid"))[:20]
    assert files
    for path in files:
        score = aurljax.load_midi(path)
        for how in ("strict", "groove", "adaptive"):
            out, gone = preprocess.prepare(score, Preprocess(quantise=how))
            out.check()
            assert gone["merged"] < 0.05 * len(score)
