"""A trained model as a musician uses it: load a checkpoint, generate scores, ask how likely a score is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from aurljax import checkpoint, config, mesh, params
from aurljax.decode import constraints as wishes
from aurljax.decode import length, loop
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.evaluate import likelihood
from aurljax.export import provenance
from aurljax.export.finish import finish
from aurljax.music.score import Score

Tree = Any


class Model:
    """Weights with their config and codec, on their own mesh; the caller's JAX is left as it is."""

    def __init__(
        self, parts: config.Parts, weights: Tree, devices: jax.sharding.Mesh, origin: Mapping[str, Any] | None = None
    ):
        self.parts, self.weights, self.mesh = parts, weights, devices
        self.origin = dict(origin or {})  # what its pieces say of it: fingerprint of the checkpoint and step

    @property
    def codec(self) -> Any:
        """The codec it was trained on."""
        return self.parts.codec

    @property
    def context(self) -> int:
        """Ids of the rows it was trained on: without a window, the most that prompt and continuation may have together."""
        return self.parts.config.data.length

    @property
    def window(self) -> int:
        """Ids that each of its layers sees, 0 for all: with a window, pieces may have any length."""
        return getattr(self.parts.model, "window", 0)

    def generate(
        self,
        n: int = 1,
        *,
        prompt: Score | None = None,
        bars: int | None = None,
        seconds: float | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        max_ids: int | None = None,
        constraints: Sequence[wishes.Constraint] = (),
        cache: str | None = None,
        weights: str | None = None,
    ) -> list[Score]:
        """n scores drawn from the model, each beginning with `prompt` if there is one.

        bars, seconds: length of what is new; without them the model ends where it likes, at the latest at the
        context. Score i depends on (seed, i, prompt, settings) alone, and tells how it was made (`export.provenance`).
        constraints: what holds of every note (`aurljax.decode.constraints`); `meta["ended"]` of a score says why, where
        they ended it. cache: the type that keys and values are kept in, float32, bfloat16 or int8; weights: int8 for
        those of the matrices. UserError: a prompt that leaves no room, or breaks a constraint.
        """
        for name, value in (("n", n), ("bars", bars), ("seconds", seconds), ("max_ids", max_ids)):
            if value is not None and value <= 0:
                raise UserError(f"{name} must be above 0, not {value}")
        sampler, seeds = Sampler(temperature, top_k, top_p, min_p), [(seed, i) for i in range(n)]
        length = {"bars": bars, "seconds": seconds, "max_ids": max_ids}
        asked = {"sampler": sampler, **length, "cache": cache, "weights": weights}
        scores = self.generate_batch([prompt] * n, seeds=seeds, constraints=constraints, **asked)
        asked["constraints"] = tuple(constraints) or None
        return [
            provenance.attach(finish(score, prompt), provenance.of(self.origin, row, prompt, **asked))
            for score, row in zip(scores, seeds, strict=True)
        ]

    def generate_batch(
        self,
        prompts: list[Score | None],
        *,
        sampler: Sampler,
        seeds: list[tuple[int, int]],
        bars: int | None = None,
        seconds: float | None = None,
        max_ids: int | None = None,
        constraints: Sequence[wishes.Constraint] = (),
        cache: str | None = None,
        weights: str | None = None,
    ) -> list[Score]:
        """One score for each prompt (None: from nothing), all in one batch; row i is the same in any batch."""
        if bars is not None and not self.codec.barred:
            raise UserError(f"bars: the codec '{self.codec.name}' of this model has no bars; give seconds instead")
        written, begun = zip(*map(self.codec.opening, prompts), strict=True)
        room = length.room(self.context, self.window, [len(w) for w in written], self.codec.grammar.shortest, bars, seconds,
                           max_ids)  # fmt: skip
        wishes.refuse(constraints, bars is not None or seconds is not None)
        plan = loop.Plan(self.parts.family, self.parts.model, self.codec, sampler, length.bucket(max(room)),
                         constraints=wishes.kinds(constraints), cache=cache, weights=weights)  # fmt: skip
        if len({p is None for p in prompts}) > 1:
            raise UserError("prompts: either every row has a prompt or none has")
        with mesh.use(self.mesh):
            ids, start = loop.left_padded(written)
            limits = loop.limits(len(written), bars, seconds, np.array(begun))
            asked = wishes.registers(self.codec, constraints, len(written))
            wishes.check_all(self.codec, constraints, written, room, limits)
            keys = jnp.stack([jax.random.fold_in(jax.random.key(a), b) for a, b in seeds])
            new = loop.generate(plan, self.weights, ids, start, keys, *limits, np.array(room, np.int32), asked)
        return wishes.decoded(self.codec, constraints, written, np.asarray(new), room, limits)

    def score(self, score: Score) -> float:
        """Nats of a score: minus the log of the probability the model gives its ids."""
        return likelihood.of_scores(self, [score]).nats


def load(path: epath.PathLike, data: int = 1, model: int = 1) -> Model:
    """The model of a checkpoint (a step or a run's folder), on a mesh of data x model devices.

    UserError: no checkpoint there, a damaged one, or one whose codec this version of aurljax does not have.
    """
    found = checkpoint.describe(path)
    parts = config.build(config.from_dict(found.metadata["config"]))
    checkpoint.check_codec(found, parts.codec)
    devices = mesh.make(data, model)
    with mesh.use(devices):
        weights = checkpoint.load_params(found.path, params.abstract(parts.family.spec(parts.model)))
    origin = {"model": provenance.fingerprint(found.path), "step": found.step}
    return Model(parts, weights, devices, origin)
