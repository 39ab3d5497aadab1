"""Effects give lawful scores and change what they say; which ones an example gets follows from its key alone."""

import dataclasses
import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
from corpora import make_corpus, same
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import random_score
from strategies import scores

import aurljax
from aurljax import config, models, train
from aurljax.cli import main
from aurljax.data import augment, effects, order, pipeline
from aurljax.data.augment import Augment, Effect
from aurljax.data.corpus import Corpus
from aurljax.data.ingest import ingest
from aurljax.data.pipeline import Dataset
from aurljax.errors import UserError
from aurljax.fields import plain
from aurljax.music import codec as codecs
from aurljax.music.preprocess import Preprocess, prepare
from aurljax.music.score import Score
from aurljax.records import metrics
from aurljax.records.progress import Progress

CODEC = codecs.make("score")
SOME = settings(max_examples=60, deadline=None)
TINY = str(Path(__file__).parents[1] / "configs/tiny.py")
SEEDS = st.integers(0, 2**40)


def every(probability=1.0, **options) -> Augment:
    """All effects, with the strengths they have by default."""
    default = Augment()
    found = {n: Effect(probability, getattr(default, n).strength) for n in augment.EFFECTS}
    return Augment(**{**found, **options})


DRAWN = {
    "drop": [0], "instruments": [44, 0], "tempo": 0.9125242751872378, "swing": 0.5628547566057289,
    "humanise": [0.5, 5443174352023765148], "velocity": 0.8721666604753846, "curve": 1.1049215892902926,
}  # fmt: skip
HUMANISED = [(0, 480, 0, 60, 60), (0, 480, 1, 60, 71), (0, 480, 2, 60, 62)]
SCHEDULED = every((0.0, 1.0), slack=0.3, tempo=Effect(0.9, (0.0, 0.5)), humanise=Effect((1.0, 0.2), 0.4))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("augment"), fractions=(0, 0))


def dataset(corpus, effects=SCHEDULED, **options) -> Dataset:
    options = {"transpose": (-5, 6), "steps": 40, "preprocess": Preprocess("strict", 24), **options}
    return Dataset(corpus, CODEC, "train", 256, 4, effects=effects, **options)


# --- effects ----------------------------------------------------------------------------------------------------------


@given(scores(), st.sampled_from(sorted(augment.EFFECTS)), st.floats(0, 1), SEEDS)
@SOME
def test_every_effect_is_lawful_and_follows_from_its_key(score, name, strength, seed):
    settings = Augment(**{name: Effect(1.0, strength)})
    plan = augment.plan(score, settings, (seed,), 0.0)
    assert plan == augment.plan(score, settings, (seed,), 1.0) and [n for n, _ in plan] == [name]
    out = augment.apply(score, plan)
    out.check()
    assert out == augment.apply(score, plan) and out.resolution == score.resolution


@given(scores(), SEEDS)
@SOME
def test_all_effects_together_are_lawful(score, seed):
    plan = augment.plan(score, every(), (seed,), 0.0)
    assert [n for n, _ in plan] == list(augment.EFFECTS)
    augment.apply(score, plan).check()
    weak = every(**{n: Effect(1.0, 0.0) for n in augment.EFFECTS})
    still = augment.apply(score, augment.plan(score, weak, (seed,), 0.0))
    assert np.array_equal(still.notes, score.notes) and np.array_equal(still.tracks, score.tracks)
    at = np.arange(0, score.last_tick + 1, max(score.last_tick // 9, 1))
    assert np.array_equal(still.seconds(at), score.seconds(at))  # strength 0 changes nothing that is heard


@given(scores(), st.floats(0.5, 2))
@SOME
def test_a_stretch_changes_the_clock_alone(score, factor):
    out = effects.stretch(score, factor)
    assert np.array_equal(out.notes, score.notes)
    usec = score.tempo["usec"]
    if ((usec > 1000) & (usec / factor < effects.MAX_USEC)).all():
        assert float(out.seconds(score.end)) == pytest.approx(float(score.seconds(score.end)) / factor, rel=1e-3)


@given(scores(), st.floats(0.2, 3))
@SOME
def test_velocity_effects_keep_order(score, value):
    by = np.argsort(score.velocity, kind="stable")
    for out in (effects.louder(score, value), effects.curve(score, value)):
        out.check()
        assert (np.diff(out.velocity[by].astype(int)) >= 0).all()
    assert (effects.curve(score, 1.5).velocity <= score.velocity).all()
    assert (effects.louder(score, 1.5).velocity >= score.velocity).all()


@given(scores(), SEEDS)
@SOME
def test_instruments_stay_in_their_family_and_drums_as_they_are(score, seed):
    ((_, programs),) = augment.plan(score, Augment(instruments=Effect(1.0, 1.0)), (seed,), 0.0)
    out = effects.substitute(score, programs)
    assert np.array_equal(out.tracks["program"] // 8, score.tracks["program"] // 8)
    drum = score.tracks["is_drum"]
    assert np.array_equal(out.tracks[drum], score.tracks[drum]) and np.array_equal(out.notes, score.notes)
    assert effects.substitute(out, score.tracks["program"].tolist()) == score
    if (~drum).any():
        with pytest.raises(ValueError, match="same family"):
            effects.substitute(score, ((score.tracks["program"].astype(int) + 8) % 128).tolist())


def bar_of(score: Score, onset: np.ndarray) -> np.ndarray:
    """[N] the codec's bar of each onset: by its nearest position, and the lines of the bars."""
    at = np.floor(onset * 24 / score.resolution + 0.5)
    return np.searchsorted(score.bar_ticks * 24 / score.resolution, at, "right")


@given(st.integers(0, 400), st.floats(0, 1), SEEDS)
@SOME
def test_notes_stay_in_their_bar(seed, amount, key):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))  # one note a pitch and track, so that none is merged
    rows = [(int(rng.integers(0, 9600)), 100, i // 100, i % 100, 64) for i in range(count)]
    score = Score(480, notes=rows, tracks=[(0, False)], meter=[(0, 3, 4), (2880, 6, 8), (4320, 4, 4)])
    for out in (effects.swing(score, amount), effects.humanise(score, amount, key)):
        assert len(out) == len(score)
        before, after = (np.sort(s.notes[["pitch", "onset"]], order="pitch")["onset"] for s in (score, out))
        assert np.array_equal(bar_of(score, before), bar_of(score, after))
        assert np.abs(after - before).max() <= 480 / 6 + 1


def test_swing_is_the_rhythm_it_says():
    notes = [(i * 240, 240, 0, 60 + i, 64) for i in range(8)]
    score = Score(480, notes=notes, tracks=[(0, False)], meter=[(0, 4, 4)])
    triplets = effects.swing(score, 1.0)
    assert triplets.onset.tolist() == [q * 480 + half for q in range(4) for half in (0, 320)]
    assert triplets.duration.tolist() == [320, 160] * 4
    assert effects.swing(score, 0.5).onset[:2].tolist() == [0, 280] and effects.swing(score, 0.0) == score
    eighths = score.replace(meter=[(0, 6, 8)])
    assert effects.swing(eighths, 1.0) == eighths


def test_humanised_notes_move_a_little_each_on_its_own():
    score = Score(480, notes=[(960 + i * 120, 100, 0, i % 128, 64) for i in range(2000)], tracks=[(0, False)])
    out = effects.humanise(score, 1.0, 3)
    by = [s.notes[np.argsort(s.onset // 120 * 0 + np.rint(s.onset / 120))] for s in (score, out)]
    late, loud = (by[1][n].astype(int) - by[0][n] for n in ("onset", "velocity"))
    assert 24 < np.abs(late).max() <= 30 and 12 < np.abs(loud).max() <= 16
    assert abs(late.mean()) < 1 and abs(loud.mean()) < 1 and np.array_equal(out.duration, score.duration)
    assert not np.array_equal(out.notes, effects.humanise(score, 1.0, 4).notes)


@given(scores(), SEEDS)
@SOME
def test_a_dropped_track_takes_its_things_and_no_other(score, seed):
    ((_, gone),) = augment.plan(score, Augment(drop=Effect(1.0, 0.6)), (seed,), 0.0)
    out = effects.without(score, gone)
    out.check()
    stay = [i for i in range(len(score.tracks)) if i not in gone]
    assert out.tracks.tolist() == score.tracks[stay].tolist() and list(out.names) == [score.names[i] for i in stay]
    assert (len(out) > 0) == (len(score) > 0)
    for new, old in enumerate(stay):
        for table in ("notes", "controls"):
            a, b = (getattr(s, table)[getattr(s, table)["track"] == i] for s, i in ((out, new), (score, old)))
            names = [n for n in a.dtype.names if n != "track"]
            assert np.array_equal(a[names], b[names])


@given(scores(fifths=(-5, 6)), st.integers(-30, 30))  # keys as `transpose` spells them
@SOME
def test_transposition_has_an_inverse_and_spares_drums(score, by):
    by = int(np.clip(by, *augment.span(score)))
    moved = augment.transpose(score, by)
    moved.check()
    assert augment.transpose(moved, -by) == score
    assert np.array_equal(moved.notes[moved.is_drum], score.notes[score.is_drum])


@given(scores(), st.integers(0, 60), st.integers(61, 127), SEEDS)
@SOME
def test_fit_draws_from_all_that_fit(score, low, high, seed):
    down, up = augment.fitting(score, (low, high))
    pitches = score.pitch[~score.is_drum].astype(int)
    assert down <= 0 <= up
    for by in {down, up, augment.draw(score, (seed,), down, up)}:
        moved = augment.transpose(score, by).pitch[~score.is_drum].astype(int) if by else pitches
        if len(pitches):
            assert moved.min() >= min(low, pitches.min()) and moved.max() <= max(high, pitches.max())
    if (
        not len(score.controls[score.controls["kind"] == 3])
        and len(pitches)
        and low <= pitches.min() <= pitches.max() <= high
    ):
        assert (pitches.min() + down, pitches.max() + up) == (low, high)


# --- draws ------------------------------------------------------------------------------------------------------------


def test_what_is_drawn_is_the_same_everywhere():
    """Written down: a run that is resumed elsewhere must go on with the same music."""
    score = Score(notes=[(0, 480, t, 60, 64) for t in range(3)], tracks=[(0, False), (40, False), (0, True)])
    plan = dict(augment.plan(score, every(), (7, 3, 1, 5), 0.0))
    assert json.loads(json.dumps(plan)) == DRAWN
    assert effects.humanise(score, 1.0, 11).notes.tolist() == HUMANISED


def test_probability_and_strength_are_what_is_asked_for():
    score = random_score(3)
    half = Augment(tempo=Effect(0.5, 0.1), velocity=Effect((0.0, 1.0), (0.0, 1.0)))

    def drawn(progress):
        return [dict(augment.plan(score, half, (0, i), progress)) for i in range(600)]

    for progress, share in ((0.0, 0.0), (0.25, 0.25), (1.0, 1.0)):
        plans = drawn(progress)
        assert abs(sum("tempo" in p for p in plans) / 600 - 0.5) < 0.07
        assert abs(sum("velocity" in p for p in plans) / 600 - share) < 0.07
        factors = [p["velocity"] for p in plans if "velocity" in p]
        assert all(1 / (1 + progress) <= f <= 1 + progress for f in factors)
        assert all(1 / 1.1 <= p["tempo"] <= 1.1 for p in plans if "tempo" in p)
    assert drawn(0.3) == drawn(0.3)


def test_adding_an_effect_changes_no_other_draw(corpus):
    tempo, swing = Augment(slack=0.0, tempo=Effect(1.0, 0.2)), Effect(1.0, 0.2)
    effects = (Augment(), tempo, dataclasses.replace(tempo, swing=swing))
    plain, one, two = (dataset(corpus, e).sources[0] for e in effects)
    every = range(len(one.windows))
    for w in every:
        a, b, c = (dict(s.plan(w, 2, 0.2)) for s in (plain, one, two))
        assert a.get("transpose") == b.get("transpose") == c.get("transpose") and b["tempo"] == c["tempo"]
    assert len({dict(one.plan(0, e))["tempo"] for e in range(20)}) == 20  # epochs differ
    assert len({dict(one.plan(w, 0))["tempo"] for w in every}) == len(every)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_transposition_draws_what_it_always_drew(corpus):
    """As the arithmetic of the first version had it: an index into those that fit, by (seed, 2, epoch, window)."""
    data = Dataset(corpus, CODEC, "train", 256, 4, seed=5, transpose=(-5, 6))
    source = data.sources[0]
    for w in range(len(source.windows)):
        score = corpus[int(source.windows.piece[w])]
        low, high = max(-5, augment.span(score)[0]), min(6, augment.span(score)[1])
        shift = low + order.number(5, 2, 1, w) % (high - low + 1)
        bars = int(source.windows.start[w]), int(source.windows.stop[w])
        assert np.array_equal(source.window(w, 1)[0], CODEC.encode(augment.transpose(score, shift), bars=bars))
    assert source.plan(0, None) == () and not data.fell_back and not source.cut


def test_a_resumed_run_on_any_hosts_sees_the_same_batches(corpus):
    one, two = dataset(corpus, cache_bytes=0), dataset(corpus)
    steps = range(17, 22)
    whole = [one.batch(s) for s in range(22)][17:]
    assert all(same(a, b) for a, b in zip(whole, two.iterate(17, 22), strict=True))
    fresh = dataset(corpus)
    for step, batch in zip(reversed(steps), reversed(whole), strict=True):
        parts = [fresh.host_batch(step, i, 2) for i in range(2)]
        assert np.array_equal(np.concatenate([p.tokens for p in parts]), batch.tokens)
        for name, values in batch.features.items():
            assert np.array_equal(np.concatenate([p.features[name] for p in parts]), values)
    assert not same(whole[0], dataset(corpus, Augment()).batch(17))
    assert not same(whole[0], dataset(corpus, steps=400).batch(17))  # another progress, other values
    assert not same(whole[0], dataset(corpus, seed=1).batch(17))


def test_rows_hold_whole_examples_in_the_room_kept_for_them(corpus):
    data = dataset(corpus, every(slack=0.3))
    grown = 0
    for step in range(data.epoch_steps):
        batch = data.batch(step)
        for row in range(4):
            examples = data.examples(step, row)
            ids = [e.ids for e in examples]
            assert batch.segments[row].max() == len(ids)
            for segment, found in enumerate(ids, 1):
                assert np.array_equal(batch.tokens[row][batch.segments[row] == segment], found[:-1])
                CODEC.decode(found).check()
            assert all(e.plan == e.done for e in examples) or data.fell_back
            grown += sum(e.plan == e.done for e in examples)
    share = data.fell_back / max(data.fell_back + grown, 1)
    assert grown and share < 0.3, share


def test_what_does_not_fit_goes_without_effects_and_is_counted(corpus):
    data = dataset(corpus, every(slack=0.0))
    tight, alone = data.sources[0], dataset(corpus, Augment()).sources[0]
    fell = 0
    for w in range(len(tight.windows)):
        plan, before = tight.plan(w, 0), tight.fell_back
        ids = tight.window(w, 0)[0]
        assert len(ids) <= tight.windows.ids[w]
        if tight.fell_back > before:
            fell += 1
            assert np.array_equal(ids, alone.window(w, 0)[0])
        assert "tempo" in dict(plan)
    assert 0 < fell == tight.fell_back == data.fell_back and not tight.cut
    example = next(e for s in range(20) for r in range(4) for e in data.examples(s, r) if e.plan != e.done)
    assert "which made it too long" in example.line()
    assert tight.fell_back == fell  # looking counts nothing


def test_bars_whose_only_word_was_a_key_may_go_when_transposed(tmp_path):
    # D flat and C sharp are two keys, any transposition of them is one
    score = Score(notes=[(0, 480, 0, 60, 64)], tracks=[(0, False)], key=[(0, -5, False), (1920, 7, False)])
    (tmp_path / "midi").mkdir()
    score.save_midi(tmp_path / "midi" / "key.mid")
    ingest([tmp_path / "midi"], tmp_path / "corpus", workers=1, fractions=(0, 0))
    codec = codecs.make("score", keys=True)
    data = Dataset(Corpus(tmp_path / "corpus"), codec, "train", 64, 1, transpose=(-5, 6))
    for step in range(12):
        ids, _ = data.sources[0].window(0, step)
        assert codec.bars(codec.decode(ids)) == (2 if codec.decode(ids).pitch[0] == 60 else 1)


def test_validation_hears_no_effect(corpus):
    data = dataset(corpus, every())
    source = data.sources[0]
    for w in range(len(source.windows)):
        piece, bars = corpus[int(source.windows.piece[w])], (int(source.windows.start[w]), int(source.windows.stop[w]))
        assert np.array_equal(source.window(w)[0], CODEC.encode(prepare(piece, data.preprocess)[0], bars=bars))
    assert same(next(data.one_epoch()), next(dataset(corpus, every(), steps=9, seed=3).one_epoch()))


def test_impossible_requests_are_refused(corpus):
    with pytest.raises(UserError, match="a schedule needs the number of steps"):
        dataset(corpus, steps=0)
    with pytest.raises(UserError, match="leave one out"):
        dataset(corpus, Augment(transpose="fit"))
    with pytest.raises(UserError, match=r"step 3 has no row 4: steps count from 0, rows are 0\.\.3"):
        dataset(corpus).examples(3, 4)


# --- config -----------------------------------------------------------------------------------------------------------


def test_settings_come_from_the_config(corpus):
    chosen = config.load(TINY, [
        f"data.corpus={corpus.path}", "data.augment.tempo.probability=(0, 0.5)", "data.augment.swing.probability=1",
        "data.augment.swing.strength=0.3", "data.preprocess.quantise=adaptive", "data.preprocess.polyphony=4",
        "data.augment.pitches=(30, 90)", "run.steps=200",
    ])  # fmt: skip
    a = chosen.data.augment
    assert a.tempo == Effect((0.0, 0.5), Augment().tempo.strength) and a.swing == Effect(1.0, 0.3)
    assert a.active == ("tempo", "swing") and a.scheduled and a.pitches == (30, 90)
    assert config.from_dict(json.loads(json.dumps(config.to_dict(chosen)))) == chosen
    data = pipeline.training(chosen, chosen.codec.make(), corpus)
    assert data.provenance["augment"] == dataclasses.asdict(a) and data.steps == 200
    assert data.preprocess == Preprocess("adaptive", polyphony=4)
    json.dumps(data.provenance)


def test_a_section_within_a_section_can_be_a_mapping():
    texts = ["data.augment={'tempo': {'probability': 1}, 'slack': 0.2}", "data.augment.tempo.strength=0.5"]
    assert config.load(TINY, texts).data.augment == Augment(slack=0.2, tempo=Effect(1.0, 0.5))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.augment.tempo.probabilty=1", "did you mean data.augment.tempo.probability"),
        ("data.augment.temp.probability=1", "did you mean data.augment.tempo.probability"),
        ("data.augment.tempo.probability=1.5", "data.augment.tempo.probability=1.5 must lie in [0, 1]"),
        ("data.augment.tempo.strength=(0, 2)", "data.augment.tempo.strength=(0.0, 2.0) must lie in [0, 1]"),
        ("data.augment.tempo.strength=much", "data.augment.tempo.strength must be"),
        ("data.augment.tempo=1", "data.augment.tempo is a section"),
        ("data.augment={'tmpo': {}}", "unknown config field data.augment.tmpo; did you mean data.augment.tempo"),
        ("data.augment.transpose=fits", "did you mean fit"),
        ("data.augment.pitches=(60, 60)", "data.augment.pitches"),
        ("data.augment.slack=-0.1", "data.augment.slack"),
        ("data.preprocess.quantise=strikt", "did you mean strict"),
        ("data.preprocess.steps=0", "data.preprocess.steps=0 must be at least 1"),
        ("data.preprocess.strength=2", "data.preprocess.strength"),
        ("data.preprocess.velocity_mean=200", "data.preprocess.velocity_mean"),
        ("data.preprocess.velocity_spread=9", "needs a data.preprocess.velocity_mean"),
        ("data.preprocess.polyphony=-1", "data.preprocess.polyphony"),
    ],
)
def test_wrong_settings_are_refused_by_name(override, words):
    with pytest.raises(UserError) as caught:
        config.load(TINY, [override])
    assert words in str(caught.value)


def test_fit_and_a_range_exclude_each_other():
    with pytest.raises(UserError, match=r"data.transpose=\(-1, 1\) has no use with data.augment.transpose=fit"):
        config.load(TINY, ["data.augment.transpose=fit", "data.transpose=(-1, 1)"])


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_with_schedules_is_resumed_to_the_same_losses(corpus, tmp_path):
    """Trained at once, and in two parts from a checkpoint: everything on, progress counted on the whole run."""
    import runs

    def losses(where, **kept):
        stopped = (lambda *_: signal.raise_signal(signal.SIGINT) or {}) if kept else None
        tree = {
            "corpus": str(corpus.path),
            "length": 128,
            "batch": 8,
            "augment": plain(dataclasses.replace(SCHEDULED, slack=0.0)),
        }
        run = {"steps": 6, "log_every": 1, **kept}
        chosen = runs.bigram_config(data=tree, run=run, mesh={"data": 4, "model": 2})
        said = io.StringIO()
        train.train(chosen, where, stopped, Progress(1, said))
        return {r["step"]: r["loss"] for r in metrics.read(where) if "loss" in r}, said.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "bigram", runs.BIGRAM)
        whole, said = losses(tmp_path / "whole")
        first, _ = losses(tmp_path / "parts", sample_every=3)
        again, _ = losses(tmp_path / "parts")
    assert sorted(whole) == list(range(1, 7)) and sorted(first) == [1, 2, 3] and again == whole
    assert "windows went without effects" in said


# --- the command ------------------------------------------------------------------------------------------------------

ON = ["--config.data.augment.tempo.probability=(0.5, 1)", "--config.data.augment.swing.probability=1",
      "--config.data.length=256", "--config.data.transpose=(-5, 6)",
      "--config.data.preprocess.quantise=strict"]  # fmt: skip


def test_an_example_is_told_and_written(corpus, tmp_path, capsys):
    show = ["corpus", str(corpus.path), "--example", "30,1", f"--config={TINY}", *ON]
    assert main([*show, "--out", str(tmp_path / "out")]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    chosen = config.load(TINY, ON)
    data = pipeline.training(chosen, CODEC, corpus)
    examples = data.examples(30, 1)
    assert first.startswith(f"step 30, row 1: {len(examples)} window")
    assert lines[: len(examples)] == [e.line() for e in examples]
    assert any("swing" in line for line in lines)
    written = sorted((tmp_path / "out").glob("*.mid"))
    assert [str(p) for p in written] == lines[len(examples) :] and len(written) == len(examples)
    for path, example in zip(written, examples, strict=True):
        score, want = aurljax.load_midi(path), CODEC.decode(example.ids)
        assert np.array_equal(np.sort(score.onset), np.sort(want.onset))
        assert np.array_equal(np.bincount(score.pitch), np.bincount(want.pitch))
    assert main([*show, "--out", str(tmp_path / "out")]) == 2
    assert "exists; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--example", "1,0"], "--example needs --config"),
        (["--example", "1"], "must be STEP,ROW such as 100,0, not 1"),
        (["--example", "1,99", f"--config={TINY}"], "has no row 99"),
        (["--example", "1,0", f"--config={TINY}", "--json"], "--json is for the report"),
        (["--example", "1,0", f"--config={TINY}", "--config.data.lenght=3"], "did you mean data.length"),
        (["--example", "1,0", f"--config={TINY}", "--out", __file__], "cannot be made"),
        ([f"--config={TINY}"], "--config is for --example"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_requests_are_one_sentence(flags, words, corpus, capsys):
    try:
        status = main(["corpus", str(corpus.path), *flags])
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and words in capsys.readouterr().err.strip().splitlines()[-1]


def test_no_corpus_is_one_sentence(tmp_path, capsys):
    assert main(["corpus", str(tmp_path)]) == 2
    assert "no corpus here" in capsys.readouterr().err
