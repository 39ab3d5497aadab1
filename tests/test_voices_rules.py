"""Constraints on `voices`: random walks under all at once keep to each, as told by code that reads the score alone."""

import keeping
import numpy as np
import pytest
import walking

from aurljax.decode import constraints as c
from aurljax.errors import UserError
from aurljax.music.codec import make

MAJOR = {0, 2, 4, 5, 7, 9, 11}
CHANGES, BARS = "C | Am F | G7 | %", [["C"], ["Am", "F"], ["G7"], ["G7"]]
METERS = ((2, 4), (3, 4), (1, 16))
OPEN = 2**30
ROWS = 40


def draw(rng, codec):
    """(constraints of every kind, {name: whether a score of so many bars keeps to it}): loose, where one is left out."""
    maybe = walking.Drawn(rng)
    share, low, span = float(rng.choice([0, 0.1])), int(rng.integers(40, 60)), int(rng.integers(12, 30))
    voices, few, long = int(rng.integers(1, 4)), int(rng.integers(0, 4)), float(rng.choice([0.25, 0.5, 1, 4]))
    many, tempo = few + int(rng.integers(1, 6)), float(rng.uniform(40, 200))
    maybe(c.Key, ("C major", share), ("C chromatic",), lambda x, n: keeping.keeps_key(x, MAJOR, share))
    maybe(c.Chords, (CHANGES,), ("N.C. N.C.",), lambda x, n: keeping.keeps_chords(x, BARS))
    maybe(c.Range, (low, low + span), (), lambda x, n: keeping.keeps_range(x, low, low + span))
    maybe(c.Polyphony, (voices,), (9,), lambda x, n: keeping.most_at_once(x)[0] <= voices)
    maybe(c.Longest, (long,), (64,), lambda x, n: keeping.longest(x) <= 24 * long)
    if codec.barlines:
        few *= voices  # is at most what the shortest bar that may be drawn can hold where all are sung
        band = few, few + many
        maybe(c.Density, band, (), lambda x, n: all(band[0] <= k <= band[1] for k in keeping.notes_of_bars(x, n)))
        maybe(c.Meter, (METERS,), (codec.meters.table,), lambda x, n: keeping.keeps_meter(x, set(METERS)))
        maybe(c.Tempo, (tempo, tempo * 1.2), (15, 460), lambda x, n: keeping.keeps_tempo(x, tempo, tempo * 1.2))
    return maybe.asked, maybe.checks


def bars_of(codec, ids):
    return int((ids == codec.vocabulary.id("bar")).sum()) if codec.barlines else 0


CODECS = {"bare": {}, "onsets": {"onsets": True}, "frames": {"barlines": False}, "duet": {"voices": 2, "onsets": True}}


@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_walks_keep_to_what_is_asked(options):
    codec, rng = make("voices", **options), np.random.default_rng(5)
    drawn = [draw(rng, codec) for _ in range(ROWS)]
    limits = [(int(rng.integers(80, 300)), int(rng.integers(1, 9)), float(rng.choice([4, np.inf]))) for _ in drawn]
    walked = walking.walks(codec, [d[0] for d in drawn], limits, seed=1)
    assert max(map(len, walked)) > 100
    for ids, (asked, checks) in zip(walked, drawn, strict=True):
        score = codec.decode(ids)
        score.check()
        assert np.array_equal(codec.encode(score), ids)
        for name, keeps in checks.items():
            assert keeps(score, bars_of(codec, ids)), (name, *map(str, asked))


def ends_at(codec, score, bars, seconds):
    """Whether it is exactly so many bars long, or the fewest bars (or frames) that reach the seconds."""
    end = max(e for _, e, *_ in keeping.spans(score))
    lines = keeping.bar_lines(score, end) if codec.barlines else np.arange(0, end + 1, 24 // codec.grid)
    if bars < OPEN:
        return len(lines) == bars + 1 if codec.barlines else end == 96 * bars
    clock, slack = score.seconds(lines * 20), 0.02
    return clock[-1] >= seconds - slack and clock[-2] < seconds + slack


@pytest.mark.parametrize("options", CODECS.values(), ids=CODECS)
def test_walks_are_of_exactly_the_length_asked_for(options):
    codec, rng = make("voices", **options), np.random.default_rng(8)
    drawn, limits = [draw(rng, codec) for _ in range(ROWS)], []
    asked = [[*d[0], c.Exact()] for d in drawn]
    for row in asked:
        bars, seconds = (int(rng.integers(1, 4)), np.inf) if rng.random() < 0.5 else (OPEN, float(rng.uniform(0.3, 4)))
        few = walking.enough(codec, row, bars, seconds)
        limits.append((few + int(rng.choice([0, 1, 5, 100])), bars, seconds))
    walked = walking.walks(codec, asked, limits, seed=2, compare=8)
    for ids, (_, checks), (left, bars, seconds), row in zip(walked, drawn, limits, asked, strict=True):
        score = codec.decode(ids)
        assert len(ids) <= left + 1
        assert np.array_equal(codec.encode(score), ids)
        assert ends_at(codec, score, bars, seconds), [*map(str, row)]
        for name, keeps in checks.items():
            assert keeps(score, bars_of(codec, ids)), (name, *map(str, row))


def test_each_holds_alone():
    codec = make("voices", voices=3)
    every = {type(x): x for x in draw(np.random.default_rng(2), codec)[0]} | {c.Exact: c.Exact()}
    for kind, constraint in every.items():
        limits = [(200, 2, np.inf)] * 4
        assert len(walking.walks(codec, [[constraint]] * 4, limits, seed=3)) == 4, kind


# --- prompts ----------------------------------------------------------------------------------------------------------


def piece(codec, bars, seed):
    """A piece of so many bars, in 3/4 at about 90 and C major, in which no frame has more than two voices."""
    asked = [c.Key("C major"), c.Polyphony(2), c.Meter(((3, 4),)), c.Tempo(88, 92), c.Density(3, 12), c.Longest(1)]
    return codec.decode(walking.walks(codec, [[*asked, c.Exact()]], [(999, bars, np.inf)], seed)[0])


@pytest.mark.parametrize("onsets", [False, True])
def test_a_prompt_that_keeps_them_is_taken_and_one_that_does_not_is_told(onsets):
    codec = make("voices", onsets=onsets)
    score, limits = piece(codec, 4, seed=4), (500, 8, np.inf)
    prompt, counts = codec.opening(score)[0], keeping.notes_of_bars(score, 4)
    low, high, most = int(counts.min()), int(counts.max()), int(keeping.most_at_once(score)[0])
    long = keeping.longest(score)
    just = [c.Density(low, high), c.Polyphony(most), c.Longest(long / 24), c.Key("C major"), c.Meter(((3, 4),))]
    c.check(codec, [*just, c.Exact(), c.Chords("G | F")], prompt, limits)
    tighter = [c.Density(low + 1, 99), c.Density(0, high - 1), c.Polyphony(most - 1), c.Longest(long / 24 - 0.25)]
    for constraint in [*tighter, c.Key("F# major"), c.Meter(((4, 4),)), c.Tempo(100, 120)]:
        with pytest.raises(UserError, match=f"prompt: bar [1-5] breaks {str(constraint)[:4]}"):
            c.check(codec, [constraint], prompt, limits)


@pytest.mark.parametrize("barlines", [True, False])
def test_chords_begin_with_the_first_new_bar(barlines):
    codec = make("voices", onsets=True, barlines=barlines)
    given = piece(make("voices", onsets=True), 3, seed=6)
    prompt, _ = codec.opening(given)
    line = 24 * (9 if barlines else 12)  # a prompt without bar lines is over inside its third block of four quarters
    asked = [c.Chords("F# | C#"), c.Exact()]
    for ids in walking.walks(codec, [asked] * 6, [(999, 4, np.inf)] * 6, seed=7, prompt=prompt):
        score = codec.decode(ids)
        later = score.notes[score.onset >= 20 * line].copy()
        assert len(later) > 8
        later["onset"] -= 20 * line
        meter = [(0, 3, 4)] if barlines else []
        changes = [m for m in score.meter[1:] if m["tick"] >= 20 * line]
        meter += [(int(m["tick"]) - 20 * line, int(m["numerator"]), int(m["denominator"])) for m in changes]
        assert keeping.keeps_chords(score.replace(notes=later, meter=meter), [["F#"], ["C#"]])


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "asked", "told"),
    [
        ({}, [c.Programs((0,))], "Programs: the codec 'voices' of this model cannot keep it"),
        ({"barlines": False}, [c.Density(1, 9)], "density 1-9: this codec 'voices' writes no bars"),
        ({"barlines": False}, [c.Meter(((3, 4),))], "meter 3/4: this codec 'voices' writes no meters"),
        ({}, [c.Longest(0.2)], "longest 0.2: notes of this codec 'voices' last 1/4 of a quarter at least"),
        ({}, [c.Density(200), c.Polyphony(2)], "density 200-: a bar of this codec 'voices' has at most 64 notes"),
        ({}, [c.Density(17), c.Meter(((1, 4),))], "density 17-: a bar of this codec 'voices' has at most 16 notes"),
        ({}, [c.Density(2), c.Range(60, 60)], "density 2- and range 60-60: the codec 'voices' without onsets"),
        ({}, [c.Longest(1), c.Range(59, 61), c.Key("C minor")], "longest 1 and range 59-61 and key C minor: the codec"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(options, asked, told):
    with pytest.raises(UserError) as error:
        c.registers(make("voices", **options), asked, 1)
    assert told in str(error.value)


def test_one_pitch_is_enough_where_it_can_be_struck_again():
    codec = make("voices", onsets=True)
    asked = [c.Range(60, 60), c.Density(30), c.Longest(0.25), c.Meter(((2, 4),)), c.Exact()]
    for ids in walking.walks(codec, [asked] * 4, [(400, 3, np.inf)] * 4, seed=9):
        assert keeping.notes_of_bars(codec.decode(ids), 3).min() >= 30


def test_ids_that_do_not_suffice_are_told():
    codec, start = make("voices"), np.array([1])
    asked = [c.Exact(), c.Meter(((4, 4),))]
    c.check(codec, asked, start, (2 + 8 * 65 + 1, 8, np.inf))
    with pytest.raises(UserError, match="the 522 ids there is room for do not suffice; ask for fewer bars"):
        c.check(codec, asked, start, (522, 8, np.inf))


def test_a_clock_that_lies_a_little_short_of_the_seconds_is_there():
    codec = make("voices")
    tempo = 60e6 / codec.tempi[40]
    bar = 4 * codec.tempi[40] / 1e6
    asked = [c.Exact(), c.Meter(((4, 4),)), c.Tempo(tempo, tempo)]
    for ids in walking.walks(codec, [asked] * 8, [(400, OPEN, 2.0003 * bar)] * 8, seed=10):
        assert bars_of(codec, ids) == 2
