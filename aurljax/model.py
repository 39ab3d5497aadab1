"""A trained model as a musician uses it: load a checkpoint, generate scores, ask how likely a score is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from aurljax import checkpoint, config, mesh, params
from aurljax.decode import beam as beams
from aurljax.decode import best, length, loop, speculate, stream
from aurljax.decode import constraints as wishes
from aurljax.decode import guidance as guiding
from aurljax.decode import sampler as samplers
from aurljax.decode.beam import Beam
from aurljax.decode.behind import Behind
from aurljax.decode.sampler import Sampler
from aurljax.decode.stream import Stream
from aurljax.errors import UserError
from aurljax.evaluate import likelihood
from aurljax.export import provenance
from aurljax.export.finish import finish
from aurljax.music.score import Score

Tree = Any


class Request(NamedTuple):
    """What the loop is asked: `loop.generate(plan, weights, *arguments)` gives new ids [B, T] behind the ids `written`,
    and `decoded` makes scores of them."""

    plan: loop.Plan
    arguments: tuple
    written: Sequence[np.ndarray]
    decoded: Callable[[np.ndarray], list[Score]]


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
        max_ids: int | None = None,
        constraints: Sequence[wishes.Constraint] = (),
        cache: str | None = None,
        weights: str | None = None,
        best_of: int = 1,
        rank: best.Rank | None = None,
        draft: Model | None = None,
        ahead: int = 4,
        beam: Beam | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        **settings: Any,
    ) -> list[Score]:
        """n scores drawn from the model, each beginning with `prompt` if there is one.

        Of the prompt all rows stay to the bit, at its own resolution, also those that the codec does not tell: see
        `aurljax.decode.behind`.
        bars, seconds: length of what is new; without them the model ends where it likes, at the latest at the
        context. Score i depends on (seed, i, prompt, settings) alone, and tells how it was made (`export.provenance`).
        constraints: what holds of every note (`aurljax.decode.constraints`); `meta["ended"]` of a score says why, where
        they ended it. cache: the type that keys and values are kept in, float32, bfloat16 or int8; weights: int8 for
        those of the matrices. best_of: each score is the best of so many, by `rank` (more is better; default: the mean
        log-probability of the new ids under the model). draft: a smaller model that proposes `ahead` ids at a time; the
        distribution is this one's all the same. beam: instead of drawing, the n likeliest pieces that a beam finds, best
        first, whatever the seed. guidance: how much the controls that the prompt's `meta` gives count (0: not at all, 1: as
        learned); for models trained with data.controls_dropout. settings: those of a Sampler, such as temperature=0.9,
        where none is given. UserError: a prompt that leaves no room, or breaks a constraint.
        """
        best.positive(n=n, bars=bars, seconds=seconds, max_ids=max_ids, ahead=ahead)
        best.check(best_of, rank)
        asked = {"sampler": samplers.make(sampler, settings), "bars": bars, "seconds": seconds, "max_ids": max_ids,
                 "constraints": tuple(constraints), "cache": cache, "weights": weights, "guidance": guidance}  # fmt: skip
        if beam is not None:
            guiding.refuse(guidance, "beam")
            beam.check(n, asked["sampler"], best_of, draft)
            return self._likeliest(n, prompt, beam, seed, asked)
        seeds = [(seed, i) for i in range(n * best_of)]
        decoded = self._drawn([prompt] * len(seeds), draft=draft, ahead=ahead, seeds=seeds, **asked)
        scores = [Behind(self.codec, prompt).score(d) for d in decoded]
        asked |= {"draft": draft.origin, "ahead": ahead} if draft else {}
        asked |= {"best_of": best_of} if best_of > 1 else {}
        given = len(self.codec.opening(prompt)[0])
        chosen = best.choose(scores, best_of, rank, lambda: likelihood.mean_log_likelihood(self, decoded, given))
        return [self._finished(scores[i], seeds[i], prompt, asked) for i in chosen]

    def stream(
        self,
        *,
        prompt: Score | None = None,
        bars: int | None = None,
        seconds: float | None = None,
        seed: int = 0,
        max_ids: int | None = None,
        chunk: int = 8,
        constraints: Sequence[wishes.Constraint] = (),
        cache: str | None = None,
        weights: str | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        **settings: Any,
    ) -> Stream:
        """The piece that `generate` would return first, bar by bar while it is written, `chunk` ids at a time.

        `for bar in model.stream(bars=8): ...`; see `aurljax.decode.stream` for what a bar holds, for `latency` and for
        `score`. Leaving the loop, or `close()`, stops the work.
        """
        best.positive(bars=bars, seconds=seconds, max_ids=max_ids, chunk=chunk)
        asked = {"sampler": samplers.make(sampler, settings), "bars": bars, "seconds": seconds, "max_ids": max_ids,
                 "constraints": tuple(constraints), "cache": cache, "weights": weights, "guidance": guidance}  # fmt: skip
        r, behind = self._request([prompt], seeds=[(seed, 0)], **asked), Behind(self.codec, prompt)
        return Stream(
            self.codec,
            r.written[0],
            stream.chunks(r.plan, self.weights, self.mesh, r.arguments, chunk),
            lambda new: r.decoded(new[None])[0],
            lambda score: self._finished(behind.score(score), (seed, 0), prompt, asked),
            behind,
        )

    def generate_batch(
        self, prompts: list[Score | None], draft: Model | None = None, ahead: int = 4, **asked: Any
    ) -> list[Score]:
        """One score for each prompt (None: from nothing), all in one batch (with a draft one by one); row i is the same in
        any batch.

        asked: sampler, seeds [(seed, i)], and optionally bars, seconds, max_ids, constraints, cache, weights, guidance.
        """
        found = self._drawn(prompts, draft, ahead, **asked)
        return [Behind(self.codec, prompt).score(score) for prompt, score in zip(prompts, found, strict=True)]

    def _drawn(self, prompts: list[Score | None], draft: Model | None, ahead: int, **asked: Any) -> list[Score]:
        """`generate_batch` as the codec tells it, prompts included."""
        guiding.refuse(asked.get("guidance"), draft and "draft")
        r = self._request(prompts, **asked)
        with mesh.use(self.mesh):
            if draft is None:
                new = loop.generate(r.plan, self.weights, *r.arguments)
            else:
                speculate.check(self, draft)
                small = dataclasses.replace(r.plan, family=draft.parts.family, config=draft.parts.model)
                new = speculate.rows(r.plan, small, ahead, self.weights, draft.weights, r.arguments)
        return r.decoded(np.asarray(new))

    def _likeliest(self, n: int, prompt: Score | None, beam: Beam, seed: int, asked: dict[str, Any]) -> list[Score]:
        """The n best pieces of a beam."""
        r, place = self._request([prompt], seeds=[(seed, 0)], **asked), Behind(self.codec, prompt)
        with mesh.use(self.mesh):
            ids, _, ranks = (np.asarray(x)[0] for x in beams.generate(r.plan, beam, self.weights, *r.arguments))
        if (there := int(np.isfinite(ranks).sum())) < n:
            raise UserError(f"beam: there are {there} pieces in all of what is asked for, not {n}; ask for fewer")
        scores = [place.score(r.decoded(row[None])[0]) for row in ids[:n]]
        return [self._finished(score, (seed, i), prompt, asked | {"beam": beam}) for i, score in enumerate(scores)]

    def _request(
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
        guidance: float | None = None,
    ) -> Request:
        """What the loop is to do, or UserError where it cannot."""
        if bars is not None and not self.codec.barred:
            raise UserError(f"bars: the codec '{self.codec.name}' of this model has no bars; give seconds instead")
        sampler.check(self.codec.vocabulary, self.codec.name)
        written, begun = zip(*map(self.codec.opening, prompts), strict=True)
        room = length.room(self.context, self.window, [len(w) for w in written], self.codec.grammar.shortest, bars, seconds,
                           max_ids)  # fmt: skip
        wishes.refuse(constraints, bars is not None or seconds is not None)
        plan = loop.Plan(self.parts.family, self.parts.model, self.codec, sampler, length.bucket(max(room)),
                         constraints=wishes.kinds(constraints), cache=cache, weights=weights)  # fmt: skip
        if len({p is None for p in prompts}) > 1:
            raise UserError("prompts: either every row has a prompt or none has")
        if guidance is not None:
            guiding.check(self, prompts, guidance)
        with mesh.use(self.mesh):
            ids, start = loop.left_padded(written)
            limits = loop.limits(len(written), bars, seconds, np.array(begun))
            asked = wishes.registers(self.codec, constraints, len(written))
            wishes.check_all(self.codec, constraints, written, room, limits)
            keys = jnp.stack([jax.random.fold_in(jax.random.key(a), b) for a, b in seeds])
        arguments = (ids, start, keys, *limits, np.array(room, np.int32), asked)
        if guidance is not None:
            pairs = [self.codec.opening(p)[0] for prompt in prompts for p in guiding.both(self.codec, prompt)]
            twice = jax.tree.map(lambda x: x[np.arange(len(prompts)).repeat(2)], arguments[2:])
            arguments = (*loop.left_padded(pairs), *twice, np.full(len(pairs), guidance, np.float32))
        decoded = functools.partial(wishes.decoded, self.codec, constraints, written, room=room, limits=limits)
        return Request(plan, arguments, written, decoded)

    def _finished(self, score: Score, row: tuple[int, int], prompt: Score | None, asked: Mapping[str, Any]) -> Score:
        """A score as it goes to the user: complete, and telling how it was made."""
        return provenance.attach(finish(score, prompt), provenance.asked(self.origin, row, prompt, score, asked))

    def infill(self, score: Score, *, sampler: Sampler | None = None, **asked: Any) -> list[Score]:
        """`score` with cells written anew, all else left to the bit: see `aurljax.tasks.ask.infill`.

        asked: bars=(a, b), tracks (numbers from 0, or names) or cells [(bar, track)]; n, seed, constraints, cache,
        weights, best_of, rank as for `generate`; settings of a Sampler.
        """
        return self._task("infill", score, sampler, asked)

    def accompany(self, score: Score, *, sampler: Sampler | None = None, **asked: Any) -> list[Score]:
        """`score` with all tracks but the `given` ones written anew; `add` makes new: see `aurljax.tasks.ask.accompany`."""
        return self._task("accompany", score, sampler, asked)

    def vary(self, score: Score, *, sampler: Sampler | None = None, **asked: Any) -> list[Score]:
        """`score` with a `share` of its notes written anew: see `aurljax.tasks.ask.vary`."""
        return self._task("vary", score, sampler, asked)

    def _task(self, name: str, score: Score, sampler: Sampler | None, asked: dict[str, Any]) -> list[Score]:
        from aurljax.tasks import ask

        own = {k: asked.pop(k) for k in list(asked) if k in ask.ARGUMENTS}
        found = getattr(ask, name)(self, score, sampler=samplers.make(sampler, asked), **own)
        return [answer.score for answer in found]

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
