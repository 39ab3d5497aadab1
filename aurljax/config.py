"""The border of a run: a ConfigDict or JSON outside, frozen dataclasses (`aurljax.sections`) inside.

An experiment is a file with `get_config([argument]) -> ConfigDict` holding what differs from the defaults of the sections.
Unknown fields, values of another type and values that cannot work are refused here, before anything is built. Importing
this module imports no jax.
"""

from __future__ import annotations

import runpy
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aurljax import stages
from aurljax.data import objective
from aurljax.fields import ConfigError, coerce, frozen, literal, nearest_multiple, plain, require, unknown
from aurljax.sections import FROM_CODEC, Codec, Data, Mesh, Model, Optim, Profile, Run, family_of
from aurljax.survival.guard import Guard
from aurljax.terms import Loss


@dataclass(frozen=True)
class Config:
    """One run, hashable. stages: of those it has, one after the other, the names and whole configs."""

    seed: int = 0
    codec: Codec = field(default_factory=Codec)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    optim: Optim = field(default_factory=Optim)
    mesh: Mesh = field(default_factory=Mesh)
    run: Run = field(default_factory=Run)
    guard: Guard = field(default_factory=Guard)
    profile: Profile = field(default_factory=Profile)
    stages: tuple[tuple[str, Config], ...] = ()

    def __post_init__(self) -> None:
        rows, parts, warmup, steps = self.data.batch, self.optim.accumulation, self.optim.warmup, self.run.steps
        require(0 <= self.seed < 2**32, f"seed={self.seed} must be in 0..{2**32 - 1}")
        require(warmup <= steps, f"optim.warmup={warmup} is longer than run.steps={steps}; lower it or train longer")
        require(rows % parts == 0, f"data.batch={rows} cannot be cut into optim.accumulation={parts} equal parts; the "
                f"nearest that works is data.batch={nearest_multiple(rows, parts)}")  # fmt: skip
        if self.optim.schedule == "plateau":
            self.run.check_measured("optim.metric", self.optim.metric)
        window, length = dict(self.model.options).get("window", 0), self.data.length
        require(window <= length, f"model.window={window} is more than the data.length={length} ids of a row, so that it "
                f"would hide nothing in training; set model.window={max(2, length // 2)}, say, or 0")  # fmt: skip


SECTIONS = {"codec": Codec, "data": Data, "model": Model, "loss": Loss, "optim": Optim, "mesh": Mesh, "run": Run,
            "guard": Guard, "profile": Profile}  # fmt: skip


class Parts(NamedTuple):
    """A config and what it names, built: the codec, the family of models, the family's own frozen config."""

    config: Config
    codec: Any
    family: Any
    model: Any


def build(config: Config) -> Parts:
    """Builds codec and family; UserError where either refuses a value or the data asks for what a codec cannot write."""
    codec = config.codec.make()
    config.data.objective.check(codec)
    objective.check_dropout(config.data.controls_dropout, codec)
    return Parts(config, codec, *config.model.make(codec, config.loss))


def load(spec: str, overrides: Sequence[str] = ()) -> Config:
    """The config of "path.py" or "path.py:argument", changed by overrides such as "optim.b2=0.99", in order."""
    tree = _read(spec)
    for text in overrides:
        _override(tree, text)
    config = from_dict(tree)
    stages.build(config)  # refuses impossible codec and model values now, before data is opened
    return config


def from_dict(tree: Mapping[str, Any]) -> Config:
    """A Config of nested plain values (the inverse of `to_dict`); fields left out take their defaults."""
    values: dict[str, Any] = {}
    base = {"codec": {}, "model": {}} | {name: value for name, value in tree.items() if name != "stages"}
    for name, value in base.items():
        if name in SECTIONS:
            require(isinstance(value, Mapping), _NOT_A_VALUE.format(name))
            values[name] = _section(name, value, _family_name(tree))
        else:
            values[name] = coerce(name, value, _kind(name, _family_name(tree)))
    return Config(**values, stages=stages.read(base, tree.get("stages", ()), from_dict))


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values that JSON can hold."""
    tree: dict[str, Any] = {"seed": config.seed}
    for name in SECTIONS:
        section = getattr(config, name)
        tree[name] = {f.name: plain(getattr(section, f.name)) for f in fields(section)}
    tree["codec"]["options"] = {k: plain(v) for k, v in config.codec.options}
    tree["model"] = {"family": config.model.family} | {k: plain(v) for k, v in config.model.options}
    if config.stages:
        tree["stages"] = stages.written(tree, [(name, to_dict(c)) for name, c in config.stages])
    return tree


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A phrase "optim.b2 0.9 -> 0.99" for each leaf that differs between two `to_dict` trees."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name} {a} -> {b}")
    return found


def defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The `to_dict` tree of a config that sets nothing but the family and the codec of `tree`."""
    return to_dict(from_dict({name: {k: tree[name][k]} for name, k in (("model", "family"), ("codec", "name"))}))


_NOT_A_VALUE = "{0} is a section, not a value; set one of its fields, such as {0}.NAME"


def _read(spec: str) -> dict[str, Any]:
    path, _, argument = spec.partition(".py:")
    path = path if path.endswith(".py") else f"{path}.py"
    require(Path(path).is_file(), f"no config file at {path}; give a Python file such as configs/tiny.py")
    try:
        get_config = runpy.run_path(path).get("get_config")
        require(get_config is not None, f"{path} has no get_config(); define one that returns a ConfigDict")
        return (get_config(argument) if argument else get_config()).to_dict()
    except (SyntaxError, ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: get_config({argument}) failed: {error}") from error


def _override(tree: dict[str, Any], text: str, family: str = "") -> None:
    name, equals, value = text.removeprefix("--").removeprefix("config.").partition("=")
    require(bool(equals), f"override {text} has no value; write {name}=VALUE")
    require(name not in SECTIONS, _NOT_A_VALUE.format(name))
    family = family or _family_name(tree)
    if name.startswith("stages."):
        stage, field = stages.named(tree, name)
        return _override(stage, f"{field}={value}", family)
    section, _, leaf = name.rpartition(".")
    if section == "codec.options":  # the codec itself refuses unknown options
        tree.setdefault("codec", {}).setdefault("options", {})[leaf] = literal(value)
        return
    kind = _kind(name, family)
    target = tree
    for part in filter(None, section.split(".")):
        target = target.setdefault(part, {})
    target[leaf] = value if kind is str else plain(coerce(name, literal(value), kind))


def _section(name: str, values: Mapping[str, Any], family: str) -> Any:
    """A section of plain values; codec and model are completed with their own defaults, so that equal is equal."""
    options = values.get("options", {}) if name == "codec" else {}
    clean = {k: coerce(f"{name}.{k}", v, _kind(f"{name}.{k}", family)) for k, v in values.items() if v is not options}
    if name == "codec":
        made = Codec(**clean, options=tuple((k, frozen(v)) for k, v in options.items())).make()
        return Codec(made.name, tuple(sorted(made.options.items())))
    if name == "model":
        defaults = {f.name: f.default for f in fields(family_of(family).config) if f.name not in FROM_CODEC}
        return Model(clean.pop("family", family), tuple(sorted((defaults | clean).items())))
    return SECTIONS[name](**clean)


def _kind(name: str, family: str) -> Any:
    """The type of the field with this dotted name, or ConfigError with the nearest."""
    section, _, leaf = name.rpartition(".")
    if section == "model" and leaf in FROM_CODEC:
        raise ConfigError(f"{name} comes from the codec; leave it out of the config")
    kinds = _kinds(section, family)
    if leaf not in kinds:
        raise unknown(name, ["seed", *SECTIONS, *(k for s in SECTIONS for k in _names(s, family))])
    return kinds[leaf]


def _names(section: str, family: str) -> list[str]:
    """The dotted names of all fields of a section and of the sections in it."""
    found = []
    for leaf, kind in _kinds(section, family).items():
        found += [f"{section}.{leaf}", *(_names(f"{section}.{leaf}", family) if is_dataclass(kind) else ())]
    return found


def _kinds(section: str, family: str) -> dict[str, Any]:
    if section == "":
        return {"seed": int}
    if section == "model":
        kinds = typing.get_type_hints(family_of(family).config)
        return {"family": str} | {k: v for k, v in kinds.items() if k not in FROM_CODEC}
    head, *inner = section.split(".")
    kind = SECTIONS.get(head)
    for part in inner:
        kind = typing.get_type_hints(kind).get(part) if is_dataclass(kind) else None
    return typing.get_type_hints(kind) if is_dataclass(kind) else {}


def _family_name(tree: Mapping[str, Any]) -> str:
    model = tree.get("model")
    return model.get("family", Model.family) if isinstance(model, Mapping) else Model.family
