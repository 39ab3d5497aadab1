"""Collapsed samples: looping and constant music is caught, real and honestly random music is not; what a run does then."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from runs import bigram  # noqa: F401
from strategies import scores
from test_retention import corpus, quiet, records, settings  # noqa: F401

import aurljax
from aurljax.errors import UserError
from aurljax.music.score import Score
from aurljax.survival import collapse
from aurljax.train import train

DATA = os.environ.get("AURLJAX_DATA")


def piece(*pitches, step=240, length=240):
    return Score(480, notes=[(step * i, length, 0, p, 80) for i, p in enumerate(pitches)], tracks=[(0, False)])


def walk(seed, count=128):
    """A melody that wanders in C major, in notes of uneven length."""
    rng = np.random.default_rng(seed)
    degree = 14 + np.cumsum(rng.integers(-2, 3, count))
    pitch = 36 + 12 * (degree // 7) + np.array([0, 2, 4, 5, 7, 9, 11])[degree % 7]
    onset = np.cumsum(rng.choice([120, 240, 480], count))
    notes = [(t, 120, 0, p, 80) for t, p in zip(onset, np.clip(pitch, 24, 100), strict=True)]
    return Score(480, notes=notes, tracks=[(0, False)])


COLLAPSED = {
    "one note": piece(*[60] * 128),
    "a loop": piece(*[60, 64, 67, 72] * 32),
    "a loop of two bars": piece(*[60, 62, 64, 65, 67, 69, 71, 72, 71, 69, 67, 65, 64, 62, 60, 59] * 8),
    "nothing": Score(480),
    "one note, then silence": piece(60, 62, 64, 65, 67, 69, 71, 72, 60, step=4 * 1920),
}


def test_measures_of_pieces_known_by_hand():
    of = collapse.measure
    assert of(piece(*[60] * 17)) == {"repetition": pytest.approx(8 / 9), "entropy": 0, "empty": 0}
    assert of(piece(60, 61, 62, 63, *range(72, 84)))["repetition"] == 0
    assert of(piece(60, 66))["entropy"] == 1 and of(piece(*range(60, 72)))["entropy"] == pytest.approx(np.log2(12))
    assert of(piece(60, 62, step=3 * 1920))["empty"] == 0.5  # bars 0 and 3 of four
    assert of(piece(60, 62, step=3 * 1920, length=2 * 1920))["empty"] == pytest.approx(1 / 5)  # held over bar lines
    assert of(Score(480)) == {"repetition": 0, "entropy": 0, "empty": 1}


@given(scores())
def test_measures_of_any_music_are_finite_and_those_of_it_twice_over_repeat(score):
    found = collapse.measure(score)
    assert 0 <= found["repetition"] < 1 and 0 <= found["empty"] <= 1 and 0 <= found["entropy"] <= np.log2(12) + 1e-9
    assert collapse.of([score] * 3).verdict(found) == ""  # no piece is worse than itself


@pytest.mark.parametrize("name", COLLAPSED)
def test_collapsed_music_is_caught_and_other_music_is_not(name):
    judge = collapse.of(walk(i) for i in range(64))
    found = collapse.mean([COLLAPSED[name]] * 4)
    measure = judge.verdict(found).removeprefix("samples have collapsed: ").split()[0]
    assert measure == ("entropy" if name == "nothing" else "empty" if "silence" in name else "repetition")
    for seed in range(64, 128, 4):
        assert judge.verdict(collapse.mean(walk(seed + i) for i in range(4))) == ""
    rng = np.random.default_rng(0)  # honest noise, as of random weights, has not collapsed
    assert judge.verdict(collapse.measure(piece(*rng.integers(21, 109, 128)))) == ""
    assert judge.verdict({"numbers": 1.0}) == ""


def test_where_held_out_music_loops_itself_a_loop_is_no_collapse():
    loops = [piece(*np.resize(np.random.default_rng(i).permutation(12) + 60, 128)) for i in range(16)]
    judge = collapse.of(loops)
    assert judge.verdict(collapse.measure(loops[0])) == "" and judge.verdict(collapse.measure(COLLAPSED["nothing"]))


@pytest.mark.skipif(not DATA, reason="AURLJAX_DATA: a folder with pop909 and nottingham, is not set")
@pytest.mark.parametrize("folder", ["pop909/*/[0-9]*.mid", "nottingham/MIDI/*.mid"])
def test_no_set_of_real_pieces_has_collapsed(folder):
    """Bounds from 60 songs' first 32 bars, checked on sets of four of another 60."""
    codec, rng = aurljax.codec("score"), np.random.default_rng(0)
    files = rng.permutation(sorted(map(str, Path(DATA).glob(folder))))[:120]
    pieces = [aurljax.load_midi(f) for f in files]
    heads = [codec.decode(codec.encode(p, (0, min(len(codec.bar_lengths(p)), 32)))) for p in pieces]
    judge = collapse.of(heads[:60])
    rows = [collapse.measure(s) for s in heads[60:]]
    for _ in range(500):
        chosen = rng.choice(rows, 4, replace=False)
        assert judge.verdict({name: np.mean([r[name] for r in chosen]) for name in rows[0]}) == ""
    for name in COLLAPSED.keys() - {"a loop of two bars"}:  # folk tunes repeat themselves nearly as much
        assert judge.verdict(collapse.measure(COLLAPSED[name]))


def drawn(*collapsed):
    """A sample function whose samples have collapsed at these steps."""

    def sample(parts, weights, step, folder):
        return collapse.mean([COLLAPSED["one note"] if step in collapsed else piece(*range(60, 72))] * 2)

    return sample


def rolled(workdir, progress):
    """{step: what the learning rate was multiplied by} and where the run went back to, as it says."""
    said = [line for line in progress.stream.getvalue().split("\n") if "going back to" in line]
    return [(int(s.split(":")[0].split()[1]), s.split("going back to ")[1].split(",")[0].split("/")[-1]) for s in said]


def judged(corpus, **guard):  # noqa: F811
    run = {"steps": 12, "sample_every": 2, "checkpoint_every": 1, "keep": 1}
    return settings(corpus, run=run, guard={"samples_after": 4} | guard)


@pytest.mark.parametrize(
    ("bad", "went"),
    [
        ((), []),
        ((2,), []),  # before it wakes
        ((4,), [(4, "3")]),  # what was saved before it woke is trusted
        ((8,), [(8, "6")]),  # 7 is newer and nothing has proved it
        ((8, 12), [(8, "6"), (12, "10")]),
    ],
)
def test_a_collapsed_sample_takes_a_run_back_to_what_a_good_one_proved(corpus, tmp_path, bad, went):  # noqa: F811
    progress = quiet()
    assert train(judged(corpus), tmp_path, drawn(*bad), progress).step == 12
    assert rolled(tmp_path, progress) == went
    assert "from step 4 on, samples are held to repetition at most" in progress.stream.getvalue()
    rates = {r["step"]: r["learning_rate"] for r in records(tmp_path) if "loss" in r}
    if went == [(8, "6")]:
        assert [r["skipped"] for r in records(tmp_path) if r["step"] == 9 and "loss" in r] == [2] and rates[9] < rates[
            8
        ]


def test_samples_that_stay_collapsed_end_the_run_and_a_run_may_leave_them_alone(corpus, tmp_path):  # noqa: F811
    with pytest.raises(
        UserError, match="step 8: samples have collapsed: repetition 0.992 is above 0.25.* after going back 2"
    ):
        train(judged(corpus), tmp_path / "a", drawn(4, 6, 8), quiet())
    assert train(judged(corpus, samples_after=0), tmp_path / "b", drawn(4, 6, 8), quiet()).step == 12


def test_going_back_from_a_sample_is_the_same_when_resumed(corpus, tmp_path):  # noqa: F811
    """A crash before the checkpoint that follows the sample: the run comes to the sample again."""
    train(judged(corpus), tmp_path / "whole", drawn(8), quiet())
    bad = drawn(8)

    def crash(parts, weights, step, folder):
        if step == 8:
            raise RuntimeError("crash")
        return bad(parts, weights, step, folder)

    with pytest.raises(RuntimeError, match="crash"):
        train(judged(corpus), tmp_path / "parts", crash, quiet())
    train(judged(corpus), tmp_path / "parts", bad, quiet())
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_without_held_out_pieces_samples_are_not_judged(tmp_path):
    from runs import make_corpus

    progress = quiet()
    c = settings(
        make_corpus(tmp_path, valid=0), run={"eval_every": 0, "sample_every": 2, "steps": 4}, guard={"samples_after": 2}
    )
    assert train(c, tmp_path / "run", drawn(2), progress).step == 4
    assert "samples are not judged" in progress.stream.getvalue()
