"""Stages of a run, such as pretraining and finetuning: whole configs in one, and where in a run each of them begins.

A stage is a run of its own that begins with the weights of the one before: its optimizer, averages, guards, schedules,
random numbers and order of data begin anew, by its own config. Only the step counts on, and the folder is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aurljax.fields import ConfigError, changed, merge, require

if TYPE_CHECKING:
    from aurljax.config import Config, Parts

WHOLE = ("codec", "mesh", "profile", "stages")  # sections that a stage cannot change


@dataclass(frozen=True)
class Stage:
    """One stage of a run: its number from 0 of how many, its name, parts, the step that it begins after, and the steps
    that are planned for those after it."""

    number: int
    of: int
    name: str
    parts: Parts
    begin: int
    after: int = 0

    @property
    def end(self) -> int:
        """The step that it ends with, unless it is stopped earlier."""
        return self.begin + self.parts.config.run.steps

    @property
    def last(self) -> int:
        """The step that the whole run ends with."""
        return self.end + self.after

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint says of it; {} where a run has but one."""
        named = {"number": self.number, "of": self.of, "name": self.name, "begin": self.begin}
        return {"stage": named} if self.name else {}

    def line(self) -> str:
        """The same for people."""
        return f"stage {self.number + 1} of {self.of}, {self.name}: steps {self.begin + 1:,} to {self.end:,}"


Make = Callable[[Mapping[str, Any]], "Config"]


def read(base: Mapping[str, Any], given: Any, make: Make) -> tuple[tuple[str, Config], ...]:
    """Names and configs: stage i has the fields of `base` but those that it sets, and the seed of `base` + i."""
    known = isinstance(given, list | tuple) and all(isinstance(stage, Mapping) for stage in given)
    require(known, "stages must be a list of dicts such as {'name': 'finetune', 'run': {'steps': 100}}")
    found: dict[str, Config] = {}
    for number, stage in enumerate(given):
        name, own = stage.get("name"), {k: v for k, v in stage.items() if k != "name"}
        named = isinstance(name, str) and name.isidentifier() and name not in found
        require(named, f"stages: stage {number + 1} has the name {name}; give each a word of its own, such as finetune")
        fixed = [k for k in WHOLE if k in own] + ["run.init"] * ("init" in own.get("run", {}))
        require(not fixed, f"stage {name}: {', '.join(fixed)} is that of the whole run; set it outside of the stages")
        try:
            found[name] = make(merge(base, {"seed": _seed(base.get("seed", 0), number)} | own))
        except ConfigError as error:
            raise ConfigError(f"stage {name}: {error}") from error
    return tuple(found.items())


def written(base: Mapping[str, Any], stages: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The inverse: of each (name, whole tree) what differs from `base`."""
    seeds = [{"seed": _seed(base["seed"], number)} for number in range(len(stages))]
    return [{"name": name, **changed({**base, **seed}, tree)} for seed, (name, tree) in zip(seeds, stages, strict=True)]


def _seed(base: int, number: int) -> int:
    return (base + number) % 2**32


def named(tree: Mapping[str, Any], field: str) -> tuple[dict[str, Any], str]:
    """What "stages.NAME.optim.b2" addresses: the dict of that stage, and "optim.b2"."""
    found = {stage.get("name"): stage for stage in tree.get("stages", ())}
    _, name, rest = (*field.split(".", 2), "", "")[:3]
    require(name in found, f"{field}: the stages of this run are {', '.join(map(str, found)) or 'none'}")
    return found[name], rest


def build(config: Config) -> list[tuple[str, Parts]]:
    """Name and parts of each stage, of which a config without stages is one; UserError: a stage with other weights."""
    from aurljax.config import build  # here: config reads stages

    found = [(name, build(c)) for name, c in config.stages or (("", config),)]
    (first, one), *others = found
    for name, parts in others:
        same = one.family.name == parts.family.name and one.family.spec(one.model) == parts.family.spec(parts.model)
        require(same, f"stage {name}: its model has other weights than that of {first}; change what leaves them as they "
                "are, such as model.dropout")  # fmt: skip
    return found
