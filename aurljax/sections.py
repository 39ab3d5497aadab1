"""The sections of an experiment: what can be set, the defaults, and what cannot be. Each is a frozen dataclass.

Importing this module imports no jax; the fields of `model` are those of the family's own dataclass, looked up when one is
read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from aurljax.data import packing, turns
from aurljax.data.augment import Augment
from aurljax.data.curriculum import Curriculum
from aurljax.data.cuts import CUTS
from aurljax.data.objective import Objective
from aurljax.fields import ConfigError, at_least, one_of, require
from aurljax.music.preprocess import Preprocess
from aurljax.terms import Loss

OPTIMIZERS = ("adamw", "lion", "adafactor", "muon", "schedule_free")
SCHEDULES = ("cosine", "linear", "constant", "wsd", "cyclical", "plateau")
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
        family = family_of(self.family)
        given = {
            "vocab": len(codec.vocabulary),
            "features": tuple(sorted(codec.feature_sizes.items())),
            "pitch_ids": codec.pitch_ids,
            "pitch_features": codec.pitch_features,
            "terms": loss.terms(codec),
        }
        asked = {f.name for f in fields(family.config)}
        require("terms" in asked or not given["terms"], f"the family {self.family} takes no terms of the section loss; "
                "leave loss.z, loss.smoothing, loss.kinds and loss.unlikelihood at their defaults")  # fmt: skip
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
    end_factor: float = 0.1  # of the peak, at the last step; the least that the schedule plateau falls to
    fall: float = 0.2  # share of the steps after the warmup in which the schedule wsd falls
    cycles: int = 1  # falls of the schedule cyclical, each from the peak
    metric: str = "valid_loss"  # that the schedule plateau heeds, named as in run.stop_on
    patience: int = 3  # measurements without a better one, after which that schedule falls
    factor: float = 0.5  # what it multiplies the rate by
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
        at_least(self, "optim", warmup=0, weight_decay=0, clip=0, clip_ratio=0, accumulation=1, cycles=1, patience=1)
        require(self.learning_rate > 0, f"optim.learning_rate={self.learning_rate} must be above 0")
        require(0 <= self.end_factor <= 1, f"optim.end_factor={self.end_factor} must be in [0, 1]")
        require(0 < self.fall <= 1, f"optim.fall={self.fall} must be above 0 and at most 1")
        require(0 < self.factor < 1, f"optim.factor={self.factor} must be above 0 and below 1")
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
        if self.best:
            self.check_measured("run.best", self.best)
        for metric in self.stop_on:
            require(metric != "", "run.stop_on has an empty name; name metrics such as valid_loss")
            self.check_measured("run.stop_on", metric)

    def check_measured(self, field: str, metric: str) -> None:
        """Refuses the name of a metric that the run never takes, for a field that wants it."""
        for start, every in (("valid_", "eval_every"), ("sample_", "sample_every")):
            if metric.removeprefix("-").startswith(start):
                require(getattr(self, every) > 0, f"{field}={metric} is never measured; set run.{every}")
                return
        raise ConfigError(f"{field}={metric} must be a metric that begins with valid_ or sample_")


@dataclass(frozen=True)
class Profile:
    """A trace by jax.profiler in WORKDIR/profile: of `steps` steps (0: none) after the first `start` of a process."""

    start: int = 10
    steps: int = 0

    def __post_init__(self) -> None:
        at_least(self, "profile", start=0, steps=0)


def family_of(name: str) -> Any:
    """The family of models of this name."""
    from aurljax import models

    return models.family(name)
