"""Hypothesis strategies: lawful scores with everything in them."""

from __future__ import annotations

from hypothesis import strategies as st

from aurljax.music.score import CONTROL_KINDS, Score

TICKS = st.integers(0, 60) | st.integers(0, 20_000)  # the first provokes coincidences
TEXT = st.text(max_size=20)
CHANGE, BEND = CONTROL_KINDS.index("control"), CONTROL_KINDS.index("bend")


def tempo_maps():
    return st.lists(st.tuples(TICKS, st.integers(1, 2_800_000)), max_size=6)


def meter_maps():
    denominators = st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128])
    return st.lists(st.tuples(TICKS, st.integers(1, 255), denominators), max_size=6)


def notes(track):
    length = st.integers(1, 50) | st.integers(1, 10_000)
    return st.tuples(TICKS, length, track, st.integers(0, 127), st.integers(1, 127))


@st.composite
def scores(draw, resolution=st.sampled_from([1, 96, 480, 1024, 32767]), kinds=("lyric", "marker"), fifths=(-7, 7)):  # noqa: B008
    """Up to 20 tracks, all with notes, drums among them; every map, control changes, bends and texts of `kinds`."""
    count = draw(st.integers(0, 20))
    track = st.integers(0, max(count - 1, 0))
    change = st.tuples(TICKS, track, st.just(CHANGE), st.integers(0, 127), st.integers(0, 127))
    bend = st.tuples(TICKS, track, st.just(BEND), st.just(0), st.integers(-8192, 8191))
    score = Score(
        resolution=draw(resolution),
        notes=[draw(notes(st.just(i))) for i in range(count)] + draw(st.lists(notes(track), max_size=40 * (count > 0))),
        tracks=[(draw(st.integers(0, 127)), draw(st.booleans())) for _ in range(count)],
        names=tuple(draw(TEXT) for _ in range(count)),
        tempo=draw(tempo_maps()),
        meter=draw(meter_maps()),
        key=draw(st.lists(st.tuples(TICKS, st.integers(*fifths), st.booleans()), max_size=4)),
        controls=draw(st.lists(change | bend, max_size=40 * (count > 0))),
        texts=tuple(draw(st.lists(st.tuples(TICKS, st.sampled_from(kinds), TEXT), max_size=6))),
    )
    return score.repaired()[0]
