"""The grammar's per-token features of a whole sequence at once, for batches."""

from __future__ import annotations

import numpy as np

from aurljax.music.codec.event_grammar import OPEN, RATE, EventGrammar
from aurljax.music.codec.grammar import BARS, PITCHES, TRACKS, Grammar
from aurljax.music.codec.phases import CONTROL, INDEX

FIRST = ("bar", "meter", "hole", "position")  # kinds whose phase differs in the first bar
PHASE_OF = {"continue": "start", "program": "header", "end": "done", "pad": "done"}


def of_score(grammar: Grammar, ids: np.ndarray) -> dict[str, np.ndarray]:
    """{name: int32 [T]}; equal to `Grammar.advance` and `Grammar.features` over every id of a `score` sequence."""
    v = grammar.vocabulary
    kind, value = v.kind[ids], v.value[ids]
    index = np.arange(len(ids))

    def latest(where: np.ndarray, found: np.ndarray, otherwise: int) -> np.ndarray:
        at = np.maximum.accumulate(np.where(where, index, -1))
        return np.where(at >= 0, found[at], otherwise)

    is_ = {name: kind == i for name, i in v.index.items()}
    bar = np.cumsum(is_["bar"]) - 1
    phase = _phases(grammar, kind, is_, bar)
    meter = latest(is_["meter"], value + 1, 0)
    track = latest(is_["track"] | is_["fill"] if grammar.infill else is_["track"], np.where(is_["track"], value, -1), -1)
    line, first = is_["bar"], len(ids)  # where a bar is entered; the first id of answers to holes
    if grammar.infill and is_["fill"].any():
        first = int(np.argmax(is_["fill"]))
        bar, meter, line = _filled(is_, bar, meter)
    position = latest(is_["position"] | line, np.where(is_["position"], value + 1, 0), 0)
    out = {
        "phase": phase,
        "position": position,
        "bar": np.where(bar < 0, BARS, bar % BARS),
        "meter": meter,
        "track": track + 1,
        "last": _last_pitch(track, bar, is_["pitch"], value, first),
        "elapsed": _line(grammar, is_["bar"], bar, meter) + np.maximum(position - 1, 0),
    }
    for name in grammar.stated:
        stated = name == "key"
        out[name] = latest(is_[name], value + stated, 0 if stated else v.size(name) - 1)
    if grammar.infill:
        filling = np.cumsum(is_["fill"]) - np.cumsum(is_["filled"])
        out["filling"] = filling
        out["next"] = np.where(filling == 1, _next_pitch(track, bar, is_["pitch"], value, first), PITCHES)
        out["coming"] = np.where(filling == 1, _coming(is_, value, track, bar), TRACKS)
    return {name: x.astype(np.int32) for name, x in out.items()}


def _line(grammar: Grammar, begins: np.ndarray, bar: np.ndarray, meter: np.ndarray) -> np.ndarray:
    """[T] position of the bar line, from the first one."""
    before_next = np.flatnonzero(begins)[1:] - 1  # the last id of each bar but the last knows its meter
    lines = np.append(0, np.cumsum(grammar.bar_lengths[meter[before_next] - 1]))
    return lines[np.maximum(bar, 0)]


def _phases(grammar: Grammar, kind: np.ndarray, is_: dict[str, np.ndarray], bar: np.ndarray) -> np.ndarray:
    kinds = (CONTROL if k in grammar.controls else PHASE_OF.get(k, k) for k in grammar.vocabulary.index)
    phase = np.array([INDEX[k] for k in kinds], np.int32)[kind]
    opening = (bar == 0) & (np.cumsum(is_["position"]) <= 1)  # bar, meter, holes, position 0 of the first bar
    for name in FIRST:
        if name in is_:
            phase[is_[name] & opening] = INDEX[f"first_{name}"]
    return phase


def _filled(is_: dict[str, np.ndarray], bar: np.ndarray, meter: np.ndarray) -> tuple[np.ndarray, ...]:
    """[T] bar and meter, which from the first `fill` on are those of the bar it fills, and where a bar is entered."""
    (hole,) = np.nonzero(is_["hole"])
    hole = hole[np.diff(bar[hole], prepend=-1) > 0]  # the first one of each bar
    which = np.cumsum(is_["fill"])
    at = hole[which - 1]
    return np.where(which > 0, bar[at], bar), np.where(which > 0, meter[at], meter), is_["bar"] | is_["fill"]


def _last_pitch(
    track: np.ndarray, bar: np.ndarray, is_pitch: np.ndarray, value: np.ndarray, first: int
) -> np.ndarray:
    """[T] the pitch of the track in force that was written last, and from id `first` on that of the last bar before the
    one that is filled, the answers before it read where they belong; PITCHES where there is none."""
    piece = slice(0, first)
    out = _latest(track[piece], is_pitch[piece], value[piece])
    if first == len(track):
        return out
    order = np.argsort(bar, kind="stable")
    found = np.empty(len(track), np.int32)
    found[order] = _latest(track[order], is_pitch[order], value[order])
    return np.append(out, found[first:])


def _latest(track: np.ndarray, is_pitch: np.ndarray, value: np.ndarray) -> np.ndarray:
    order = np.argsort(track, kind="stable")
    t, at = track[order], np.arange(len(track))
    opens = np.append(True, t[1:] != t[:-1])[: len(t)]
    group = np.maximum.accumulate(np.where(opens, at, 0))
    latest = np.maximum.accumulate(np.where(is_pitch[order], at, -1))
    out = np.empty(len(track), np.int32)
    out[order] = np.where((latest >= group) & (t >= 0), value[order][latest], PITCHES)
    return out


def _next_pitch(track: np.ndarray, bar: np.ndarray, is_pitch: np.ndarray, value: np.ndarray, first: int) -> np.ndarray:
    """[T] the first pitch of the track in force that the piece, which ends at id `first`, has in a later bar."""
    (at,) = np.nonzero(is_pitch[:first])
    at = at[np.argsort(track[at], kind="stable")]
    place = np.searchsorted((track[at].astype(np.int64) << 32) + bar[at], (track.astype(np.int64) << 32) + bar, "right")
    found = at[np.minimum(place, len(at) - 1)] if len(at) else np.zeros(len(track), np.int64)
    behind = (place < len(at)) & (track >= 0)
    return np.where(behind & (track[found] == track), value[found], PITCHES)


def _coming(is_: dict[str, np.ndarray], value: np.ndarray, track: np.ndarray, bar: np.ndarray) -> np.ndarray:
    """[T] the lowest track masked in this bar of which nothing is written yet at this position; TRACKS: none."""
    masked = np.zeros(max(int(bar.max(initial=0)), 0) + 1, np.int64)
    np.bitwise_or.at(masked, bar[is_["hole"]], 1 << value[is_["hole"]].astype(np.int64))
    index = np.arange(len(track))
    used = np.maximum.accumulate(np.where(is_["track"] | is_["pitch"], index, -1))
    moment = np.maximum.accumulate(np.where(is_["position"] | is_["fill"], index, -1))
    below = np.where(used > moment, track + 1, 0)  # tracks that may not come any more
    left = masked[np.maximum(bar, 0)] >> below << below
    return np.where(left > 0, np.log2(np.maximum(left & -left, 1)).astype(int), TRACKS)


def of_event(grammar: EventGrammar, ids: np.ndarray) -> dict[str, np.ndarray]:
    """{name: int32 [T]}; equal to `EventGrammar.advance` and `EventGrammar.features` over every id of a sequence."""
    v = grammar.vocabulary
    kind, value = v.kind[ids], v.value[ids]
    index = np.arange(len(ids), dtype=np.int32)

    def in_force(name: str) -> np.ndarray:
        at = np.maximum.accumulate(np.where(kind == v.index[name], index, -1))
        return np.where(at >= 0, value[at] + 1, 0).astype(np.int32)

    change = np.zeros(len(v.kinds), np.int32)
    change[v.index["on"]], change[v.index["off"]] = 1, -1
    now = np.cumsum(np.where(kind == v.index["shift"], value + 1, 0))
    return {
        "phase": grammar.after[kind],
        "instrument": in_force("instrument"),
        "open": np.minimum(np.cumsum(change[kind]), OPEN).astype(np.int32),
        "velocity": in_force("velocity"),
        "time": (now % RATE).astype(np.int32),
    }
