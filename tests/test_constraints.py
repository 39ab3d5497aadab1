"""Constraints: what random weights write under them keeps to them, as told by code that reads the score alone."""

import jax
import jax.numpy as jnp
import keeping
import numpy as np
import pytest
from demands import CHANGES, MAJOR, SECONDS, crowded, draw, exact

from aurljax import mesh as meshes
from aurljax import params
from aurljax.decode import constraints as c
from aurljax.decode import loop
from aurljax.decode.constraints import exact as exact_length
from aurljax.decode.constraints.replay import Replay
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.music.codec import make
from aurljax.music.score import Score

CODEC = make("score")
MICRO = make("score", microtiming=True, pedal=True, keys=True, chords=True)
ROWS = 128


def stacked(rows):
    """Registers of rows, each with constraints of its own."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def config(codec):
    return DecoderConfig(vocab=len(codec.vocabulary), features=tuple(codec.feature_sizes.items()), d_model=16, layers=1,
                         heads=2, kv_heads=1, d_ff=32)  # fmt: skip


def generate(codec, asked, most, bars=None, seconds=None, seed=0):
    """ids of rows, each under its own constraints, from random weights at temperature 2."""
    batch = len(asked)
    prompt = np.array([codec.vocabulary.id("start")], np.int32)
    plan = loop.Plan(DECODER, config(codec), codec, Sampler(temperature=2.0), most, 1, c.kinds(asked[0]))
    weights = params.init(DECODER.spec(config(codec)), jax.random.key(seed))
    ids, start = loop.left_padded([prompt] * batch)
    limits = loop.limits(batch, None, None, False)
    limits = (limits[0] if bars is None else np.array(bars, np.int32),
              limits[1] if seconds is None else np.array(seconds, np.float32))  # fmt: skip
    registers = stacked([c.registers(codec, row, 1) for row in asked])
    keys = jax.random.split(jax.random.key(seed + 1), batch)
    return np.asarray(loop.generate(plan, weights, ids, start, keys, *limits, asked=registers)), limits


def legal(codec, mix, rows, most, seed):
    """How many of the rows were cut short, by length and by the constraints; all decode, and keep what is asked."""
    rng = np.random.default_rng(seed)
    with meshes.use(meshes.make()):
        drawn = [mix(rng, draw(rng)) for _ in range(rows)]
        timed = len(drawn[0]) == 3
        asked = [d[0] for d in drawn]
        bars = [2**30 if d[2] is None else d[2] for d in drawn] if timed else None
        seconds = [SECONDS if d[2] is None else np.inf for d in drawn] if timed else None
        new, _ = generate(codec, asked, most, bars, seconds, seed)
    start, end, full, stuck = codec.vocabulary.id("start"), codec.vocabulary.id("end"), 0, 0
    for row, (constraints, checks, *_) in zip(new, drawn, strict=True):
        ids = np.append(start, row[: np.count_nonzero(row)])
        full += len(ids) > most
        if ids[-1] != end:
            stuck += 1
            continue
        score = codec.decode(ids)
        score.check()
        assert np.array_equal(codec.encode(score), ids)
        count = int((ids == codec.vocabulary.id("bar")).sum())
        for name, keeps in checks.items():
            assert keeps(score, count) if name == "Density" else keeps(score), (name, *map(str, constraints))
    return full, stuck


MIXES = {"plain": lambda rng, d: d[:2], "crowded": crowded, "exact": exact}


def test_random_weights_keep_to_what_is_asked():
    full, stuck = legal(MICRO, MIXES["crowded"], ROWS, 64, seed=1)
    assert stuck == 0 and full > 0


def test_random_weights_keep_to_an_exact_length():
    assert legal(CODEC, MIXES["exact"], ROWS, 128, seed=3)[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("codec", [CODEC, MICRO], ids=["bare", "all"])
@pytest.mark.parametrize("mix", MIXES)
def test_ten_thousand_pieces(codec, mix):
    for seed in range(10):
        assert legal(codec, MIXES[mix], 170, 160, seed)[1] == 0


# --- the same in numpy and in jax, alone and in a batch ---------------------------------------------------------------


@pytest.fixture(scope="module")
def written():
    """(constraints, limits, ids [B, T] with the prompt) of rows under everything there is."""
    rng = np.random.default_rng(3)
    drawn = [exact(rng, draw(rng)) for _ in range(ROWS)]
    asked = [d[0] for d in drawn]
    bars = [2**30 if d[2] is None else d[2] for d in drawn]
    seconds = [SECONDS if d[2] is None else np.inf for d in drawn]
    with meshes.use(meshes.make()):
        new, limits = generate(CODEC, asked, 128, bars, seconds, seed=3)
    return asked, limits, np.pad(new, ((0, 0), (1, 0)), constant_values=CODEC.vocabulary.id("start"))


def test_the_interpreter_agrees_with_the_automaton(written):
    asked, limits, ids = written[0][:8], [x[:8] for x in written[1]], written[2][:8]
    grammar, rules = CODEC.grammar, c.rules(CODEC, c.kinds(asked[0]))
    s, r = grammar.init(len(asked)), stacked([c.registers(CODEC, row, 1) for row in asked])

    @jax.jit
    def automaton(s, r, logits, id):
        masks = rules.allowed(s, r, jnp), rules.penalised(s, r, logits, jnp)
        return *masks, rules.advance(s, r, id, jnp), rules.begin(s, r, jnp)

    logits = np.zeros((len(asked), len(CODEC.vocabulary)), np.float32)
    for i, id in enumerate(ids.T):
        if i == 1:
            s |= {"left": np.full(len(asked), 128, np.int32), "bars_left": limits[0], "seconds": limits[1]}
            r = rules.begin(s, r)
        legal, priced, then, begun = automaton(s, r, logits, id)
        assert np.array_equal(legal, rules.allowed(s, r))
        np.testing.assert_allclose(priced, rules.penalised(s, r, logits), atol=1e-5)
        ours = rules.advance(s, r, id)
        for mine, theirs in ((ours, then), (rules.begin(s, r), begun)):
            assert mine.keys() == theirs.keys()
            assert all(np.array_equal(mine[k], theirs[k]) and mine[k].dtype == theirs[k].dtype for k in mine)
        live = s["phase"] != grammar.phase.done
        assert (grammar.allowed(s) & legal)[live, id[live]].all()
        s, r = grammar.advance(s, id), ours


def test_a_row_is_the_same_whatever_is_asked_of_others(written):
    asked, limits, ids = written
    keys, turned = jax.random.split(jax.random.key(4), ROWS), np.roll(np.arange(ROWS), 1)
    with meshes.use(meshes.make()):
        plan = loop.Plan(DECODER, config(CODEC), CODEC, Sampler(temperature=2.0), 128, 1, c.kinds(asked[0]))
        weights = params.init(DECODER.spec(config(CODEC)), jax.random.key(3))
        registers = stacked([c.registers(CODEC, asked[i], 1) for i in turned])
        again = loop.generate(plan, weights, ids[:, :1], np.zeros(ROWS, np.int32), keys[turned],
                              *(x[turned] for x in limits), asked=registers)  # fmt: skip
    assert np.array_equal(again, ids[turned, 1:])


# --- nothing lawful is refused, and what is not is found ----------------------------------------------------------------


def piece(seed):
    """Three tracks, drums one of them, in 3/4 at 90, on the grid; every bar has notes."""
    rng = np.random.default_rng(seed)
    scale = [p for p in range(48, 84) if p % 12 in MAJOR]
    notes = []
    for bar in range(4):
        for at in np.sort(rng.choice(72, int(rng.integers(2, 7)), replace=False)):
            track = int(rng.integers(0, 3))
            pitch = int(rng.choice(scale)) if track < 2 else int(rng.integers(35, 50))
            notes.append((1440 * bar + 20 * int(at), 20 * int(rng.integers(1, 60)), track, pitch, 80))
    return Score(480, notes=notes, tracks=[(0, False), (40, False), (0, True)], meter=[(0, 3, 4)],
                 tempo=[(0, 666_667)]).repaired()[0]  # fmt: skip


def measured(score):
    """Constraints that the score just keeps."""
    every, own = keeping.most_at_once(score)
    pitched = score.pitch[~score.is_drum]
    counts = keeping.notes_of_bars(score, 4)
    return {
        "key": c.Key("C major"),
        "range": c.Range(int(pitched.min()), int(pitched.max())),
        "polyphony": c.Polyphony(int(every)),
        "track polyphony": c.TrackPolyphony(int(own)),
        "longest": c.Longest(keeping.longest(score) / 24),
        "density": c.Density(int(counts.min()), int(counts.max())),
        "meter": c.Meter(((3, 4),)),
        "tempo": c.Tempo(90, 90),
        "programs": c.Programs((0, 40, 128)),
        "tracks": c.Tracks(3, 3),
    }


def tighter(constraint):
    """The same, such that the score that was measured breaks it."""
    match constraint:
        case c.Key():
            return c.Key("F# major")
        case c.Range(low, high):
            return c.Range(low + 1, high)
        case c.Polyphony(n):
            return c.Polyphony(n - 1)
        case c.TrackPolyphony(n):
            return c.TrackPolyphony(n - 1) if n > 1 else None
        case c.Longest(q):
            return c.Longest(q - 1 / 24)
        case c.Density(low, high):
            return c.Density(low, high - 1) if high > low else c.Density(low + 1, high + 1)
        case c.Meter():
            return c.Meter(((4, 4),))
        case c.Tempo():
            return c.Tempo(91, 95)
        case c.Programs():
            return c.Programs((0, 40))
        case c.Tracks():
            return c.Tracks(0, 2)


@pytest.mark.parametrize("seed", range(6))
def test_a_prompt_that_keeps_them_is_taken_and_one_that_does_not_is_told(seed):
    score = piece(seed)
    prompt, limits = CODEC.opening(score)[0], (500, 2**30, np.inf)
    found = measured(score)
    c.check(CODEC, list(found.values()), prompt, limits)
    for name, constraint in found.items():
        if (less := tighter(constraint)) is not None:
            with pytest.raises(UserError, match=f"prompt: bar [1-4] breaks {name}"):
                c.check(CODEC, [less], prompt, limits)


@pytest.mark.parametrize(("asked", "guilty"), [
    ([c.Polyphony(1)], "polyphony 1"), ([c.TrackPolyphony(1), c.Tracks(1)], "track polyphony 1"),
    ([c.Polyphony(1), c.Density(2, 9)], "polyphony 1"), ([c.Polyphony(1), c.Exact()], "polyphony 1"),
])  # fmt: skip
def test_a_prompt_that_sounds_on_where_nothing_else_may_is_told(asked, guilty):
    """And not that ids are too few, unless they are."""
    score = Score(480, notes=[(0, 480, 0, 60, 64), (480, 6000, 0, 62, 64)], tracks=[(0, False)])
    prompt = CODEC.opening(score)[0]
    words = f"prompt: its notes sound through bar 2, and no other may begin under {guilty}; allow more at once, or end"
    with pytest.raises(UserError, match=words):
        c.check(CODEC, asked, prompt, (500, 2, np.inf))
    c.check(CODEC, [c.Polyphony(2)], prompt, (500, 2, np.inf))
    shorter = score.notes.copy()
    shorter["duration"][1] = 2000
    prompt = CODEC.opening(score.replace(notes=shorter))[0]
    c.check(CODEC, asked, prompt, (500, 2, np.inf))
    with pytest.raises(UserError, match="the 1 ids there is room for do not suffice"):
        c.check(CODEC, asked, prompt, (1, 2, np.inf))


class Silence(c.Constraint):
    """Nothing may begin behind a prompt."""

    def __str__(self):
        return "silence"

    @staticmethod
    def ids(now, xp):
        return {kind: xp.zeros((1, 1), bool) for kind in ("bar", "meter", "position", "end")}


def test_what_lets_nothing_follow_is_told_whatever_the_room():
    prompt = CODEC.opening(Score(480, notes=[(0, 480, 0, 60, 64)], tracks=[(0, False)]))[0]
    with pytest.raises(UserError, match="^silence: nothing may follow in bar 2; loosen it, or give another prompt"):
        c.check(CODEC, [Silence(), c.Density(1)], prompt, (500, 2, np.inf))


def walk(asked, prompt, most, seed, codec=CODEC, bars=2**30):
    """Ids drawn evenly from the kinds that may follow, and of a kind evenly."""
    at, rng, kind = Replay(codec, asked), np.random.default_rng(seed), codec.vocabulary.kind
    for id in prompt.tolist():
        at.read(id)
    at.begin((most, bars, np.inf))
    ids = prompt.tolist()
    while ids[-1] != codec.vocabulary.id("end"):
        open_ = np.flatnonzero(at.allowed(asked))
        ids.append(int(rng.choice(open_[kind[open_] == rng.choice(np.unique(kind[open_]))])))
        at.read(ids[-1])
    return ids


def test_chords_begin_with_the_first_new_bar():
    score = piece(1)
    asked, (prompt, begun) = [c.Chords("F# | C#"), c.Tempo(90, 90), c.Density(1)], CODEC.opening(score)
    assert begun
    for seed in range(4):
        whole = CODEC.decode(walk(asked, prompt, 64, seed))
        later = whole.replace(notes=whole.notes[whole.onset >= 4 * 1440], meter=whole.meters[:1])
        cut = later.notes.copy()
        cut["onset"] -= 4 * 1440
        meter = [(max(int(m["tick"]) - 4 * 1440, 0), int(m["numerator"]), int(m["denominator"])) for m in whole.meter]
        assert keeping.keeps_chords(later.replace(notes=cut, meter=meter), [["F#"], ["C#"]])


def test_holes_are_answered_within_what_is_asked():
    codec, score = make("score", infill=True), piece(2)
    prompt, fill = codec.encode(score, holes=[(1, 0), (2, 1)]), codec.vocabulary.id("fill")
    prompt = prompt[: np.argmax(prompt == fill) + 1]
    locked = len(codec.decode(prompt))
    found = 0
    for seed in range(12):
        score = codec.decode(walk([c.Range(60, 66), c.Chords("C | Am F")], prompt, 60, seed, codec))
        score.check()
        bar, n = score.onset // 1440, score.notes
        answers = n[((bar == 1) & (n["track"] == 0)) | ((bar == 2) & (n["track"] == 1))]
        assert len(answers) == len(score) - locked
        found += len(answers)
        filled = score.replace(notes=answers)
        assert keeping.keeps_range(filled, 60, 66) and keeping.keeps_chords(filled, [["C"], ["Am", "F"]])
    assert found >= 12
    with pytest.raises(UserError, match="density 0-9: it cannot be kept while masked bars are filled in"):
        c.check(codec, [c.Density(0, 9)], prompt, (60, 2**30, np.inf))


@pytest.mark.parametrize("options", [{}, {"onsets": True}, {"barlines": False}], ids=str)
def test_voices_keep_to_what_is_asked(options):
    codec = make("voices", **options)
    asked = [c.Key("C major", 0.1), c.Range(55, 70)]
    asked += [c.Meter(((3, 4),)), c.Tempo(88, 100)] if codec.barlines else []
    for seed in range(6):
        score = codec.decode(walk(asked, np.array([codec.vocabulary.id("start")]), 120, seed, codec))
        score.check()
        assert keeping.keeps_key(score, MAJOR, 0.1) and keeping.keeps_range(score, 55, 70)
        assert keeping.keeps_tempo(score, 88, 100) and keeping.keeps_meter(score, {(3, 4)})
    with pytest.raises(UserError, match="it can keep Chords, Density, Exact, Key, Longest, Meter, Polyphony, Range, Tempo"):
        c.registers(codec, [c.Programs((0,))], 1)


# --- ends, prices, contradictions ---------------------------------------------------------------------------------------


class Hush(c.Constraint):
    """Nothing may begin from the third bar on, of which no look ahead knows."""

    def __str__(self):
        return "hush"

    @staticmethod
    def tones(now, xp):
        return xp.broadcast_to((now.s["bar"] < 2)[:, None, None], (len(now.here), 1, 13))


def test_where_nothing_may_follow_the_row_ends_and_says_why():
    asked = [c.Density(2, 5), Hush()]
    with meshes.use(meshes.make()):
        new, limits = generate(CODEC, [asked] * 32, 400, bars=[8] * 32)
    start, end = np.array([CODEC.vocabulary.id("start")], np.int32), CODEC.vocabulary.id("end")
    scores = c.decoded(CODEC, asked, [start] * 32, new, [400] * 32, limits)
    stopped = [(row, score) for row, score in zip(new, scores, strict=True) if end not in row]
    assert len(stopped) >= 3
    for row, score in stopped:
        assert score.meta["ended"] == "bar 3: nothing may follow under density 2-5 and hush"
        written = np.append(start, row[: np.count_nonzero(row)])
        ids = CODEC.encode(score)
        assert ids[-1] == end and np.array_equal(ids[:-1], written[: len(ids) - 1])
        score.check()
        assert keeping.notes_of_bars(score, 2).min() >= 2
    assert all("ended" not in s.meta for row, s in zip(new, scores, strict=True) if end in row)


def test_prices_are_those_of_the_leaps_and_parallels_there_are():
    v = CODEC.vocabulary
    asked = [c.Leap(4, price=3.0), c.Parallels(price=2.0)]
    at = Replay(CODEC, asked)
    text = ["start", "program 0", "program 0", "bar", "meter 7", "position 0", "coarse 35", "fine 0", "track 0",
            "pitch 60", "velocity 20", "duration 5", "track 1", "pitch 67", "velocity 20", "duration 5", "position 24",
            "track 0", "pitch 62", "duration 5", "track 1"]  # fmt: skip
    names = {v.name(i): i for i in range(len(v))}
    for name in text:
        at.read(names[name])
    charged = -at.rules.penalised(at.s, at.r, np.zeros((1, len(v)), np.float32))[0]
    want = np.zeros(len(v))
    for pitch in range(128):
        want[v.id("pitch", pitch)] = 3.0 * (abs(pitch - 67) > 4) + 2.0 * (pitch > 67 and abs(pitch - 62) % 12 == 7)
    assert np.array_equal(charged, want)
    assert charged[v.id("pitch", 69)] == 2.0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([c.Key("C major"), c.Chords("C | F#")], "key C major and chords C | F#: no tone of F#"),
        ([c.Key("C major"), c.Range(61, 61)], "range 61-61 and key C major: 61-61 has no pitch of the key"),
        ([c.Chords("G7"), c.Range(60, 61), c.Key("C major")], "and key C major and chords G7: 60-61 has no pitch"),
        ([c.Density(8, 16), c.Meter(((1, 16),))], "density 8-16 and meter 1/16: a bar of 1/16 has only 6 positions"),
        ([c.Exact()], "give bars or seconds"),
        ([c.Density(1), c.Tracks(0, 0)], "without a track"),
    ],
)  # fmt: skip
def test_contradictions_are_found_before_anything_is_sampled(asked, told):
    with pytest.raises(UserError) as error:
        c.refuse(asked, asked=False)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("make_it", "told"),
    [
        (lambda: c.Key("H minor"), "'H minor' is no key"),
        (lambda: c.Key("C", 2), "passing"),
        (lambda: c.Chords("C | Hm"), "'Hm' is no known chord symbol"),
        (lambda: c.Chords("C | | F"), "bar 2 of 'C | | F' is empty"),
        (lambda: c.Range(70, 60), "range: 70-60"),
        (lambda: c.Polyphony(0), "polyphony: 0"),
        (lambda: c.Longest(0), "longest: 0"),
        (lambda: c.Density(5, 2), "density: 5-2"),
        (lambda: c.Tempo(5, 5), "tempo: 5-5"),
        (lambda: c.Programs((200,)), "programs"),
        (lambda: c.registers(CODEC, [c.Meter(((33, 8),))], 1), "the codec 'score' has no 33/8"),
        (lambda: c.registers(CODEC, [c.Longest(1), c.Longest(2)], 1), "Longest is given twice"),
        (lambda: c.registers(make("event"), [c.Density(1)], 1), "the codec 'event' of this model cannot keep"),
    ],
)
def test_what_cannot_be_is_refused(make_it, told):
    with pytest.raises(UserError) as error:
        make_it()
    assert told in str(error.value)


@pytest.mark.parametrize(("bars", "notes"), [(1, 0), (3, 0), (3, 4), (8, 4)])
def test_more_bars_than_there_is_room_for_are_refused(bars, notes):
    start, asked = np.array([CODEC.vocabulary.id("start")]), [c.Exact(), *[c.Density(notes, 9)] * (notes > 0)]
    needed = exact_length.at_least(bars, notes)
    c.check(CODEC, asked, start, (needed, bars, np.inf))
    with pytest.raises(UserError, match=f"the {needed - 1} ids there is room for do not suffice; {needed} are needed"):
        c.check(CODEC, asked, start, (needed - 1, bars, np.inf))
    for seed in range(4):  # what suffices does so whatever is drawn
        ids = np.array(walk(asked, start, needed + 3, seed, bars=bars))
        assert (ids == CODEC.vocabulary.id("bar")).sum() == bars and len(ids) <= needed + 4


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_command_line_says_the_same():
    import argparse

    from aurljax.decode import asking

    parser = argparse.ArgumentParser()
    asking.add(parser)
    text = ["--key", "D minor", "--passing", "0.1", "--chords", CHANGES, "--range", "C2-C6", "--range", "drums=35-50",
            "--programs", "0,drums", "--tracks", "2-4", "--polyphony", "6", "--track-polyphony", "2", "--longest", "1.5",
            "--density", "2-16", "--meter", "3/4,6/8", "--tempo", "90", "--leap", "9", "--exact",
            "--avoid-parallels"]  # fmt: skip
    assert set(asking.parse(parser.parse_args(text))) == {
        c.Key("D minor", 0.1), c.Chords(CHANGES), c.Range(36, 84, ((128, 35, 50),)), c.Programs((0, 128)),
        c.Tracks(2, 4), c.Polyphony(6), c.TrackPolyphony(2), c.Longest(1.5), c.Density(2, 16),
        c.Meter(((3, 4), (6, 8))), c.Tempo(90, 90), c.Leap(9), c.Exact(), c.Parallels(),
    }  # fmt: skip
    assert asking.parse(parser.parse_args([])) == []
    text = ["--chords", CHANGES, "--chord-seconds", "2", "--longest", "1.5s"]
    assert asking.parse(parser.parse_args(text)) == [c.Chords(CHANGES, 2.0), c.Longest(seconds=1.5)]
    for wrong, told in (("--range=x-3", "--range x"), ("--tempo=fast", "--tempo fast"), ("--density=2-", "--density 2-"),
                        ("--meter=3", "--meter 3"), ("--passing=0.1", "--passing"), ("--longest=s", "--longest"),
                        ("--chord-seconds=2", "--chord-seconds")):  # fmt: skip
        with pytest.raises(UserError, match=told):
            asking.parse(parser.parse_args([wrong]))


def test_what_is_not_understood_ends_the_command(tmp_path, capsys):
    from aurljax.cli import main

    assert main(["generate", "--checkpoint", "none", "--out", str(tmp_path / "out"), "--key", "Q"]) == 2
    assert "'Q' is no key" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_constraints_there_are_no_registers_even_without_a_codec():
    assert c.registers(None, [], 4) == {}
