"""The phases of the `score` grammar: which kind of id may follow which, and how many ids it takes to end from there."""

from __future__ import annotations

import numpy as np

from aurljax.music.codec.vocabulary import Vocabulary

UNLIMITED = 2**30
PHASES = (
    "begin", "start", "control", "header", "first_bar", "first_meter", "first_hole", "first_position", "bar", "meter",
    "hole", "position", "coarse", "fine", "key", "chord", "track", "pedal", "pitch", "velocity", "micro", "long",
    "duration", "fill", "filled", "done",
)  # fmt: skip
CONTROL = "control"  # stands for every kind of control
OPENED = ("start", "control", "header")
MOMENT = ("position", "fine", "key", "chord")  # what is written of a position before its notes
NOTE_START = (*MOMENT, "pedal", "duration")  # where a note may begin in the track in force
BAR_BEGIN = ("bar", "meter", "hole")
BAR_END = ("meter", "hole", "fine", "key", "chord", "pedal", "duration")  # where a bar has something in it and may end
# (phases, kind of the next id) -> phase after it. The first bar must state meter, position 0 and tempo.
ARROWS = (
    (("begin",), "start", "start"),
    (("begin",), "continue", "start"),
    (("start", "control"), CONTROL, "control"),
    (OPENED, "program", "header"),
    (OPENED, "bar", "first_bar"),
    (("first_bar",), "meter", "first_meter"),
    (("first_meter", "first_hole"), "hole", "first_hole"),
    (("first_meter", "first_hole"), "position", "first_position"),
    (("first_position",), "coarse", "coarse"),
    (("bar", *BAR_END), "bar", "bar"),
    ((*BAR_END, "filled"), "end", "done"),
    (("bar",), "meter", "meter"),
    (BAR_BEGIN, "hole", "hole"),
    (("bar", *BAR_END, "fill"), "position", "position"),
    (("position",), "coarse", "coarse"),
    (("coarse",), "fine", "fine"),
    (("position", "fine"), "key", "key"),
    (("position", "fine", "key"), "chord", "chord"),
    (NOTE_START, "track", "track"),
    ((*MOMENT, "track"), "pedal", "pedal"),
    ((*NOTE_START, "track"), "pitch", "pitch"),
    (("pitch",), "velocity", "velocity"),
    (("pitch", "velocity"), "micro", "micro"),
    (("pitch", "velocity", "micro"), "long", "long"),
    (("pitch", "velocity", "micro", "long"), "duration", "duration"),
    ((*BAR_END, "filled"), "fill", "fill"),
    (("fill", "duration"), "filled", "filled"),
    (("done",), "pad", "done"),
)
KINDS = frozenset(kind for _, kind, _ in ARROWS) - {CONTROL}  # written with whatever options
# Ids that suffice to end the piece from each phase, if no hole is left to fill.
NEED = {
    "begin": 7, "start": 6, "control": 6, "header": 6, "first_bar": 5, "first_meter": 4, "first_hole": 4,
    "first_position": 3, "bar": 4, "meter": 1, "hole": 1, "position": 3, "coarse": 2, "fine": 1, "key": 1, "chord": 1,
    "track": 4, "pedal": 1, "pitch": 3, "velocity": 2, "micro": 2, "long": 2, "duration": 1, "fill": 1, "filled": 1,
    "done": 0,
}  # fmt: skip
INDEX = {phase: i for i, phase in enumerate(PHASES)}


def after(vocabulary: Vocabulary, controls: tuple[str, ...]) -> np.ndarray:
    """int32 [phases, kinds] the phase that an id of a kind leads to, -1 where it may not stand."""
    table = np.full((len(PHASES), len(vocabulary.kinds)), -1, np.int32)
    for before, kind, then in ARROWS:
        for name in controls if kind == CONTROL else (kind,):
            if name in vocabulary.index:
                table[[INDEX[p] for p in before], vocabulary.index[name]] = INDEX[then]
    return table


def need(after: np.ndarray) -> np.ndarray:
    """int32 [phases, kinds] ids that must be left after an id of a kind, for the piece to end; padding is free."""
    ids = np.array([NEED[p] for p in PHASES], np.int32)
    table = np.where(after >= 0, ids[after], UNLIMITED)
    table[INDEX["done"]] = np.where(after[INDEX["done"]] >= 0, -UNLIMITED, UNLIMITED)
    return table
