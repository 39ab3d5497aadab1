"""The `score` codec: one sequence per score, nothing lost uncounted, and a grammar that knows exactly its sequences."""

import glob
import os

import numpy as np
import pytest
from scores import long_piece, random_score

from aurljax.music.codec import CodecError, make
from aurljax.music.codec import tempo as tempi
from aurljax.music.codec.score import BAR, METERS, UNIT
from aurljax.music.score import Score

CODECS = [make("score"), make("score", microtiming=True)]
both = pytest.mark.parametrize("codec", CODECS, ids=["grid", "micro"])
DATA = os.environ.get("AURLJAX_DATA")


def walk(codec, rng, batch, left, by_kind):
    """Ids drawn from what the interpreter allows: uniformly, or a kind first and then an id of it."""
    grammar, kind = codec.grammar, codec.vocabulary.kind
    state, out = grammar.init(batch, left=left), []
    while not (state["phase"] == grammar.phase.done).all():
        weight = grammar.allowed(state).astype(float)
        assert weight.any(1).all()
        if by_kind:
            of_kind = np.stack([weight[:, kind == k].sum(1) for k in range(kind.max() + 1)], 1)
            weight /= np.maximum(of_kind, 1)[:, kind]
        ids = np.array([rng.choice(len(kind), p=w / w.sum()) for w in weight])
        out.append(ids)
        state = grammar.advance(state, ids)
    return [np.trim_zeros(row, "b") for row in np.stack(out, 1)]


@both
@pytest.mark.parametrize("seed", range(60))
def test_one_score_has_one_sequence(codec, seed):
    score = random_score(seed)
    ids = codec.encode(score)
    back = codec.decode(ids)
    back.check()
    assert np.array_equal(codec.encode(back), ids)
    assert codec.decode(codec.encode(back)) == back


@both
@pytest.mark.parametrize("by_kind", [False, True])
def test_whatever_the_grammar_allows_is_a_fixed_point(codec, by_kind):
    rng = np.random.default_rng(by_kind)
    for ids in walk(codec, rng, 32, rng.integers(7, 150, 32), by_kind):
        score = codec.decode(ids)
        score.check()
        again = codec.encode(score)
        again[0] = ids[0]  # a score does not know whether it is an inner window
        assert np.array_equal(again, ids), codec.vocabulary.names(ids)


@both
@pytest.mark.parametrize("seed", range(20))
def test_grammar_accepts_encodings_and_features_agree(codec, seed):
    ids = codec.encode(random_score(seed, 120))
    grammar, features = codec.grammar, codec.features(ids)
    state = grammar.init(1, left=len(ids) + 3)
    for i, token in enumerate(ids):
        assert grammar.allowed(state)[0, token], codec.vocabulary.names(ids[max(0, i - 9) : i + 1])
        state = grammar.advance(state, ids[i : i + 1])
        for name, value in grammar.features(state).items():
            assert value[0] == features[name][i], name
            assert 0 <= value[0] < codec.feature_sizes[name]
    assert state["phase"][0] == grammar.phase.done and state["left"][0] == 3


def test_jax_and_numpy_grammar_agree():
    import jax.numpy as jnp

    codec = CODECS[1]
    rows = [codec.encode(random_score(seed, 60))[:80] for seed in range(40, 44)]
    ids = np.stack([r for r in rows if len(r) == 80])
    a, b = codec.grammar.init(len(ids)), codec.grammar.init(len(ids), xp=jnp)
    for column in ids.T:
        assert np.array_equal(codec.grammar.allowed(a), codec.grammar.allowed(b, jnp))
        a, b = codec.grammar.advance(a, column), codec.grammar.advance(b, jnp.asarray(column), jnp)
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-6, err_msg=name)


@both
def test_every_id_has_a_name_and_is_reachable(codec):
    v, grammar, rng = codec.vocabulary, codec.grammar, np.random.default_rng(0)
    assert len(set(v.names(range(len(v))))) == len(v)
    seen, likely = np.zeros(len(v), bool), np.where(v.kind == v.index["program"], 50, 1)  # many tracks
    state = grammar.init(32)
    for _ in range(4000):
        allowed = grammar.allowed(state)
        seen |= allowed.any(0)
        if seen.all():
            return
        of_kind = np.stack([allowed[:, v.kind == k].sum(1) for k in range(len(v.kinds))], 1)
        total = np.cumsum(allowed * likely / np.maximum(of_kind, 1)[:, v.kind], 1)
        ids = (total <= rng.random((len(total), 1)) * total[:, -1:] * (1 - 1e-9)).sum(1)
        state = grammar.advance(state, ids)
    raise AssertionError(v.names(np.flatnonzero(~seen)))


def test_bars_and_seconds_asked_for_close_the_piece():
    codec = CODECS[0]
    grammar, ids = codec.grammar, codec.encode(long_piece(6))
    state = grammar.init(1) | {"bars_left": np.array([3], np.int32)}
    begun = 0
    for token in ids:
        if token == codec.vocabulary.id("bar"):
            if begun == 3:
                assert grammar.closing(state)[0] and not grammar.allowed(state)[0, token]
                assert grammar.allowed(state)[0, codec.vocabulary.id("end")]
                break
            begun += 1
        state = grammar.advance(state, np.array([token]))
    score = codec.decode(ids)
    state = grammar.init(1)
    for i, token in enumerate(ids[:-1]):
        state = grammar.advance(state, np.array([token]))
        if codec.vocabulary.kind[token] == codec.vocabulary.index["duration"]:
            onset = codec.decode(ids[: i + 1]).onset[-1]
            assert abs(state["clock"][0] - score.seconds(onset)) < 1e-3


@both
def test_windows_are_whole_bars(codec):
    for seed in range(30):
        score = random_score(seed)
        lengths, count = codec.bar_lengths(score), codec.bars(score)
        assert len(lengths) == count
        whole = codec.decode(codec.encode(score))
        rng = np.random.default_rng(seed)
        a = int(rng.integers(0, count))
        b = int(rng.integers(a + 1, count + 1))
        window = codec.encode(score, (a, b))
        assert len(window) <= lengths[a:b].sum() + codec.overhead(score)
        assert (window[0] == codec.vocabulary.id("start")) == (a == 0)
        assert (window[-1] == codec.vocabulary.id("end")) == (b == count)
        part = codec.decode(window)
        lines = codec.layout(score).lines * UNIT
        inside = whole.notes[(whole.onset + 10 >= lines[a]) & (whole.onset + 10 < lines[b])] if codec.microtiming else (
            whole.notes[(whole.onset >= lines[a]) & (whole.onset < lines[b])]
        )  # fmt: skip
        assert len(part) == len(inside)
        assert sorted(part.pitch.tolist()) == sorted(inside["pitch"].tolist())
        clock = whole.seconds(lines[a] + part.onset) - whole.seconds(lines[a])
        assert np.abs(part.seconds(part.onset) - clock).max(initial=0) < 1e-6


def test_tempo_never_drifts():
    for score in (long_piece(), *(random_score(s) for s in range(40))):
        last = int(score.end / score.resolution * 24) + 1
        written = tempi.write(score, 24, last)
        on_grid = (score.tempo["tick"] * 24 % score.resolution == 0).all()
        at, step = np.array(written).T
        start = np.append(0, np.cumsum(np.diff(at) * tempi.USEC[step[:-1]]))
        where = np.arange(last + 1)
        i = np.searchsorted(at, where, "right") - 1
        clock = (start[i] + (where - at[i]) * tempi.USEC[step[i]]) / 24e6
        error = np.abs(clock - score.seconds(where * score.resolution / 24))
        assert (step[1:] != step[:-1]).all()
        usec = np.append(score.tempo["usec"], 500_000)
        jump = (
            0 if on_grid else np.ptp(usec) / 48e6
        )  # a tempo that changes between positions is moved by up to half of one
        assert error.max() <= 0.005 + 2 * jump


def test_long_piece_is_exact_on_the_grid():
    score, codec = long_piece(), CODECS[0]
    back = codec.decode(codec.encode(score))
    for column in ("onset", "duration", "pitch", "track"):
        assert np.array_equal(back.notes[column], score.notes[column])
    assert score.seconds(score.end) > 15 * 60
    assert np.abs(back.seconds(back.onset) - score.seconds(score.onset)).max() < 0.005


def test_a_meter_that_cuts_a_bar_keeps_its_bar_lines():
    score = Score(480, notes=[(480, 480, 0, 60, 80), (2400, 480, 0, 62, 80)], tracks=[(0, False)],
                  meter=[(0, 4, 4), (480, 3, 4)])  # fmt: skip
    layout = CODECS[0].layout(score)
    assert layout.lines.tolist()[:3] == [0, 24, 96]
    assert METERS[layout.meter[0]] == (1, 4) and BAR[layout.meter[0]] == 24


def test_what_is_lost_is_counted():
    codec = CODECS[0]
    notes = [(0, 480, t, 60, 80) for t in range(20)] + [(0, 480 * 200, 0, 70, 3), (5, 1, 0, 72, 80), (3, 1, 0, 72, 80)]
    score = Score(480, notes=notes, tracks=[(t, False) for t in range(20)], key=[(0, 1, False)], meter=[(0, 5, 32)])
    report = codec.loss_report(score)
    assert report["notes"] == 23 and report["dropped_tracks"] == 4 and report["dropped_notes"] == 4
    assert report["doubled"] == 1 and report["shortened"] == 1 and report["keys"] == 1
    assert report["replaced_meters"] == 1 and report["kept"] == 18
    assert report["kept"] == len(codec.decode(codec.encode(score)))


@pytest.mark.parametrize("ids", [
    [], ["bar 0"], ["start", "pitch 60"], ["start", "bar"], ["start", "bar", "meter 7", "position 0", "coarse 9"],
    ["start", "bar", "meter 7", "position 0", "duration 3"], ["start", "program 0", "pitch 60", "duration 3"],
])  # fmt: skip
def test_broken_ids_are_refused(ids):
    v = CODECS[0].vocabulary
    names = {v.name(i): i for i in range(len(v))}
    with pytest.raises(CodecError):
        CODECS[0].decode([names.get(n, len(v)) for n in ids])


@pytest.mark.skipif(not DATA, reason="AURLJAX_DATA is not set")
@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["pop909/*/[0-9]*.mid", "nottingham/MIDI/*.mid"])
def test_real_corpora(pattern):
    from aurljax.music import midi

    files = sorted(glob.glob(os.path.join(DATA, pattern)))
    assert files
    notes = close = far = 0
    for path in files:
        score = midi.load(path)
        for codec in CODECS:
            ids = codec.encode(score)
            back = codec.decode(ids)
            assert np.array_equal(codec.encode(back), ids), path
            layout = codec.layout(score)
            kept = score.notes[layout.kept]
            assert len(kept) + layout.lost["doubled"] + layout.lost["dropped_notes"] == len(score)
            error = np.abs(back.seconds(back.onset) - score.seconds(kept["onset"]))
            assert np.abs(back.velocity.astype(int) - kept["velocity"]).max() <= 2
            if codec.microtiming:
                notes, close = notes + len(error), close + int((error <= 0.01).sum())
            else:
                place = kept["onset"] + np.array([[-1], [0], [1]]) * score.resolution / 24
                unit = np.diff(score.seconds(np.maximum(place, 0)), axis=0).max(0)
                far += int((error > unit / 2 + tempi.LIMIT).sum())
    assert close / notes >= 0.999
    assert far / notes <= 0.0005  # beside tempi that change between two positions
