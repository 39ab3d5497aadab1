"""Tasks as words on a command line, which counts bars and tracks from 1."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aurljax.errors import UserError
from aurljax.tasks import ask
from aurljax.tasks.piece import Piece

if TYPE_CHECKING:
    from aurljax.model import Model
    from aurljax.music.score import Score
    from aurljax.tasks.fill import Filled

OPTIONS = {"infill": ("in_bars", "in_tracks"), "accompany": ("given", "add"), "vary": ("share",)}


def named(args: argparse.Namespace) -> str | None:
    """The task that is asked for, None for none of these; UserError for an option of another."""
    found = next((name for name in OPTIONS if getattr(args, name)), None)
    for name, options in OPTIONS.items():
        for option in options:
            if name != found and getattr(args, option) is not None:
                raise UserError(f"--{option.replace('_', '-')} belongs to --{name}; give that too, or leave it out")
    return found


def run(name: str, model: Model, score: Score, args: argparse.Namespace, how: ask.How) -> list[Filled]:
    """The answers of a task to a piece."""
    ask.check(model)
    piece = Piece(score, model.codec)
    if name == "vary":
        return ask.vary(model, score, 0.3 if args.share is None else args.share, **how)
    if name == "accompany":
        given = [_track(piece, t, "given") for t in (args.given or "1").split(",")]
        add = [_added(text) for text in args.add.split(",")] if args.add else []
        count, places = piece.tracks, []
        for program, place in add:
            places.append((program, count if place is None else place - 1))
            count += 1
        return ask.accompany(model, score, given, places, **how)
    if args.in_bars is None and args.in_tracks is None:
        raise UserError("--infill: say where, with --in-bars 5-8, --in-tracks 2 or both")
    bars = range(piece.bars) if args.in_bars is None else _bars(args.in_bars, piece.bars)
    tracks = range(piece.tracks)
    if args.in_tracks is not None:
        tracks = [_track(piece, t, "in-tracks") for t in args.in_tracks.split(",")]
    return ask.infill(model, score, cells=piece.cells(bars, tracks), **how)


def _bars(text: str, count: int) -> list[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        a, b = _whole("in-bars", first, text), _whole("in-bars", last if dash else first, text)
        if not 1 <= a <= b <= count:
            raise UserError(f"--in-bars {text}: the piece has bars 1 to {count}, so there is no {part.strip()}")
        found |= set(range(a - 1, b))
    return sorted(found)


def _track(piece: Piece, text: str, option: str) -> int:
    text = text.strip()
    if not text.isdecimal():
        return piece.track(text)
    if not 1 <= int(text) <= piece.tracks:
        known = ", ".join(f"{i} {name}".strip() for i, name in enumerate(piece.score.names, 1))
        raise UserError(f"--{option}: the piece has tracks {known}; there is no {text}")
    return int(text) - 1


def _added(text: str) -> tuple[int, int | None]:
    program, at, place = text.strip().partition("@")
    return _whole("add", program, text), _whole("add", place, text) if at else None


def _whole(option: str, text: str, all_: str) -> int:
    if not text.isdecimal():
        raise UserError(
            f"--{option} {all_}: write whole numbers, such as 5-8,12 (bars) or 52@1 (a program and its place)"
        )
    return int(text)


def line(found: Filled) -> str:
    """What became of the cells, in words."""
    gave = f"; {found.cut} cut and {found.dropped} dropped where a locked note sounds" * bool(found.cut + found.dropped)
    windows = f" in {found.windows} windows" * (found.windows > 1)
    return f"{len(found.new)} new notes in {found.cells} cells{windows}{gave}"
