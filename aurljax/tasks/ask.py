"""The tasks: which cells of a piece each of them masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from aurljax.data import order
from aurljax.decode import best
from aurljax.decode.constraints import Constraint
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.evaluate import likelihood
from aurljax.export import provenance
from aurljax.music.score import Score
from aurljax.tasks.fill import Filled, check, fill
from aurljax.tasks.piece import Cell, Piece, with_tracks

if TYPE_CHECKING:
    from aurljax.model import Model

Track = int | str  # its number, from 0, or its name


class How(TypedDict, total=False):
    """What every task takes as `Model.generate` does: how many, the seed, how to draw, what holds of the new notes, types
    of the cache and the matrices, and which of several candidates for each piece stays."""

    n: int
    seed: int
    sampler: Sampler | None
    constraints: Sequence[Constraint]
    cache: str | None
    weights: str | None
    best_of: int
    rank: best.Rank | None


ARGUMENTS = ("bars", "tracks", "cells", "given", "add", "share", *How.__annotations__)  # others are the sampler's


def infill(
    model: Model,
    score: Score,
    bars: tuple[int, int] | None = None,
    tracks: Iterable[Track] | None = None,
    cells: Iterable[tuple[int, Track]] | None = None,
    **how: Unpack[How],
) -> list[Filled]:
    """n answers to the bars a..b-1 (None: all) of some tracks (None: all), or to single cells (bar, track).

    how: see `How`. UserError, as of all tasks, where `aurljax.tasks.fill.fill` has one."""
    check(model)
    piece = Piece(score, model.codec)
    if cells is not None:
        if bars is not None or tracks is not None:
            raise UserError("give either cells, or bars and tracks")
        masked = sorted({cell for bar, track in cells for cell in piece.cells([bar], [piece.track(track)])})
    elif bars is None and tracks is None:
        raise UserError("give bars, tracks or both to fill in; to write all anew, generate without a piece")
    else:
        some = range(piece.tracks) if tracks is None else {piece.track(track) for track in tracks}
        masked = piece.cells(range(*bars) if bars else range(piece.bars), some)
    return _filled(model, score, lambda i: masked, **how)


def accompany(
    model: Model,
    score: Score,
    given: Iterable[Track] = (0,),
    add: Sequence[tuple[int, int]] = (),
    **how: Unpack[How],
) -> list[Filled]:
    """n times all tracks but the `given` ones, in every bar. `add`: new tracks beside those that the score has, as
    (program, or 128 for drums; its number, from 0, once it is there); `given` are numbers of the score without them."""
    check(model)
    piece = Piece(score, model.codec)
    heard = {piece.track(track) for track in given}
    if silent := heard - {track for _, track in piece.sounding}:
        raise UserError(f"given: track {min(silent)} (from 0) has no notes to accompany")
    if not heard:
        raise UserError("given: name the tracks to accompany")
    stays = _places(piece.tracks, add)
    whole = Piece(with_tracks(score, add), model.codec, piece.bars)
    others = set(range(whole.tracks)) - {stays[track] for track in heard}
    if not others:
        raise UserError("every track of the piece is given; add the programs of those to write")
    masked = whole.cells(range(whole.bars), others)
    return _filled(model, whole.score, lambda i: masked, **how)


def vary(model: Model, score: Score, share: float = 0.3, **how: Unpack[How]) -> list[Filled]:
    """n variants: of each, cells drawn at random are written anew, until they hold a share of the notes."""
    check(model)
    if not 0 < share <= 1:
        raise UserError(f"share: {share} must be above 0 and at most 1")
    piece = Piece(score, model.codec)
    if not len(score):
        raise UserError("the piece has no notes to vary")
    return _filled(model, score, lambda i: drawn(piece, share, (how.get("seed", 0), i)), **how)


def drawn(piece: Piece, share: float, seed: tuple[int, int]) -> list[Cell]:
    """Cells with notes in an order that follows from the seed, as many as hold `share` of all notes."""
    every = piece.sounding
    chosen: list[Cell] = []
    for i in order.permutation(len(every), *seed).tolist():
        chosen.append(every[i])
        if piece.inside(chosen).sum() >= share * len(piece.score):
            break
    return sorted(chosen)


def _places(tracks: int, add: Sequence[tuple[int, int]]) -> list[int]:
    """[tracks] the number of each track once new ones are added, one after another."""
    numbers = list(range(tracks))
    for _, place in add:
        numbers = [number + (number >= place) for number in numbers]
    return numbers


def _filled(
    model: Model,
    score: Score,
    mask: Callable[[int], list[Cell]],
    n: int = 1,
    seed: int = 0,
    sampler: Sampler | None = None,
    constraints: Sequence[Constraint] = (),
    cache: str | None = None,
    weights: str | None = None,
    best_of: int = 1,
    rank: best.Rank | None = None,
) -> list[Filled]:
    """n answers, the i-th in the cells mask(i); the candidates of one answer share them."""
    best.positive(n=n)
    best.check(best_of, rank)
    drawn = {"sampler": sampler or Sampler(), "constraints": tuple(constraints), "cache": cache, "weights": weights}
    masks, seeds = [mask(i) for i in range(n) for _ in range(best_of)], [(seed, i) for i in range(n * best_of)]
    found = fill(model, [score] * len(masks), masks, seeds, **drawn)
    scores = [f.score for f in found]
    chosen = best.choose(scores, best_of, rank, lambda: likelihood.mean_of_rows(model, [f.rows for f in found]))
    drawn |= {"best_of": best_of} if best_of > 1 else {}
    answers = []
    for i in chosen:
        made = provenance.asked(model.origin, seeds[i], score, scores[i], {**drawn, "cells": found[i].cells})
        answers.append(found[i]._replace(score=provenance.attach(scores[i], made)))
    return answers
