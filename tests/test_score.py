"""The Score: its order, its clock, its bars and its invariant, each against a slow and plain computation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import TICKS, meter_maps, notes, scores, tempo_maps

from aurljax.music.score import CONTROL_KINDS, TABLES, Score

few = settings(max_examples=50, deadline=None)
LINES = st.lists(notes(st.integers(0, 1)).map(lambda n: (n[0], n[1], n[2], n[3] % 3, n[4])), max_size=60)


def exact_seconds(score: Score, tick: int) -> Fraction:
    """The clock run from one tempo to the next in rational numbers."""
    usec, last, total = 500_000, 0, Fraction(0)
    for at, following in [*score.tempo.tolist(), (tick, None)]:
        total += (min(at, tick) - last) * Fraction(usec, score.resolution * 1_000_000)
        usec, last = following, min(at, tick)
    return total


@few
@given(tempo_maps(), st.lists(TICKS, min_size=1), st.sampled_from([1, 96, 480, 1024]))
@example([(1, 250_000)], [0, 1, 2], 480)
def test_seconds_are_those_of_rational_arithmetic(tempo, ticks, resolution):
    score = Score(resolution, tempo=tempo)
    exact = [float(exact_seconds(score, t)) for t in ticks]
    np.testing.assert_allclose(score.seconds(ticks), exact, rtol=4e-16, atol=0)  # two roundings


@few
@given(tempo_maps(), st.lists(TICKS, min_size=1))
def test_ticks_invert_seconds(tempo, ticks):
    score = Score(480, tempo=tempo)
    assert score.ticks(score.seconds(ticks)).tolist() == ticks


def test_ticks_are_the_nearest():
    score = Score(480, tempo=[(480, 1_000_000)])
    assert score.ticks([0.5 + 0.4 / 480, 0.5 + 0.6 / 480]).tolist() == [480, 481]


def naive_bars(score: Score) -> list[Fraction]:
    """Bar lines walked one by one."""
    force, changes = (4, 4), {0: (4, 4)}
    for tick, *meter in score.meter.tolist():
        if tuple(meter) != force:  # a meter said again is no change
            changes[tick] = force = tuple(meter)
    lines, last = [Fraction(0)], max(score.end, max(changes) + 1)
    while lines[-1] < last:
        at = lines[-1]
        force = changes.get(at) or force
        following = at + Fraction(4 * score.resolution * force[0], force[1])
        lines.append(min([following, *(t for t in changes if at < t < following)]))
    return lines


@few
@given(meter_maps(), LINES, st.sampled_from([1, 96, 480]))
def test_bars_are_those_of_walking(meter, rows, resolution):
    score = Score(resolution, notes=rows, tracks=[(0, False)] * 2, meter=[(t, n, min(d, 16)) for t, n, d in meter])
    assert score.bar_ticks.tolist() == naive_bars(score)
    assert score.bar_count == len(score.bar_ticks) - 1
    assert score.bar_ticks[-1] >= score.end


@few
@given(scores(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(score, random):
    tables = {name: list(getattr(score, name).tolist()) for name in ("notes", "tempo", "meter", "key")}
    for rows in tables.values():
        random.shuffle(rows)
    assert score.replace(**tables, texts=tuple(random.sample(score.texts, len(score.texts)))) == score


def test_rows_of_one_tick():
    score = Score(
        tempo=[(5, 1), (0, 2), (5, 3)],
        meter=[(0, 3, 4), (0, 4, 4)],
        tracks=[(0, False)],
        controls=[(4, 0, 1, 0, 9), (4, 0, 0, 101, 1), (4, 0, 0, 100, 2), (3, 0, 1, 0, 7)],
        texts=((0, "marker", ""), (0, "lyric", "la")),
    )
    assert score.tempo.tolist() == [(0, 2), (5, 3)]
    assert score.meter.tolist() == [(0, 4, 4)]
    assert score.controls["value"].tolist() == [7, 1, 2, 9]  # changes keep their order and come before bends
    assert score.texts == ((0, "lyric", "la"),)


@few
@given(scores())
def test_tables_are_immutable_copies(score):
    for name in TABLES:
        mine = np.array(getattr(score, name).tolist(), TABLES[name])
        copy = score.replace(**{name: mine})
        mine[:] = 0
        assert copy == score
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
            getattr(copy, name).flags.writeable = True


def naive_repair(rows: list[tuple]) -> tuple[set[tuple], int]:
    """(notes, how many cut), per voice: of those that start together the longest, ended where the next one starts."""
    out, cut = set(), 0
    for voice in {(n[2], n[3]) for n in rows}:
        mine = [n for n in rows if (n[2], n[3]) == voice]
        onsets = sorted({n[0] for n in mine})
        for onset, following in zip(onsets, [*onsets[1:], 10**9], strict=True):
            note = max((n for n in mine if n[0] == onset), key=lambda n: n[1])
            out.add((onset, min(note[1], following - onset), *note[2:]))
            cut += note[1] > following - onset
    return out, cut


@few
@given(LINES)
def test_repair(rows):
    rows = Score(notes=rows).notes.tolist()  # of equal length the first in this order stays
    score, counts = Score(notes=rows, tracks=[(0, False)] * 2).repaired()
    score.check()
    assert (set(score.notes.tolist()), counts["cut"]) == naive_repair(rows)
    assert counts["duplicate"] == len(rows) - len(score)
    assert score.repaired() == (score, {"duplicate": 0, "cut": 0})


@pytest.mark.parametrize(
    "table, rows, words",
    [
        ("notes", [(0, 1, 0, 60, 64), (0, 1, 1, 60, 64)], "row 1 names a track"),
        ("notes", [(0, 0, 0, 60, 64)], "shorter than one tick"),
        ("notes", [(-1, 1, 0, 60, 64)], "before tick 0"),
        ("notes", [(0, 1, 0, 128, 64)], "pitch above 127"),
        ("notes", [(0, 1, 0, 60, 0)], "velocity"),
        ("notes", [(0, 1, 0, 60, 128)], "velocity"),
        ("notes", [(0, 3, 0, 60, 64), (2, 1, 0, 60, 64)], "row 0 sounds on"),
        ("tracks", [(128, False)], "program"),
        ("tempo", [(0, 0)], "microseconds"),
        ("tempo", [(0, 1 << 24)], "microseconds"),
        ("meter", [(0, 0, 4)], "meter"),
        ("meter", [(0, 3, 6)], "meter"),
        ("meter", [(0, 3, 0)], "meter"),
        ("key", [(0, -8, False)], "accidentals"),
        ("key", [(-5, 1, False)], "before tick 0"),
        ("controls", [(0, 1, 0, 7, 64)], "names a track"),
        ("controls", [(0, 0, 4, 7, 64)], "kind"),
        ("controls", [(0, 0, 0, 128, 64)], "number"),
        ("controls", [(0, 0, 0, 7, 128)], "value"),
        ("controls", [(0, 0, CONTROL_KINDS.index("bend"), 0, 8192)], "value"),
        ("texts", [(0, "chord", "C")], "neither lyric"),
        ("texts", [(-1, "lyric", "C")], "before tick 0"),
    ],
)
def test_check_names_what_is_broken(table, rows, words):
    lawful = Score(tracks=[(0, False)])
    lawful.check()
    with pytest.raises(ValueError, match=f"^{table}: .*{words}"):
        lawful.replace(**{table: rows}).check()


def test_resolution_must_be_positive():
    with pytest.raises(ValueError, match=r"^resolution"):
        Score(0).check()


def test_empty_score():
    score = Score()
    assert (score.end, score.last_tick, score.bar_count, score.bar_ticks.tolist()) == (0, 0, 1, [0, 1920])
    assert score.repaired() == (score, {"duplicate": 0, "cut": 0})


@few
@given(scores())
def test_last_tick_is_that_of_everything(score):
    columns = [
        score.onset + score.duration,
        *(getattr(score, t)["tick"] for t in ("tempo", "meter", "key", "controls")),
    ]
    assert score.last_tick == max([t for c in columns for t in c.tolist()] + [t for t, _, _ in score.texts] + [0])
