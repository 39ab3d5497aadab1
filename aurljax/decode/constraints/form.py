"""What the piece stands in: meter, tempo, instruments."""

from __future__ import annotations

import dataclasses

import numpy as np

from aurljax.decode.constraints.base import Array, Constraint, State
from aurljax.errors import UserError
from aurljax.music.codec import Codec, tempo
from aurljax.music.codec.grammar import TRACKS
from aurljax.music.codec.score import METERS
from aurljax.music.codec.score_layout import DRUMS
from aurljax.music.codec.voices import VoicesCodec


@dataclasses.dataclass(frozen=True)
class Meter(Constraint):
    """Only these meters, (numerator, denominator) each."""

    meters: tuple[tuple[int, int], ...]
    told = ("meter",)
    codecs = ("score", "voices")

    def __str__(self) -> str:
        return "meter " + ",".join(f"{n}/{d}" for n, d in self.meters)

    def __post_init__(self):
        object.__setattr__(self, "meters", tuple(tuple(m) for m in self.meters))

    def init(self, codec: Codec) -> State:
        table = codec.meters.table if isinstance(codec, VoicesCodec) else METERS
        if "meter" not in codec.vocabulary.index:
            raise UserError(f"{self}: this codec '{codec.name}' writes no meters; leave it out")
        if lacking := next((m for m in self.meters if m not in table), None):
            longest = {d: max(n for n, e in table if e == d) for d in dict.fromkeys(d for _, d in table)}
            can = ", ".join(f"n/{d} to {n}" for d, n in longest.items())
            raise UserError(f"meter: the codec '{codec.name}' has no {lacking[0]}/{lacking[1]}; it writes {can}")
        return {"meters": np.array([m in self.meters for m in table])}

    @staticmethod
    def ids(now, xp) -> dict[str, Array]:
        return {"meter": now.r["meters"]}


@dataclasses.dataclass(frozen=True)
class Tempo(Constraint):
    """Quarters a minute, from low to high; where both are equal, the nearest step of the codec, 0.05 % apart."""

    low: float
    high: float
    told = ("fine", "tempo")
    codecs = ("score", "voices")

    def __str__(self) -> str:
        return f"tempo {self.low:g}" + f"-{self.high:g}" * (self.high > self.low)

    def __post_init__(self):
        if not tempo.SLOWEST <= self.low <= self.high <= tempo.FASTEST:
            raise UserError(
                f"tempo: {self.low:g}-{self.high:g} is no band within {tempo.SLOWEST:g}..{tempo.FASTEST:g} a minute"
            )

    @property
    def steps(self) -> tuple[int, int]:
        """Slowest and fastest step of the codec."""
        minute = 60e6 / tempo.USEC
        (inside,) = np.nonzero((minute >= self.low) & (minute <= self.high))
        nearest = tempo.step_of(120e6 / (self.low + self.high))
        return (nearest, nearest) if self.low == self.high or not len(inside) else (int(inside[0]), int(inside[-1]))

    def init(self, codec: Codec) -> State:
        if isinstance(codec, VoicesCodec):
            if "tempo" not in codec.vocabulary.index:
                raise UserError(f"{self}: this codec '{codec.name}' writes no tempo; leave it out")
            inside = (60e6 / codec.tempi >= self.low) & (60e6 / codec.tempi <= self.high)
            nearest = np.argmin(np.abs(60e6 / codec.tempi - (self.low + self.high) / 2))
            return {"tempi": inside if inside.any() else np.arange(len(inside)) == nearest}
        slow, fast = self.steps
        return {"slow": np.int32(slow), "fast": np.int32(fast)}

    @staticmethod
    def ids(now, xp) -> dict[str, Array]:
        """A `coarse` is open if one of its steps other than that in force is in the band."""
        if "tempi" in now.r:
            return {"tempo": now.r["tempi"]}
        slow, fast, s = now.r["slow"][:, None], now.r["fast"][:, None], now.s
        first = xp.arange(tempo.COARSE)[None] * tempo.FINE
        low, high = xp.maximum(slow, first), xp.minimum(fast, first + tempo.FINE - 1)
        current = s["tempo"][:, None]
        step = xp.maximum(s["coarse"], 0)[:, None] * tempo.FINE + xp.arange(tempo.FINE)
        return {
            "coarse": high - low + 1 - ((current >= low) & (current <= high)) > 0,
            "fine": (step >= slow) & (step <= fast),
        }


@dataclasses.dataclass(frozen=True)
class Programs(Constraint):
    """Tracks of these General MIDI programs only (0..127, 128: drums)."""

    programs: tuple[int, ...]
    told = ("program", "instrument", "on")
    codecs = ("score", "event")

    def __str__(self) -> str:
        return "programs " + ",".join("drums" if p == DRUMS else str(p) for p in self.programs)

    def __post_init__(self):
        if not self.programs or not all(0 <= p <= DRUMS for p in self.programs):
            raise UserError(f"programs: {list(self.programs)} must be numbers 0..127, or drums")

    def init(self, codec: Codec) -> State:
        return {"programs": np.isin(np.arange(DRUMS + 1), self.programs)}

    @staticmethod
    def ids(now, xp) -> dict[str, Array]:
        return {"program": now.r["programs"]}


@dataclasses.dataclass(frozen=True)
class Tracks(Constraint):
    """From low to high tracks."""

    low: int = 0
    high: int = TRACKS
    told = ("program", "bar")

    def __str__(self) -> str:
        return f"tracks {self.low}-{self.high}"

    def __post_init__(self):
        if not 0 <= self.low <= self.high <= TRACKS:
            raise UserError(f"tracks: {self.low}-{self.high} is no band within 0..{TRACKS}")

    def init(self, codec: Codec) -> State:
        return {"fewest_tracks": np.int32(self.low), "most_tracks": np.int32(self.high)}

    @staticmethod
    def ids(now, xp) -> dict[str, Array]:
        written = now.s["tracks"]
        return {
            "program": (written < now.r["most_tracks"])[:, None],
            "bar": (~now.header | (written >= now.r["fewest_tracks"]))[:, None],
        }
