"""Demands that exclude each other, found before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from aurljax.decode.constraints.base import CLASS, Constraint
from aurljax.decode.constraints.exact import Exact
from aurljax.decode.constraints.form import Meter, Programs, Tracks
from aurljax.decode.constraints.harmony import MEMBERS, Chords, Key
from aurljax.decode.constraints.notes import Density, Range
from aurljax.errors import UserError
from aurljax.music import chords
from aurljax.music.codec.markings import NO_CHORD
from aurljax.music.codec.score_layout import DRUMS, GRID

C = TypeVar("C", bound=Constraint)


def refuse(constraints: Sequence[Constraint], asked: bool) -> None:
    """UserError, naming both, where two constraints can never be kept together. `asked`: a length is asked for."""

    def given(kind: type[C]) -> C | None:
        return next((c for c in constraints if isinstance(c, kind)), None)

    key, track, pitches, density = given(Key), given(Chords), given(Range), given(Density)
    sets = _sets(key, track)
    for name, tones in sets.items():
        if not tones[:12].any():
            raise UserError(f"{key} and {track}: no tone of {name} is in the key")
    programs = given(Programs)
    if pitches is not None:
        _sung(pitches, sets, range(DRUMS) if programs is None else programs.programs, key, track)
    meter, most = given(Meter), given(Tracks)
    if density is not None and meter is not None:
        for n, d in meter.meters:
            if density.low > 4 * GRID * n // d:
                raise UserError(f"{density} and {meter}: a bar of {n}/{d} has only {4 * GRID * n // d} positions")
    exact = given(Exact)
    if exact is not None and not asked:
        raise UserError("exact: it is the length asked for that is kept exactly; give bars or seconds too")
    needing = density if density is not None and density.low else exact
    if needing is not None and most is not None and most.high == 0:
        raise UserError(f"{needing} and {most}: without a track there are no notes")


def refuse_blind(constraints: Sequence[Constraint]) -> None:
    """UserError, naming it, for a constraint that cannot be kept where answers to holes are written."""
    if blind := next((c for c in constraints if c.blind), None):
        raise UserError(f"{blind}: it cannot be kept while masked bars are filled in; leave it out")


def _sets(key: Key | None, track: Chords | None) -> dict[str, np.ndarray]:
    """{what it is called: bool [TONES] of it that are in the key}"""
    members = np.ones(MEMBERS.shape[1], bool) if key is None else key.members
    if track is None:
        return {"the key": members}
    numbers = np.unique(track.table).tolist()
    return {_called(n): MEMBERS[n] & members for n in numbers}


def _called(number: int) -> str:
    root, quality = divmod(number, len(chords.QUALITIES))
    return "N.C." if number == NO_CHORD else chords.name(root, quality, root)


def _sung(pitches: Range, sets: dict[str, np.ndarray], programs, key: Key | None, track: Chords | None) -> None:
    table = pitches.table
    for program in programs:
        low, high = table[program].tolist()
        for name, tones in sets.items():
            if not tones[CLASS[low : high + 1]].any() and program != DRUMS:
                others = " and ".join(str(c) for c in (key, track) if c is not None)
                raise UserError(f"{pitches} and {others}: {low}-{high} has no pitch of {name}")
