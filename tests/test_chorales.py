"""The chorale adapter: notes as music21 itself reads them, true bars, splits that keep a melody together."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from aurljax.music.score import Score

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
melodies = pytest.importorskip("melodies")

SAMPLE = ("bwv17.7.mxl", "bwv248.23-2.mxl", "bwv299.mxl", "bwv41.6.mxl", "bwv66.6.mxl", "bwv846.mxl")


@pytest.fixture(scope="module")
def chorales():
    pytest.importorskip("music21", reason="music21 is not installed: no chorales to read")
    import chorales

    return chorales


@pytest.fixture(scope="module")
def pieces(chorales):
    paths = {p.name: p for p in chorales.collection()}
    assert len(paths) > 400
    return chorales.read([paths[name] for name in SAMPLE], processes=1)


def test_what_is_read_and_what_is_left_out(pieces):
    scores, grace, skipped = pieces
    assert list(scores) == [Path(name).stem for name in SAMPLE[:-1]]
    assert list(skipped) == ["bwv846.mxl"] and "Piano" in skipped["bwv846.mxl"]
    assert grace == 2
    for stem, score in scores.items():
        score.check()
        assert score.names == ("Soprano", "Alto", "Tenor", "Bass") and set(score.track) == {0, 1, 2, 3}
        assert score.meta["title"] == "BWV " + stem[3:]


def test_notes_are_those_music21_reads(chorales, pieces):
    from music21 import converter

    paths = {p.stem: p for p in chorales.collection() if p.suffix == ".mxl"}
    for stem, score in pieces[0].items():
        parts = {(p.partName or "").split()[0]: p for p in converter.parse(paths[stem], forceSource=True).parts}
        shift = None
        for track, voice in enumerate(chorales.VOICES):
            ours = score.notes[score.track == track]
            sung = [n for n in parts[voice].stripTies().flatten().notes if not n.duration.isGrace]
            assert ours["pitch"].tolist() == [n.pitch.midi for n in sung], stem
            assert ours["duration"].tolist() == [480 * n.quarterLength for n in sung], stem
            late = ours["onset"] - np.array([float(480 * n.offset) for n in sung])
            shift = late[0] if shift is None else shift
            assert (late == shift).all(), stem


def test_bars_are_musical(pieces):
    scores = pieces[0]
    assert set(scores["bwv66.6"].onset[:4]) == {3 * 480}  # an upbeat fills the fourth beat of the first bar
    for stem in ("bwv66.6", "bwv17.7", "bwv299"):  # repeat signs inside bars leave no trace
        assert len(scores[stem].meter) == 1 and len(set(np.diff(scores[stem].bar_ticks))) == 1
    assert [tuple(m)[1:] for m in scores["bwv41.6"].meters.tolist()] == [(4, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "written, pickup, rows",
    [
        ([(4, (4, 4))] * 3, 0, [(0, (4, 4))]),
        ([(1, (4, 4)), (4, (4, 4)), (3, (4, 4))], 3, [(0, (4, 4))]),
        ([(4, (4, 4)), (3, (4, 4)), (1, (4, 4)), (4, (4, 4))], 0, [(0, (4, 4))]),
        ([(4, (4, 4)), (3, (4, 4)), (1, (3, 4)), (3, (3, 4))], 0, [(0, (4, 4)), (8, (3, 4))]),
        ([(4, (4, 4)), (1, (4, 4)), (4, (4, 4))], 0, [(0, (4, 4)), (4, (1, 4)), (5, (4, 4))]),
        ([(3, (3, 4)), (7, (3, 4)), (3, (3, 4))], 0, [(0, (3, 4)), (9, (1, 4)), (10, (3, 4))]),
        ([(Fraction(3, 2), (4, 4)), (4, (4, 4)), (Fraction(7, 2), (4, 4)), (4, (4, 4))], Fraction(5, 2),
         [(0, (4, 4)), (8, (7, 8)), (Fraction(23, 2), (4, 4))]),
    ],
)  # fmt: skip
def test_bars_of_written_measures(chorales, written, pickup, rows):
    assert chorales._bars([(Fraction(length), meter) for length, meter in written]) == (pickup, rows)


def _tune(steps, rhythm, low=60):
    onset = np.append(0, np.cumsum(rhythm))[:-1] * 240
    return Score(notes=[(o, 240 * d, 0, p, 80) for o, d, p in zip(onset, rhythm, low + np.cumsum(steps), strict=True)],
                 tracks=[(52, False)])  # fmt: skip


def test_settings_of_one_melody_stay_together():
    rng = np.random.default_rng(0)
    scores = {}
    for i in range(40):
        steps, rhythm = rng.integers(-4, 5, 40), rng.choice([1, 2, 4], 40)
        scores[f"{i}a"] = _tune(steps, rhythm)
        scores[f"{i}b"] = _tune(steps, rhythm, low=65)  # in another key
        scores[f"{i}c"] = _tune(steps, np.full(40, 2))  # in another rhythm
    clusters = melodies.melodies(scores)
    assert clusters == sorted([f"{i}a", f"{i}b", f"{i}c"] for i in range(40))
    parts = melodies.split(scores)
    assert sorted(stem for stems in parts.values() for stem in stems) == sorted(scores)
    assert [len(parts[name]) for name in ("valid", "test")] == [12, 12]
    name = {stem: f"{1000 - i}" for i, stem in enumerate(sorted(scores))}
    renamed = melodies.split({name[stem]: score for stem, score in scores.items()})
    assert renamed == {part: sorted(name[s] for s in stems) for part, stems in parts.items()}  # content decides
    assert melodies.music(scores["0a"]) == melodies.music(scores["0b"]) != melodies.music(scores["0c"])


def test_written_once(chorales, tmp_path, monkeypatch):
    paths = [p for p in chorales.collection() if p.name in SAMPLE]
    monkeypatch.setattr(chorales, "collection", lambda: paths)
    done = chorales.write(tmp_path, processes=1)
    files = sorted(p.stem for p in tmp_path.glob("*.mid"))
    assert files == sorted(Path(name).stem for name in SAMPLE[:-1]) and sum(done["pieces"].values()) == len(files)
    stamp = (tmp_path / "bwv66.6.mid").stat().st_mtime_ns
    monkeypatch.setattr(chorales, "read", None)  # not called again
    assert chorales.write(tmp_path) == done and (tmp_path / "bwv66.6.mid").stat().st_mtime_ns == stamp
