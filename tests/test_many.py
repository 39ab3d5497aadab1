"""Many pieces from random weights at temperature 2: begun, continued, filled in, accompanied and varied, all under
constraints that are drawn anew for every batch. Every piece decodes, every constraint holds as told by code that reads notes
alone, and what stays does so bit for bit."""

import keeping
import numpy as np
import pytest
from demands import MAJOR, crowded, draw
from test_tasks import model, only_masked_cells_changed

from aurljax.decode import constraints as c
from aurljax.decode.sampler import Sampler
from aurljax.music.score import Score
from aurljax.tasks import ask, fill
from aurljax.tasks.piece import Piece

WILD = Sampler(temperature=2.0)
ROWS, IDS = 64, 64  # of a batch
PER_ROUND = 5 * ROWS


@pytest.fixture(scope="module")
def wild():
    return model(length=256, microtiming=True)


def test_hundreds_of_pieces(wild):
    counts = round_of(wild, 0)
    assert sum(counts.values()) >= 0.9 * PER_ROUND and len(counts) == 5


@pytest.mark.slow
def test_ten_thousand_pieces(wild):
    total, number = dict.fromkeys(("begun", "continued", "infill", "accompany", "vary"), 0), 0
    while sum(total.values()) < 10_000:
        number += 1
        total = {name: total[name] + n for name, n in round_of(wild, number).items()}
    assert number <= 40 and min(total.values()) > 1000


def round_of(m, number: int) -> dict[str, int]:
    """{task: pieces that were written and checked} of a batch of each, under the same constraints."""
    rng = np.random.default_rng(number)
    asked, checks = crowded(rng, draw(rng))
    how = {"sampler": WILD, "constraints": asked, "max_ids": IDS}
    pieces = m.generate_batch([None] * ROWS, seeds=[(number, i) for i in range(ROWS)], bars=2, **how)
    for score in pieces:
        keeps(m.codec, score, checks)
    continued = continue_all(m, pieces, number, how, checks)
    return {"begun": len(pieces), "continued": continued, **fill_all(m, pieces, number, asked, checks)}


def keeps(codec, score: Score, checks: dict) -> None:
    score.check()
    for name, check in checks.items():
        if name == "Density":
            assert "ended" in score.meta or check(score, codec.bars(score)), name
        else:
            assert check(score), name


def continue_all(m, pieces: list[Score], number: int, how: dict, checks: dict) -> int:
    """The first bar of each piece goes on: its rows stay, chords begin with the new bar, all else holds of the whole."""
    prompts = [m.codec.decode(np.append(m.codec.encode(score, (0, 1)), 3)[: None]) if m.codec.bars(score) == 1 else
               m.codec.decode(m.codec.encode(score, (0, 1))) for score in pieces]  # fmt: skip
    seeds = [(number, ROWS + i) for i in range(ROWS)]
    whole = {name: check for name, check in checks.items() if name != "Chords"}
    for prompt, score in zip(prompts, m.generate_batch(prompts, seeds=seeds, bars=1, **how), strict=True):
        line = m.codec.bar_tick(score, m.codec.bars(prompt))
        new = score.notes[score.onset >= line - m.codec.early]
        assert score.notes[score.onset < line - m.codec.early].tobytes() == prompt.notes.tobytes()
        keeps(m.codec, score, whole)
        if "Chords" in checks:
            assert checks["Chords"](moved(score, new, line))
    return len(pieces)


def moved(score: Score, notes: np.ndarray, line: int) -> Score:
    """Notes of a score as if it began at a bar line."""
    notes = notes.copy()
    notes["onset"] -= line
    early = notes["onset"].min(initial=0)
    meter = [(max(int(t) - line, 0), int(n), int(d)) for t, n, d in score.meters.tolist()]
    assert early >= -10
    notes["onset"] = np.maximum(notes["onset"], 0)  # to the grid, as all that is read of them
    return score.replace(notes=notes, meter=meter, tempo=(), controls=(), key=(), texts=())


def fill_all(m, pieces: list[Score], number: int, asked: list, checks: dict) -> dict[str, int]:
    """Cells of each piece are written anew, as each of the tasks masks them, under the constraints that can be kept."""
    rng, open_ = np.random.default_rng((number, 1)), [one for one in asked if not one.blind]
    share = next(one.passing for one in open_ if isinstance(one, c.Key))
    rows, tasks = [], []
    for i, score in enumerate(pieces):
        piece = Piece(score, m.codec)
        for task, cells in masks(piece, rng, number, i).items():
            locked = score.replace(notes=score.notes[~piece.inside(cells)])
            if "Key" not in checks or keeping.keeps_key(locked, MAJOR, share):  # else it is refused
                rows.append((score, cells, (number, len(rows))))
                tasks.append(task)
    found = fill.fill(m, *(list(column) for column in zip(*rows, strict=True)), WILD, open_)
    for (score, cells, _), one in zip(rows, found, strict=True):
        only_masked_cells_changed(score, cells, one)
        new = one.score.replace(notes=one.new)
        for name in ("Chords", "Range", "Longest", "Meter", "Tempo", "Programs", "Tracks"):
            assert name not in checks or checks[name](new), name
        if "Key" in checks:
            sung = new.pitch[~new.is_drum] % 12
            assert (~np.isin(sung, list(MAJOR))).sum() <= share * len(sung) + 1e-3
    return {task: tasks.count(task) for task in ("infill", "accompany", "vary")}


def masks(piece: Piece, rng, number: int, i: int) -> dict[str, list]:
    """{task: cells}; accompany and vary need a track that sounds."""
    bar, some = int(rng.integers(piece.bars)), range(piece.tracks)
    out = {"infill": piece.cells([bar], some)}
    if piece.sounding:
        heard = piece.sounding[int(rng.integers(len(piece.sounding)))][1]
        out["accompany"] = piece.cells(range(piece.bars), set(some) - {heard})
        out["vary"] = ask.drawn(piece, 0.4, (number, i))
    return {task: cells for task, cells in out.items() if cells}
