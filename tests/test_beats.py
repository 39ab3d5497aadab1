"""Scores laid out on beats: what is heard stays, beats become quarters, downbeats become bar lines."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scores

from aurljax.data.corpus import Corpus
from aurljax.data.ingest import ingest
from aurljax.errors import UserError
from aurljax.music import beats, midi, sidecar
from aurljax.music.beats import Beats, BeatsError
from aurljax.music.score import Score


@settings(max_examples=80, deadline=None)
@given(scores(), st.integers(0, 2**32), st.integers(2, 5), st.floats(0, 3))
def test_what_is_heard_stays(score, seed, bar, start):
    rng = np.random.default_rng(seed)
    times = start + np.cumsum(rng.uniform(0.2, 1.2, 40))
    laid = beats.lay_out(score, Beats(times, np.arange(40) % bar == 0))
    laid.check()
    assert laid.resolution == 480 and laid.tracks.tolist() == score.tracks.tolist()
    if len(score) and len(laid) == len(score):
        old, new = score.seconds(score.onset), laid.seconds(laid.onset)
        order = np.argsort(old - old.min(), kind="stable")
        np.testing.assert_allclose(np.sort(new - new.min()), (old - old.min())[order], atol=0.003)


def test_beats_are_quarters_and_downbeats_bar_lines():
    times = np.array([0.5, 1.0, 1.4, 2.0, 2.5, 3.1, 3.5])
    notes = [(int(t * 1000), 100, 0, 60 + i, 64) for i, t in enumerate(times)] + [(0, 100, 0, 40, 64)]
    score = Score(1000, notes=notes, tracks=[(0, False)], tempo=[(0, 1_000_000)])
    laid = beats.lay_out(score, Beats(times, np.array([0, 1, 0, 0, 1, 0, 0]) == 1))
    assert laid.onset.tolist() == [480 * i for i in range(8)]  # a beat before the first is added for the note at 0
    np.testing.assert_allclose(laid.seconds(laid.onset), [0, *times], atol=1e-6)
    assert laid.meter.tolist() == [(0, 2, 4), (960, 3, 4)]
    assert laid.bar_ticks[:3].tolist() == [0, 960, 2400]


def test_columns(tmp_path):
    for name, text, expected in (
        ("one", "0.5\n1\n", [False, False]),
        ("flag", "0.5 1.0\n1 0.0\n", [True, False]),
        ("count", "0.5\t1\n1\t2\n", [True, False]),
        ("two", "0.5 1 0\n1 0 1\n", [False, True]),
    ):
        (tmp_path / name).write_text(text)
        found = beats.read(tmp_path / name)
        assert found.seconds.tolist() == [0.5, 1] and found.downbeat.tolist() == expected
    for text in ("", "1\n", "1\n1\n", "2\n1\n", "a\nb\n", "1 2\n3\n", "nan\n1\n", "\xff\xfe"):
        (tmp_path / "bad").write_text(text, encoding="latin-1")
        with pytest.raises(BeatsError, match="bad"):
            beats.read(tmp_path / "bad")


def test_names_beside_a_file_are_names_and_wrong_patterns_say_so(tmp_path):
    for name in ("song [live].txt", "song l.txt"):
        (tmp_path / name).write_text("0\n1\n")
    assert sidecar.beside(tmp_path / "song [live].mid", "{stem}.txt", "beats").name == "song [live].txt"
    for pattern in ("/etc/*", ""):
        with pytest.raises(sidecar.SidecarError, match="no pattern of a file in this folder"):
            sidecar.beside(tmp_path / "a.mid", pattern, "beats")


def test_ingest_lays_pieces_out(tmp_path):
    folder = tmp_path / "midi"
    folder.mkdir()
    score = Score(480, notes=[(700 * i, 300, 0, 60 + i, 64) for i in range(12)], tracks=[(0, False)])
    for name in ("a", "b", "c"):
        midi.save(score.replace(notes=score.notes[: 12 if name == "a" else 11]), folder / f"{name}.mid")
    times = score.seconds(score.onset)
    (folder / "a.beats").write_text("\n".join(map(str, times)))
    (folder / "b.beats").write_text("\n".join(map(str, times[::-1])))
    report = ingest(folder, tmp_path / "corpus", workers=1, beats="{stem}.beats", fractions=(0, 0))
    corpus = Corpus(tmp_path / "corpus")
    assert corpus[0].onset.tolist() == [480 * i for i in range(12)]
    assert corpus.pieces[0].source == hashlib.sha256((folder / "a.mid").read_bytes()).hexdigest()  # without its beats
    assert "rise" in report.skipped["midi/b.mid"] and "0 files fit" in report.skipped["midi/c.mid"]
    assert ingest(folder, tmp_path / "corpus", beats="{stem}.beats", fractions=(0, 0)).unchanged
    (folder / "a.beats").write_text("\n".join(map(str, times[:-1])))
    for changed in ({"beats": "{stem}.beats"}, {}):
        with pytest.raises(UserError, match="other files"):
            ingest(folder, tmp_path / "corpus", fractions=(0, 0), **changed)


@pytest.mark.skipif("AURLJAX_DATA" not in os.environ, reason="AURLJAX_DATA: a folder with pop909, is not set")
def test_real_beats():
    """Melodies stand nearer to the sixteenths of annotated beats than to those of the file's own tempo."""
    near = []
    for folder in sorted((Path(os.environ["AURLJAX_DATA"]) / "pop909").glob("[0-9]*"))[:40]:
        path = folder / f"{folder.name}.mid"
        if path.exists() and (folder / "beat_midi.txt").exists():
            score = midi.load(path)
            laid = beats.lay_out(score, beats.read(sidecar.beside(path, "beat_midi.txt", "beats")))
            old, new = score.seconds(score.onset), laid.seconds(laid.onset)
            assert abs((new - new[0]) - (old - old[0])).max() < 0.01
            near.append(np.mean(np.minimum(laid.onset % 120, -laid.onset % 120) <= 12))
    assert len(near) > 20 and np.median(near) > 0.5
