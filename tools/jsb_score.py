"""The published measure of the JSB chorales: nats per token of the grid of sixteenths, soprano to bass in each.

A distribution is over the measure's 47 symbols, pitches 36..81 and silence, given all earlier tokens of the piece and no
later one. Of the model's ids the grammar allows these and other pitches there, and `end`, which the measure does not
count; the model's probabilities are divided by their sum over the 47. A piece longer than the context is read in
windows that overlap by half.

Several members, models or transpositions of the piece, are mixed: each predicts the token from the same past, and their
mean is again a distribution given the past. In key k the model hears the piece k semitones higher, and symbols are read
k semitones higher.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jsb import score

from aurljax import mesh
from aurljax.errors import UserError
from aurljax.evaluate import likelihood
from aurljax.models.family import Inputs

if TYPE_CHECKING:
    from aurljax.model import Model

LOWEST, HIGHEST = 36, 81
SYMBOLS = HIGHEST - LOWEST + 2  # silence is the last
MOST_KEYS = 24
ROWS, BUCKET, SEED = 8, 256, 7


@dataclasses.dataclass(frozen=True)
class Mixture:
    """How members are mixed. keys: transpositions, the nearest; memory: of a member's past log-probabilities, what is
    kept a token, as its weight; mean: of probabilities, or of their logarithms, divided by the sum."""

    keys: int = 1
    memory: float = 0.0
    mean: str = "arithmetic"

    def __post_init__(self):
        if not 1 <= self.keys <= MOST_KEYS:
            raise UserError(f"keys: {self.keys} must be 1..{MOST_KEYS}")
        if not 0 <= self.memory <= 1:
            raise UserError(f"memory: {self.memory} must be in 0..1")

    @property
    def shifts(self) -> list[int]:
        """0, -1, 1, -2, 2, ... semitones."""
        return [(i + 1) // 2 * (-1) ** i for i in range(self.keys)]


def symbols(piece: np.ndarray) -> np.ndarray:
    """[T, 4] pitches, -1 for silence -> [4 T] symbols; UserError where the alphabet has none."""
    flat = piece.ravel()
    if ((flat >= 0) & ((flat < LOWEST) | (flat > HIGHEST))).any():
        raise UserError(f"a piece has pitches outside {LOWEST}..{HIGHEST}, which the measure does not know")
    return np.where(flat < 0, SYMBOLS - 1, flat - LOWEST)


def distributions(models: list[Model], pieces: list[np.ndarray], how: Mixture) -> list[np.ndarray]:
    """For each piece [tokens, 47] log-probabilities of every symbol, given the tokens before."""
    members = [of_member(model, pieces, shift) for model in models for shift in how.shifts]
    return [mixed(np.stack(logs), symbols(piece), how) for piece, *logs in zip(pieces, *members, strict=True)]


def mixed(logs: np.ndarray, tokens: np.ndarray, how: Mixture) -> np.ndarray:
    """Members' log-probabilities [M, n, 47] and the tokens [n] that came -> those of the mixture [n, 47].

    Row t follows from rows up to t and tokens before t.
    """
    if len(logs) == 1:
        return logs[0]
    weight = _normal(_past(np.take_along_axis(logs, tokens[None, :, None], 2)[..., 0], how.memory), 0)
    if how.mean == "geometric":
        return _normal((np.exp(weight)[..., None] * logs).sum(0), -1)
    return np.logaddexp.reduce(weight[..., None] + logs, 0)


def _past(logs: np.ndarray, memory: float) -> np.ndarray:
    """[M, n] the sum of logs before each token, of which `memory` is kept at every token."""
    out = np.zeros_like(logs)
    for t in range(1, logs.shape[1] if memory else 0):
        out[:, t] = memory * (out[:, t - 1] + logs[:, t - 1])
    return out


def _normal(logs: np.ndarray, axis: int) -> np.ndarray:
    return logs - np.logaddexp.reduce(logs, axis, keepdims=True)


def of_member(model: Model, pieces: list[np.ndarray], shift: int) -> list[np.ndarray]:
    """`distributions` of one model that hears every piece `shift` semitones higher."""
    codec = model.codec
    if codec.name != "voices" or (codec.voices, codec.grid, codec.onsets, codec.barlines) != (4, 4, False, False):
        raise UserError("the model's codec is not voices with barlines=False, 4 voices on a grid of 4 and no onsets")
    ids = np.append(codec.vocabulary.id("pitch", LOWEST + shift) + np.arange(SYMBOLS - 1), codec.vocabulary.id("rest"))
    rows = [(i, *row) for i, piece in enumerate(pieces)
            for row in likelihood.rows(codec, score(np.where(piece < 0, -1, piece + shift)), model.context)]  # fmt: skip
    logs = {}
    by_length = sorted(range(len(rows)), key=lambda r: -len(rows[r][1]))
    for at in range(0, len(rows), ROWS):
        part = by_length[at : at + ROWS]
        logs.update(zip(part, _batch(model, [rows[r][1] for r in part], ids), strict=False))
    out: list[list[np.ndarray]] = [[] for _ in pieces]
    for r, (piece, sequence, first) in enumerate(rows):
        stop = len(sequence) - 1 - (sequence[-1] == codec.vocabulary.id("end"))
        out[piece].append(logs[r][first - 1 : stop])
    found = [np.concatenate(parts) for parts in out]
    if [len(x) for x in found] != [piece.size for piece in pieces]:
        raise UserError("a piece ends in frames of silence, which the codec does not write; leave them out")
    return found


def _batch(model: Model, sequences: list[np.ndarray], ids: np.ndarray) -> np.ndarray:
    """[ROWS, width, 47] log-probabilities of the next id among `ids`."""
    width = -(-(max(map(len, sequences)) - 1) // BUCKET) * BUCKET
    tokens = np.zeros((ROWS, width), np.int32)
    features = {name: np.zeros((ROWS, width), np.int32) for name in model.codec.feature_sizes}
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence) - 1] = sequence[:-1]
        for name, value in model.codec.features(sequence[:-1]).items():
            features[name][row, : len(value)] = value
    positions = np.tile(np.arange(width, dtype=np.int32), (ROWS, 1))
    with mesh.use(model.mesh):
        inputs = mesh.place(Inputs(tokens, positions, features))
        return np.asarray(_logs(model.parts.family, model.parts.model, model.weights, inputs, ids), np.float64)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logs(family: Any, config: Any, weights: Any, inputs: Inputs, ids: jax.Array) -> jax.Array:
    logits, _ = family.apply(config, weights, inputs)
    logits = mesh.gather(logits, (None, None, None))
    return jax.nn.log_softmax(logits[..., ids])


def prediction(split: str, pieces: list[np.ndarray], found: list[np.ndarray], probes: int) -> dict[str, Any]:
    """The table that the measure is taken from: {"split", "logp", "probe"}, with whole distributions at drawn tokens."""
    rng = np.random.default_rng(SEED)
    drawn = [(int(k), int(rng.integers(pieces[k].size))) for k in rng.integers(0, len(pieces), probes)]
    logp = [x[np.arange(len(x)), symbols(piece)].tolist() for piece, x in zip(pieces, found, strict=True)]
    return {"split": split, "logp": logp, "probe": [(k, at, found[k][at].tolist()) for k, at in sorted(drawn)]}
