"""Hard constraints inside the sampling loop, and voice leading as a price: what a musician asks of new music."""

from aurljax.decode.constraints.base import Constraint
from aurljax.decode.constraints.conjunction import Kinds, kinds, registers, rules
from aurljax.decode.constraints.contradictions import refuse, refuse_blind
from aurljax.decode.constraints.exact import Exact
from aurljax.decode.constraints.form import Meter, Programs, Tempo, Tracks
from aurljax.decode.constraints.harmony import Chords, Key
from aurljax.decode.constraints.leading import Leap, Parallels
from aurljax.decode.constraints.notes import Density, Longest, Polyphony, Range, TrackPolyphony
from aurljax.decode.constraints.replay import check, check_all, check_piece, decoded, decoded_row

__all__ = [
    "Chords",
    "Constraint",
    "Density",
    "Exact",
    "Key",
    "Kinds",
    "Leap",
    "Longest",
    "Meter",
    "Parallels",
    "Polyphony",
    "Programs",
    "Range",
    "Tempo",
    "TrackPolyphony",
    "Tracks",
    "check",
    "check_all",
    "check_piece",
    "decoded",
    "decoded_row",
    "kinds",
    "refuse",
    "refuse_blind",
    "registers",
    "rules",
]
