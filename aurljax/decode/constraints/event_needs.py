"""What no piece of an `event` codec can keep, found before anything is sampled."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from aurljax.decode.constraints.base import CLASS, Constraint
from aurljax.decode.constraints.form import Programs
from aurljax.decode.constraints.notes import Range
from aurljax.errors import UserError
from aurljax.music.codec.event import EventCodec
from aurljax.music.codec.event_grammar import INSTRUMENTS, LOW, PITCHES

PLAYED = range(0, 8 * INSTRUMENTS, 8)


def refuse(codec: EventCodec, constraints: Sequence[Constraint]) -> None:
    """UserError where instruments are none of the codec's, or no note could begin at some time."""
    pitches = next((c for c in constraints if isinstance(c, Range)), Range())
    programs = next((c for c in constraints if isinstance(c, Programs)), Programs(tuple(PLAYED)))
    for c, numbers in ((pitches, [p for p, _, _ in pitches.programs]), (programs, programs.programs)):
        if wrong := [p for p in numbers if p not in PLAYED]:
            raise UserError(
                f"{c}: the codec '{codec.name}' writes eight programs as one, 0, 8, ... 120, and no drums; {wrong[0]} is "
                "none of them"
            )
    sets = functools.reduce(operator.and_, (c.sets() for c in constraints))
    table = pitches.table[list(programs.programs)].tolist()
    played = [slice(max(low, LOW), max(min(high + 1, LOW + PITCHES), LOW)) for low, high in table]
    if not functools.reduce(operator.or_, (sets[:, CLASS[part]].any(1) for part in played)).all():
        narrow = " and ".join(str(c) for c in constraints if isinstance(c, Range) or not c.sets().all())
        raise UserError(
            f"{narrow}: the codec '{codec.name}' writes pitches {LOW}-{LOW + PITCHES - 1}, and at some time none is left; "
            "loosen one"
        )
