"""The pipeline: batches as a function of the step alone."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from aurljax.data import augment, order, packing, windows
from aurljax.data.augment import Augment, Plan
from aurljax.data.batch import Batch, blank
from aurljax.data.corpus import Corpus
from aurljax.data.curriculum import Curriculum
from aurljax.data.example import Example
from aurljax.errors import UserError
from aurljax.music import preprocess
from aurljax.music.preprocess import Preprocess

if TYPE_CHECKING:
    from aurljax.config import Config
    from aurljax.music.codec import Codec
    from aurljax.music.score import Score

_ORDER, _SHIFT, _EFFECTS, _POOL = 1, 2, 3, 4  # purposes of a drawn number, so that no two draws share a key
PLAIN = Augment()  # no effect
IN_TURN = Curriculum()  # none
Encoded = tuple[np.ndarray, dict[str, np.ndarray]]  # ids [n], features [n] each


class Dataset:
    """Packed batches [batch, length] of a split, without end; all that varies follows from (seed, step).

    Row r of the run (step * batch + place) is row r % rows of epoch r // rows, in that epoch's own order. Every
    window is drawn once an epoch, transposed by a number of semitones drawn from `transpose` (low <= 0 <= high), and
    given the effects of `effects`, whose schedules end at step `steps`. A window that they make longer than the room
    its row has for it is transposed only, and counted in `fell_back`. Encoded windows without effects are kept in
    memory up to `cache_bytes`; that changes no result. While a `curriculum` lasts, rows are drawn from its pool, with
    replacement.
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
    ):
        low, high = transpose
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
        self.corpus, self.codec, self.split = corpus, codec, split
        self.length, self.batch_size, self.seed = length, batch, seed
        self.transpose, self.shuffle = (low, high), shuffle
        self.preprocess, self.effects, self.steps, self.curriculum = preprocess, effects, steps, curriculum
        self.slack = effects.slack if effects.active else 0.0
        self.windows = windows.load(corpus, codec, split, max(int(length / (1 + self.slack)), 2), preprocess)
        self.packing = packing.pack(self._room(self.windows.ids), length)
        self.cut = 0  # windows that transposition made too long, cut at the last bar that fits
        self.fell_back = 0  # windows that effects made too long, and that go without them
        self._scores = _Recent(64 << 20)
        self._encoded = _Recent(cache_bytes)
        self._order = functools.lru_cache(maxsize=4)(lambda e: order.permutation(self.rows, seed, _ORDER, e))

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        return len(self.packing)

    @property
    def epoch_steps(self) -> int:
        """Steps after which every window has been seen (an epoch may end inside a batch)."""
        return math.ceil(self.rows / self.batch_size)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the batches follow from, for a checkpoint's metadata."""
        names = ("split", "length", "batch_size", "seed", "transpose", "shuffle", "steps")
        return {
            "corpus": self.corpus.digest,
            "licence": self.corpus.licence,
            "codec": self.codec.fingerprint,
            "windows": self.windows.digest,
            "preprocess": dataclasses.asdict(self.preprocess),
            "augment": dataclasses.asdict(self.effects),
            "curriculum": dataclasses.asdict(self.curriculum),
            **{n: getattr(self, n) for n in names},
        }

    @property
    def summary(self) -> dict[str, float]:
        """Figures of the split: windows, rows, slots filled, share of slots filled, bars left out."""
        tokens = int(self.windows.ids.sum()) - len(self.windows)
        return {
            "windows": len(self.windows),
            "rows": self.rows,
            "tokens": tokens,
            "efficiency": tokens / max(self.rows * self.length, 1),  # before effects fill the room kept for them
            "bars_left_out": self.windows.left_out,
        }

    # --- batches ---------------------------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch:
        """The global batch of a step, numpy [batch, length]."""
        return self.host_batch(step, 0, 1)

    def host_batch(self, step: int, index: int, count: int) -> Batch:
        """The contiguous rows of host `index` of `count`; UserError if the hosts do not divide the batch."""
        first, size = step * self.batch_size, self._share(count)
        return self._fill([self._place(first + index * size + i) for i in range(size)], step)

    def iterate(
        self, start: int = 0, stop: int | None = None, index: int = 0, count: int = 1, threads: int = 2, ahead: int = 4
    ) -> Iterator[Batch]:
        """This host's batches from step `start` on, `ahead` of them prepared by `threads` threads of grain."""
        import grain  # imports jax

        self._share(count)
        steps = grain.MapDataset.range(start, 2**40 if stop is None else stop)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads))
        return iter(steps.map(lambda step: self.host_batch(int(step), index, count)).to_iter_dataset(options))

    def one_epoch(self, index: int = 0, count: int = 1) -> Iterator[Batch]:
        """Every window once, in the packing's order and as it is written; missing rows of the last batch weigh 0."""
        size = self._share(count)
        for first in range(0, self.rows, self.batch_size):
            mine = range(first + index * size, first + (index + 1) * size)
            yield self._fill([(None, row) if row < self.rows else None for row in mine])

    def _share(self, count: int) -> int:
        if self.batch_size % count:
            raise UserError(f"batch: {self.batch_size} rows cannot be shared by {count} hosts; take a multiple of it")
        return self.batch_size // count

    def _place(self, number: int) -> tuple[int, int]:
        """(epoch, row of the packing) of a row of the run."""
        pool = self.curriculum.pool(self.rows, self._progress(number // self.batch_size))
        if pool is not None:  # each draw an epoch of its own, for what augmentation draws
            return number, int(self._ranked[order.number(self.seed, _POOL, number) % pool])
        epoch, place = divmod(number, self.rows)
        return epoch, int(self._order(epoch)[place]) if self.shuffle else place

    def _progress(self, step: int) -> float:
        """The share of the run before a step."""
        return min(step / max(self.steps - 1, 1), 1.0)

    @functools.cached_property
    def _ranked(self) -> np.ndarray:
        """[rows] rows from the easiest on."""
        hardest = [self.windows.ids[self.packing[row]].max() for row in range(self.rows)]
        return np.argsort(hardest, kind="stable")

    def _room(self, ids: np.ndarray) -> np.ndarray:
        """Slots kept for windows of so many ids."""
        return np.minimum(np.ceil((ids - 1) * (1 + self.slack)).astype(np.int64), self.length)

    def _fill(self, rows: list[tuple[int | None, int] | None], step: int = 0) -> Batch:
        """A batch of (epoch, row) each; epoch None: no augmentation, None: an empty row."""
        out = blank(len(rows), self.length, self.codec.vocabulary.id("pad"), tuple(self.codec.feature_sizes))
        for r, row in enumerate(rows):
            at = 0
            for segment, window in enumerate(() if row is None else self.packing[row[1]].tolist(), 1):
                ids, features = self.window(window, row[0], step)
                slots = slice(at, at := at + len(ids) - 1)
                out.tokens[r, slots], out.targets[r, slots] = ids[:-1], ids[1:]
                out.weights[r, slots], out.segments[r, slots] = 1, segment
                out.positions[r, slots] = np.arange(len(ids) - 1)
                for name, values in features.items():
                    out.features[name][r, slots] = values[:-1]
        return out

    # --- windows ---------------------------------------------------------------------------------------------------

    def window(self, window: int, epoch: int | None = None, step: int = 0) -> Encoded:
        """(ids [n], features) of a window as that epoch draws it at that step; None: as it is written."""
        plan = self.plan(window, epoch, step)
        if plan == _plain(plan):
            return self._encoded.get((window, plan), lambda: self._encode(window, plan))
        return self._encode(window, plan)  # no other epoch draws the same

    def plan(self, window: int, epoch: int | None, step: int) -> Plan:
        """What that epoch does to a window at that step, drawn from (seed, epoch, window)."""
        if epoch is None:
            return ()
        score, (low, high) = self._score(window)[0], self.transpose
        if self.effects.transpose == "fit":
            low, high = augment.fitting(score, self.effects.pitches)
        shift = augment.draw(score, (self.seed, _SHIFT, epoch, window), low, high) if low < high else 0
        drawn = augment.plan(score, self.effects, (self.seed, _EFFECTS, epoch, window), self._progress(step))
        return ((("transpose", shift),) if shift else ()) + drawn

    def examples(self, step: int, row: int) -> list[Example]:
        """The windows of one row of a step's batch; UserError if the batch has no such row."""
        if not (0 <= row < self.batch_size and step >= 0):
            raise UserError(f"step {step} has no row {row}: steps count from 0, rows are 0..{self.batch_size - 1}")
        epoch, place = self._place(step * self.batch_size + row)
        out = []
        for window in self.packing[place].tolist():
            w, plan = self.windows, self.plan(window, epoch, step)
            ids, done = self._fitting(window, plan)
            bars = int(w.start[window]), int(w.stop[window])
            piece = self.corpus.pieces[int(w.piece[window])].id
            out.append(Example(piece, bars, self._score(window)[1], plan, done, ids))
        return out

    def _score(self, window: int) -> tuple[Score, dict[str, int]]:
        """The preprocessed piece of a window, and the notes that cost."""
        piece = int(self.windows.piece[window])
        return self._scores.get(piece, lambda: preprocess.prepare(self.corpus[piece], self.preprocess))

    def _encode(self, window: int, plan: Plan) -> Encoded:
        ids, done = self._fitting(window, plan)
        self.fell_back += done != plan
        return ids, self.codec.features(ids)

    def _fitting(self, window: int, plan: Plan) -> tuple[np.ndarray, Plan]:
        """(ids, what was done): all of the plan if its ids fit the window's room, else its transposition alone."""
        score, w = self._score(window)[0], self.windows
        a, b, room = int(w.start[window]), int(w.stop[window]), int(self._room(w.ids[window])) + 1
        plain = _plain(plan)
        if plan != plain:
            changed = augment.apply(score, plan)
            if (bars := min(b, self.codec.bars(changed))) > a:  # bars at the end may have lost all that was in them
                ids = self.codec.encode(changed, bars=(a, bars))
                if len(ids) <= room:
                    return ids, plan
        ids = self.codec.encode(augment.apply(score, plain), bars=(a, b))
        if len(ids) > room:
            self.cut += 1
            lines = self.codec.bar_starts(ids, b - a)[1:]
            lines = lines[lines <= room]
            ids = ids[: lines[-1] if len(lines) else room]
        return ids, plain


def _plain(plan: Plan) -> Plan:
    """The part of a plan that cannot change how many ids a window has."""
    return plan[:1] if plan and plan[0][0] == "transpose" else ()


def training(config: Config, codec: Codec, corpus: Corpus) -> Dataset:
    """The batches that a run with this config is trained on."""
    d = config.data
    return Dataset(
        corpus, codec, "train", d.length, d.batch, seed=config.seed, transpose=d.transpose, preprocess=d.preprocess,
        effects=d.augment, steps=config.run.steps, curriculum=d.curriculum,
    )  # fmt: skip


def held_out(config: Config, codec: Codec, corpus: Corpus) -> Dataset:
    """The batches that a run is validated on: preprocessed, not augmented."""
    d = config.data
    return Dataset(corpus, codec, "valid", d.length, d.batch, shuffle=False, preprocess=d.preprocess)


class _Recent:
    """A memory of the last values asked for, up to so many bytes; shared by threads."""

    def __init__(self, limit: int):
        self.limit, self.size = limit, 0
        self._values: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, make: Any) -> Any:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self.size += _bytes(value)
                while self.size > self.limit:
                    self.size -= _bytes(self._values.popitem(last=False)[1])
        return value


def _bytes(value: tuple) -> int:
    """About how much memory an encoded window, or a score and its counts, takes."""
    first, rest = value
    if isinstance(first, np.ndarray):
        return 200 + first.nbytes + sum(f.nbytes for f in rest.values())
    return 2000 + 100 * len(first.notes) + first.controls.nbytes
