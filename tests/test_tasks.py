"""Tasks: what is asked for is written, and nothing else is touched, whatever the weights."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax import config, mesh, params
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.export import provenance
from aurljax.model import Model
from aurljax.music.score import NOTE, Score
from aurljax.music.settling import settle
from aurljax.tasks import ask, fill, passes
from aurljax.tasks.piece import Piece, with_tracks

HOT = Sampler(temperature=1.5)


def model(length=512, infill=True, objective=0.5, window=0, **options) -> Model:
    """A tiny model of random weights."""
    tree = {
        "codec": {"options": {"infill": infill, **options}},
        "data": {"length": length, "objective": {"span": objective if infill else 0.0}},
        "model": {"family": "decoder", "d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 16,
                  "window": window},
    }
    parts = config.build(config.from_dict(tree))
    devices = mesh.make(1, 1)
    with mesh.use(devices):
        return Model(parts, params.init(parts.family.spec(parts.model), jax.random.key(0)), devices)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return model(microtiming=True, pedal=True)


def band(seed: int, resolution: int = 480, bars: int = 6) -> Score:
    """Three tracks in few pitches, off the grid, with all that stays: tempi, keys, pedals, bends, texts, names, meta."""
    rng = np.random.default_rng(seed)
    bar, count = 3 * resolution, 14 * bars
    rows = np.zeros(count, NOTE)
    end = bar * bars - resolution // 2
    rows["onset"] = rng.integers(0, end, count)
    rows["duration"] = np.minimum(rng.integers(1, 2 * resolution, count), end - rows["onset"])
    rows["track"], rows["pitch"] = rng.integers(0, 3, count), rng.integers(56, 64, count)
    rows["velocity"] = rng.integers(1, 128, count)
    ticks = np.sort(rng.integers(0, end, 6)).tolist()
    return Score(
        resolution, notes=rows, tracks=[(0, False), (40, False), (0, True)], names=("Lead", "Pad", ""),
        meter=[(0, 3, 4)], tempo=[(0, 500_000), (ticks[1], 412_345)], key=[(ticks[2], 2, False)],
        controls=[(t, i % 3, i % 2, 64 * (i % 2 == 0), 100 * (i % 3 > 0)) for i, t in enumerate(ticks)],
        texts=[(ticks[3], "lyric", "la"), (ticks[4], "marker", "Cm7")], meta={"title": "A piece"},
    ).repaired()[0]  # fmt: skip


def masks(piece: Piece, seed: int) -> list[tuple[int, int]]:
    """Up to a third of the cells, at random."""
    rng = np.random.default_rng(seed)
    every = [(bar, track) for bar in range(piece.bars) for track in range(piece.tracks)]
    return sorted(every[i] for i in rng.permutation(len(every))[: rng.integers(1, len(every) // 3 + 1)])


def only_masked_cells_changed(before: Score, cells, found: fill.Filled) -> None:
    """By other means than the tasks' own: bars from the score's own lines, notes as sets of rows."""
    after, line = found.score, before.bar_ticks
    early = before.resolution / 48 + 0.5  # what is nearer to the line's grid position belongs to its bar

    def inside(notes):
        bar = np.searchsorted(line, notes["onset"] + early, "right") - 1
        return np.array([cell in set(cells) for cell in zip(bar.tolist(), notes["track"].tolist(), strict=True)], bool)

    for name in ("tracks", "tempo", "meter", "key", "controls"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()
    meta = {name: text for name, text in after.meta.items() if name != provenance.FIELD}
    assert (before.names, before.texts, before.meta) == (after.names, after.texts, meta)
    assert before.resolution == after.resolution
    locked = before.notes[~inside(before.notes)]
    new = after.notes[inside(after.notes)]
    assert after.notes[~inside(after.notes)].tobytes() == locked.tobytes()
    assert sorted(new.tolist()) == sorted(found.new.tolist())
    after.check()


# --- the cells -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_locked_notes_are_untouched_on_random_masks(tiny, count):
    resolutions = [480, 96, 384, 1000]
    scores = [band(seed, resolutions[seed % 4]) for seed in range(count)]
    cells = [masks(Piece(score, tiny.codec), seed) for seed, score in enumerate(scores)]
    found = fill.fill(tiny, scores, cells, [(0, i) for i in range(count)], HOT)
    for score, mask, one in zip(scores, cells, found, strict=True):
        only_masked_cells_changed(score, mask, one)
        assert one.cells == len(mask)
    assert {one.windows for one in found} >= {1, 2} and sum(one.cut for one in found)
    assert sum(len(one.new) for one in found) > 10 * count
    alone = fill.fill(tiny, scores[7:8], cells[7:8], [(0, 7)], HOT)[0]
    assert alone.score == found[7].score
    assert fill.fill(tiny, scores[7:8], cells[7:8], [(1, 7)], HOT)[0].score != found[7].score


def test_what_is_masked_is_not_told(tiny):
    """The question is the same whatever stood in the cells, but for the room that is kept."""
    score = band(3)
    cells = masks(Piece(score, tiny.codec), 3)
    inside = Piece(score, tiny.codec).inside(cells)
    assert 0 < inside.sum() < len(score)
    changed = score.notes.copy()
    changed["pitch"][inside] += 20
    changed["velocity"][inside] = 127 - changed["velocity"][inside]  # as many ids: the room is the same
    one, two = (fill.fill(tiny, [s], [cells], [(0, 0)], HOT)[0] for s in (score, score.replace(notes=changed)))
    assert one.score == two.score


def test_a_long_piece_takes_several_windows():
    small = model(length=256)
    score = band(5, bars=40)
    for found, cells in (
        (ask.infill(small, score, tracks=["pad"], sampler=HOT)[0], [(bar, 1) for bar in range(40)]),
        (ask.infill(small, score, cells=[(0, 0), (38, 2)], sampler=HOT)[0], [(0, 0), (38, 2)]),
    ):
        only_masked_cells_changed(score, cells, found)
        assert found.windows > 1


def test_a_window_holds_what_stands_around(tiny):
    piece = Piece(band(5, bars=40).replace(notes=band(5, bars=40).notes[::2]), model(length=256).codec)
    cells = [(20, 0), (20, 1), (39, 2)]
    free = Piece(piece.score.replace(notes=piece.score.notes[~piece.inside(cells)]), piece.codec, piece.bars)
    found = passes.first(free, cells, 12.0, 256)
    assert found.cells == cells[:2] and found.a < 20 < found.b - 1 and len(found) <= 256
    assert abs((20 - found.a) - (found.b - 21)) <= 2  # as much before as after
    next_ = passes.first(free, cells[2:], 12.0, 256)
    assert next_.b == 40 and next_.cells == cells[2:]
    with pytest.raises(UserError, match=r"bar 20 \(from 0\) with 2 masked cells takes .* the context of 72"):
        passes.first(free, cells[:2], 12.0, 72)


# --- the tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_infill_masks_bars_and_tracks(tiny):
    score = band(1)
    for arguments, cells in (
        ({"bars": (2, 4), "tracks": [0, "pad"]}, [(b, t) for b in (2, 3) for t in (0, 1)]),
        ({"bars": (5, 6)}, [(5, t) for t in range(3)]),
        ({"cells": [(0, 2), (4, "lead")]}, [(0, 2), (4, 0)]),
    ):
        found = ask.infill(tiny, score, n=2, sampler=HOT, **arguments)
        for one in found:
            only_masked_cells_changed(score, cells, one)
        assert found[0].score != found[1].score


def test_accompany_writes_all_but_what_is_given(tiny):
    score = band(2)
    found = ask.accompany(tiny, score, given=["lead"], sampler=HOT)[0]
    only_masked_cells_changed(score, [(b, t) for b in range(6) for t in (1, 2)], found)
    melody = with_tracks(score.replace(notes=score.notes[score.track == 1]), [])
    for add, mine in (([(33, 0), (128, 4)], {0, 1, 3, 4}), ([], {0, 2})):
        one = ask.accompany(tiny, melody, given=[1], add=add, sampler=HOT)[0]
        own = 2 if add else 1
        assert set(one.score.track.tolist()) <= mine | {own} and set(one.new["track"].tolist()) <= mine
        kept = one.score.notes[one.score.track == own]
        kept["track"] = 1
        assert kept.tobytes() == melody.notes.tobytes()
        if add:
            assert one.score.tracks.tolist() == [(33, False), (0, False), (40, False), (0, True), (0, True)]
            assert one.score.names == ("", "Lead", "Pad", "", "")


def test_vary_masks_a_share_of_the_notes(tiny):
    score = band(4)
    piece = Piece(score, tiny.codec)
    found = ask.vary(tiny, score, share=0.3, n=2, seed=5, sampler=HOT)
    for i, one in enumerate(found):
        cells = ask.drawn(piece, 0.3, (5, i))
        assert 0.3 <= piece.inside(cells).mean() < 0.3 + 12 / len(score)
        only_masked_cells_changed(score, cells, one)
    assert ask.drawn(piece, 0.3, (5, 0)) != ask.drawn(piece, 0.3, (5, 1))
    assert ask.vary(tiny, score, share=0.3, seed=5, sampler=HOT)[0].score == found[0].score


# --- where new notes meet locked ones --------------------------------------------------------------------------------

ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(0, 1), st.integers(60, 61)), max_size=14)


def rows(tuples) -> np.ndarray:
    table = np.zeros(len(tuples), NOTE)
    for name, column in zip(("onset", "duration", "track", "pitch"), zip(*tuples, strict=True), strict=False):
        table[name] = column
    table["velocity"] = 64
    return Score(notes=table, tracks=[(0, False)] * 2).repaired()[0].notes


@given(ROWS, ROWS)
@settings(max_examples=200, deadline=None)
def test_new_notes_give_way(locked, new):
    locked, new = rows(locked), rows(new)
    found, cut, dropped = settle(locked, new.copy())
    Score(notes=np.concatenate([locked, found]), tracks=[(0, False)] * 2).check()
    expected, cuts = [], 0
    for note in new:
        mine = locked[(locked["track"] == note["track"]) & (locked["pitch"] == note["pitch"])]
        if ((mine["onset"] <= note["onset"]) & (mine["onset"] + mine["duration"] > note["onset"])).any():
            continue
        end = min([note["onset"] + note["duration"], *mine["onset"][mine["onset"] > note["onset"]]])
        cuts += end < note["onset"] + note["duration"]
        expected.append((note["onset"], end - note["onset"], note["track"], note["pitch"], note["velocity"]))
    assert sorted(found.tolist()) == sorted(map(tuple, np.array(expected, NOTE).tolist()))
    assert (cut, dropped) == (cuts, len(new) - len(expected))


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, s: ask.infill(m, s), "give bars, tracks or both"),
        (lambda m, s: ask.infill(m, s, bars=(4, 9)), "the piece has 6 bars, 0 to 5; there is no bar 6"),
        (lambda m, s: ask.infill(m, s, bars=(3, 3)), "no cell is masked"),
        (lambda m, s: ask.infill(m, s, tracks=[]), "no cell is masked"),
        (
            lambda m, s: ask.infill(m, s, tracks=[3]),
            r"the piece has 3 tracks \(0 Lead, 1 Pad, 2\); there is no track 3",
        ),
        (lambda m, s: ask.infill(m, s, tracks=["bass"]), "no tracks of the piece are named 'bass'; it has: 0 Lead"),
        (lambda m, s: ask.infill(m, s, bars=(0, 1), cells=[(0, 0)]), "give either cells, or bars and tracks"),
        (lambda m, s: ask.infill(m, s, bars=(0, 1), n=0), "n must be above 0"),
        (lambda m, s: ask.infill(m, s.replace(tracks=[(0, False)] * 17), bars=(0, 1)), "17 tracks.* tells 16"),
        (lambda m, s: ask.infill(m, s.replace(meter=[(0, 5, 32)]), bars=(0, 1)), "a meter of 5/32"),
        (lambda m, s: ask.accompany(m, s, given=[0, 1, 2]), "every track of the piece is given"),
        (lambda m, s: ask.accompany(m, s, given=[]), "name the tracks"),
        (lambda m, s: ask.accompany(m, with_tracks(s, [(5, 0)])), "track 0 .* has no notes"),
        (lambda m, s: ask.accompany(m, s, add=[(129, 0)]), "129 is no program"),
        (lambda m, s: ask.accompany(m, s, add=[(1, 7)]), "cannot be number 7"),
        (lambda m, s: ask.vary(m, s, share=0), "share: 0 must be"),
        (lambda m, s: ask.vary(m, s.replace(notes=()), share=0.5), "no notes to vary"),
        (lambda m, s: ask.infill(model(infill=False), s, bars=(0, 1)), "writes no holes.*codec.options.infill=True"),
        (lambda m, s: ask.infill(model(objective=0.0), s, bars=(0, 1)), "not trained to fill in"),
        (lambda m, s: ask.infill(model(length=32), s, bars=(0, 1)), "more than the context of 32"),
    ],
)
def test_bad_input_is_one_sentence(tiny, call, words):
    with pytest.raises(UserError, match=words):
        call(tiny, band(0))
