"""Constraints on `event`: random walks under all at once keep to each, as told by code that reads the score alone."""

import keeping
import numpy as np
import pytest
import walking

from aurljax.decode import constraints as c
from aurljax.errors import UserError
from aurljax.music.codec import make

CODEC = make("event")
MAJOR = {0, 2, 4, 5, 7, 9, 11}
CHANGES, BARS, BAR = "C | Am F | G7 | %", [["C"], ["Am", "F"], ["G7"], ["G7"]], 0.7
OPEN = 2**30
ROWS = 48


def spans(score):
    """(first step, end step, pitch, program) of each note, in steps of 1/64 s and order of writing."""
    start, end = (np.rint(score.seconds(x) * 64).astype(int) for x in (score.onset, score.onset + score.duration))
    rows = zip(start, end, score.pitch, score.tracks["program"][score.track], strict=True)
    return sorted(((int(a), int(e), int(p), int(g)) for a, e, p, g in rows), key=lambda x: (x[0], x[3], x[2]))


def keeps_key(score, share):
    outside = np.cumsum([p % 12 not in MAJOR for _, _, p, _ in spans(score)])
    return all(o <= share * (i + 1) + 1e-3 for i, o in enumerate(outside))


def keeps_chords(score, begin=0):
    """Whether notes begin on the tones of bars of round(BAR * 64) steps, from step `begin` on."""
    steps = round(BAR * 64)
    for at, _, pitch, _ in spans(score):
        symbols = BARS[(at - begin) // steps % len(BARS)]
        symbol = symbols[(at - begin) % steps * len(symbols) // steps]
        tones = keeping.TRIADS[symbol[1:]]
        if at >= begin and (pitch - keeping.LETTERS[symbol[0]]) % 12 not in tones:
            return False
    return True


def most_at_once(score):
    """Most notes that sound in one step: (in all, of one program)."""
    notes = spans(score)
    every = [[g for a, e, _, g in notes if a <= m < e] for m in {a for a, *_ in notes}]
    return max(map(len, every), default=0), max((np.bincount(x).max() for x in every), default=0)


def draw(rng):
    """(constraints of every kind, {name: whether a score keeps to it}): loose, where one is left out."""
    maybe = walking.Drawn(rng)
    share, low, span = float(rng.choice([0, 0.2])), int(rng.integers(15, 60)), int(rng.integers(18, 40))
    every, own, long = int(rng.integers(1, 5)), int(rng.integers(1, 3)), float(rng.choice([1 / 64, 0.1, 1, 9]))
    bounds = {40: (55, 70)}
    maybe(c.Key, ("C major", share), ("C chromatic",), lambda x: keeps_key(x, share))
    maybe(c.Chords, (CHANGES, BAR), ("N.C. N.C.", 1.0), keeps_chords)
    maybe(c.Range, (low, low + span, ((40, 55, 70),)), (),
          lambda x: all(a <= p <= b for *_, p, g in spans(x) for a, b in [bounds.get(g, (low, low + span))]))  # fmt: skip
    maybe(c.Programs, ((0, 40, 120),), (tuple(range(0, 128, 8)),), lambda x: set(x.tracks["program"]) <= {0, 40, 120})
    maybe(c.Polyphony, (every,), (64,), lambda x: most_at_once(x)[0] <= every)
    maybe(c.TrackPolyphony, (own,), (64,), lambda x: most_at_once(x)[1] <= own)
    maybe(c.Longest, (None, long), (None, 60), lambda x: max(e - a for a, e, *_ in spans(x)) <= 64 * long)
    return maybe.asked, maybe.checks


def holds(walked, drawn, limits):
    """All decode and keep what is asked of them; the notes of each."""
    counts = []
    for ids, (asked, checks), (left, _, _) in zip(walked, drawn, limits, strict=True):
        score = CODEC.decode(ids)
        score.check()
        assert np.array_equal(CODEC.encode(score), ids) and len(ids) <= left + 1
        counts.append(len(score))
        for name, keeps in checks.items():
            assert not len(score) or keeps(score), (name, *map(str, asked))
    return counts


def test_walks_keep_to_what_is_asked():
    rng = np.random.default_rng(5)
    drawn = [draw(rng) for _ in range(ROWS)]
    limits = [(int(rng.integers(12, 200)), OPEN, float(rng.choice([2, 20, np.inf]))) for _ in drawn]
    walked = walking.walks(CODEC, [d[0] for d in drawn], limits, seed=1)
    assert max(holds(walked, drawn, limits)) > 20


def test_walks_are_of_exactly_the_length_asked_for():
    rng = np.random.default_rng(6)
    drawn, limits = [draw(rng) for _ in range(ROWS)], []
    asked = [[*d[0], c.Exact()] for d in drawn]
    for row in asked:
        seconds = float(rng.choice([1 / 64, 2 / 64, 1.0, 8.0, 8.01, 20.3]))
        few = walking.enough(CODEC, row, seconds=seconds)
        limits.append((few + int(rng.choice([0, 1, 5, 100])), OPEN, seconds))
    walked = walking.walks(CODEC, asked, limits, seed=2, compare=24)
    holds(walked, drawn, limits)
    for ids, (_, _, seconds) in zip(walked, limits, strict=True):
        assert max(e for _, e, *_ in spans(CODEC.decode(ids))) == np.ceil(seconds * 64)


def test_each_holds_alone():
    every = {type(x): x for x in draw(np.random.default_rng(2))[0]} | {c.Exact: c.Exact()}
    for kind, constraint in every.items():
        assert len(walking.walks(CODEC, [[constraint]] * 4, [(90, OPEN, 5.0)] * 4, seed=3)) == 4, kind


def ids_of(text):
    names = {CODEC.vocabulary.name(i): i for i in range(len(CODEC.vocabulary))}
    return [names[name.strip()] for name in text.split(",")]


@pytest.mark.parametrize("left", range(5, 10))
def test_what_is_due_can_be_paid_for_whatever_ends_before_it(left):
    """Two notes of piano and one of strings, which is due, while few ids are left: the piano has to be named again if one
    of its notes is to stay."""
    text = "start, tempo 3, instrument 5, velocity 9, on 40, shift 0, instrument 0, on 30, on 35, shift 62"
    asked, rows = [c.Longest(seconds=1)], 32
    for ids in walking.walks(CODEC, [asked] * rows, [(left, OPEN, np.inf)] * rows, seed=left, prompt=ids_of(text)):
        assert max(e - a for a, e, *_ in spans(CODEC.decode(ids))) <= 64


# --- prompts ----------------------------------------------------------------------------------------------------------


def piece(seed):
    """Six seconds of C major by two instruments, three notes at once at most."""
    asked = [c.Key("C major"), c.Programs((0, 40)), c.Range(40, 80), c.Polyphony(3), c.Longest(seconds=2), c.Exact()]
    return CODEC.decode(walking.walks(CODEC, [asked], [(160, OPEN, 6.0)], seed)[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_prompt_that_keeps_them_is_taken_and_one_that_does_not_is_told(seed):
    score, limits = piece(seed), (300, OPEN, 5.0)
    prompt, notes, (every, own) = CODEC.opening(score)[0], spans(score), most_at_once(score)
    low, high = min(p for *_, p, _ in notes), max(p for *_, p, _ in notes)
    long = max(e - a for a, e, *_ in notes)
    just = [c.Key("C major"), c.Programs((0, 40)), c.Range(low, high), c.Polyphony(int(every)),
            c.TrackPolyphony(int(own)), c.Longest(seconds=long / 64)]  # fmt: skip
    c.check(CODEC, [*just, c.Exact(), c.Chords("C | G", 1.0)], prompt, limits)
    tighter = [c.Key("F# major"), c.Programs((0,)), c.Range(low + 1, high), c.Polyphony(int(every) - 1),
               c.Longest(seconds=(long - 1) / 64)]  # fmt: skip
    for constraint in tighter:
        with pytest.raises(UserError, match=f"prompt: second [1-7] breaks {str(constraint)[:5]}"):
            c.check(CODEC, [constraint], prompt, limits)


def test_chords_begin_where_the_prompt_ends():
    score = piece(4)
    prompt = CODEC.opening(score)[0]
    asked, begin = [c.Chords(CHANGES, BAR), c.Exact()], 6 * 64
    for ids in walking.walks(CODEC, [asked] * 6, [(200, OPEN, 8.0)] * 6, seed=5, prompt=prompt):
        whole = CODEC.decode(ids)
        assert keeps_chords(whole, begin)
        assert sum(a >= begin for a, *_ in spans(whole)) > 5


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([c.Density(1, 9)], "Density: the codec 'event' of this model cannot keep it; it can keep Chords, Exact, Key"),
        ([c.Meter(((3, 4),))], "Meter: the codec 'event' of this model cannot keep it"),
        ([c.Longest(2)], "longest 2: the codec 'event' counts in seconds; give the length in seconds"),
        ([c.Chords("C | F")], "chords C | F: the codec 'event' has no bars; say how many seconds one of them is"),
        ([c.Programs((0, 41))], "programs 0,41: the codec 'event' writes eight programs as one, 0, 8, ... 120"),
        ([c.Programs((0, 128))], "no drums; 128 is none of them"),
        ([c.Range(0, 127, ((3, 40, 60),))], "range 0-127 3=40-60: the codec 'event' writes eight programs as one"),
        ([c.Range(0, 20)], "range 0-20: the codec 'event' writes pitches 21-108, and at some time none is left"),
        ([c.Range(0, 22), c.Key("C major"), c.Chords("C | Am", 1)], "range 0-22 and key C major and chords C | Am: the"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(asked, told):
    with pytest.raises(UserError) as error:
        c.registers(CODEC, asked, 1)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("codec", "asked", "told"),
    [
        ("score", c.Longest(seconds=2), "longest 2 s: the codec 'score' counts in quarters"),
        ("voices", c.Longest(seconds=2), "longest 2 s: the codec 'voices' counts in quarters"),
        ("score", c.Chords("C", 2.0), "chords C: the codec 'score' has bars; leave seconds out"),
    ],
)
def test_seconds_are_not_for_codecs_that_count_in_quarters(codec, asked, told):
    with pytest.raises(UserError, match=told):
        c.registers(make(codec), [asked], 1)


@pytest.mark.parametrize("kind", [lambda: c.Longest(), lambda: c.Longest(1, 1), lambda: c.Longest(seconds=0.001)])
def test_a_longest_note_is_of_one_unit(kind):
    with pytest.raises(UserError, match="longest: "):
        kind()


@pytest.mark.parametrize(("seconds", "needed"), [(1.0, 8), (8.0, 8), (8.02, 9), (60.0, 15)])
def test_ids_that_do_not_suffice_are_told(seconds, needed):
    """tempo, a shift for each 8 s, a note of five ids, and `end`: what suffices does so whatever is drawn."""
    start, asked = np.array([CODEC.vocabulary.id("start")]), [c.Exact()]
    c.check(CODEC, asked, start, (needed, OPEN, seconds))
    with pytest.raises(UserError, match=f"exact length: the {needed - 1} ids .* do not suffice; ask for fewer seconds"):
        c.check(CODEC, asked, start, (needed - 1, OPEN, seconds))
    assert all(len(ids) <= needed + 1 for ids in walking.walks(CODEC, [asked] * 4, [(needed, OPEN, seconds)] * 4, seed=6))
