"""The `event` codec: one sequence per score, times exact on 1/64 s, and a grammar that always leaves ids to close."""

import glob
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import long_piece, random_score
from strategies import scores

import aurljax
from aurljax.cli import main
from aurljax.data import cuts
from aurljax.data.augment import transpose
from aurljax.evaluate import likelihood
from aurljax.music.codec import CodecError, make
from aurljax.music.codec.event import PEDAL, RATE, SEGMENT
from aurljax.music.score import Score

CODEC = make("event")
V, GRAMMAR = CODEC.vocabulary, CODEC.grammar
DATA = os.environ.get("AURLJAX_DATA")
TINY = str(Path(__file__).parents[1] / "configs/tiny.py")
TICK = 1 / 960 + 1e-6  # half a tick of the slowest tempo, seconds
ids_of = {V.name(i): i for i in range(len(V))}


def pedalled(seed: int, notes: int = 200) -> Score:
    """A random score over the keyboard, with pedals in every track."""
    rng, score = np.random.default_rng(seed), random_score(seed, notes)
    tracks = len(score.tracks)
    controls = [(int(rng.integers(0, score.end + 1)), int(rng.integers(0, tracks)), 0, 64, int(rng.integers(0, 128)))
                for _ in range(rng.integers(0, 30))]  # fmt: skip
    return score.replace(controls=controls)


def walk(rng, batch, left, favour=(), favourite=30, state=None):
    """Ids drawn a kind first and then an id of it; kinds in `favour` so much more often."""
    state, out = GRAMMAR.init(batch, left=left) if state is None else state, []
    by_kind = np.where(np.isin([k for k, _ in V.kinds], favour), favourite, 1.0)
    while not (state["phase"] == GRAMMAR.phase.done).all():
        allowed = GRAMMAR.allowed(state)
        assert allowed.any(1).all()
        size = np.stack([allowed[:, V.kind == k].sum(1) for k in range(len(V.kinds))], 1)
        up_to = np.cumsum(allowed * (by_kind / np.maximum(size, 1))[:, V.kind], 1)
        ids = (up_to <= rng.random((len(up_to), 1)) * up_to[:, -1:] * (1 - 1e-9)).sum(1)
        out.append(ids)
        state = GRAMMAR.advance(state, ids)
    return [np.trim_zeros(row, "b") for row in np.stack(out, 1)]


def accepted(ids, left):
    """The state after ids, each of which must be allowed."""
    state = GRAMMAR.init(1, left=left)
    for i, token in enumerate(ids):
        assert GRAMMAR.allowed(state)[0, token], V.names(ids[max(0, i - 9) : i + 1])
        state = GRAMMAR.advance(state, ids[i : i + 1])
    return state


# --- one score, one sequence -----------------------------------------------------------------------------------------


def test_the_vocabulary_is_aurl_ais():
    sizes = {"pad": 1, "start": 1, "continue": 1, "end": 1, "on": 88, "off": 88, "shift": 512, "velocity": 32}
    assert dict(V.kinds) == {**sizes, "sustain": 2, "tempo": 32, "instrument": 16} and len(V) == 774
    assert len(set(V.names(range(len(V))))) == len(V) and V.id("pad") == 0


@given(scores())
@settings(max_examples=30, deadline=None)
def test_one_score_has_one_sequence(score):
    ids = CODEC.encode(score)
    back = CODEC.decode(ids)
    back.check()
    assert np.array_equal(CODEC.encode(back), ids)
    assert CODEC.decode(CODEC.encode(back)) == back
    kept, second = score.notes[CODEC.layout(score).kept], 1 / RATE
    assert len(kept) == len(back)
    assert np.abs(back.seconds(back.onset) - score.seconds(kept["onset"])).max(initial=0) <= second / 2 + TICK


@pytest.mark.parametrize("favour", [(), ("on", "shift"), ("on", "instrument"), ("tempo", "sustain", "shift")])
def test_whatever_the_grammar_allows_is_a_fixed_point(favour):
    rng = np.random.default_rng(len(favour))
    left = np.append(np.arange(3, 60), rng.integers(60, 150, 40))
    for ids, most in zip(walk(rng, len(left), left, favour), left, strict=True):
        assert len(ids) <= most and ids[-1] == V.id("end")
        score = CODEC.decode(ids)
        score.check()
        again = CODEC.encode(score)
        again[0] = ids[0]  # a score does not know whether it is an inner window
        assert np.array_equal(again, ids), V.names(ids)


@pytest.mark.parametrize("seed", range(12))
def test_grammar_accepts_encodings_to_the_last_id_and_features_agree(seed):
    ids = CODEC.encode(pedalled(seed, 150))
    features, state = CODEC.features(ids), GRAMMAR.init(1, left=len(ids))
    for i, token in enumerate(ids):
        assert GRAMMAR.allowed(state)[0, token], V.names(ids[max(0, i - 9) : i + 1])
        state = GRAMMAR.advance(state, ids[i : i + 1])
        for name, value in GRAMMAR.features(state).items():
            assert value[0] == features[name][i] and 0 <= value[0] < CODEC.feature_sizes[name], name
            assert features[name].dtype == np.int32
    assert state["left"][0] == 0 and state["phase"][0] == GRAMMAR.phase.done
    assert sum(x[0].nbytes for x in state.values()) < 8192


def test_the_cost_of_closing_is_met():
    """Where just as many ids are left as closing costs, the piece ends with the last of them."""
    rng = np.random.default_rng(3)
    state = GRAMMAR.init(64)
    for _ in range(40):
        allowed = GRAMMAR.allowed(state)
        allowed[:, V.id("end")] &= allowed.sum(1) == 1
        likely = allowed * np.isin(V.kind, [V.index["on"], V.index["instrument"], V.index["off"]]) * 20.0 + allowed
        size = np.stack([allowed[:, V.kind == k].sum(1) for k in range(len(V.kinds))], 1)
        up_to = np.cumsum(likely / np.maximum(size, 1)[:, V.kind], 1)
        state = GRAMMAR.advance(state, (up_to <= rng.random((64, 1)) * up_to[:, -1:] * (1 - 1e-9)).sum(1))
        tight = {k: x.copy() for k, x in state.items()} | {"left": np.zeros(64, np.int32)}
        assert GRAMMAR.allowed(tight).any(1).all()  # as after a prompt with more sounding notes than ids are left
        cost = GRAMMAR._cost(tight, np)
        legal = GRAMMAR._legal(tight, np)
        least = np.min([np.where(legal[k], cost[k], 2**30).min(1) for k in cost], 0) + 1
        ended = walk(rng, 64, None, state=tight | {"left": least.astype(np.int32)})
        assert [len(ids) for ids in ended] == least.tolist()


def test_interpreter_and_jax_agree():
    import jax
    import jax.numpy as jnp

    rows = [CODEC.encode(pedalled(seed, 120))[:120] for seed in range(40, 52)]
    ids = np.stack([r for r in rows if len(r) == 120][:6])
    logits = np.random.default_rng(0).normal(0, 1, (len(ids), len(V))).astype(np.float32)
    a, b = GRAMMAR.init(len(ids), left=140), GRAMMAR.init(len(ids), left=140, xp=jnp)
    a["seconds"], b["seconds"] = np.full(len(ids), 3.3, np.float32), jnp.full(len(ids), 3.3)

    @jax.jit
    def step(s, column):
        s = GRAMMAR.advance(s, column, jnp)
        return s, GRAMMAR.allowed(s, jnp), GRAMMAR.features(s, jnp), GRAMMAR.within(s, logits, jnp)

    for column in ids.T:
        a = GRAMMAR.advance(a, column)
        b, allowed, features, within = step(b, column)
        assert np.array_equal(GRAMMAR.allowed(a), allowed)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(GRAMMAR.within(a, logits), within, rtol=1e-5)
        for name, value in (GRAMMAR.features(a) | a).items():
            assert np.array_equal(value, (features | b)[name]), name
            assert value.dtype == (features | b)[name].dtype, name


def test_every_id_is_reachable():
    seen, rng = np.zeros(len(V), bool), np.random.default_rng(0)
    for ids in walk(rng, 32, 300, ("on", "instrument", "shift", "velocity", "tempo")):
        seen[ids] = True
        state = GRAMMAR.init(1)
        for token in ids[:30]:
            seen |= GRAMMAR.allowed(state)[0]
            state = GRAMMAR.advance(state, np.array([token]))
    seen |= GRAMMAR.allowed(state | {"phase": state["phase"] * 0 + GRAMMAR.phase.done})[0]
    assert seen.all(), V.names(np.flatnonzero(~seen))


# --- time -------------------------------------------------------------------------------------------------------------


def test_times_are_exact_however_long_the_piece():
    score = long_piece()
    back = CODEC.decode(CODEC.encode(score))
    assert score.seconds(score.end) > 15 * 60 and len(back) == len(score)
    for ours, theirs in ((back.onset, score.onset), (back.onset + back.duration, score.onset + score.duration)):
        grid = np.floor(score.seconds(theirs) * RATE + 0.5) / RATE
        assert np.abs(back.seconds(ours) - grid).max() <= TICK


def test_long_silence_is_the_longest_shifts_then_the_rest():
    for steps, want in ((512, [512]), (513, [512, 1]), (1024, [512, 512]), (1300, [512, 512, 276])):
        tick = steps * 15  # of 1/960 s
        score = Score(480, notes=[(tick, 480, 0, 60, 80)], tracks=[(0, False)])
        names = V.names(CODEC.encode(score))
        assert [int(n.split()[1]) + 1 for n in names if n.startswith("shift")] == [*want, 32]


def test_seconds_asked_for_end_the_piece():
    rng = np.random.default_rng(0)
    state = GRAMMAR.init(64, left=4000) | {"seconds": rng.uniform(0.01, 4, 64).astype(np.float32)}
    limit, ends = state["seconds"], []
    for ids, most in zip(walk(rng, 64, None, ("on", "shift"), state=state), limit, strict=True):
        score = CODEC.decode(ids)
        assert ids[-1] == V.id("end") and (score.seconds(score.onset) < most).all()
        ends.append(score.seconds(score.end) - most)
    assert max(ends) < 1 / RATE + TICK
    logits = np.zeros((1, len(V)), np.float32)
    state = accepted(CODEC.encode(Score(480, notes=[(0, 960, 0, 60, 80)], tracks=[(0, False)]))[:-3], 100)
    out = GRAMMAR.within(state | {"seconds": np.array([1.0], np.float32)}, logits)[0]
    assert out[ids_of["shift 63"]] == pytest.approx(np.log(512 - 63)) and out[ids_of["end"]] == 0


# --- windows ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.data())
@settings(max_examples=25, deadline=None)
def test_windows_are_whole_segments(seed, data):
    score = pedalled(seed)
    lengths, count = CODEC.bar_lengths(score), CODEC.bars(score)
    a = data.draw(st.integers(0, count - 1))
    b = data.draw(st.integers(a + 1, count))
    whole, window = CODEC.encode(score), CODEC.encode(score, (a, b))
    assert len(lengths) == count and lengths.sum() == len(whole) - 3 and (lengths >= 0).all()
    assert len(window) <= lengths[a:b].sum() + CODEC.overhead(score)
    assert (window[0] == V.id("start")) == (a == 0) and (window[-1] == V.id("end")) == (b == count)
    accepted(window, 2**20)
    full, part, note = CODEC.decode(whole), CODEC.decode(window), CODEC.layout(score).note
    inside = (note["on"] >= a * SEGMENT) & (note["on"] < b * SEGMENT)
    assert sorted(part.pitch) == sorted(note["pitch"][inside] + 21)
    at = np.rint(part.seconds(part.onset) * RATE).astype(int) + a * SEGMENT
    assert sorted(at) == sorted(note["on"][inside])
    starts = CODEC.bar_starts(window, b - a)
    assert len(starts) == b - a and (np.diff(starts) >= 0).all()
    for k in range(1, b - a):  # what stands before a segment's start is the window of the segments before it
        before = CODEC.encode(score, (a, a + k))
        assert np.array_equal(window[: starts[k]], before)
    begin = a * SEGMENT
    assert CODEC.left_out(score, (a, b)) == ((note["on"] < begin) & (note["off"] > begin)).sum()
    line = full.seconds(full.tempo["tick"]) * RATE <= begin + 0.5
    assert part.tempo["usec"][0] == full.tempo["usec"][line][-1]


def test_a_window_states_the_pedals_that_are_down():
    notes = [(960 * i, 480, t, 60, 80) for i in range(6) for t in range(2)]
    down = [(0, 0, 0, 64, 127), (480, 1, 0, 64, 127), (1920, 0, 0, 64, 0), (1980, 0, 0, 64, 127), (3840, 0, 0, 64, 0)]
    score = Score(480, notes=notes, tracks=[(0, False), (40, False)], controls=down)
    names = V.names(CODEC.encode(score, (1, 2)))
    assert names[0] == "continue" and names[1].startswith("tempo")
    assert names[2:6] == ["instrument 5", "sustain 1", "instrument 0", "velocity 20"]  # up at the line itself
    names = V.names(CODEC.encode(score.replace(controls=down[:4]), (2, 3)))
    assert names[2:6] == ["instrument 0", "sustain 1", "instrument 5", "sustain 1"]
    back = CODEC.decode(CODEC.encode(score)).controls
    assert back[["track", "value"]].tolist() == [(t, v) for _, t, _, _, v in down]


@given(st.integers(0, 100), st.integers(8, 400))
@settings(max_examples=25, deadline=None)
def test_tiles_fit_and_cover(seed, length):
    score = long_piece(30, seed) if seed % 3 == 0 else pedalled(seed)
    found, left_out = cuts.cut(score, CODEC, length)
    covered = [bar for a, b, _ in found for bar in range(a, b)]
    assert covered == sorted(set(covered)) and left_out == CODEC.bars(score) - len(covered)
    for a, b, ids in found:
        assert ids == len(CODEC.encode(score, bars=(a, b))) <= length + 1
        assert CODEC.bars(transpose(score, 1)) == CODEC.bars(score)


def test_likelihood_scores_every_segment_once():
    score = long_piece(60)
    total, lengths = 0, CODEC.bar_lengths(score)
    for ids, first in likelihood.rows(CODEC, score, 128):
        assert len(ids) <= 129
        total += len(ids) - first
    assert abs(total - lengths.sum()) <= 0.1 * lengths.sum()  # windows state some ids again, and leave some offs out


# --- what is lost -----------------------------------------------------------------------------------------------------


def test_what_is_lost_is_counted():
    notes = [(0, 480, 0, 60, 80), (0, 240, 0, 20, 80), (0, 240, 0, 109, 80), (0, 480, 1, 60, 80), (0, 240, 2, 36, 80)]
    notes += [(960, 960, 0, 64, 80), (1440, 960, 1, 64, 80), (0, 480, 3, 72, 80)]
    controls = [(0, 0, 0, 7, 100), (0, 0, 0, PEDAL, 127), (1, 0, 0, PEDAL, 126), (2, 2, 0, PEDAL, 127)]
    score = Score(480, notes=notes, tracks=[(0, False), (3, False), (0, True), (40, False)], controls=controls,
                  key=[(0, 1, False)], meter=[(0, 3, 4)], tempo=[(0, 500_000), (480, 250_000)])  # fmt: skip
    report = CODEC.loss_report(score)
    want = {"notes": 8, "outside": 2, "drums": 1, "folded": 2, "merged_tracks": 1, "doubled": 1, "cut": 1, "kept": 4}
    want |= {"controls": 1, "pedals": 2, "keys": 1, "meters": 1, "tempi": 0}
    assert {k: report[k] for k in want} == want
    assert report["tempo_error"] == pytest.approx(240 / 200 - 1, rel=1e-4)
    assert report["onset_error"] <= 1 / 128 + TICK and report["velocity_error"] <= 2
    back = CODEC.decode(CODEC.encode(score))
    assert len(back) == 4 and back.tracks["program"].tolist() == [0, 40]
    assert back.seconds(back.onset).tolist()[-1] == pytest.approx(1, abs=1 / 64)


@pytest.mark.parametrize("names", [
    [], ["on 3"], ["start"], ["start", "on 3"], ["start", "tempo 3", "on 3"], ["start", "tempo 3", "instrument 0", "on 3"],
    ["start", "tempo 3", "instrument 0", "velocity 3", "on 3", "end"], ["start", "tempo 3", "instrument 0", "off 3"],
    ["start", "tempo 3", "instrument 0", "velocity 3", "on 3", "on 3"], ["start", "tempo 3", "start"], ["start", "id 774"],
    ["start", "tempo 3", "instrument 0", "velocity 3", "on 3", "off 3", "end"], ["start", "tempo 3", "end", "shift 3"],
])  # fmt: skip
def test_broken_ids_are_refused(names):
    with pytest.raises(CodecError):
        CODEC.decode([ids_of.get(n, len(V)) for n in names])


@pytest.mark.skipif(not DATA, reason="AURLJAX_DATA is not set")
def test_pop909():
    from aurljax.music import midi

    files = sorted(glob.glob(os.path.join(DATA, "pop909/**/[0-9]*.mid"), recursive=True))[::60]
    assert files
    for path in files:
        score = midi.load(path)
        ids = CODEC.encode(score)
        back = CODEC.decode(ids)
        assert np.array_equal(CODEC.encode(back), ids), path
        report = CODEC.loss_report(score)
        lost = sum(report[k] for k in ("drums", "outside", "doubled"))
        assert report["kept"] + lost == len(score)
        assert report["onset_error"] <= 1 / 128 + TICK and report["velocity_error"] <= 2
    accepted(ids, len(ids))


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_ingest_train_generate_evaluate(tmp_path, capsys):
    rng, names = np.random.default_rng(0), [f"t{i}" for i in range(6)]
    for name in names:
        notes = [(i * 240, 240, 0, int(60 + rng.integers(0, 12)), 80) for i in range(32)]
        (tmp_path / "midi").mkdir(exist_ok=True)
        Score(480, notes=notes, tracks=[(0, False)]).save_midi(tmp_path / "midi" / f"{name}.mid")
    (tmp_path / "splits.json").write_text(json.dumps({"train": names[:4], "valid": names[4:]}))
    corpus, run = str(tmp_path / "corpus"), str(tmp_path / "run")
    splits = ["--splits", str(tmp_path / "splits.json"), "--workers", "1"]
    assert main(["ingest", str(tmp_path / "midi"), "--out", corpus, *splits]) == 0
    train = ["train", f"--config={TINY}", f"--config.data.corpus={corpus}", "--config.codec.name=event"]
    train += [
        "--config.run.steps=2",
        "--config.run.checkpoint_every=2",
        "--config.optim.warmup=1",
        "--config.data.transpose=(-2,2)",
    ]
    assert main([*train, "--config.mesh.data=1", "--workdir", run]) == 0
    generate = ["generate", "--checkpoint", run, "--out"]
    assert main([*generate, str(tmp_path / "a"), "-n", "3", "--seconds", "2", "--check", corpus]) == 0
    for i in range(3):
        score = aurljax.load_midi(tmp_path / f"a/{i:03}.mid")
        assert score.seconds(score.end) <= 2 + 1 / RATE + TICK
    short = Score(480, notes=[(i * 240, 240, 0, 60 + i, 80) for i in range(4)], tracks=[(0, False)])
    short.save_midi(tmp_path / "p.mid")
    prompted = [*generate, str(tmp_path / "b"), "--prompt", str(tmp_path / "p.mid"), "--check", corpus]
    assert main([*prompted, "--seconds", "1"]) == 0
    score = aurljax.load_midi(tmp_path / "b/000.mid")
    assert score.pitch[:4].tolist() == [60, 61, 62, 63] and score.seconds(score.onset).max() < 2 + TICK
    model = aurljax.load_model(run)
    (made,) = model.generate(1, prompt=short, seconds=1.0)
    assert np.array_equal(made.notes[:4], short.notes)
    capsys.readouterr()
    assert main([*generate, str(tmp_path / "c"), "--bars", "2"]) == 2
    assert "bars: the codec 'event' of this model has no bars; give seconds instead" in capsys.readouterr().err
    assert main(["evaluate", "--checkpoint", run, "--corpus", corpus, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pieces"] == 2 and found["legal_nats_per_id"] < found["nats_per_id"]
    assert found["uniform_nats_per_id"] < np.log(len(V))
