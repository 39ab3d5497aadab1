"""The pipeline: batches as a function of the step alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aurljax.data import objective as objectives
from aurljax.data import order, packing, turns, windows
from aurljax.data.augment import Augment
from aurljax.data.batch import Batch, blank
from aurljax.data.corpus import Corpus
from aurljax.data.curriculum import Curriculum
from aurljax.data.encoding import PLAIN, WRITTEN, Source
from aurljax.data.example import Example
from aurljax.data.objective import Objective
from aurljax.data.timetable import Place, Timetable
from aurljax.errors import UserError
from aurljax.music.preprocess import Preprocess

if TYPE_CHECKING:
    from aurljax.config import Config
    from aurljax.music.codec import Codec

IN_TURN = Curriculum()  # none


class Dataset:
    """Packed batches of a split, without end; all that varies follows from (seed, step).

    A batch is [batch, length], or where there are `buckets`, shorter lengths L, [batch * length / L, L] for one of them:
    always as many slots. `mixture` names further corpora and the share of the slots that each has. Every window of a
    corpus is drawn once in an epoch of its own, transposed by a number of semitones drawn from `transpose`
    (low <= 0 <= high), and given the effects of `effects`, whose schedules end at step `steps`. While a `curriculum`
    lasts, rows are drawn from its pool, with replacement. `cut` is one of `cuts.CUTS`. `objective` draws the windows that
    have holes; the share `controls_dropout` goes without its controls. In memory are kept `cache_bytes` of encoded windows.
    """

    def __init__(
        self,
        corpus: Corpus,
        codec: Codec,
        split: str,
        length: int,
        batch: int,
        seed: int = 0,
        transpose: tuple[int, int] = (0, 0),
        shuffle: bool = True,
        cache_bytes: int = 256 << 20,
        preprocess: Preprocess = windows.RAW,
        effects: Augment = PLAIN,
        steps: int = 0,
        curriculum: Curriculum = IN_TURN,
        buckets: tuple[int, ...] = (),
        mixture: Sequence[tuple[Corpus, float]] = (),
        cut: str = "tile",
        objective: Objective = WRITTEN,
        controls_dropout: float = 0.0,
    ):
        low, high = transpose
        objective.check(codec)
        objectives.check_dropout(controls_dropout, codec)
        if not low <= 0 <= high:
            raise UserError(f"transpose: ({low}, {high}) must hold 0, as (-5, 6) does")
        if batch < 1 or length < 2:
            raise UserError(f"batch: {batch} rows of length {length}; take at least 1 row of 2 slots")
        if effects.transpose == "fit" and any(transpose):
            raise UserError(f"transpose: ({low}, {high}) has no use where augment.transpose is 'fit'; leave one out")
        if effects.scheduled and steps < 1:
            raise UserError("augment: a schedule needs the number of steps at which it ends; give `steps`")
        if curriculum.by != "none" and (steps < 1 or not shuffle):
            raise UserError("curriculum: needs the number of steps of the run and `shuffle`; give both")
        self.codec, self.split, self.length, self.batch_size, self.seed = codec, split, length, batch, seed
        self.transpose, self.shuffle, self.buckets = (low, high), shuffle, tuple(buckets)
        self.preprocess, self.effects, self.steps, self.curriculum = preprocess, effects, steps, curriculum
        self.objective, self._weights = objective, objectives.weights(codec)
        self.controls_dropout = controls_dropout
        lengths, self.shares = packing.lengths(length, self.buckets), turns.shares([share for _, share in mixture])
        memory = cache_bytes // len(self.shares)
        self.sources = [
            Source(
                c, codec, split, length, _seed(seed, k), self.transpose, preprocess, effects, memory, cut, objective,
                controls_dropout,
            )
            for k, c in enumerate([corpus, *(c for c, _ in mixture)])
        ]
        self.timetable = Timetable(self.sources, self.shares, lengths, batch, seed, shuffle, steps, curriculum)

    @property
    def rows(self) -> int:
        """Rows, of any length, that all windows fill."""
        return sum(map(sum, self.timetable.counts))

    @property
    def epoch_steps(self) -> int:
        """Steps whose batches have as many slots as all rows: one epoch of one corpus (it may end inside a batch)."""
        return math.ceil(self.timetable.slots / (self.batch_size * self.length))

    @property
    def fell_back(self) -> int:
        """Windows so far that effects made too long, and that went without them."""
        return sum(source.fell_back for source in self.sources)

    @property
    def shortened(self) -> int:
        """Windows so far that holes made too long, and that went without their last bars or without holes."""
        return sum(source.shortened for source in self.sources)

    @property
    def augmented(self) -> float:
        """Share of the windows so far that were transposed or given an effect."""
        return sum(source.changed for source in self.sources) / max(sum(source.drawn for source in self.sources), 1)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the batches follow from, for a checkpoint's metadata."""
        names = ("split", "length", "batch_size", "seed", "transpose", "shuffle", "steps", "buckets", "controls_dropout")
        return {
            "corpora": [source.corpus.digest for source in self.sources],
            "licences": [source.corpus.licence for source in self.sources],
            "shares": [float(share) for share in self.shares],
            "codec": self.codec.fingerprint,
            "windows": [source.windows.digest for source in self.sources],
            "preprocess": dataclasses.asdict(self.preprocess),
            "augment": dataclasses.asdict(self.effects),
            "curriculum": dataclasses.asdict(self.curriculum),
            "objective": dataclasses.asdict(self.objective),
            **{n: getattr(self, n) for n in names},
        }

    @property
    def summary(self) -> dict[str, float]:
        """Figures of the split: windows, rows, slots filled, share of slots filled, bars left out."""
        count = sum(len(source.windows) for source in self.sources)
        tokens = sum(int(source.windows.ids.sum()) for source in self.sources) - count
        return {
            "windows": count,
            "rows": self.rows,
            "tokens": tokens,
            "efficiency": tokens / max(self.timetable.slots, 1),  # before effects fill the room kept for them
            "bars_left_out": sum(source.windows.left_out for source in self.sources),
        }

    # --- batches ---------------------------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch:
        """The global batch of a step, numpy."""
        return self.host_batch(step, 0, 1)

    def host_batch(self, step: int, index: int, count: int) -> Batch:
        """The contiguous rows of host `index` of `count`; UserError if the hosts do not divide the batch."""
        self._divide(count)
        places = self.timetable.places(step, index, count)
        return self._fill(places, places[0].bucket, self.timetable.progress(step))

    def iterate(
        self, start: int = 0, stop: int | None = None, index: int = 0, count: int = 1, threads: int = 2, ahead: int = 4
    ) -> Iterator[Batch]:
        """This host's batches from step `start` on, `ahead` of them prepared by `threads` threads of grain."""
        import grain  # imports jax

        self._divide(count)
        steps = grain.MapDataset.range(start, 2**40 if stop is None else stop)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads))
        return iter(steps.map(lambda step: self.host_batch(int(step), index, count)).to_iter_dataset(options))

    def one_epoch(self, index: int = 0, count: int = 1) -> Iterator[Batch]:
        """Every window once as it is written, bucket by bucket in the packing's order; rows that are missing weigh 0."""
        self._divide(count)
        for bucket, size in enumerate(self.timetable.sizes):
            rows = [(k, row) for k, counts in enumerate(self.timetable.counts) for row in range(counts[bucket])]
            places = [Place(k, bucket, row, None) for k, row in rows]
            places += [None] * (-len(places) % size)
            for first in range(index * size // count, len(places), size):
                yield self._fill(places[first : first + size // count], bucket)

    def examples(self, step: int, row: int) -> list[Example]:
        """The windows of one row of a step's batch; UserError if the batch has no such row."""
        places = self.timetable.places(step) if step >= 0 else []
        if not 0 <= row < len(places):
            last = (len(places) or self.batch_size) - 1
            raise UserError(f"step {step} has no row {row}: steps count from 0, rows are 0..{last}")
        source, progress = self.sources[places[row].source], self.timetable.progress(step)
        found = [source.example(w, places[row].epoch, progress) for w in self.timetable.windows(places[row])]
        if len(self.sources) == 1:
            return found
        return [e._replace(piece=f"{e.piece} of {source.corpus.path.name}") for e in found]

    def row_length(self, step: int) -> int:
        """Slots of each row of a step."""
        return self.timetable.lengths[self.timetable.places(step)[0].bucket]

    def _divide(self, count: int) -> None:
        if self.batch_size % count:
            raise UserError(f"batch: {self.batch_size} rows cannot be shared by {count} hosts; take a multiple of it")

    def _fill(self, places: list[Place | None], bucket: int, progress: float = 0.0) -> Batch:
        """A batch of rows of a bucket; None: an empty row."""
        pad, names = self.codec.vocabulary.id("pad"), tuple(self.codec.feature_sizes)
        out = blank(len(places), self.timetable.lengths[bucket], pad, names)
        for r, place in enumerate(places):
            at = 0
            for segment, window in enumerate(self.timetable.windows(place) if place else (), 1):
                ids, features = self.sources[place.source].window(window, place.epoch, progress)
                slots = slice(at, at := at + len(ids) - 1)
                out.tokens[r, slots], out.targets[r, slots] = ids[:-1], ids[1:]
                out.weights[r, slots], out.segments[r, slots] = self._weights[ids[1:]], segment
                out.positions[r, slots] = np.arange(len(ids) - 1)
                for name, values in features.items():
                    out.features[name][r, slots] = values[:-1]
        return out


def _seed(seed: int, source: int) -> int:
    """A seed for each source, the run's own for the first."""
    return order.number(seed, order.CORPUS, source) >> 1 if source else seed


def training(config: Config, codec: Codec, corpus: Corpus) -> Dataset:
    """The batches that a run with this config is trained on, `corpus` being its first; the others are opened here."""
    d = config.data
    return Dataset(
        corpus, codec, "train", d.length, d.batch, seed=config.seed, transpose=d.transpose, preprocess=d.preprocess,
        effects=d.augment, steps=config.run.steps, curriculum=d.curriculum, buckets=d.buckets, cut=d.cut,
        mixture=[(Corpus(path), share) for path, share in d.mixture], objective=d.objective,
        controls_dropout=d.controls_dropout,
    )  # fmt: skip


def held_out(config: Config, codec: Codec, corpus: Corpus) -> Dataset:
    """The batches that a run is validated on: of its first corpus, in rows of full length, not augmented."""
    d = config.data
    return Dataset(corpus, codec, "valid", d.length, d.batch, shuffle=False, preprocess=d.preprocess)
