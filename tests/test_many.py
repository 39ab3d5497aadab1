"""Many pieces from random weights at temperature 2: begun, continued, filled in, accompanied and varied, all under
constraints that are drawn anew for every batch. Every piece decodes, every constraint holds as told by code that reads
notes alone, and what stays does so bit for bit."""

import keeping
import numpy as np
import pytest
from demands import MAJOR, crowded, draw
from test_tasks import model, only_masked_cells_changed

from aurljax.decode import constraints as c
from aurljax.decode.length import bucket
from aurljax.decode.sampler import Sampler
from aurljax.music.score import Score
from aurljax.tasks import ask, fill, passes
from aurljax.tasks.piece import Piece

WILD = Sampler(temperature=2.0)
ROWS, IDS = 64, 64  # of a batch
SHAPES = ((64, 64), (128, 64), (64, 128))  # ids of a question and of its answer: so few programs are compiled


@pytest.fixture(scope="module")
def wild():
    return model(length=256, window=16, microtiming=True)  # a cache that does not grow is one program


def test_hundreds_of_pieces(wild):
    counts = round_of(wild, 0, SHAPES[:1])
    assert sum(counts.values()) >= 3 * ROWS and min(counts.values()) > 5 and len(counts) == 5


@pytest.mark.slow
def test_ten_thousand_pieces(wild):
    total, number = dict.fromkeys(("begun", "continued", "infill", "accompany", "vary"), 0), 0
    while sum(total.values()) < 10_000:
        number += 1
        total = {name: total[name] + n for name, n in round_of(wild, number, SHAPES).items()}
    assert number <= 60 and min(total.values()) > 500


def round_of(m, number: int, shapes: tuple) -> dict[str, int]:
    """{task: pieces that were written and checked} of a batch of each, under the same constraints."""
    rng = np.random.default_rng(number)
    asked, checks = crowded(rng, draw(rng))
    asked = [c.Tracks(1, 3) if isinstance(one, c.Tracks) else one for one in asked]  # so that few cells are many notes
    how = {"sampler": WILD, "constraints": asked, "max_ids": IDS}
    pieces = m.generate_batch([None] * ROWS, seeds=[(number, i) for i in range(ROWS)], bars=2, **how)
    for score in pieces:
        keeps(m.codec, score, checks)
    continued = continue_all(m, pieces, number, how, checks)
    return {"begun": len(pieces), "continued": continued, **fill_all(m, pieces, number, asked, checks, shapes)}


def keeps(codec, score: Score, checks: dict) -> None:
    score.check()
    for name, check in checks.items():
        if name == "Density":
            assert "ended" in score.meta or check(score, codec.bars(score)), name
        else:
            assert check(score), name


def continue_all(m, pieces: list[Score], number: int, how: dict, checks: dict) -> int:
    """The first bars that nothing sounds out of go on: their rows stay, chords begin with the new bar, all else of all.
    Where notes sound on, polyphony may leave no place for a new one, which is refused."""
    firsts = [m.codec.decode(m.codec.encode(score, (0, 1))) for score in pieces]
    firsts = [score for score in firsts if score.end <= m.codec.bar_tick(score, 1) - m.codec.early]
    prompts = (firsts * ROWS)[:ROWS]
    if not prompts:
        return 0
    seeds = [(number, ROWS + i) for i in range(ROWS)]
    whole = {name: check for name, check in checks.items() if name != "Chords"}
    for prompt, score in zip(prompts, m.generate_batch(prompts, seeds=seeds, bars=1, **how), strict=True):
        line = m.codec.bar_tick(score, m.codec.bars(prompt))
        new = score.notes[score.onset >= line - m.codec.early]
        assert score.notes[score.onset < line - m.codec.early].tobytes() == prompt.notes.tobytes()
        keeps(m.codec, score, whole)
        if "Chords" in checks:
            assert checks["Chords"](moved(score, new, line))
    return len(prompts)


def moved(score: Score, notes: np.ndarray, line: int) -> Score:
    """Notes of a score as if it began at a bar line."""
    notes = notes.copy()
    notes["onset"] -= line
    early = notes["onset"].min(initial=0)
    meter = [(max(int(t) - line, 0), int(n), int(d)) for t, n, d in score.meters.tolist()]
    assert early >= -10
    notes["onset"] = np.maximum(notes["onset"], 0)  # to the grid, as all that is read of them
    return score.replace(notes=notes, meter=meter, tempo=(), controls=(), key=(), texts=())


def fill_all(m, pieces: list[Score], number: int, asked: list, checks: dict, shapes: tuple) -> dict[str, int]:
    """Cells of each piece are written anew, as each of the tasks masks them, under the constraints that can be kept."""
    rng, open_ = np.random.default_rng((number, 1)), [one for one in asked if not one.blind]
    share = next(one.passing for one in open_ if isinstance(one, c.Key))
    alike = {shape: [] for shape in shapes}
    for i, score in enumerate(pieces):
        piece = Piece(score, m.codec)
        for task, cells in masks(piece, rng, number, i).items():
            locked = score.replace(notes=score.notes[~piece.inside(cells)])
            kept = "Key" not in checks or keeping.keeps_key(locked, MAJOR, share)  # else it is refused
            if kept and (shape := shape_of(m, piece, locked, cells)) in alike:
                alike[shape].append((score, cells, (number, i), task))
    rows = [row for some in alike.values() for row in some[: min(len(some) // 32 * 32, ROWS)]]
    scores, cells, seeds, tasks = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    found = fill.fill(m, scores, cells, seeds, WILD, open_)
    for (score, cells, *_), one in zip(rows, found, strict=True):
        only_masked_cells_changed(score, cells, one)
        new = one.score.replace(notes=one.new)
        for name in ("Chords", "Range", "Longest", "Meter", "Tempo", "Programs", "Tracks"):
            assert name not in checks or checks[name](new), name
        if "Key" in checks:
            sung = new.pitch[~new.is_drum] % 12
            assert (~np.isin(sung, list(MAJOR))).sum() <= share * len(sung) + 1e-3
    return {task: tasks.count(task) for task in ("infill", "accompany", "vary")}


def shape_of(m, piece: Piece, locked: Score, cells: list) -> tuple[int, int] | None:
    """Padded ids of the one window that asks for all cells, and of its answer."""
    first = passes.first(Piece(locked, m.codec, piece.bars), cells, passes.typical(piece, cells), m.context)
    return (bucket(len(first.ids)), bucket(first.most)) if len(first.cells) == len(cells) else None


def masks(piece: Piece, rng, number: int, i: int) -> dict[str, list]:
    """{task: cells}; accompany and vary need a track that sounds."""
    bar, some = int(rng.integers(piece.bars)), range(piece.tracks)
    out = {"infill": piece.cells([bar], some)}
    if piece.sounding:
        heard = piece.sounding[int(rng.integers(len(piece.sounding)))][1]
        out["accompany"] = piece.cells(range(piece.bars), set(some) - {heard})
        out["vary"] = ask.drawn(piece, 0.4, (number, i))
    return {task: cells for task, cells in out.items() if 0 < len(cells) <= 4}  # which one window holds
