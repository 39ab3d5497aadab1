"""The `voices` codec: one sequence per score, one score per sequence, and every part of the house works with it."""

import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import long_piece, random_score
from strategies import scores as lawful_scores
from test_codec import walk

from aurljax.data import cuts
from aurljax.errors import UserError
from aurljax.evaluate import likelihood
from aurljax.music import midi
from aurljax.music.codec import CodecError, make
from aurljax.music.codec.voices import USEC
from aurljax.music.codec.voices_grammar import SPAN, STEP
from aurljax.music.codec.voices_layout import voice_name
from aurljax.music.score import Score

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

OPTIONS = [
    {},
    {"onsets": True},
    {"barlines": False},
    {"voices": 3, "grid": 6, "onsets": True, "barlines": False},
    {"voices": 1, "grid": 1},
    {"voices": 1, "barlines": False},
    {"intervals": True, "barlines": False},
    {"voices": 3, "onsets": True, "intervals": True},
]
CODECS = [make("voices", **o) for o in OPTIONS]
every = pytest.mark.parametrize("codec", CODECS, ids=[",".join(o) or "default" for o in OPTIONS])
DATA = os.environ.get("AURLJAX_DATA")


@st.composite
def cells(draw, voices):
    """[frames, voices] pitches, -1 for silence, that often stay; something sounds in the last frame."""
    count = draw(st.integers(1, 40))
    choice = st.sampled_from([-1, 40, 50, 50, 60]) | st.integers(0, 127)
    columns = []
    for _ in range(voices):
        runs = draw(st.lists(st.tuples(choice, st.integers(1, 9)), min_size=1, max_size=12))
        column = np.repeat([p for p, _ in runs], [n for _, n in runs])
        columns.append(np.resize(column, count))
    out = np.stack(columns, 1)
    out[-1, draw(st.integers(0, voices - 1))] = draw(st.integers(0, 127))
    return out


def same_music(codec, score, frames):
    """Whether a score sounds what [frames, voices] says, and nothing more."""
    sounding = np.full((int(score.end // codec.unit), codec.voices), -1)
    for n in score.notes:
        sounding[n["onset"] // codec.unit : (n["onset"] + n["duration"]) // codec.unit, n["track"]] = n["pitch"]
    return np.array_equal(sounding, frames)


@every
@pytest.mark.parametrize("seed", range(25))
def test_one_score_has_one_sequence(codec, seed):
    ids = codec.encode(random_score(seed))
    back = codec.decode(ids)
    back.check()
    assert np.array_equal(codec.encode(back), ids)
    assert codec.decode(codec.encode(back)) == back


@settings(max_examples=60, deadline=None)
@given(lawful_scores(resolution=st.sampled_from([96, 480, 1024])), st.sampled_from(CODECS))
def test_any_lawful_score_can_be_written(score, codec):
    ids = codec.encode(score)
    back = codec.decode(ids)
    assert np.array_equal(codec.encode(back), ids) and len(codec.bar_lengths(score)) == codec.bars(score)
    report = codec.loss_report(score)
    assert report["notes"] == report["kept"] + report["drums"] + report["dropped"] == len(score)
    assert report["kept"] + report["split"] == len(back) + report["merged"]
    assert min(report.values()) >= 0


@every
@pytest.mark.parametrize("by_kind", [False, True])
def test_whatever_the_grammar_allows_is_a_fixed_point(codec, by_kind):
    rng = np.random.default_rng(by_kind)
    shortest = codec.grammar.shortest
    rows = walk(codec, rng, 24, np.append(shortest, rng.integers(shortest, shortest + 150, 23)), by_kind)
    for ids in rows:
        score = codec.decode(ids)
        score.check()
        again = codec.encode(score)
        again[0] = ids[0]  # a score does not know whether it is an inner window
        assert np.array_equal(again, ids), codec.vocabulary.names(ids)
    assert len(rows[0]) == shortest


def step(codec, ids):
    """Asserts that the grammar accepts ids and that its features are those of the whole sequence; the last state."""
    grammar, features = codec.grammar, codec.features(ids)
    spare = codec.voices * int(codec.meters.lengths.max())  # a bar begins only if one of the meter in force fits
    state = grammar.init(1, left=len(ids) + spare)
    assert features.keys() == codec.feature_sizes.keys()
    for i, token in enumerate(ids):
        assert grammar.allowed(state)[0, token], codec.vocabulary.names(ids[max(0, i - 9) : i + 1])
        state = grammar.advance(state, ids[i : i + 1])
        for name, value in grammar.features(state).items():
            assert value[0] == features[name][i], (name, i)
            assert 0 <= value[0] < codec.feature_sizes[name]
    assert state["left"][0] == spare
    return state


@every
@pytest.mark.parametrize("seed", [0, 1, 3, 5])
def test_grammar_accepts_encodings_and_features_agree(codec, seed):
    score = random_score(seed, 60)
    bars = min(codec.bars(score), 12)
    for a in (0, 1) if bars > 1 else (0,):
        ids = codec.encode(score, (a, bars))
        state = step(codec, ids)
        done = state["phase"][0] == codec.grammar.phase.done
        assert done == (bars == codec.bars(score))
    whole = codec.features(ids)
    for t in (0, 1, len(ids) // 2):  # a feature depends on nothing later
        part = codec.features(ids[: t + 1])
        assert all(np.array_equal(part[name], whole[name][: t + 1]) for name in whole)


@pytest.mark.parametrize("codec", CODECS[:2])
def test_features_tell_of_the_next_cell(codec):
    frames = np.array([[60, 55, 50, -1], [60, 57, 50, 40], [62, 57, -1, 40], [62, 57, -1, 41]])
    rows = [(120 * t, 120, v, p, 80) for t, f in enumerate(frames) for v, p in enumerate(f) if p >= 0]
    score = Score(480, notes=rows, tracks=[(0, False)] * 4)
    ids, features = codec.encode(score), codec.features(codec.encode(score))
    at = np.flatnonzero(features["position"] == 2)[1:4]  # ids after which the second to fourth voice's third cell come
    assert features["voice"][at].tolist() == [1, 2, 3]
    assert features["last"][at].tolist() == [57, 50, 40] and features["above"][at].tolist() == [62, 57, 128]
    assert features["age"][at].tolist() == ([1, 1, 1] if codec.onsets else [1, 2, 1])
    assert codec.vocabulary.names(ids[at + 1]) == ["pitch 57", "rest", "pitch 40"]


def test_intervals_tell_of_the_other_voices_and_of_motion():
    codec = make("voices", barlines=False, intervals=True)
    frames = np.array([[60, 55, 50, -1], [60, 57, 50, 40], [62, 57, 48, 40], [62, 57, 48, 41], [65, 57, 30, 41]])
    rows = [(120 * t, 120, v, p, 80) for t, f in enumerate(frames) for v, p in enumerate(f) if p >= 0]
    score = Score(480, notes=rows, tracks=[(0, False)] * 4)
    features = codec.features(codec.encode(score))
    at = 4 * 4 + 2  # the id after which the third voice's last cell comes
    told = {name: int(values[at]) for name, values in features.items()}
    assert (told["last"], told["age"], told["step"] - STEP) == (48, 2, -2)
    assert [told[f"sound_{k}"] for k in (1, 2, 3)] == [57, 65, 41]
    assert [told[f"interval_{k}"] - SPAN for k in (1, 2, 3)] == [57 - 48, 65 - 48, 41 - 48]
    assert [told[f"step_{k}"] - STEP for k in (1, 2, 3)] == [2, 3, 1]
    assert [told[f"age_{k}"] for k in (1, 2, 3)] == [4, 1, 1]
    assert features["step_1"][4 * 2] == 2 * STEP + 1 and features["interval_1"][4] == 2 * SPAN + 1  # from and to a rest
    plain = make("voices", barlines=False)
    assert np.array_equal(plain.encode(score), codec.encode(score)) and plain.fingerprint != codec.fingerprint
    told = plain.features(plain.encode(score))
    assert all(np.array_equal(values, features[name]) for name, values in told.items() if name != "above")


@every
def test_jax_and_numpy_grammar_agree(codec):
    import jax
    import jax.numpy as jnp

    grammar = codec.grammar
    rows = [codec.encode(random_score(seed, 60))[:70] for seed in range(40, 46)]
    ids = np.stack([r for r in rows if len(r) == 70]).T
    limits = {"bars_left": np.full(ids.shape[1], 3, np.int32), "seconds": np.full(ids.shape[1], 9, np.float32)}
    a = grammar.init(ids.shape[1], left=90) | limits
    b = grammar.init(ids.shape[1], left=90, xp=jnp) | {k: jnp.asarray(x) for k, x in limits.items()}
    run = jax.jit(lambda s, i: (grammar.advance(s, i, jnp), grammar.features(grammar.advance(s, i, jnp), jnp)))
    legal, closing = jax.jit(lambda s: grammar.allowed(s, jnp)), jax.jit(lambda s: grammar.closing(s, jnp))
    for column in ids:
        assert np.array_equal(grammar.allowed(a), legal(b)) and np.array_equal(grammar.closing(a), closing(b))
        a, (b, features) = grammar.advance(a, column), run(b, jnp.asarray(column))
        assert all(np.array_equal(x, features[name]) for name, x in grammar.features(a).items())
        for name in a:
            assert b[name].dtype == grammar.init(1)[name].dtype, name
            np.testing.assert_allclose(a[name], b[name], rtol=1e-5, err_msg=name)


@every
def test_every_id_has_a_name_and_is_reachable(codec):
    v, grammar, rng = codec.vocabulary, codec.grammar, np.random.default_rng(0)
    assert len(set(v.names(range(len(v))))) == len(v)
    seen, state = np.zeros(len(v), bool), grammar.init(32)
    for _ in range(1500):
        allowed = grammar.allowed(state)
        seen |= allowed.any(0)
        if seen.all():
            return
        state = grammar.advance(state, np.array([rng.choice(np.flatnonzero(row)) for row in allowed]))
    raise AssertionError(v.names(np.flatnonzero(~seen)))


@every
@pytest.mark.parametrize("limit", [{"bars_left": 2}, {"seconds": 3.0}, {"bars_left": 1, "seconds": 0.1}])
def test_bars_and_seconds_asked_for_close_the_piece(codec, limit):
    grammar, v, rng = codec.grammar, codec.vocabulary, np.random.default_rng(0)
    state = grammar.init(12)
    state |= {name: np.full(12, value, state[name].dtype) for name, value in limit.items()}
    out = []
    for _ in range(9000):
        if (state["phase"] == grammar.phase.done).all():
            break
        allowed = grammar.allowed(state)
        assert allowed.any(1).all()
        weight = allowed * np.where(v.kind == v.index["rest"], 300.0, 1) * (np.arange(len(v)) != v.id("end"))
        weight = np.where(weight.any(1, keepdims=True), weight, allowed)  # end only where nothing else is left
        out.append(np.array([rng.choice(len(v), p=w / w.sum()) for w in weight]))
        state = grammar.advance(state, out[-1])
    for row in np.stack(out, 1):
        ids = np.trim_zeros(row, "b")
        score = codec.decode(ids)
        again = codec.encode(score)
        assert np.array_equal(again[1:], ids[1:])
        lines = codec.layout(score).lines * codec.unit
        begins = score.seconds(lines[-2] if codec.barlines else lines[-1] - codec.unit)  # of the last bar or frame
        assert codec.bars(score) <= limit.get("bars_left", 10_000)
        assert begins == 0 or begins < limit.get("seconds", 10_000) + 1e-3


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(CODECS))
def test_what_is_on_the_grid_comes_back(data, codec):
    frames = data.draw(cells(codec.voices))
    rows = []
    for voice, column in enumerate(frames.T):
        cut = data.draw(st.sets(st.integers(0, len(column)), max_size=4)) if codec.onsets else set()
        new = np.append(True, column[1:] != column[:-1])
        at = sorted({*np.flatnonzero(new).tolist(), *cut, len(column)})
        rows += [(a * codec.unit, (b - a) * codec.unit, voice, int(column[a]), 80)
                 for a, b in itertools.pairwise(at) if column[a] >= 0]  # fmt: skip
    names = tuple(voice_name(v) for v in range(codec.voices))
    maps = {"meter": [(0, 3, 4), (3 * 480, 4, 4)], "tempo": [(0, int(USEC[40])), (3 * 480, int(USEC[33]))]}
    maps = maps if codec.barlines and len(frames) > 3 * codec.grid else {
        k: m[:1] for k, m in maps.items() if codec.barlines}  # fmt: skip
    score = Score(codec.unit * codec.grid, notes=rows, tracks=[(0, False)] * codec.voices, names=names, **maps)
    back = codec.decode(codec.encode(score))
    assert back == score and same_music(codec, back, frames)
    report = codec.loss_report(score)
    counts = {k: report[k] for k in ("drums", "dropped", "shortened", "split", "merged", "meters", "tempi")}
    assert not any(counts.values()) and report["onset_error"] == report["velocity_error"] == report["tempo_error"] == 0


@every
@pytest.mark.parametrize("seed", range(6))
def test_windows_are_whole_bars(codec, seed):
    score = random_score(seed)
    lengths, layout = codec.bar_lengths(score), codec.layout(score)
    rng = np.random.default_rng(seed)
    a = int(rng.integers(0, len(lengths)))
    b = int(rng.integers(a + 1, len(lengths) + 1))
    window = codec.encode(score, (a, b))
    assert lengths.sum() == len(codec.encode(score)) - 2
    assert lengths[a:b].sum() <= len(window) <= lengths[a:b].sum() + codec.overhead(score)
    assert (window[0] == codec.vocabulary.id("start")) == (a == 0)
    assert (window[-1] == codec.vocabulary.id("end")) == (b == len(lengths))
    part = codec.decode(window)
    sound = layout.sound[layout.lines[a] : layout.lines[b]]  # also of notes that sound into the window
    heard = codec.layout(part).sound
    assert np.array_equal(heard, sound[: len(heard)]) and (sound[len(heard) :] == 128).all()
    if codec.onsets:
        inside = layout.struck[layout.lines[a] : layout.lines[b]][: len(heard)]
        assert np.array_equal(codec.layout(part).struck[1:], inside[1:])
    starts = codec.bar_starts(window, 99)
    assert len(starts) == b - a and starts[0] == 1
    assert np.array_equal(np.diff(starts)[1:], lengths[a + 1 : b - 1])
    found, left_out = cuts.cut(score, codec, 128)
    assert left_out + sum(y - x for x, y, _ in found) == len(lengths)
    assert all(n == len(codec.encode(score, (x, y))) <= 129 for x, y, n in found)


@every
@pytest.mark.parametrize("quarters", [3, 4, 8, 9])
def test_what_follows_a_prompt_counts_from_where_a_bar_begins(codec, quarters):
    notes = [(480 * t, 480, 0, 60 + t, 80) for t in range(quarters)]
    prompt = Score(480, notes=notes, tracks=[(0, False)])
    ids, begun = codec.opening(prompt)
    assert begun == (codec.barlines or quarters % 4 > 0)
    state = codec.grammar.init(1) | {"bars_left": np.array([2**20], np.int32)}
    for token in ids:
        assert codec.grammar.allowed(state)[0, token]
        state = codec.grammar.advance(state, np.array([token]))
    assert 2**20 - state["bars_left"][0] == codec.bars(prompt) + codec.barlines
    assert codec.opening(None)[0].tolist() == [codec.vocabulary.id("start")] and not codec.opening(None)[1]


@every
def test_every_bar_of_a_long_piece_is_scored_once(codec):
    score = long_piece(30)
    rows = list(likelihood.rows(codec, score, 256))
    cell = codec.vocabulary.index["rest"]
    scored = np.concatenate([ids[first:] for ids, first in rows])
    whole = codec.encode(score)
    assert np.array_equal(*(x[codec.vocabulary.kind[x] >= cell] for x in (scored, whole)))


def test_tracks_are_voices_where_they_can_be():
    codec, grid = CODECS[1], 120
    low, high = [(0, 4 * grid, 0, 40, 80)], [(0, 2 * grid, 1, 70, 80), (2 * grid, 2 * grid, 1, 50, 80)]

    def voices(notes, tracks, names=()):
        back = codec.decode(codec.encode(Score(480, notes=notes, tracks=[(0, False)] * tracks, names=names)))
        return sorted((int(n["track"]), int(n["pitch"]), int(n["duration"]) // grid) for n in back.notes)

    assert voices(low + high, 2) == [(0, 50, 2), (0, 70, 2), (1, 40, 4)]  # by mean pitch
    assert voices(low + high, 2, ("voice 2", "voice 4")) == [(1, 40, 4), (3, 50, 2), (3, 70, 2)]  # by name
    five = [(0, 4 * grid, t, 60 + t, 80) for t in range(5)]
    assert voices(five, 5) == [(0, 64, 4), (1, 63, 4), (2, 62, 4), (3, 61, 4)]  # from the top, frame by frame
    chord = [(0, 4 * grid, 0, p, 80) for p in (60, 64, 67)]
    assert voices(chord, 1) == [(0, 67, 4), (1, 64, 4), (2, 60, 4)]
    entering = [*chord, (2 * grid, 2 * grid, 0, 72, 80)]
    assert voices(entering, 1) == [(0, 67, 2), (0, 72, 2), (1, 64, 2), (1, 67, 2), (2, 60, 2), (2, 64, 2), (3, 60, 2)]
    crossing = [(0, 4 * grid, 0, 60, 80), (0, 4 * grid, 1, 50, 80), (4 * grid, grid, 1, 61, 80)]
    assert voices(crossing, 2) == [(0, 60, 4), (1, 50, 4), (1, 61, 1)]


def test_what_is_lost_is_counted():
    notes = [(0, 480, t, 60 + t, 80) for t in range(5)]  # the lowest has no voice
    notes += [(0, 480, 5, 36, 80)]  # drums
    notes += [(480, 480, t, 70 - t, 71) for t in range(4)] + [(960, 240, 0, 70, 80)]  # struck again
    notes += [(960, 960, 1, 50, 80), (1200, 240, 2, 55, 80)]  # moved by one that enters
    tracks = [(0, False)] * 5 + [(0, True)]
    score = Score(480, notes=notes, tracks=tracks, key=[(0, 1, False)], tempo=[(0, 500_000), (240, 1_000_000)],
                  meter=[(0, 5, 32), (5000, 3, 4)], names=("a",), meta={"title": "b"},
                  texts=[(0, "lyric", "c")])  # fmt: skip
    report = CODECS[0].loss_report(score)
    expected = {"notes": 13, "kept": 11, "drums": 1, "dropped": 1, "shortened": 0, "merged": 1, "replaced_meters": 1,
                "meters": 1, "tempi": 0, "velocity_error": 9, "keys": 1, "texts": 1, "names": 1, "metadata": 1}  # fmt: skip
    assert {k: report[k] for k in expected} == expected
    assert report["split"] == 1 and CODECS[1].loss_report(score)["merged"] == 0
    assert 0.3 < report["tempo_error"] < 1 and report["onset_error"] == 0
    late = Score(480, notes=[(0, 240, 0, 60, 80), (30, 480, 0, 64, 80), (130, 480, 0, 67, 80)], tracks=[(0, False)])
    report = make("voices", voices=1).loss_report(late)
    assert report["dropped"] == 1 and report["shortened"] == 1 and abs(report["onset_error"] - 0.03125) < 1e-6
    assert make("voices", barlines=False).loss_report(score)["meters"] == 2


@pytest.mark.parametrize("ids", [
    [], ["bar"], ["pitch 60"], ["start", "pitch 60"], ["start", "bar", "tempo 3"], ["start", "bar", "meter 9"],
    ["start", "bar", "meter 7", "tempo 3", "pitch 60"],
    ["start", "bar", "meter 27", "tempo 3", *["pitch 60"] * 4, "meter 4"],
    ["start", "bar", "meter 29", "tempo 3", *["pitch 60"] * 4, "end"],
    ["start", "bar", "meter 28", "tempo 3", *["pitch 60"] * 12],
    ["start", "bar", "meter 29", "tempo 3", *["pitch 60"] * 3, "rest", *["hold"] * 4],
    ["start", "bar", "meter 28", "tempo 3", *["hold"] * 4],
    ["start", "start"], ["start", "end", "bar"], ["start", "nonsense"],
])  # fmt: skip
def test_broken_ids_are_refused(ids):
    v = CODECS[1].vocabulary
    names = {v.name(i): i for i in range(len(v))}
    with pytest.raises(CodecError):
        CODECS[1].decode([names.get(n, len(v)) for n in ids])


@pytest.mark.parametrize("options", [{"voices": 0}, {"voices": 17}, {"grid": 2.0}, {"grid": 25}, {"onsets": 1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=f"codec option {next(iter(options))} must be"):
        make("voices", **options)


@pytest.mark.parametrize("options", [{"onsets": True}, {"barlines": False}], ids=["bars", "frames"])
def test_the_whole_way(tmp_path, capsys, options):
    from runs import make_corpus

    from aurljax import load_model
    from aurljax.cli import main

    corpus, run = make_corpus(tmp_path), str(tmp_path / "run")
    options = {"voices": 2, "grid": 2} | options
    flags = ["codec.name=voices", *(f"codec.options.{name}={value}" for name, value in options.items())]
    flags += ["data.length=48", f"data.corpus={corpus}", "data.batch=8", "data.transpose=(-5,6)"]
    flags += ["model.d_model=16", "model.layers=1", "model.d_ff=16", "run.steps=2", "optim.warmup=1"]
    config = str(Path(__file__).parent.parent / "configs/tiny.py")
    assert main(["train", f"--config={config}", "--workdir", run, *(f"--config.{f}" for f in flags)]) == 0
    model = load_model(run)
    assert model.codec == make("voices", **options)
    if "barlines" in options:
        assert main(["evaluate", "--checkpoint", run, "--corpus", corpus, "--split", "valid"]) == 0
        assert "nats per note" in capsys.readouterr().out
    whole = midi.load(next(Path(tmp_path / "midi").glob("*.mid")))
    begun = Score(480, notes=whole.notes[:8], tracks=[(0, False)])  # four quarters
    begun.save_midi(tmp_path / "begun.mid")
    flags = ["--out", str(tmp_path / "new"), "--check", corpus, "--prompt", str(tmp_path / "begun.mid"), "-n", "3"]
    assert main(["generate", "--checkpoint", run, *flags, "--bars", "1"]) == 0
    for path in (tmp_path / "new").glob("*.mid"):
        new = midi.load(path)
        assert np.array_equal(new.pitch[(new.onset < begun.end) & (new.track == 0)], begun.pitch)
        assert model.codec.bars(new) <= 2 and np.array_equal(
            model.codec.encode(model.codec.decode(model.codec.encode(new))), model.codec.encode(new)
        )


@pytest.mark.skipif(not DATA, reason="AURLJAX_DATA is not set")
@pytest.mark.parametrize("onsets", [False, True])
def test_jsb_chorales_come_back_as_their_frames(onsets, tmp_path):
    import jsb

    pieces = jsb.read(Path(DATA) / "jsb/Jsb16thSeparated.json")
    plain = make("voices", barlines=False, onsets=onsets)
    barred = make("voices", onsets=onsets)
    rest, pitch = plain.vocabulary.id("rest"), plain.vocabulary.id("pitch")
    for frames in (f for group in pieces.values() for f in group):
        score = jsb.score(frames)
        ids = plain.encode(score)
        if not onsets:
            assert np.array_equal(ids[1:-1], np.where(frames < 0, rest, pitch + frames).ravel())
        for codec in (plain, barred):
            back = codec.decode(codec.encode(score))
            assert same_music(codec, back, frames) and np.array_equal(back.notes, score.notes)
    jsb.write({split: group[:3] for split, group in pieces.items()}, tmp_path)
    for split, group in pieces.items():
        for i, frames in enumerate(group[:3]):
            read = midi.load(tmp_path / f"{split}/{i:03}.mid")
            assert np.array_equal(plain.encode(read), plain.encode(jsb.score(frames)))
    assert json.loads((tmp_path / "splits.json").read_text())["test"][:3] == ["test/000", "test/001", "test/002"]


def test_the_jsb_converter_refuses_other_files(tmp_path, capsys):
    import jsb

    (tmp_path / "a.json").write_text('{"train": [[[60, 55]]], "valid": [], "test": []}')
    for path, said in ((tmp_path / "none.json", "none.json"), (tmp_path / "a.json", "piece 0 of train")):
        assert jsb.main(["midi", str(path), str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
