"""What the tests of training share: a family small enough to compile at once, random batches, a corpus of scales."""

from __future__ import annotations

import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aurljax import config, losses, mesh
from aurljax.data.batch import Batch
from aurljax.models import FAMILIES
from aurljax.models.family import Aux, Family
from aurljax.params import Param, is_param


@dataclass(frozen=True)
class BigramConfig:
    """Width of the table of ids."""

    vocab: int
    features: tuple[tuple[str, int], ...] = ()
    d_model: int = 8


def spec(c: BigramConfig):
    return {
        "embed": {"tokens": Param((c.vocab, c.d_model), ("vocab", "embed"), scale=0.3)},
        "head": Param((c.d_model, c.vocab), ("embed", "vocab"), scale=0.3),
        "bias": Param((c.vocab,), ("vocab",), init="zeros"),
        "teacher": Param((c.vocab, c.d_model), ("vocab", "embed"), init="ones"),
    }


def loss(c: BigramConfig, params, batch, key, step):
    """Cross-entropy of the next id given this one; the frozen teacher's row is added to the id's own."""
    h = mesh.take(params["embed"]["tokens"], batch.tokens) + mesh.take(params["teacher"], batch.tokens)
    head, bias = mesh.gather(params["head"], (None, None)), mesh.gather(params["bias"], (None,))
    logits = mesh.einsum("btd,dv->btv", h, head, ("batch", None, None)) + bias
    nats, correct = losses.cross_entropy(logits, batch.targets)
    total = jnp.sum(nats * batch.weights)
    return total, Aux({"loss": total, "weight": jnp.sum(batch.weights), "accuracy": jnp.sum(correct * batch.weights)})


def labels(c: BigramConfig):
    tree = jax.tree.map(lambda _: "main", spec(c), is_leaf=is_param)
    return tree | {"bias": "bias", "teacher": "frozen"}


BIGRAM = Family(
    name="bigram",
    config=BigramConfig,
    spec=spec,
    apply=lambda *_: None,
    init_cache=lambda *_: None,
    loss=loss,
    labels=labels,
)


@pytest.fixture(autouse=True)
def bigram(monkeypatch):
    """Puts the family in the table, for the tests of a module that imports this fixture."""
    monkeypatch.setitem(FAMILIES, "bigram", BIGRAM)


def bigram_config(**sections) -> config.Config:
    """A config of the bigram family; give sections as dicts, such as optim={"ema": 0.9}."""
    tree = {"model": {"family": "bigram"}, "data": {"length": 16}, "optim": {"warmup": 2}, "run": {"steps": 40}}
    for name, fields in sections.items():
        tree[name] = {**tree.get(name, {}), **fields} if isinstance(fields, dict) else fields
    return config.from_dict(tree)


def random_batch(seed: int, vocab: int, rows: int = 16, length: int = 16) -> Batch:
    """Random ids with uneven weights, so that parts of a batch weigh unequally."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab, (rows, length + 1)).astype(np.int32)
    weights = (rng.random((rows, length)) < rng.random((rows, 1))).astype(np.float32)
    ones = np.ones((rows, length), np.int32)
    return Batch(ids[:, :-1], ids[:, 1:], weights, ones, np.cumsum(ones, 1, dtype=np.int32) - 1, {})


def make_corpus(folder, valid: int = 6, sizes: tuple[int, ...] = (64,)) -> str:
    """A corpus of 24 short pieces, scales up and down from all keys, every fourth of them held out up to `valid`.

    Pieces have `sizes` notes, in turn.
    """
    from aurljax.data.ingest import ingest
    from aurljax.music import midi
    from aurljax.music.score import Score

    (folder / "midi").mkdir(parents=True)
    for i in range(24):
        steps = (0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2, 0, 7)[:: 1 if i < 12 else -1]
        notes = [(240 * t, 240, 0, 48 + i % 12 + steps[t % 16], 80) for t in range(sizes[i % len(sizes)])]
        midi.save(Score(480, notes=notes, tracks=[(0, False)]), str(folder / "midi" / f"{i:02}.mid"))
    held = [f"{i:02}" for i in range(0, 24, 4)][:valid]
    splits = {"train": sorted({f"{i:02}" for i in range(24)} - {*held}), "valid": held}
    (folder / "splits.json").write_text(json.dumps(splits))
    ingest(folder / "midi", folder / "corpus", workers=1, splits=folder / "splits.json")
    return str(folder / "corpus")
