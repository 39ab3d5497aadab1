"""What the constraints say of ids that are there: a prompt that breaks one, and why a row ended before its time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aurljax.decode.constraints.base import Constraint
from aurljax.decode.constraints.conjunction import kinds, registers, rules
from aurljax.decode.constraints.exact import Exact, at_least
from aurljax.errors import UserError
from aurljax.music.codec import Codec
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

    def against(self) -> str:
        """The constraints without any one of which something could follow; all, where no one is to blame."""
        others = [(c, [o for o in self.constraints if o is not c]) for c in self.constraints]
        guilty = [c for c, rest in others if self.allowed(rest).any()]
        return " and ".join(map(str, guilty or self.constraints))


def check(codec: Codec, constraints: Sequence[Constraint], prompt: np.ndarray, limits: Limits) -> None:
    """UserError if the ids of a prompt break a constraint, or if nothing can follow them."""
    if not constraints:
        return
    v, at, told = codec.vocabulary, Replay(codec, constraints), {k for c in constraints for k in c.told}
    for id in prompt.tolist():
        kind = v.kinds[v.kind[id]][0]
        if kind in told and not at.allowed(constraints)[id]:
            for c in constraints:
                if kind in c.told and not at.allowed([c])[id]:
                    raise UserError(f"prompt: {at.unit} {max(at.bar, 1)} breaks {c}; loosen it, or give another prompt")
        if kind == "hole" and (blind := next((c for c in constraints if c.blind), None)):
            raise UserError(f"{blind}: it cannot be kept while masked bars are filled in; leave it out")
        at.read(id)
    at.begin(limits)
    if not at.allowed(constraints).any():
        least = int(at.r["least"][0]) if "least" in at.r else 0
        need = (
            f" {at_least(limits[1], least):,} are needed at least;"
            if codec.name == "score" and Exact in at.rules.kinds and limits[1] < 2**20
            else ""
        )
        raise UserError(
            f"{at.against()}: the {limits[0]:,} ids there is room for do not suffice;{need} ask for fewer "
            f"{at.unit}s"
        )


def ended(
    codec: Codec, constraints: Sequence[Constraint], prompt: np.ndarray, new: np.ndarray, limits: Limits
) -> tuple[np.ndarray, str]:
    """(all ids of a row that the constraints ended, up to where the grammar lets the piece end; why it ended)."""
    end, at, whole = codec.vocabulary.id("end"), Replay(codec, constraints), 1
    ids = np.concatenate([prompt, new[: np.count_nonzero(new)]])
    for i, id in enumerate(ids.tolist()):
        if i == len(prompt):
            at.begin(limits)
        if codec.grammar.allowed(at.s)[0, end]:
            whole = i
        at.read(id)
    whole = len(ids) if codec.grammar.allowed(at.s)[0, end] else whole
    return np.append(ids[:whole], end), f"{at.unit} {max(at.bar, 1)}: nothing may follow under {at.against()}"


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
    end, scores = codec.vocabulary.id("end"), []
    for prompt, ids, most, bars, seconds in zip(prompts, new, room, *limits, strict=True):
        if not constraints or end in ids:
            scores.append(codec.decode(np.concatenate([prompt, ids])))
            continue
        whole, why = ended(codec, constraints, prompt, ids, (most, int(bars), float(seconds)))
        score = codec.decode(whole)
        scores.append(score.replace(meta={**score.meta, "ended": why}))
    return scores
