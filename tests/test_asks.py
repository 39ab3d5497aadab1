"""Tasks under constraints, with caches and matrices of few bytes, and as the best of several: as `generate` takes them."""

import functools

import jax
import keeping
import numpy as np
import pytest
from test_tasks import HOT, band, model, only_masked_cells_changed

from aurljax import load_midi
from aurljax import mesh as meshes
from aurljax.cli import main
from aurljax.decode import constraints as c
from aurljax.decode import loop
from aurljax.errors import UserError
from aurljax.export import provenance
from aurljax.models.family import Inputs
from aurljax.music.score import NOTE, Score
from aurljax.tasks import ask, fill, splice
from aurljax.tasks.piece import Piece

MAJOR = [0, 2, 4, 5, 7, 9, 11]
CHANGES, BARS = "C | Am F | % | G7", [["C"], ["Am", "F"], ["Am", "F"], ["G7"]]
ASKED = [c.Key("C major", 0.2), c.Chords(CHANGES), c.Range(50, 70, ((128, 40, 63),)), c.Longest(2), c.Leap(5)]


@pytest.fixture(scope="module")
def tiny():
    return model(length=192, microtiming=True)


@pytest.fixture(autouse=True)
def one_size(monkeypatch, one_segment):
    """Prompts and answers are of one size, so that fewer programs are compiled."""
    monkeypatch.setattr(fill, "bucket", lambda n: 192)
    monkeypatch.setattr(loop, "bucket", lambda n: 192)


def white(seed: int, resolution: int = 480, bars: int = 4) -> Score:
    """A band of white keys alone, but drums."""
    score = band(seed, resolution, bars)
    notes = score.notes.copy()
    notes["pitch"] -= ~np.isin(notes["pitch"] % 12, MAJOR) & (notes["track"] < 2)
    return score.replace(notes=notes).repaired()[0]


def keeps(score: Score) -> dict[str, bool]:
    """Of each constraint whether its notes keep to it."""
    notes = keeping.spans(score)
    outside = sum(p % 12 not in MAJOR for _, _, p, _, drum, _ in notes if not drum)
    return {
        "key": outside <= 0.2 * sum(not drum for *_, drum, _ in notes) + 1e-3,
        "chords": keeping.keeps_chords(score, BARS),
        "range": keeping.keeps_range(score, 50, 70, ((128, 40, 63),)),
        "longest": all(score.duration <= 2 * score.resolution),
    }


# --- what is asked holds of the new notes ------------------------------------------------------------------------------


def test_new_notes_keep_to_what_is_asked(tiny):
    """In two windows, at any resolution."""
    scores = [white(seed, [480, 96, 384, 1000][seed % 4]) for seed in range(8)]
    cells = [[(0, i % 3), (3, i // 3 % 3)] for i in range(8)]
    found = fill.fill(tiny, scores, cells, [(0, i) for i in range(8)], HOT, ASKED)
    for score, mask, one in zip(scores, cells, found, strict=True):
        only_masked_cells_changed(score, mask, one)
        assert all(keeps(one.score.replace(notes=one.new)).values())
    assert sum(len(one.new) for one in found) > 50
    assert sum(one.rows[-1][0][0] == tiny.codec.vocabulary.id("continue") for one in found) > 4  # behind the first bar


@pytest.mark.slow
def test_without_constraints_they_do_not(tiny):
    found = fill.fill(tiny, [white(1)] * 8, [[(0, 1), (3, 0)]] * 8, [(0, i) for i in range(8)], HOT)
    for name in ("key", "chords", "range", "longest"):
        assert not all(keeps(one.score.replace(notes=one.new))[name] for one in found)


TASKS = {"infill": {"cells": [(0, 0), (1, 1)]}, "accompany": {}, "vary": {}}


@pytest.mark.parametrize("task", [t if t == "infill" else pytest.param(t, marks=pytest.mark.slow) for t in TASKS])
def test_the_same_by_every_task(tiny, task):
    """Types of few bytes among the settings; what was asked is told."""
    score, how = white(1, bars=2), {"constraints": ASKED, "cache": "int8", "weights": "int8", "temperature": 1.5, "n": 2}
    for piece in getattr(tiny, task)(score, **TASKS[task], **how):
        assert all(keeps(Score(notes=_new(piece, score), tracks=score.tracks, meter=score.meter)).values())
        made = provenance.read(piece)
        assert (made["cache"], made["weights"], made["constraints"][0]["kind"]) == ("int8", "int8", "Key")


def _new(piece: Score, score: Score) -> np.ndarray:
    known = set(score.notes.tolist())
    return piece.notes[[row not in known for row in piece.notes.tolist()]]


def test_chords_are_those_of_the_bar():
    for bars in range(9):
        assert c.Chords(CHANGES).later(bars).bars == tuple(c.Chords(CHANGES).bars[(i + bars) % 4] for i in range(4))
    assert c.Key("C").later(3) == c.Key("C")


def test_a_share_outside_the_key_holds_of_what_is_left():
    """Notes within it that gave way take the last ones outside along; drums do not count."""
    score = Score(480, tracks=[(0, False), (0, True)])
    notes = np.zeros(12, NOTE)
    notes["onset"], notes["duration"], notes["velocity"] = np.arange(12) * 10, 10, 64
    notes["pitch"] = [60, 61, 62, 64, 65, 67, 69, 71, 72, 61, 61, 61]
    notes["track"][-2:] = 1
    kept = c.Key("C major", 0.2).amended(notes, score)
    assert kept.tolist() == notes.tolist()
    kept = c.Key("C major", 0.2).amended(notes[[0, 1, 2, 3, 4, 5, 9, 10]], score)
    assert kept.tolist() == notes[[0, 1, 2, 3, 4, 5, 10]].tolist()
    assert c.Key("C major").amended(notes[9:], score).tolist() == notes[10:].tolist()


def test_a_tick_that_rounding_adds_is_taken_off(tiny):
    """Of five positions, 208 or 209 ticks where a quarter has 1000."""
    piece = Piece(Score(1000, tracks=[(0, False)]), tiny.codec)
    decoded = Score(480, notes=[(20 * i, 100, 0, 40 + i, 64) for i in range(24)], tracks=[(0, False)])
    notes, _ = splice.answers(piece, 0, [(0, 0)], decoded)
    assert set(notes["duration"].tolist()) == {208, 209}
    assert set(c.Longest(5 / 24).amended(notes, piece.score)["duration"].tolist()) == {208}


@pytest.mark.parametrize("resolution", [24, 96, 384, 1000])
def test_new_notes_are_at_the_position_at_which_they_were_written(tiny, resolution):
    piece = Piece(Score(resolution, tracks=[(0, False)]), tiny.codec)
    decoded = Score(480, notes=[(t, 1, 0, t % 128, 64) for t in range(1900)], tracks=[(0, False)])
    notes, lost = splice.answers(piece, 0, [(0, 0)], decoded)
    written = keeping.spans(decoded)
    assert not lost and [n[0] for n in keeping.spans(Score(resolution, notes=notes, tracks=[(0, False)]))] == [
        n[0] for n in written if n[0] < 96
    ]  # fmt: skip


# --- what cannot be kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([c.Density(0, 9)], "density 0-9: it cannot be kept while masked bars are filled in"),
        ([c.Polyphony(4)], "polyphony 4: it cannot be kept"),
        ([c.TrackPolyphony(1)], "track polyphony 1: it cannot be kept"),
        ([c.Exact()], "exact length: it cannot be kept"),
        ([c.Parallels()], "parallels: it cannot be kept"),
        ([c.Range(), c.Key("F# major")], "the piece: bar 1 breaks key F# major with what stays as it is"),
        ([c.Key("F# major", 0.5)], "the piece: bar 1 breaks key F# major with 0.5 passing"),
        ([c.Range(61, 70)], "the piece: bar 1 breaks range 61-70"),
        ([c.Longest(0.5)], "the piece: bar 1 breaks longest 0.5"),
        ([c.Meter(((4, 4),))], "the piece: bar 1 breaks meter 4/4"),
        ([c.Tempo(100, 130)], r"the piece: bar \d breaks tempo 100-130"),
        ([c.Programs((0, 128))], "the piece: bar 1 breaks programs 0,drums"),
        ([c.Tracks(1, 2)], "the piece: bar 1 breaks tracks 1-2"),
        ([c.Key("C major"), c.Chords("F#")], "key C major and chords F#: no tone of F#|F# and chords"),
        ([c.Longest(3), c.Longest(4)], "Longest is given twice"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_sampled(tiny, monkeypatch, asked, words):
    monkeypatch.setattr(fill.loop, "generate", None)
    for call in (lambda: ask.infill(tiny, white(1), bars=(3, 4), constraints=asked),
                 lambda: ask.accompany(tiny, white(1), constraints=asked),
                 lambda: ask.vary(tiny, white(1), share=0.05, constraints=asked)):  # fmt: skip
        with pytest.raises(UserError, match=words):
            call()


def test_what_is_masked_may_break_what_is_asked(tiny):
    """And pieces of few ticks cannot tell chords apart."""
    score = white(1)
    high = score.notes.copy()
    high["pitch"] += np.uint8(40) * Piece(score, tiny.codec).inside([(2, 0)])
    found = ask.infill(tiny, score.replace(notes=high), cells=[(2, 0)], n=4, constraints=ASKED, sampler=HOT)
    assert all(all(one.new["pitch"] <= 70) for one in found) and sum(len(one.new) for one in found)
    with pytest.raises(UserError, match="chords: the piece has 12 ticks a quarter"):
        ask.infill(tiny, white(1, 12), cells=[(2, 0)], constraints=ASKED)


def test_a_leap_into_a_cell_is_one_from_what_sounds_before_it():
    """Not from what the piece has behind it, which is written before the answer is."""
    codec = model(microtiming=True).codec
    notes = [(0, 480, 0, 40, 64), (1920, 480, 0, 80, 64), (3840, 480, 0, 90, 64)]
    v, score = codec.vocabulary, Score(480, notes=notes, tracks=[(0, False)])
    ids = codec.encode(score, holes=[(1, 0)])
    at = c.replay.Replay(codec, [c.Leap(4, 3.0)])
    for id in [*ids[: np.argmax(ids == v.id("fill")) + 1].tolist(), v.id("position", 3), v.id("track", 0)]:
        at.read(id)
    for before in (40, 30):
        prices = -at.rules.penalised(at.s, at.r, np.zeros((1, len(v)), np.float32))[0]
        assert [p for p in range(128) if prices[v.id("pitch", p)] == 3.0] == [p for p in range(128) if abs(p - before) > 4]
        at.read(v.id("pitch", 30))


class Hush(c.Constraint):
    """After its first note in a cell nothing may be written, of which no look ahead knows."""

    told = ()

    def __str__(self):
        return "hush"

    @staticmethod
    def ids(now, xp):
        late = (now.s["filling"] > 0) & (now.s["bar"] >= 1) & (now.s["pitch"] >= 0)
        return {kind: ~late[:, None] for kind in ("position", "pitch", "filled", "fill", "track", "duration", "velocity",
                                                  "micro", "long")}  # fmt: skip


def test_where_nothing_may_follow_the_cells_before_are_kept_and_it_is_told(tiny):
    score, cells = white(2, bars=2), [(0, 0), (1, 0)]
    score = score.replace(notes=score.notes[::3])  # one window holds both
    found = fill.fill(tiny, [score] * 4, [cells] * 4, [(0, i) for i in range(4)], HOT, [Hush()])
    stopped = [one for one in found if "ended" in one.score.meta]
    assert stopped and any(len(one.new) for one in stopped)
    for one in stopped:
        assert one.score.meta["ended"] == "bar 2: nothing may follow under hush"
        bar = Piece(one.score.replace(notes=one.new), tiny.codec).bar_of(one.new["onset"])
        assert all(bar < 1)
        ids, first = one.rows[0]
        later = c.decoded_row(tiny.codec, [Hush()], ids[:first], ids[first:], (64, 2**30, np.inf), before=3)
        assert later.meta["ended"].startswith("bar 5: ")
        only_masked_cells_changed(score.replace(meta={**score.meta, "ended": one.score.meta["ended"]}), cells, one)


# --- the best of several -----------------------------------------------------------------------------------------------


def test_the_best_of_several_is_the_likeliest(tiny):
    """By a plain sum over the forward pass of what was written; or by any other measure."""
    score, cells = white(3, bars=2), [(0, 0), (1, 1)]
    asked = {"cells": cells, "n": 2, "best_of": 2, "seed": 4, "sampler": HOT}
    found = ask.infill(tiny, score, **asked)
    candidates = fill.fill(tiny, [score] * 4, [cells] * 4, [(4, i) for i in range(4)], HOT)
    means = [_mean(tiny, one.rows) for one in candidates]
    assert len(set(np.round(means, 4))) == 4
    for one, at in zip(found, (int(np.argmax(means[:2])), 2 + int(np.argmax(means[2:]))), strict=True):
        assert one.score.notes.tobytes() == candidates[at].score.notes.tobytes()
        made = provenance.read(one.score)
        assert (made["row"], made["best_of"], made["seed"]) == (at, 2, 4)
    fewest = ask.infill(tiny, score, **asked, rank=lambda scores: [-len(s) for s in scores])
    counts = [len(one.score) for one in candidates]
    assert [len(one.score) for one in fewest] == [min(counts[:2]), min(counts[2:])]


@pytest.mark.slow
def test_variants_of_one_piece_share_their_mask(tiny):
    score = white(3)
    found = ask.vary(tiny, score, 0.2, n=2, best_of=3, seed=4, sampler=HOT)
    for i, one in enumerate(found):
        only_masked_cells_changed(score, ask.drawn(Piece(score, tiny.codec), 0.2, (4, i)), one)
    assert len({provenance.read(one.score)["row"] // 3 for one in found}) == 2


def _mean(m, rows) -> float:
    sums = []
    for ids, first in rows:
        padded = np.pad(ids, (0, 384 - len(ids)))
        features = {k: x[None] for k, x in m.codec.features(padded).items()}
        with meshes.use(m.mesh):
            inputs = Inputs(padded[None], np.arange(len(padded))[None], features)
            log_p = np.asarray(_log_p(m.parts, m.weights, inputs))[0]
        sums += log_p[np.arange(len(ids) - 1), ids[1:]][first - 1 :].tolist()
    return float(np.mean(sums))


@functools.partial(jax.jit, static_argnums=0)
def _log_p(parts, weights, inputs):
    return jax.nn.log_softmax(parts.family.apply(parts.model, weights, inputs)[0])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"best_of": 0}, "best_of must be above 0"),
        ({"rank": len}, "rank: there is one score to choose from; set best_of"),
        ({"n": -1}, "n must be above 0"),
        ({"weights": "int4"}, "weights: 'int4' is none of"),
        ({"cache": "int4"}, "cache: 'int4' is none of"),
    ],
)
def test_the_same_words_as_of_generate(tiny, how, words):
    for call in (lambda: tiny.infill(white(0), bars=(0, 1), **how), lambda: tiny.generate(bars=1, **how)):
        with pytest.raises(UserError, match=words):
            call()


# --- the command -------------------------------------------------------------------------------------------------------


def test_the_command_takes_them(home, tmp_path, capsys):
    """Constraints, types and the best of several go with a task; what cannot be is one sentence and status 2."""
    score = Score(480, notes=[(240 * i, 240, i % 2, 60 + i % 5, 80) for i in range(16)], tracks=[(0, False), (32, False)])
    score.save_midi(tmp_path / "p.mid")
    where = ["generate", "--checkpoint", str(home / "run"), "--out", str(tmp_path / "out")]
    where += ["--vary", str(tmp_path / "p.mid")]
    for flags, words in (
        (["--polyphony", "3"], "polyphony 3: it cannot be kept while masked bars are filled in"),
        (["--range", "C5-C6"], "breaks range 72-84 with what stays as it is"),
        (["--draft", str(home / "run")], "--vary takes no --draft"),
        (["--best-of", "0"], "best_of must be above 0"),
    ):
        assert main([*where, *flags]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "out").exists()
    flags = ["--range", "60-64", "--share", "0.4", "--best-of", "2", "--cache", "bfloat16"]
    assert main([*where, *flags]) == 0
    written = load_midi(tmp_path / "out/000.mid")
    made = provenance.read(written)
    assert made["constraints"] == [{"kind": "Range", "low": 60, "high": 64}]
    assert (made["cache"], made["best_of"]) == ("bfloat16", 2) and keeping.keeps_range(written, 60, 64)
