"""Holes: cells (bar, track) of a piece that are left out where they stand and filled in behind it.

A bar names its masked tracks with a `hole` each; after the last bar, every hole is answered in order: `fill`, the
cell's notes by position and pitch, `filled`. This is the part of the `score` grammar that knows them: its registers
remember of each hole its track, bar, meter and bar line, and stand in that bar again while it is filled.
"""

from __future__ import annotations

from typing import Any

from aurljax.music.codec.vocabulary import Vocabulary

Array = Any  # numpy or jax array
State = dict[str, Array]
MOST = 256  # holes of a piece
CELL = ("track", "bar", "meter", "line")  # what is remembered of a hole


def init(zero: Array, xp) -> State:
    """Registers of no holes; `zero` [B]."""
    cells = {
        f"hole_{name}": xp.zeros((len(zero), MOST), xp.int32 if name in ("bar", "line") else xp.int16) for name in CELL
    }
    return cells | {
        "holes": zero,
        "filled": zero,  # how many of them
        "filling": zero,  # whether one is being filled
        "masked": zero,  # bits of the tracks that are left out in this bar
        "line": zero,  # position of the bar line, from the first one
    }


def enter(s: State, is_: dict[str, Array], value: Array, bar_lengths: Array, xp) -> tuple[State, Array]:
    """(registers after an id, positions by which the bar line has moved since notes' ends were noted [B]).

    At `fill` the bar's registers become those of the hole's bar. What sounds there of the piece is not known: notes of
    the first cell may begin whatever is sounding, those of later ones know what the cells before have struck.
    """
    bar, hole, fill = is_["bar"], is_["hole"], is_["fill"]
    line = s["line"] + xp.where(bar, s["bar_length"], 0)
    now = {"track": value, "bar": s["bar"], "meter": s["meter"], "line": line}
    slot = xp.arange(MOST)
    here = (slot == s["holes"][:, None]) & hole[:, None]
    cells = {
        f"hole_{name}": xp.where(here, now[name][:, None].astype(s[f"hole_{name}"].dtype), s[f"hole_{name}"])
        for name in CELL
    }
    mine = slot == s["filled"][:, None]
    cell = {name: xp.sum(xp.where(mine, cells[f"hole_{name}"], 0), 1).astype(xp.int32) for name in CELL}
    forgotten = xp.where(s["filled"] == 0, 2**14, cell["line"] - line)
    moved = xp.where(bar, s["bar_length"], xp.where(fill, forgotten, 0))
    entered = {
        "holes": s["holes"] + hole,
        "filled": s["filled"] + is_["filled"],
        "filling": xp.where(fill, 1, xp.where(is_["filled"], 0, s["filling"])),
        "masked": xp.where(bar, 0, xp.where(hole, s["masked"] | (1 << xp.minimum(value, 15)), s["masked"])),
        "line": xp.where(fill, cell["line"], line),
        "bar": xp.where(fill, cell["bar"], s["bar"]),
        "meter": xp.where(fill, cell["meter"], s["meter"]),
        "bar_length": xp.where(fill, bar_lengths[cell["meter"]], s["bar_length"]),
        "track": xp.where(fill, cell["track"], s["track"]),
    }
    return s | cells | entered, moved


def cost(s: State, vocabulary: Vocabulary, xp) -> Array:
    """[B, kinds] ids that it takes, after an id of a kind, to fill what is left: two for a hole, one for one begun."""
    index, filling = vocabulary.index, s["filling"][:, None]
    kind = xp.arange(len(index))[None]
    is_hole, is_fill, is_filled = (kind == index[k] for k in ("hole", "fill", "filled"))
    left = (s["holes"] - s["filled"])[:, None] + is_hole - is_filled
    begun = ((filling == 1) | is_fill) & ~is_filled
    return 2 * left - begun + ((filling == 1) & (kind == index["position"]))  # there a note must follow


def allowed(s: State, free: Array, xp) -> dict[str, Array]:
    """{kind: [B, values or 1]} what holes forbid: all that is not of the cell being filled, notes of masked tracks, an
    end before all is filled. `free` [B]: whether the track in force has a pitch that does not sound."""
    piece = (s["filling"] == 0)[:, None]
    track = xp.arange(16)[None]
    open_ = xp.where(s["masked"][:, None] >> track & 1, False, True)  # [B, tracks]
    mine = xp.any(open_ & (track == s["track"][:, None]), 1)[:, None]
    left = (s["holes"] > s["filled"])[:, None]
    pedals = "pedal" in s  # of a masked track too
    return {
        **dict.fromkeys(("bar", "coarse", "key", "chord", "pedal"), piece),
        "end": piece & ~left,
        "hole": (s["masked"][:, None] >> track == 0) & (track < s["tracks"][:, None]) & (s["holes"] < MOST)[:, None],
        "fill": piece & left,
        "filled": ~piece,
        "track": piece & (open_ | pedals),
        "pitch": ~piece | mine,
        "position": piece | free[:, None],
    }
