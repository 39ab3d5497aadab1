"""The grammar's per-token features of a whole sequence at once, for batches."""

from __future__ import annotations

import numpy as np

from aurljax.music.codec.event_grammar import OPEN, RATE, EventGrammar
from aurljax.music.codec.grammar import BARS, PITCHES, Grammar
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
    track, line = latest(is_["track"], value, -1), is_["bar"]
    if grammar.infill and is_["fill"].any():
        track, bar, meter, line = _filled(is_, value, track, bar, meter)
    out = {
        "phase": phase,
        "position": latest(is_["position"] | line, np.where(is_["position"], value + 1, 0), 0),
        "bar": np.where(bar < 0, BARS, bar % BARS),
        "meter": meter,
        "track": track + 1,
        "last": _last_pitch(track, is_["pitch"], value),
    }
    for name in grammar.stated:
        stated = name == "key"
        out[name] = latest(is_[name], value + stated, 0 if stated else v.size(name) - 1)
    if grammar.infill:
        out["filling"] = np.cumsum(is_["fill"]) - np.cumsum(is_["filled"])
    return {name: x.astype(np.int32) for name, x in out.items()}


def _phases(grammar: Grammar, kind: np.ndarray, is_: dict[str, np.ndarray], bar: np.ndarray) -> np.ndarray:
    kinds = (CONTROL if k in grammar.controls else PHASE_OF.get(k, k) for k in grammar.vocabulary.index)
    phase = np.array([INDEX[k] for k in kinds], np.int32)[kind]
    opening = (bar == 0) & (np.cumsum(is_["position"]) <= 1)  # bar, meter, holes, position 0 of the first bar
    for name in FIRST:
        if name in is_:
            phase[is_[name] & opening] = INDEX[f"first_{name}"]
    return phase


def _filled(is_, value, track, bar, meter) -> tuple[np.ndarray, ...]:
    """[T] track, bar and meter, which from the first `fill` on are those of its hole, and where a bar is entered."""
    (hole,) = np.nonzero(is_["hole"])
    which = np.minimum(np.cumsum(is_["fill"]), len(hole))
    at = hole[which - 1]
    answered = ((value[at], track), (bar[at], bar), (meter[at], meter))
    return *(np.where(which > 0, hole, piece) for hole, piece in answered), is_["bar"] | is_["fill"]


def _last_pitch(track: np.ndarray, is_pitch: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[T] the last pitch written in the track in force, PITCHES where there is none."""
    order = np.argsort(track, kind="stable")
    t, at = track[order], np.arange(len(track))
    opens = np.append(True, t[1:] != t[:-1])[: len(t)]
    group = np.maximum.accumulate(np.where(opens, at, 0))
    latest = np.maximum.accumulate(np.where(is_pitch[order], at, -1))
    out = np.empty(len(track), np.int32)
    out[order] = np.where((latest >= group) & (t >= 0), value[order][latest], PITCHES)
    return out


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
