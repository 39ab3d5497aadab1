"""The per-token features of the `voices` codec over a whole sequence at once, for batches."""

from __future__ import annotations

import numpy as np

from aurljax.music.codec.grammar import BARS
from aurljax.music.codec.voices_grammar import NONE, REST, SPAN, STEP, VoicesGrammar, interval


def of_voices(grammar: VoicesGrammar, ids: np.ndarray) -> dict[str, np.ndarray]:
    """{name: int32 [T]}; equal to `VoicesGrammar.advance` and `.features` over every id of a `voices` sequence."""
    v, voices = grammar.vocabulary, grammar.voices
    kind, value = v.kind[ids], v.value[ids]
    cell = kind >= v.index["rest"]
    count = np.cumsum(cell)  # cells so far, hence the index of the next one
    voice = count % voices
    sound, age, step = _cells(grammar, kind[cell], value[cell])
    if grammar.barlines:
        frame, line, begun, meter = _bars(grammar, kind, value, cell, count)
    else:
        frame, line = count // voices % grammar.block, cell & (voice == 0)
        begun, meter = -(-count // (voices * grammar.block)), None
    phase = np.where(cell, np.where(line, grammar.phase.line, grammar.phase.cells), grammar.phase_of[kind])

    def ago(k: int, of: np.ndarray, otherwise: int) -> np.ndarray:
        """[T] what `of` says about the k-th cell before the next one."""
        return np.where(count >= k, of[count - k], otherwise)

    out = {
        "phase": phase,
        "voice": voice,
        "position": frame,
        "bar": np.where(begun > 0, (begun - 1) % BARS, BARS),
        "last": ago(voices, sound, NONE),
        "age": ago(voices, age, 0),
    }
    if meter is not None:
        out["meter"] = meter + 1
    if not grammar.intervals:
        out["above"] = np.where(voice > 0, sound[count - 1], NONE)
    else:
        out["step"] = ago(voices, step, 2 * STEP + 1)
        for k in range(1, voices):
            out[f"sound_{k}"] = ago(k, sound, NONE)
            out[f"interval_{k}"] = interval(out[f"sound_{k}"], out["last"], SPAN)
            out[f"step_{k}"], out[f"age_{k}"] = ago(k, step, 2 * STEP + 1), ago(k, age, 0)
    return {name: x.astype(np.int32) for name, x in out.items()}


def _bars(grammar: VoicesGrammar, kind, value, cell, count) -> tuple[np.ndarray, ...]:
    """[T] each: frame in the bar of the next cell, whether the bar is full, bars begun, meter (-1: none yet)."""
    index, number = np.arange(len(kind)), grammar.vocabulary.index

    def latest(name: str) -> np.ndarray:
        return np.maximum.accumulate(np.where(kind == number[name], index, -1))

    bar, at = latest("bar"), latest("meter")
    meter = np.where(at >= 0, value[at], -1)
    length = np.where(at >= 0, grammar.lengths[meter], 0)
    inside = np.where(bar >= 0, count - count[bar], 0)
    full = (inside == length * grammar.voices) & (inside > 0)
    return np.where(full, 0, inside // grammar.voices), cell & full, np.cumsum(kind == number["bar"]), meter


def _cells(grammar: VoicesGrammar, kind: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[cells] what each sounds, for how many frames so far, and how its voice came there; one more at the end, so that any
    index is inside."""
    n, voices, number = len(kind), grammar.voices, grammar.vocabulary.index
    frames = -(-(n + 1) // voices)
    kind = np.append(kind, np.full(frames * voices - n, number["rest"])).reshape(frames, voices)
    sound = np.full(frames * voices, REST)
    sound[:n] = value
    sound = np.where(kind == number["pitch"], sound.reshape(frames, voices), REST)
    held = kind == number.get("hold", -1)
    goes_on = held.copy()
    same = (sound[1:] == sound[:-1]) & (kind[1:] == kind[:-1])
    goes_on[1:] |= same & ~((kind[1:] == number["pitch"]) & grammar.onsets)
    row = np.arange(frames)[:, None]
    head = np.maximum.accumulate(np.where(goes_on, 0, row), 0)
    sound = np.take_along_axis(sound, head, 0)
    before = np.where(head > 0, np.take_along_axis(sound, np.maximum(head - 1, 0), 0), NONE)
    step = interval(sound, before, STEP) if grammar.intervals else before
    return sound.ravel(), np.minimum(row - head + 1, grammar.oldest).ravel(), step.ravel()
