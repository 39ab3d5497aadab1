"""How well a model predicts held-out music: nats per id and per note, bits per second, raw and within the grammar.

A piece longer than the context is scored by windows of whole bars that overlap by half: every bar once, with at least
half a context of music before it (but for the piece's first).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from aurljax import legal, mesh
from aurljax.models.family import Inputs
from aurljax.music.score import Score

if TYPE_CHECKING:
    from aurljax.model import Model

Row = tuple[np.ndarray, int]  # ids, and the first of them that is to be scored

ROWS = 8
BUCKET = 128  # rows are padded to a multiple, so that few shapes are compiled


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """Sums over the ids scored. `legal_nats`: renormalised over what the grammar allows; `uniform_nats`: of a model
    that knows only the grammar; `illegal`: probability given to what it forbids."""

    pieces: int = 0
    ids: int = 0
    notes: int = 0
    seconds: float = 0.0
    nats: float = 0.0
    legal_nats: float = 0.0
    uniform_nats: float = 0.0
    illegal: float = 0.0

    def summary(self) -> dict[str, float]:
        """The figures people quote."""
        bits, seconds = 1 / math.log(2), max(self.seconds, 1e-9)
        out: dict[str, float] = {"pieces": self.pieces, "ids": self.ids, "notes": self.notes, "seconds": self.seconds}
        for name, nats in (("", self.nats), ("legal_", self.legal_nats)):
            out[f"{name}nats_per_id"] = nats / max(self.ids, 1)
            out[f"{name}nats_per_note"] = nats / max(self.notes, 1)
            out[f"{name}bits_per_second"] = nats * bits / seconds
        out["uniform_nats_per_id"] = self.uniform_nats / max(self.ids, 1)
        out["illegal_mass"] = self.illegal / max(self.ids, 1)
        return out


def of_scores(model: Model, scores: Iterable[Score], progress: Callable[[int], None] = lambda done: None) -> Likelihood:
    """The likelihood of scores under a model; `progress(pieces done)`."""
    total, batch, done = np.zeros(5), [], 0
    pieces = notes = 0
    seconds = 0.0

    def flush():
        nonlocal total, batch, done
        if batch:
            total = total + row_sums(model, batch).sum(0)
            done, batch = pieces, []
            progress(done)

    for score in scores:
        pieces, notes, seconds = pieces + 1, notes + len(score), seconds + float(score.seconds(score.end))
        for row in rows(model.codec, score, model.context):
            batch.append(row)
            if len(batch) == ROWS:
                flush()
    flush()
    ids, nats, legal, uniform, illegal = total.tolist()
    return Likelihood(pieces, int(ids), notes, seconds, nats, legal, uniform, illegal)


def mean_log_likelihood(model: Model, scores: Iterable[Score], given: int = 1) -> np.ndarray:
    """[N] float64: the mean log-probability (nats, raw) of the ids of each score behind the first `given`; of one that is
    longer than the context, of all its ids."""
    every = [list(rows(model.codec, score, model.context)) for score in scores]
    return mean_of_rows(model, [[(ids, given) for ids, _ in r] if len(r) == 1 else r for r in every])


def mean_of_rows(model: Model, pieces: Sequence[Sequence[Row]]) -> np.ndarray:
    """[N] float64: the mean log-probability (nats, raw) of the ids to be scored in all rows of each piece."""
    sequences = [row for piece in pieces for row in piece]
    owner = [i for i, piece in enumerate(pieces) for _ in piece]
    parts = [row_sums(model, sequences[i : i + ROWS]) for i in range(0, len(sequences), ROWS)]
    sums = np.zeros((len(pieces), 2))
    np.add.at(sums, owner, np.concatenate(parts)[:, :2] if parts else np.zeros((0, 2)))
    return -sums[:, 1] / np.maximum(sums[:, 0], 1)


def rows(codec: Any, score: Score, context: int) -> Iterator[Row]:
    """(ids, first): sequences of at most context + 1 ids, of which those from `first` on are to be scored."""
    whole = codec.encode(score)
    if len(whole) <= context + 1:
        yield whole, 1
        return
    lengths, overhead = codec.bar_lengths(score), codec.overhead(score)
    after = np.concatenate([[0], np.cumsum(lengths)])
    done, count = 0, len(lengths)
    while done < count:
        begin = max(
            int(np.searchsorted(after, after[done] - context // 2, "right")) - 1, 0
        )  # half a context of bars before
        stop = int(np.searchsorted(after, after[begin] + context + 1 - overhead, "right")) - 1
        if stop <= done:  # a bar that does not fit after so much context takes what fits
            begin = stop = done
            while stop < count and after[stop + 1] - after[done] <= context + 1 - overhead:
                stop += 1
            stop = max(stop, done + 1)
        ids = codec.encode(score, (begin, stop))[: context + 1]
        at = codec.bar_starts(ids, stop - begin)
        yield ids, 1 if done == 0 else int(at[done - begin])
        done = stop


def row_sums(model: Model, batch: Sequence[Row]) -> np.ndarray:
    """[rows, 5] sums of ids, nats, legal nats, uniform nats, illegal mass over each of at most ROWS rows."""
    codec = model.codec
    width = -(-(max(len(ids) for ids, _ in batch) - 1) // BUCKET) * BUCKET
    ids, weights = np.zeros((ROWS, width + 1), np.int32), np.zeros((ROWS, width), np.float32)
    features = {name: np.zeros((ROWS, width), np.int32) for name in codec.feature_sizes}
    for row, (sequence, first) in enumerate(batch):
        ids[row, : len(sequence)] = sequence
        weights[row, first - 1 : len(sequence) - 1] = 1
        for name, value in codec.features(sequence).items():
            features[name][row, : len(sequence) - 1] = value[:-1]
    with mesh.use(model.mesh):
        parts = model.parts
        sums = _sums(parts.family, parts.model, codec, model.weights, ids, features, weights)
        return np.asarray(sums, np.float64).T[: len(batch)]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sums(family, config, codec, params, ids, features, weights):
    tokens, targets = ids[:, :-1], ids[:, 1:]
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    logits, _ = family.apply(config, params, Inputs(tokens, positions, features))
    log_p = jax.nn.log_softmax(logits)
    nats = -jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    may = legal.ids(codec.grammar, tokens, positions)
    inside, uniform = jax.nn.logsumexp(log_p, -1, where=may), jnp.log(jnp.sum(may, -1))
    parts = (jnp.ones_like(nats), nats, nats + inside, uniform, -jnp.expm1(jnp.minimum(inside, 0)))
    return jnp.stack([mesh.gather(jnp.sum(jnp.where(weights > 0, x * weights, 0), -1), (None,)) for x in parts])
