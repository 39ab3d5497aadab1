"""What no piece of a `voices` codec can keep, found before anything is sampled."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import TypeVar

from aurljax.decode.constraints.base import CLASS, Constraint
from aurljax.decode.constraints.form import Meter
from aurljax.decode.constraints.notes import Density, Longest, Polyphony, Range
from aurljax.errors import UserError
from aurljax.music.codec.voices import VoicesCodec

C = TypeVar("C", bound=Constraint)


def refuse(codec: VoicesCodec, constraints: Sequence[Constraint]) -> None:
    """UserError where a bar cannot have the notes it must, or a voice could not begin one anew."""

    def given(kind: type[C]) -> C | None:
        return next((c for c in constraints if isinstance(c, kind)), None)

    density, longest, meter, together = given(Density), given(Longest), given(Meter), given(Polyphony)
    if density is not None and codec.barlines:
        table = codec.meters.table if meter is None else meter.meters
        frames = max((4 * codec.grid * n // d for n, d in table if (n, d) in codec.meters.table), default=0)
        most = frames * min(codec.voices, together.notes if together else codec.voices)
        if density.low > most:
            raise UserError(f"{density}: a bar of this codec '{codec.name}' has at most {most} notes; ask for fewer")
    striking = longest or (density if density is not None and density.low else None)
    if striking is not None and not codec.onsets and (narrow := _narrow(constraints, given(Range) or Range())):
        raise UserError(
            f"{striking} and {narrow}: the codec '{codec.name}' without onsets strikes a note anew by another pitch, and "
            "there is but one; allow two"
        )


def _narrow(constraints: Sequence[Constraint], pitches: Range) -> str:
    """The constraints that leave one pitch at some time, or nothing."""
    low, high = pitches.table[0].tolist()
    sets = functools.reduce(operator.and_, (c.sets() for c in constraints))
    if sets[:, CLASS[low : high + 1]].sum(1).min() > 1:
        return ""
    return " and ".join(str(c) for c in constraints if isinstance(c, Range) or len(c.sets()) > 1 or not c.sets().all())
