"""The pipeline: batches as a function of the step alone."""

from __future__ import annotations

import collections
import functools
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from aurljax.data import augment, order, packing, windows
from aurljax.data.batch import Batch, blank
from aurljax.data.corpus import Corpus
from aurljax.errors import UserError

if TYPE_CHECKING:
    from aurljax.music.codec import Codec
    from aurljax.music.score import Score

_ORDER, _SHIFT = 1, 2  # purposes of a drawn number, so that no two draws share a key
Encoded = tuple[np.ndarray, dict[str, np.ndarray]]  # ids [n], features [n] each


class Dataset:
    """Packed batches [batch, length] of a split, without end; all that varies follows from (seed, step).

    Row r of the run (step * batch + place) is row r % rows of epoch r // rows, in that epoch's own order. Every
    window is drawn once an epoch, transposed by a number of semitones drawn from `transpose` (low <= 0 <= high).
    Encoded windows are kept in memory up to `cache_bytes`; that changes no result.
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
    ):
        low, high = transpose
        if not low <= 0 <= high:
            raise UserError(f"transpose: ({low}, {high}) must hold 0, as (-5, 6) does")
        if batch < 1 or length < 2:
            raise UserError(f"batch: {batch} rows of length {length}; take at least 1 row of 2 slots")
        self.corpus, self.codec, self.split = corpus, codec, split
        self.length, self.batch_size, self.seed = length, batch, seed
        self.transpose, self.shuffle = (low, high), shuffle
        self.windows = windows.load(corpus, codec, split, length)
        self.packing = packing.pack(self.windows.ids - 1, length)
        self.cut = 0  # windows that augmentation made too long, cut at the last bar that fits
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
        names = ("split", "length", "batch_size", "seed", "transpose", "shuffle")
        return {
            "corpus": self.corpus.digest,
            "codec": self.codec.fingerprint,
            "windows": self.windows.digest,
            **{n: getattr(self, n) for n in names},
        }

    @property
    def summary(self) -> dict[str, float]:
        """Figures of the split: windows, rows, slots filled, share of slots filled, bars left out."""
        return {
            "windows": len(self.windows),
            "rows": self.rows,
            "tokens": int(self.windows.ids.sum()) - len(self.windows),
            "efficiency": self.packing.efficiency,
            "bars_left_out": self.windows.left_out,
        }

    # --- batches ---------------------------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch:
        """The global batch of a step, numpy [batch, length]."""
        return self.host_batch(step, 0, 1)

    def host_batch(self, step: int, index: int, count: int) -> Batch:
        """The contiguous rows of host `index` of `count`; UserError if the hosts do not divide the batch."""
        first, size = step * self.batch_size, self._share(count)
        return self._fill([self._place(first + index * size + i) for i in range(size)])

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
        epoch, place = divmod(number, self.rows)
        return epoch, int(self._order(epoch)[place]) if self.shuffle else place

    def _fill(self, rows: list[tuple[int | None, int] | None]) -> Batch:
        """A batch of (epoch, row) each; epoch None: no augmentation, None: an empty row."""
        out = blank(len(rows), self.length, self.codec.vocabulary.id("pad"), tuple(self.codec.feature_sizes))
        for r, row in enumerate(rows):
            at = 0
            for segment, window in enumerate(() if row is None else self.packing[row[1]].tolist(), 1):
                ids, features = self.window(window, row[0])
                slots = slice(at, at := at + len(ids) - 1)
                out.tokens[r, slots], out.targets[r, slots] = ids[:-1], ids[1:]
                out.weights[r, slots], out.segments[r, slots] = 1, segment
                out.positions[r, slots] = np.arange(len(ids) - 1)
                for name, values in features.items():
                    out.features[name][r, slots] = values[:-1]
        return out

    # --- windows ---------------------------------------------------------------------------------------------------

    def window(self, window: int, epoch: int | None = None) -> Encoded:
        """(ids [n], features) of a window as that epoch draws it; None: as it is written."""
        shift = 0
        if epoch is not None and any(self.transpose):
            key = (self.seed, _SHIFT, epoch, window)
            shift = augment.draw(self._score(window), key, *self.transpose)
        return self._encoded.get((window, shift), lambda: self._encode(window, shift))

    def _score(self, window: int) -> Score:
        piece = int(self.windows.piece[window])
        return self._scores.get(piece, lambda: self.corpus[piece])

    def _encode(self, window: int, shift: int) -> Encoded:
        score = augment.transpose(self._score(window), shift)
        w = self.windows
        room = int(w.ids[window])
        first, stop = int(w.start[window]), int(w.stop[window])
        ids = self.codec.encode(score, bars=(first, stop))
        if len(ids) > room:
            self.cut += 1
            lines = self.codec.bar_starts(ids, stop - first)
            lines = lines[1:][lines[1:] <= room]
            ids = ids[: lines[-1] if len(lines) else room]
        return ids, self.codec.features(ids)


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


def _bytes(value: Encoded | Score) -> int:
    """About how much memory a value takes."""
    if isinstance(value, tuple):
        return 200 + value[0].nbytes + sum(f.nbytes for f in value[1].values())
    return 2000 + 100 * len(value.notes) + value.controls.nbytes
