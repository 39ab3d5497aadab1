"""The `score` codec: one sequence per score, nothing lost uncounted, and a grammar that knows exactly its sequences."""

import glob
import os

import numpy as np
import pytest
from hypothesis import given, settings
from scores import long_piece, random_score
from strategies import scores

from aurljax.data import augment
from aurljax.errors import UserError
from aurljax.music import chords
from aurljax.music.chords import QUALITIES
from aurljax.music.codec import CodecError, make
from aurljax.music.codec import tempo as tempi
from aurljax.music.codec.score import BAR, METERS, UNIT
from aurljax.music.score import Score

FULL = make(
    "score", microtiming=True, pedal=True, keys=True, chords=True, infill=True, controls=(("density", 8), ("mood", 5))
)
CODECS = [make("score"), make("score", microtiming=True), FULL]
every = pytest.mark.parametrize("codec", CODECS, ids=["grid", "micro", "full"])
DATA = os.environ.get("AURLJAX_DATA")


def walk(codec, rng, batch, left, by_kind, begin=()):
    """Ids drawn from what the interpreter allows behind `begin`: uniformly, or a kind first and then an id of it."""
    grammar, kind = codec.grammar, codec.vocabulary.kind
    state, out = grammar.init(batch, left=left + len(begin)), [np.full(batch, token) for token in begin]
    for ids in out:
        state = grammar.advance(state, ids)
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


def some_cells(codec, score, seed, share=0.3):
    """Cells (bar, track) at random, of a codec that knows holes."""
    layout, rng = codec.layout(score), np.random.default_rng(seed)
    cells = np.argwhere(rng.random((layout.bars, len(layout.tracks))) < share)
    cells = cells[np.isin(cells[:, 0], np.unique(cells[:, 0])[:128])]
    return [(int(b), int(t)) for b, t in cells] if codec.infill else []


@every
@pytest.mark.parametrize("seed", range(60))
def test_one_score_has_one_sequence(codec, seed):
    score = random_score(seed)
    ids = codec.encode(score)
    back = codec.decode(ids)
    back.check()
    assert np.array_equal(codec.encode(back), ids)
    assert codec.decode(codec.encode(back)) == back


@every
@given(score=scores())
@settings(max_examples=25, deadline=None)
def test_any_lawful_score_can_be_written(codec, score):
    """Whatever its meters, tempi and coincidences: what comes back is a fixed point, and what does not is counted."""
    ids = codec.encode(score)
    back = codec.decode(ids)
    back.check()
    assert np.array_equal(codec.encode(back), ids) and codec.decode(codec.encode(back)) == back
    lost = codec.layout(score).lost
    assert len(back) == len(score) - lost["doubled"] - lost["dropped_notes"]


def positions_written(codec, ids):
    """How long all notes of a sequence are together, as its ids say."""
    v = codec.vocabulary
    kind, value = v.kind[ids], v.value[ids] + 1
    return value[kind == v.index["duration"]].sum() + 96 * value[kind == v.index["long"]].sum()


@every
@pytest.mark.parametrize("by_kind", [False, True])
def test_whatever_the_grammar_allows_is_a_fixed_point(codec, by_kind):
    rng = np.random.default_rng(by_kind)
    for ids in walk(codec, rng, 32, rng.integers(7, 150, 32), by_kind):
        score = codec.decode(ids)
        score.check()
        holes = {"holes": codec.holes(ids)} if codec.infill else {}
        again = codec.encode(score, **holes)
        again[0] = ids[0]  # a score does not know whether it is an inner window
        if positions_written(codec, ids) == np.rint(score.duration / UNIT).sum():
            assert np.array_equal(again, ids), codec.vocabulary.names(ids)
        else:  # an answer to a hole sounds on into a note of the piece, and ends there
            assert holes["holes"] and codec.decode(again) == score


@every
@pytest.mark.parametrize("seed", range(20))
def test_grammar_accepts_encodings_and_features_agree(codec, seed):
    score = random_score(seed, 120)
    ids = codec.encode(score, holes=some_cells(codec, score, seed))
    grammar, features = codec.grammar, codec.features(ids)
    state = grammar.init(1, left=len(ids) + 3)
    for i, token in enumerate(ids):
        assert grammar.allowed(state)[0, token], codec.vocabulary.names(ids[max(0, i - 9) : i + 1])
        state = grammar.advance(state, ids[i : i + 1])
        for name, value in grammar.features(state).items():
            assert value[0] == features[name][i], name
            assert 0 <= value[0] < (codec.feature_sizes[name] or 2**30)
    assert state["phase"][0] == grammar.phase.done and state["left"][0] == 3


@pytest.mark.parametrize("bars", [(0, 1), (0, 2), (0, 4), (1, 3), (2, 4)])
@pytest.mark.parametrize("masked", [0, 1])
def test_grammar_accepts_windows_with_holes_and_empty_bars(bars, masked):
    codec, grammar = FULL, FULL.grammar
    score = Score(notes=[(0, 480, 0, 60, 64), (9600, 480, 1, 60, 64)], tracks=[(0, False), (1, False)])
    ids = codec.encode(score, bars=bars, holes=[(bars[0], masked)])
    state = grammar.init(1)
    for i, token in enumerate(ids):
        assert grammar.allowed(state)[0, token], codec.vocabulary.names(ids[: i + 1])
        state = grammar.advance(state, ids[i : i + 1])


def test_holes_need_their_option():
    with pytest.raises(ValueError, match="infill=True"):
        CODECS[0].encode(random_score(1), holes=[(0, 0)])


def test_jax_and_numpy_grammar_agree():
    import jax
    import jax.numpy as jnp

    codec, scores = FULL, [random_score(seed, 60) for seed in range(40, 44)]
    rows = [codec.encode(score, holes=some_cells(codec, score, 1, 0.5))[-160:] for score in scores]
    ids = np.stack([np.append(codec.encode(scores[0])[:40], row) for row in rows if len(row) == 160])
    allowed = jax.jit(lambda state: codec.grammar.allowed(state, jnp))
    advance = jax.jit(lambda state, ids: codec.grammar.advance(state, ids, jnp))
    a, b = codec.grammar.init(len(ids)), codec.grammar.init(len(ids), xp=jnp)
    for column in ids.T:
        assert np.array_equal(codec.grammar.allowed(a), allowed(b))
        a, b = codec.grammar.advance(a, column), advance(b, jnp.asarray(column))
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-6, err_msg=name)


@every
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


@pytest.mark.parametrize("seed", range(40))
def test_holes_are_answered_by_what_was_there(seed):
    score = random_score(seed)
    cells, v = some_cells(FULL, score, seed), FULL.vocabulary
    ids = FULL.encode(score, holes=cells)
    bars = len({bar for bar, _ in cells})
    assert FULL.holes(ids) == cells and (ids == v.id("fill")).sum() == (ids == v.id("filled")).sum() == bars
    assert FULL.decode(ids) == FULL.decode(FULL.encode(score))
    if cells:  # without its answers a piece lacks just those notes
        layout = FULL.layout(score)
        piece = FULL.decode(ids[: np.argmax(ids == v.id("fill"))])
        bar = np.searchsorted(layout.lines, layout.note["at"], "right") - 1
        masked = [cell in set(cells) for cell in zip(bar.tolist(), layout.note["track"].tolist(), strict=True)]
        assert len(piece) == len(layout.note["at"]) - sum(masked)
        assert np.array_equal(piece.controls, FULL.decode(ids).controls)
        a, b = cells[0][0], layout.bars
        inner = [c for c in cells if a <= c[0] < b]
        window = FULL.encode(score, (a, b), holes=inner)
        assert FULL.holes(window) == [(bar - a, track) for bar, track in inner]
        assert FULL.decode(window) == FULL.decode(FULL.encode(score, (a, b)))


@pytest.mark.parametrize("seed", range(8))
def test_a_bar_of_holes_is_answered_as_it_would_be_written(seed):
    """Where all tracks of one bar are masked, its answer has the ids of its notes in a piece without holes."""
    codec, score = make("score", infill=True), random_score(seed, 120)
    score = codec.decode(codec.encode(score)).replace(tempo=score.tempo[:0])
    v, bars, tracks = codec.vocabulary, codec.bars(score), range(len(codec.layout(score).tracks))
    plain = codec.encode(score)
    starts = np.append(codec.bar_starts(plain, bars), len(plain) - 1)
    music = [v.index[k] for k in ("position", "track", "pitch", "long", "duration")]
    for bar in range(0, bars, 3):
        ids = codec.encode(score, holes=[(bar, track) for track in tracks])
        answer = ids[np.argmax(ids == v.id("fill")) :]
        written = plain[starts[bar] : starts[bar + 1]]
        if bar == 0:  # position 0 states the tempo there
            written = written[np.flatnonzero(v.kind[written] == v.index["fine"])[0] + 1 :]
            answer = answer[answer != v.id("position", 0)]
        a, b = (x[np.isin(v.kind[x], music)] for x in (answer, written))
        named = v.kind[b] == v.index["track"]
        if not named.any() or np.argmax(named) > np.argmax(v.kind[b] == v.index["pitch"]):  # went on in its track
            a = np.delete(a, np.argmax(v.kind[a] == v.index["track"])) if len(a) else a
        assert np.array_equal(a, b)


def test_every_hole_is_answered_whatever_ids_are_left():
    score = Score(notes=[(0, 480, 0, 60, 64), (1920, 480, 1, 62, 64)], tracks=[(0, False), (1, False)])
    begin = FULL.encode(score, holes=[(0, 0), (0, 1), (1, 0)])
    begin = begin[: np.argmax(begin == FULL.vocabulary.id("fill"))]
    for ids in walk(FULL, np.random.default_rng(0), 600, np.arange(600) % 30 + 5, True, begin):
        FULL.decode(ids).check()
        bars = {bar for bar, _ in FULL.holes(ids)}  # those of the walk too
        assert ids[-1] == FULL.vocabulary.id("end") and (ids == FULL.vocabulary.id("filled")).sum() == len(bars) >= 2


def sides_of(ids, notes):
    """[(last, next, coming)] of each id of the answers, told note by note; `notes`: (bar, track, pitch) of the piece."""
    v, told, answered, written = FULL.vocabulary, [], [], -1
    holes, at = FULL.holes(ids), np.argmax(ids == v.id("fill"))
    bars, number, track = sorted({bar for bar, _ in holes}), -1, None
    for token in ids[at:]:
        kind, value = v.kinds[v.kind[token]][0], v.value[token]
        number, track = (number + 1, None) if kind == "fill" else (number, value if kind == "track" else track)
        if kind == "pitch":
            answered.append((bars[number], track, value))
        written = -1 if kind in ("fill", "position") else track if kind in ("track", "pitch") else written
        before = [n for n in notes if n[0] <= bars[number]] + answered
        before = sorted((n for n in before if n[1] == track), key=lambda n: n[0])
        behind = [n[2] for n in notes if n[1] == track and n[0] > bars[number]]
        filling = kind not in ("filled", "end")
        coming = [t for bar, t in holes if bar == bars[number] and t > written and filling]
        told.append((before[-1][2] if before else 128, behind[0] if behind and filling else 128, min(coming, default=16)))
    return told


@pytest.mark.parametrize("seed", range(30))
def test_answers_are_told_the_pitches_on_both_sides_and_the_track_to_come(seed):
    score, v = random_score(seed, 150), FULL.vocabulary
    cells = some_cells(FULL, score, seed, (0.1, 0.3, 0.6)[seed % 3])
    if not cells:
        return
    ids = FULL.encode(score, holes=cells)
    fill, notes, bar, track = np.argmax(ids == v.id("fill")), [], -1, None
    for token in ids[:fill]:
        kind, value = v.kinds[v.kind[token]][0], v.value[token]
        bar, track = bar + (kind == "bar"), value if kind == "track" else track
        if kind == "pitch":
            notes.append((bar, track, value))
    features = FULL.features(ids)
    told = (features[name][fill:].tolist() for name in ("last", "next", "coming"))
    assert list(zip(*told, strict=True)) == sides_of(ids, notes)
    assert (features["next"][:fill] == 128).all() and (features["coming"][:fill] == 16).all()


@pytest.mark.parametrize("seed", range(8))
def test_the_time_elapsed_at_a_pitch_is_where_its_note_begins(seed):
    score = random_score(seed, 150)
    for codec in CODECS:
        ids, layout = codec.encode(score, holes=some_cells(codec, score, seed)), codec.layout(score)
        elapsed = codec.features(ids)["elapsed"][codec.vocabulary.kind[ids] == codec.vocabulary.index["pitch"]]
        assert np.array_equal(np.sort(elapsed), layout.note["at"] - layout.lines[0])


def test_an_answer_that_meets_the_piece_ends_on_the_grid():
    names = ["start", "program 0", "bar", "meter 7", "hole 0", "position 0", "coarse 35", "fine 121", "bar", "position 2",
             "track 0", "pitch 60", "velocity 10", "micro 16", "duration 5",
             "fill", "position 90", "track 0", "pitch 60", "duration 74", "filled", "end"]  # fmt: skip
    number = {FULL.vocabulary.name(i): i for i in range(len(FULL.vocabulary))}
    score = FULL.decode([number[name] for name in names])
    assert score.duration.tolist() == [(96 + 2 - 90) * UNIT, 6 * UNIT]  # not to the tick where the next begins
    assert FULL.decode(FULL.encode(score, holes=[(0, 0)])) == score


def test_impossible_holes_and_controls_are_refused():
    score = random_score(3)
    bars, tracks = FULL.bars(score), len(FULL.layout(score).tracks)
    for cell in ((bars, 0), (0, tracks), (-1, 0)):
        with pytest.raises(ValueError, match="hole"):
            FULL.encode(score, (0, bars), holes=[cell])
    last = FULL.encode(score, holes=[(bars, 0)])  # a bar behind the piece, to be written
    assert (last == FULL.vocabulary.id("bar")).sum() == bars + 1
    with pytest.raises(ValueError, match="129 bars with holes are more than 128"):
        FULL.encode(long_piece(), holes=[(bar, 0) for bar in range(129)])
    with pytest.raises(UserError, match="mood.*0..4"):
        FULL.encode(score.replace(meta={"mood": "5"}))
    for controls in ((("pitch", 3),), (("hole", 2),), (("pedal", 2),), (("a", 3), ("a", 4)), (("a", 0),), ("a",)):
        with pytest.raises(UserError, match="controls"):
            make("score", controls=controls)


def test_keys_chords_and_pedals_are_in_force_where_a_window_begins():
    score = Score(480, notes=[(t * 480, 480, 0, 60, 80) for t in range(16)], tracks=[(0, False)],
                  key=[(0, -3, True)], texts=[(480, "marker", "Cm7"), (3000, "marker", "N.C."), (6000, "marker", "F7")],
                  controls=[(100, 0, 0, 64, 127), (2500, 0, 0, 64, 0), (6000, 0, 0, 64, 70)])  # fmt: skip
    v, codec = FULL.vocabulary, FULL
    names = [v.names(codec.encode(score, (bar, bar + 1))) for bar in range(4)]
    stated = [[n for n in row if n.split()[0] in ("key", "chord", "pedal")] for row in names]
    c, f = (12 * 0 + QUALITIES.index("min7"), 5 * len(QUALITIES) + QUALITIES.index("7"))
    no_chord = v.size("chord") - 1
    assert stated == [
        ["key 19", "pedal 1", f"chord {c}"],
        ["key 19", f"chord {c}", "pedal 1", "pedal 0", f"chord {no_chord}"],
        ["key 19"],
        ["key 19", f"chord {f}", "pedal 1"],
    ]
    report = codec.loss_report(score)
    assert [report[k] for k in ("keys", "texts", "pedals", "controls", "basses")] == [0] * 5
    assert [make("score").loss_report(score)[k] for k in ("keys", "texts", "pedals")] == [1, 3, 3]
    up = codec.encode(augment.apply(score, (("transpose", 2),)), (0, 1))
    assert [n for n in v.names(up) if n.startswith("chord")] == [f"chord {c + 2 * len(QUALITIES)}"]
    back = codec.decode(codec.encode(score))
    assert back.key.tolist() == score.key.tolist() and back.controls["value"].tolist() == [127, 0, 127]
    assert chords.of(back)["root"].tolist() == [0, -1, 5]


@every
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
    late = []
    for score in (long_piece(), *(random_score(s) for s in range(40))):
        last = int(score.end / score.resolution * 24) + 1
        written = tempi.write(score, 24, last)
        at, step = np.array(written).T
        start = np.append(0, np.cumsum(np.diff(at) * tempi.USEC[step[:-1]]))
        where = np.arange(last + 1)
        i = np.searchsorted(at, where, "right") - 1
        clock = (start[i] + (where - at[i]) * tempi.USEC[step[i]]) / 24e6
        error = np.abs(clock - score.seconds(where * score.resolution / 24))
        assert (step[1:] != step[:-1]).all()
        if score.tempo["usec"].min(initial=500_000) >= 120_000:  # the fastest tempo that can be written
            assert error.max() <= 0.005 + 0.002  # what tempi that change between two positions may add
            micro = CODECS[1]
            kept, back = score.notes[micro.layout(score).kept], micro.decode(micro.encode(score))
            late.append(np.abs(back.seconds(back.onset) - score.seconds(kept["onset"])) > 0.01)
    assert np.concatenate(late).mean() <= 0.001  # notes within a position in which the tempo changes


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


@pytest.mark.parametrize("first", [1, 16_777_215])
def test_a_clock_far_off_is_led_back(first):
    codec = CODECS[0]
    score = Score(1, notes=[(500, 1, 0, 60, 64)], tracks=[(0, False)], tempo=[(0, first), (200, 500_000)])
    back = codec.decode(codec.encode(score))  # no tempo of the codec is as fast or as slow
    assert len(back) == 1
    assert np.array_equal(codec.encode(back), codec.encode(score))


@pytest.mark.parametrize("ids", [
    [], ["bar 0"], ["start", "pitch 60"], ["start", "bar"], ["start", "bar", "meter 7", "position 0", "coarse 9"],
    ["start", "bar", "meter 7", "position 0", "duration 3"], ["start", "program 0", "pitch 60", "duration 3"],
    ["start", "program 0", "bar", "meter 7", "position 0", "track 1", "pitch 60", "velocity 9", "duration 3"],
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
    assert close / notes >= 0.9999
    assert far == 0
