"""The border of a run: a ConfigDict or JSON outside, frozen dataclasses inside.

An experiment is a file with `get_config([argument]) -> ConfigDict` holding what differs from the defaults below.
Unknown fields, values of another type and values that cannot work are refused here, before anything is built. Importing
this module imports no jax; the fields of `model` are those of the family's own dataclass, looked up when one is read.
"""

from __future__ import annotations

import runpy
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aurljax import stages
from aurljax.data import objective, packing, turns
from aurljax.data.augment import Augment
from aurljax.data.curriculum import Curriculum
from aurljax.data.cuts import CUTS
from aurljax.data.objective import Objective
from aurljax.fields import (
    ConfigError,
    at_least,
    coerce,
    frozen,
    literal,
    nearest_multiple,
    one_of,
    plain,
    require,
    unknown,
)
from aurljax.music.preprocess import Preprocess
from aurljax.survival.guard import Guard
from aurljax.terms import Loss

OPTIMIZERS = ("adamw", "lion", "adafactor", "muon", "schedule_free")
SCHEDULES = ("cosine", "linear", "constant", "wsd", "cyclical")
FROM_CODEC = ("vocab", "features", "pitch_ids", "pitch_features", "terms")  # fields of a family's config that the codec
# decides, `terms` together with the section `loss`


@dataclass(frozen=True)
class Codec:
    """Tokenization: a name of `aurljax.music.codec` and its options as sorted pairs."""

    name: str = "score"
    options: tuple[tuple[str, Any], ...] = ()

    def make(self) -> Any:
        """The codec object."""
        from aurljax.music import codec

        return codec.make(self.name, **dict(self.options))


@dataclass(frozen=True)
class Data:
    """What is read: a corpus folder, in windows of `length` ids, `batch` rows a step over all devices."""

    corpus: str = ""
    mixture: tuple[tuple[str, float], ...] = ()  # further corpora to train on and their shares; corpus has the rest
    length: int = 512
    buckets: tuple[int, ...] = ()  # lengths of the rows of what is shorter; more rows, so that the slots are as many
    batch: int = 8
    transpose: tuple[int, int] = (0, 0)  # semitones, both ends included
    cut: str = "tile"  # how training's long pieces become windows
    preprocess: Preprocess = field(default_factory=Preprocess)  # of every split
    augment: Augment = field(default_factory=Augment)  # of the training split
    curriculum: Curriculum = field(default_factory=Curriculum)  # likewise
    objective: Objective = field(default_factory=Objective)  # likewise
    controls_dropout: float = 0.0  # share of the training windows whose controls are left out, for guidance

    def __post_init__(self) -> None:
        at_least(self, "data", length=2, batch=1)
        packing.lengths(self.length, self.buckets)
        one_of("data.cut", self.cut, CUTS)
        turns.shares([share for _, share in self.mixture])
        low, high = self.transpose
        require(-12 <= low <= 0 <= high <= 12, f"data.transpose={self.transpose} must be (-12..0, 0..12)")
        fit = self.augment.transpose == "fit" and any(self.transpose)
        require(not fit, f"data.transpose={self.transpose} has no use with data.augment.transpose=fit; leave one out")


@dataclass(frozen=True)
class Model:
    """A family of `aurljax.models` and the values of its config as sorted pairs; flat outside, as model.d_model."""

    family: str = "decoder"
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, codec: Any, loss: Loss) -> tuple[Any, Any]:
        """(Family, its frozen config) with what codec and loss decide, as far as the config asks for it."""
        family = _family(self.family)
        given = {
            "vocab": len(codec.vocabulary),
            "features": tuple(sorted(codec.feature_sizes.items())),
            "pitch_ids": codec.pitch_ids,
            "pitch_features": codec.pitch_features,
            "terms": loss.terms(codec.vocabulary),
        }
        asked = {f.name for f in fields(family.config)}
        require("terms" in asked or not given["terms"], f"the family {self.family} takes no terms of the section loss; "
                "leave loss.z, loss.smoothing and loss.kinds at their defaults")  # fmt: skip
        try:
            return family, family.config(**{k: v for k, v in given.items() if k in asked}, **dict(self.options))
        except ValueError as error:
            raise ConfigError(f"model: {error}") from error


@dataclass(frozen=True)
class Optim:
    """Optimizer, learning-rate schedule, clipping, weight averaging, accumulation."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-3  # the peak
    warmup: int = 100  # steps
    schedule: str = "cosine"
    end_factor: float = 0.1  # of the peak, at the last step
    fall: float = 0.2  # share of the steps after the warmup in which the schedule wsd falls
    cycles: int = 1  # falls of the schedule cyclical, each from the peak
    weight_decay: float = 0.1  # of matrices only
    b1: float = 0.9
    b2: float = 0.95
    clip: float = 1.0  # global norm; 0: no clipping
    clip_ratio: float = 0.0  # most of a gradient beside its weight, unit by unit, before `clip`; 0: no such clipping
    ema: float = 0.0  # decay of the averaged parameters; 0: none are kept
    swa: float = 0.0  # share of the updates, the last ones, whose parameters are averaged equally; 0: none are kept
    accumulation: int = 1  # microbatches a step

    def __post_init__(self) -> None:
        one_of("optim.optimizer", self.optimizer, OPTIMIZERS)
        one_of("optim.schedule", self.schedule, SCHEDULES)
        at_least(self, "optim", warmup=0, weight_decay=0, clip=0, clip_ratio=0, accumulation=1, cycles=1)
        require(self.learning_rate > 0, f"optim.learning_rate={self.learning_rate} must be above 0")
        require(0 <= self.end_factor <= 1, f"optim.end_factor={self.end_factor} must be in [0, 1]")
        require(0 < self.fall <= 1, f"optim.fall={self.fall} must be above 0 and at most 1")
        for name in ("b1", "b2", "ema", "swa"):
            require(0 <= getattr(self, name) < 1, f"optim.{name}={getattr(self, name)} must be in [0, 1)")
        averages = {"ema": self.ema, "swa": self.swa, "optimizer=schedule_free": self.optimizer == "schedule_free"}
        several = [f"optim.{name}" for name, on in averages.items() if on]
        require(len(several) < 2, f"{' and '.join(several)} each keep an average of the weights; choose one")
        if self.optimizer == "schedule_free":
            require(self.schedule == "constant", f"optim.optimizer=schedule_free replaces the fall of "
                    f"optim.schedule={self.schedule}; set optim.schedule=constant")  # fmt: skip
            require(self.b1 > 0, "optim.b1=0 must be above 0 with optim.optimizer=schedule_free; 0.9 is usual")


@dataclass(frozen=True)
class Mesh:
    """Devices along each axis; data=-1 takes all that remain."""

    data: int = -1
    model: int = 1
    replica: int = 1  # copies of the parameters, for slices or nodes far apart; each has data x model devices

    def __post_init__(self) -> None:
        require(self.data == -1 or self.data >= 1, f"mesh.data={self.data} must be at least 1, or -1 for all devices")
        at_least(self, "mesh", model=1, replica=1)


@dataclass(frozen=True)
class Run:
    """How long, and how often what is written (in steps; 0: never)."""

    steps: int = 1000
    log_every: int = 10
    eval_every: int = 0
    eval_batches: int = 8
    checkpoint_every: int = 0  # the last step is always saved
    checkpoint_minutes: float = 0.0  # minutes after the last checkpoint, looked at every log_every steps; 0: no limit
    keep: int = 2  # newest checkpoints that stay
    keep_every: int = 0  # steps that are multiples of it stay too
    best: str = ""  # a metric, such as valid_loss: each step that is best by it is saved and stays; -NAME: the highest
    stop_on: tuple[str, ...] = ()  # metrics: the run ends when none of them gets better; -NAME: higher is better
    patience: int = 5  # measurements of each that it waits
    sample_every: int = 0
    samples: int = 4
    init: str = ""  # a checkpoint whose weights a new run begins with; steps, optimizer and guards begin anew
    wandb: str = ""  # project of Weights & Biases to write metrics to as well

    def __post_init__(self) -> None:
        at_least(self, "run", steps=1, log_every=1, eval_every=0, eval_batches=1)
        at_least(self, "run", checkpoint_every=0, checkpoint_minutes=0, keep=1, keep_every=0, sample_every=0, samples=1)
        at_least(self, "run", patience=1)
        self._measured("best", self.best)
        for metric in self.stop_on:
            require(metric != "", "run.stop_on has an empty name; name metrics such as valid_loss")
            self._measured("stop_on", metric)

    def _measured(self, field: str, metric: str) -> None:
        """Refuses the name of a metric that the run never takes."""
        for start, every in (("valid_", "eval_every"), ("sample_", "sample_every")):
            if metric.removeprefix("-").startswith(start):
                require(getattr(self, every) > 0, f"run.{field}={metric} is never measured; set run.{every}")
                return
        require(metric == "", f"run.{field}={metric} must be a metric that begins with valid_ or sample_")


@dataclass(frozen=True)
class Profile:
    """A trace by jax.profiler in WORKDIR/profile: of `steps` steps (0: none) after the first `start` of a process."""

    start: int = 10
    steps: int = 0

    def __post_init__(self) -> None:
        at_least(self, "profile", start=0, steps=0)


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
        defaults = {f.name: f.default for f in fields(_family(family).config) if f.name not in FROM_CODEC}
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
        kinds = typing.get_type_hints(_family(family).config)
        return {"family": str} | {k: v for k, v in kinds.items() if k not in FROM_CODEC}
    head, *inner = section.split(".")
    kind = SECTIONS.get(head)
    for part in inner:
        kind = typing.get_type_hints(kind).get(part) if is_dataclass(kind) else None
    return typing.get_type_hints(kind) if is_dataclass(kind) else {}


def _family_name(tree: Mapping[str, Any]) -> str:
    model = tree.get("model")
    return model.get("family", Model.family) if isinstance(model, Mapping) else Model.family


def _family(name: str) -> Any:
    from aurljax import models

    return models.family(name)
