"""Hypothesis strategies of lawful scores with everything in them."""

from __future__ import annotations

from hypothesis import strategies as st

from aurljax.music.score import CONTROL_KINDS, Score

TICKS = st.integers(0, 60) | st.integers(0, 1_000_000)  # the first provokes coincidences
TEXT = st.text(max_size=20)


def table(*columns, max_size: int = 6):
    return st.lists(st.tuples(*columns), max_size=max_size)


@st.composite
def scores(draw, resolution=st.sampled_from([1, 96, 480, 1024, 32767]), text_kinds=("lyric", "marker"), fifths=(-7, 7)):
    """Scores whose tracks all have notes: up to 20 tracks, drums, all maps, control changes, bends, texts."""
    count = draw(st.integers(0, 20))
    track = st.integers(0, max(count - 1, 0))
    note = lambda t: st.tuples(TICKS, st.integers(1, 50) | st.integers(1, 10_000), t, st.integers(0, 127), st.integers(1, 127))  # noqa: E731,E501
    change = st.tuples(TICKS, track, st.just(CONTROL_KINDS.index("control")), st.integers(0, 127), st.integers(0, 127))
    bend = st.tuples(TICKS, track, st.just(CONTROL_KINDS.index("bend")), st.just(0), st.integers(-8192, 8191))
    return Score(
        resolution=draw(resolution),
        notes=[draw(note(st.just(i))) for i in range(count)] + (draw(st.lists(note(track), max_size=40)) if count else []),
        tracks=[(draw(st.integers(0, 127)), draw(st.booleans())) for _ in range(count)],
        names=tuple(draw(TEXT) for _ in range(count)),
        tempo=draw(table(TICKS, st.integers(1, (1 << 24) - 1))),
        meter=draw(table(TICKS, st.integers(1, 255), st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))),
        key=draw(table(TICKS, st.integers(*fifths), st.booleans())),
        controls=draw(st.lists(change | bend, max_size=40)) if count else [],
        texts=tuple(draw(table(TICKS, st.sampled_from(text_kinds), TEXT))),
    ).repaired()[0]
