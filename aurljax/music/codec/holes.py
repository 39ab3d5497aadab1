"""Holes: cells (bar, track) of a piece that are left out where they stand and filled in behind it, bar by bar.

A bar names its masked tracks with a `hole` each; after the last bar, every bar with holes is answered in order: `fill`,
the notes of its masked tracks as in any bar, `filled`. This is the part of the `score` grammar that knows them: its
registers remember of each such bar its masked tracks, bar number, meter and bar line, stand in that bar again while it is
filled, and know of each track the pitches that sound last before the hole and first behind it.
"""

from __future__ import annotations

from typing import Any

from aurljax.music.codec.vocabulary import Vocabulary

Array = Any  # numpy or jax array
State = dict[str, Array]
TRACKS, PITCHES = 16, 128
MOST = 128  # bars with holes of a piece
BAR = ("tracks", "bar", "meter", "line", "since")  # what is remembered of a bar with holes: a number each
SIDES = ("last", "next")  # and a pitch of each track, PITCHES for none


def init(zero: Array, xp) -> State:
    """Registers of no holes; `zero` [B]."""
    size = (len(zero), MOST)
    bars = {f"hole_{name}": xp.zeros(size, xp.int32) for name in BAR}
    sides = {f"hole_{name}": xp.full((*size, TRACKS), PITCHES, xp.int16) for name in SIDES}
    return bars | sides | {
        "holes": zero,  # how many bars have some
        "filled": zero,  # how many of those are filled
        "filling": zero,  # whether one is being filled
        "masked": zero,  # bits of the tracks that are left out in this bar, or are filled in
        "since": zero,  # bits of the tracks that were left out in a bar after their last pitch
        "next": xp.full((len(zero), TRACKS), PITCHES, xp.int16),  # the first pitch of each track behind the bar filled
    }  # fmt: skip


def enter(s: State, is_: dict[str, Array], value: Array, bar_lengths: Array, xp) -> tuple[State, Array]:
    """(registers after an id, positions by which the bar line has moved since notes' ends were noted [B]).

    At `fill` the bar's registers become those of the bar to fill. What sounds there of the piece is not known: notes of
    the first answer may begin whatever is sounding, those of later ones know what the answers before have struck.
    """
    bar, hole, fill = is_["bar"], is_["hole"], is_["fill"]
    s = _noted(s | {"masked": xp.where(bar, 0, s["masked"])}, is_, value, xp)
    mine = xp.arange(MOST) == s["filled"][:, None]
    of_bar = {name: xp.sum(xp.where(mine, s[f"hole_{name}"], 0), 1).astype(xp.int32) for name in BAR}
    last, after = (xp.sum(xp.where(mine[:, :, None], s[f"hole_{name}"], 0), 1).astype(xp.int16) for name in SIDES)
    answered = (of_bar["since"][:, None] >> xp.arange(TRACKS) & 1) == 1  # its last pitch is that of an answer
    forgotten = xp.where(s["filled"] == 0, 2**14, of_bar["line"] - s["line"])
    moved = xp.where(bar, s["bar_length"], xp.where(fill, forgotten, 0))
    entered = {
        "holes": s["holes"] + (hole & (s["masked"] == 0)),
        "filled": s["filled"] + is_["filled"],
        "filling": xp.where(fill, 1, xp.where(is_["filled"], 0, s["filling"])),
        "masked": xp.where(fill, of_bar["tracks"], xp.where(hole, s["masked"] | _bit(value, xp), s["masked"])),
        "line": xp.where(fill, of_bar["line"], s["line"]),
        "next": xp.where(fill[:, None], after, s["next"]),
        "last": xp.where(fill[:, None] & ~answered, last, s["last"]),
        "bar": xp.where(fill, of_bar["bar"], s["bar"]),
        "meter": xp.where(fill, of_bar["meter"], s["meter"]),
        "bar_length": xp.where(fill, bar_lengths[of_bar["meter"]], s["bar_length"]),
        "track": xp.where(fill, -1, s["track"]),
    }
    return s | entered, moved


def _bit(track: Array, xp) -> Array:
    return 1 << xp.minimum(track, TRACKS - 1)


def _noted(s: State, is_: dict[str, Array], value: Array, xp) -> State:
    """Registers in which a hole has its bar remembered, and a pitch of the piece is known to the bars before it."""
    hole, struck = is_["hole"], is_["pitch"] & (s["filling"] == 0)
    first, slot = hole & (s["masked"] == 0), xp.arange(MOST)
    now = {"tracks": _bit(value, xp), "bar": s["bar"], "meter": s["meter"], "line": s["line"], "since": s["since"]}
    opened = (slot == s["holes"][:, None]) & first[:, None]
    more = (slot == s["holes"][:, None] - 1) & (hole & ~first)[:, None]
    bars = {f"hole_{name}": xp.where(opened, now[name][:, None], s[f"hole_{name}"]) for name in BAR}
    bars["hole_tracks"] = bars["hole_tracks"] | xp.where(more, now["tracks"][:, None], 0)
    own = (xp.arange(TRACKS) == s["track"][:, None]) & struck[:, None]
    waits = (slot < s["holes"][:, None])[:, :, None] & (s["hole_next"] == PITCHES) & own[:, None]
    seen = xp.where(struck, s["since"] & ~_bit(xp.maximum(s["track"], 0), xp), s["since"])
    return s | bars | {
        "hole_last": xp.where(opened[:, :, None], s["last"][:, None], s["hole_last"]),
        "hole_next": xp.where(waits, value[:, None, None].astype(xp.int16), s["hole_next"]),
        "since": xp.where(hole, s["since"] | now["tracks"], seen),
    }  # fmt: skip


def cost(s: State, vocabulary: Vocabulary, xp) -> Array:
    """[B, kinds] ids that it takes, after an id of a kind, to fill what is left: two for a bar, one for one begun."""
    index, filling = vocabulary.index, s["filling"][:, None] == 1
    kind = xp.arange(len(index))[None]
    is_hole, is_fill, is_filled = (kind == index[k] for k in ("hole", "fill", "filled"))
    left = (s["holes"] - s["filled"])[:, None] + (is_hole & (s["masked"] == 0)[:, None]) - is_filled
    begun = (filling | is_fill) & ~is_filled
    return 2 * left - begun + 2 * (filling & (kind == index["position"]))  # there a track and a note must follow


def open_tracks(s: State, xp) -> Array:
    """[B, tracks] those of which notes may be written: in the piece all but the masked ones, in an answer these."""
    return (s["masked"][:, None] >> xp.arange(TRACKS) & 1) == s["filling"][:, None]


def coming(s: State, xp) -> Array:
    """[B] in an answer, the lowest track of which notes may be written and none is yet at this position; else TRACKS."""
    number = xp.arange(TRACKS)
    above = (s["noted"] == 0)[:, None] | (number > s["track"][:, None])
    waiting = above & open_tracks(s, xp) & (s["filling"] == 1)[:, None]
    return xp.min(xp.where(waiting, number, TRACKS), 1)


def allowed(s: State, free: Array, xp) -> dict[str, Array]:
    """{kind: [B, values or 1]} what holes forbid: in the piece notes of masked tracks, in an answer all but these, and an
    end before all is filled. `free` [B, tracks]: whether a track has a pitch that does not sound."""
    piece = (s["filling"] == 0)[:, None]
    track, open_ = xp.arange(TRACKS)[None], open_tracks(s, xp)
    mine = xp.any(open_ & (track == s["track"][:, None]), 1)[:, None]
    left = (s["holes"] > s["filled"])[:, None]
    room = (s["masked"] > 0) | (s["holes"] < MOST)
    return {
        **dict.fromkeys(("bar", "coarse", "key", "chord", "pedal"), piece),
        "end": piece & ~left,
        "hole": (s["masked"][:, None] >> track == 0) & (track < s["tracks"][:, None]) & room[:, None],
        "fill": piece & left,
        "filled": ~piece,
        "track": (open_ & free) | piece if "pedal" in s else open_ & free,  # pedals of masked tracks stay
        "pitch": mine,
        "position": piece | xp.any(open_ & free, 1)[:, None],
    }
