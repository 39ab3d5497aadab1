"""Chords beside a MIDI file: every label stands where it is heard, with beats laid out anew or without."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax.data.corpus import Corpus
from aurljax.data.ingest import ingest
from aurljax.errors import UserError
from aurljax.music import beats, chords, labels, midi, sidecar
from aurljax.music.beats import Beats
from aurljax.music.labels import Labels, LabelsError
from aurljax.music.score import Score

PIECE = Score(480, notes=[(480 * i, 400, 0, 60 + i, 64) for i in range(8)], tracks=[(0, False)])  # of 4 seconds


def label(text: str) -> Labels:
    rows = [row.split() for row in text.split(";")]
    return Labels(np.array([row[:2] for row in rows], float), tuple(row[2] for row in rows))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 1 C:maj;1 2 A:min;2 9 G:7", [(0, "C:maj"), (960, "A:min"), (1920, "G:7")]),
        ("0 1 C;1 9 F/A", [(0, "C:maj"), (960, "F/A")]),
        ("0 1 N;1 2 C:maj;2 3 C:maj;3 4 N", [(960, "C:maj"), (2880, "N")]),
        ("0.5 1 Am;1.5 2 Am", [(480, "Am"), (960, "N"), (1440, "Am"), (1920, "N")]),
        ("0.5 1 Am;1.01 2 F", [(480, "Am"), (970, "F:maj"), (1920, "N")]),
        ("-2 -1 Am;-1 1 F;1 9 G", [(0, "F:maj"), (960, "G:maj")]),
        ("0 1 C;1 9 what", [(0, "C:maj"), (960, "what")]),
        ("0 3.9 C;3.9 5 G", [(0, "C:maj"), (3744, "G:maj")]),
        ("0 4 C;4 5 G", [(0, "C:maj")]),
    ],
)
def test_labels_become_markers(text, expected):
    score = labels.put(PIECE.replace(texts=((5, "lyric", "la"),)), label(text), PIECE.ticks)
    assert [(t, x) for t, kind, x in score.texts if kind == "marker"] == expected
    assert (5, "lyric", "la") in score.texts
    found = chords.of(score)
    assert found["tick"].tolist() == [t for t, x in expected if x != "what"]
    assert (score.notes == PIECE.notes).all() and score.end == PIECE.end


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 3), st.booleans())
def test_labels_stand_where_they_are_heard(seed, start, off):
    """On any beats: the seconds from the first note to each chord are those of the labels."""
    rng = np.random.default_rng(seed)
    times = start + np.cumsum(rng.uniform(0.2, 1.2, 30))
    starts = np.sort(rng.uniform(0, 3.7, 6)) + 0.02 * np.arange(6)
    spans = np.stack([starts, np.append(starts[1:], 9)], 1)
    named = Labels(spans, ("C", "F", "Am", "G7", "N", "Dm7"))
    grid = Beats(times, np.arange(30) % 4 == 0)
    score = PIECE.replace(notes=[(480 * i + 240 * off, 300, 0, 60, 64) for i in range(8)])
    laid = labels.put(beats.lay_out(score, grid), named, lambda s: beats.ticks(score, grid, s))
    found = chords.of(laid)
    heard = laid.seconds(found["tick"]) - laid.seconds(laid.onset[0]) + score.seconds(score.onset[0])
    late = starts >= heard[0] + 0.01  # what begins before tick 0 is put there
    assert len(found) >= late.sum() > 0 or not late.any()
    np.testing.assert_allclose(heard[len(heard) - late.sum() :], starts[late], atol=0.005)


def test_files(tmp_path):
    path = tmp_path / "chords.txt"
    path.write_text("0.0\t1.5\tC:maj\n\n1.5 2 what\n")
    found = labels.read(path)
    assert found.seconds.tolist() == [[0, 1.5], [1.5, 2]] and found.texts == ("C:maj", "what") and found.unknown == 1
    for text, words in (
        ("", "three words"),
        ("0 1\n", "three words"),
        ("0 1 C maj\n", "three words"),
        ("0 1 C\n0 2 F\n", "one after the other"),
        ("0 1 C\n2 1 F\n", "no earlier"),
        ("nan 1 C\n", "one after"),
        ("a b C\n", "cannot be read"),
        ("0\n0 1 C\n", "cannot be read"),
        ("\xff\xfe", "cannot be read"),
        ("0 1 verse\n1 2 chorus\n2 3 C", "2 of its 3 labels"),
    ):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(LabelsError, match="chords.txt") as error:
            labels.read(path)
        assert words in str(error.value)


def test_ingest_puts_chords_on_pieces(tmp_path):
    folder = tmp_path / "midi"
    folder.mkdir()
    for i, name in enumerate("abcd"):
        midi.save(PIECE.replace(notes=PIECE.notes[: 8 - i]), folder / f"{name}.mid")
    (folder / "a.lab").write_text("0 1 C:maj\n1 9 A:min\n")
    (folder / "b.lab").write_text("0 1 C:maj\n1 2 what\n2 9 A:min\n")
    (folder / "c.lab").write_text("1 9 A:min\n0 1 C:maj\n")
    (folder / "a.beats").write_text("\n".join(str(0.25 * i) for i in range(20)))
    asked = {"workers": 1, "chords": "{stem}.lab", "fractions": (0, 0)}
    report = ingest(folder, tmp_path / "corpus", **asked)
    assert Corpus(tmp_path / "corpus")[0].texts == ((0, "marker", "C:maj"), (960, "marker", "A:min"))
    assert "one after the other" in report.skipped["midi/c.mid"] and "0 files fit" in report.skipped["midi/d.mid"]
    assert report.repairs == {"kept N label(s) that are no chord symbols as mere texts": 1}
    assert ingest(folder, tmp_path / "corpus", **asked).unchanged
    both = ingest(folder / "a.mid", tmp_path / "both", **asked, beats="{stem}.beats")
    assert both.pieces == 1
    assert Corpus(tmp_path / "both")[0].texts == ((0, "marker", "C:maj"), (1920, "marker", "A:min"))
    with pytest.raises(UserError, match="other files"):
        ingest(folder, tmp_path / "corpus", **{**asked, "chords": None})
    (folder / "a.lab").write_text("0 1 C:maj\n1 9 A:min7\n")
    with pytest.raises(UserError, match="other files"):
        ingest(folder, tmp_path / "corpus", **asked)


@pytest.mark.skipif("AURLJAX_DATA" not in os.environ, reason="AURLJAX_DATA: a folder with pop909, is not set")
def test_real_chords():
    """The pitches that sound over POP909's chords are mostly theirs, and less so if the chords are moved a tone up."""
    own, moved = [], []
    for folder in sorted((Path(os.environ["AURLJAX_DATA"]) / "pop909").glob("[0-9]*"))[:30]:
        path = folder / f"{folder.name}.mid"
        if not path.exists():
            continue
        score = midi.load(path)
        grid = beats.read(sidecar.beside(path, "beat_midi.txt", "beats"))
        named = labels.read(folder / "chord_midi.txt")
        laid = labels.put(
            beats.lay_out(score, grid), named, lambda s, score=score, grid=grid: beats.ticks(score, grid, s)
        )
        found = chords.of(laid)
        assert len(found) > 20 and named.unknown == 0
        over = found[np.searchsorted(found["tick"], laid.onset, "right").clip(1) - 1]
        for up, out in ((0, own), (2, moved)):
            degree = (laid.pitch.astype(int) - over["root"] - up) % 12
            heard = over["root"] >= 0
            pairs = zip(degree[heard], over["quality"][heard], strict=True)
            out.append(np.mean([d in chords.INTERVALS[q] for d, q in pairs]))
        beat = found["tick"] % 480
        assert np.mean(np.minimum(beat, 480 - beat) < 24) > 0.9
    assert len(own) > 20 and np.mean(own) > 0.8 > np.mean(moved) + 0.2
