"""What the constraints say of ids that are there: a prompt that breaks one, and why a row ended before its time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aurljax.decode.constraints.base import Constraint
from aurljax.decode.constraints.conjunction import kinds, registers, rules
from aurljax.decode.constraints.contradictions import refuse_blind
from aurljax.decode.constraints.exact import Exact, at_least
from aurljax.errors import UserError
from aurljax.music.codec import Codec
from aurljax.music.codec.grammar import UNLIMITED
from aurljax.music.score import Score

Limits = tuple[int, int, float]  # ids, bars, seconds left for what is new


class Replay:
    """The interpreter of grammar and constraints over one row of ids; `s` and `r` are their registers after it."""

    def __init__(self, codec: Codec, constraints: Sequence[Constraint]):
        self.codec, self.constraints = codec, tuple(constraints)
        self.rules = rules(codec, kinds(constraints))
        self.s, self.r = codec.grammar.init(1), registers(codec, constraints, 1)

    def read(self, id: int) -> None:
        """Goes on by an id."""
        one = np.array([id])
        then = self.codec.grammar.advance(self.s, one)
        self.s, self.r = then, self.rules.advance(self.s, self.r, one)

    def follow(self, ids: np.ndarray) -> tuple[int, Constraint] | None:
        """Goes on by ids up to one that breaks a constraint: (its bar, from 1; the constraint)."""
        v, told = self.codec.vocabulary, {k for c in self.constraints for k in c.told}
        for id in ids.tolist():
            kind = v.kinds[v.kind[id]][0]
            if kind in told and not self.allowed(self.constraints)[id]:
                for c in self.constraints:
                    if kind in c.told and not self.allowed([c])[id]:
                        return max(self.bar, 1), c
            self.read(id)
        return None

    def begin(self, limits: Limits) -> None:
        """Stands where the prompt ends."""
        left, bars, seconds = limits
        new = {"left": np.array([left], np.int32), "bars_left": np.array([bars], np.int32)}
        self.s = self.s | new | {"seconds": (self.s["clock"] + np.float32(seconds)).astype(np.float32)}
        self.r = self.rules.begin(self.s, self.r)

    def allowed(self, constraints: Sequence[Constraint]) -> np.ndarray:
        """bool [V] which ids may follow under some of the constraints."""
        legal = self.codec.grammar.allowed(self.s)
        return (legal & rules(self.codec, kinds(constraints)).allowed(self.s, self.r))[0] if constraints else legal[0]

    @property
    def unit(self) -> str:
        """What pieces are counted in."""
        return "bar" if self.codec.barred else "second"

    @property
    def bar(self) -> int:
        """Number of the bar that is written, or of the second where there are none, from 1."""
        return int(self.s["bar" if self.codec.barred else "clock"][0]) + 1

    def guilty(self) -> list[Constraint]:
        """The constraints without any one of which something could follow; all, where no one is to blame."""
        others = [(c, [o for o in self.constraints if o is not c]) for c in self.constraints]
        return [c for c, rest in others if self.allowed(rest).any()] or list(self.constraints)

    def against(self) -> str:
        """The guilty ones in words."""
        return " and ".join(map(str, self.guilty()))


def check(codec: Codec, constraints: Sequence[Constraint], prompt: np.ndarray, limits: Limits) -> None:
    """UserError if the ids of a prompt break a constraint, or if nothing can follow them."""
    if not constraints:
        return
    if "hole" in codec.vocabulary.index and len(codec.holes(prompt)):
        refuse_blind(constraints)
    at = Replay(codec, constraints)
    if broken := at.follow(prompt):
        raise UserError(f"prompt: {at.unit} {broken[0]} breaks {broken[1]}; loosen it, or give another prompt")
    at.begin(limits)
    if not at.allowed(constraints).any():
        raise UserError(_stuck(at, limits))


def _stuck(at: Replay, limits: Limits) -> str:
    """Why nothing can follow a prompt that ends here: too few ids, or what it has already."""
    at.begin((UNLIMITED, *limits[1:]))
    if at.allowed(at.constraints).any():
        at.begin(limits)
        least = int(at.r["least"][0]) if "least" in at.r else 0
        need = (
            f" {at_least(limits[1], least):,} are needed at least;"
            if at.codec.name == "score" and Exact in at.rules.kinds and limits[1] < 2**20
            else ""
        )
        return (
            f"{at.against()}: the {limits[0]:,} ids there is room for do not suffice;{need} ask for fewer {at.unit}s"
        )
    busy = any(type(c).busy is not Constraint.busy for c in at.guilty())
    if busy and np.any(at.s["ends"] > 0):
        return (
            f"prompt: its notes sound through {at.unit} {at.bar}, and no other may begin under {at.against()}; allow more "
            "at once, or end those of the prompt earlier"
        )
    return f"{at.against()}: nothing may follow in {at.unit} {max(at.bar, 1)}; loosen it, or give another prompt"


def check_piece(codec: Codec, constraints: Sequence[Constraint], ids: np.ndarray) -> None:
    """UserError if what stays of a piece that is filled in, as ids, breaks a constraint. Chords are no matter of it."""
    if constraints and (broken := Replay(codec, constraints).follow(ids)):
        bar, constraint = broken
        raise UserError(f"the piece: bar {bar} breaks {constraint} with what stays as it is; loosen it, or leave it out")


def ended(
    codec: Codec,
    constraints: Sequence[Constraint],
    prompt: np.ndarray,
    new: np.ndarray,
    limits: Limits,
    before: int = 0,
) -> tuple[np.ndarray, str]:
    """(all ids of a row that the constraints ended, up to where the grammar lets the piece end, or the last hole that is
    filled; why it ended). before: bars of the piece before the ids."""
    end, at, whole = codec.vocabulary.id("end"), Replay(codec, constraints), 1
    filled = codec.vocabulary.id("filled") if "filled" in codec.vocabulary.index else -1
    ids = np.concatenate([prompt, new[: np.count_nonzero(new)]])
    for i in range(len(ids) + 1):
        if i == len(prompt):
            at.begin(limits)
        if codec.grammar.allowed(at.s)[0, end] or (i and ids[i - 1] == filled):
            whole = i
        if i < len(ids):
            at.read(ids[i])
    return np.append(ids[:whole], end), f"{at.unit} {max(at.bar, 1) + before}: nothing may follow under {at.against()}"


def check_all(codec: Codec, constraints: Sequence[Constraint], prompts, room: Sequence[int], limits) -> None:
    """`check` of every prompt of a batch; room: ids that may follow each; limits: (bars, seconds) [B]."""
    seen = set()
    for prompt, most, bars, seconds in zip(prompts, room, *limits, strict=True):
        key = (prompt.tobytes(), most, int(bars), float(seconds))
        if key not in seen:
            check(codec, constraints, prompt, (most, int(bars), float(seconds)))
        seen.add(key)


def decoded(codec: Codec, constraints: Sequence[Constraint], prompts, new, room: Sequence[int], limits) -> list[Score]:
    """The scores of prompts and the new ids [B, T] behind them; `meta["ended"]` tells where constraints ended one."""
    return [
        decoded_row(codec, constraints, prompt, ids, (most, int(bars), float(seconds)))
        for prompt, ids, most, bars, seconds in zip(prompts, new, room, *limits, strict=True)
    ]


def decoded_row(codec: Codec, constraints: Sequence[Constraint], prompt, new, limits: Limits, before: int = 0) -> Score:
    """One of `decoded`; before: see `ended`."""
    if not constraints or codec.vocabulary.id("end") in new:
        return codec.decode(np.concatenate([prompt, new]))
    whole, why = ended(codec, constraints, prompt, new, limits, before)
    score = codec.decode(whole)
    return score.replace(meta={**score.meta, "ended": why})
