"""Windows: whole bars of a piece whose ids fit a length, listed once and kept on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aurljax.data import cache, cuts, files, workers
from aurljax.data.corpus import Corpus
from aurljax.errors import UserError
from aurljax.music import chords, polyphony, preprocess
from aurljax.music import codec as codecs
from aurljax.music import score as scores
from aurljax.music.preprocess import Preprocess

if TYPE_CHECKING:
    from aurljax.music.codec import Codec

RAW = Preprocess()
LARGE, CHUNK = 4096, 256  # pieces: from how many on processes are worth their start, and in one task of theirs


@dataclasses.dataclass(frozen=True)
class Windows:
    """Window w is bars start[w]..stop[w]-1 of piece[w] and ids[w] ids long; int32 [W] each."""

    piece: np.ndarray  # index in the corpus
    start: np.ndarray
    stop: np.ndarray
    ids: np.ndarray
    left_out: int  # bars that alone are longer than a window

    def __len__(self) -> int:
        return len(self.piece)

    @property
    def digest(self) -> str:
        """Hex hash of the index."""
        columns = (self.piece, self.start, self.stop, self.ids)
        return hashlib.sha256(b"".join(np.ascontiguousarray(c).tobytes() for c in columns)).hexdigest()[:16]


def compute(
    corpus: Corpus,
    codec: Codec,
    split: str,
    length: int,
    processes: int | None = None,
    how: Preprocess = RAW,
    cut: str = "tile",
) -> Windows:
    """The windows of every piece of a split, preprocessed and `cut`, in the corpus's order; UserError if there is none.

    `processes`: None for one a core where the split is large, else this one alone.
    """
    pieces = corpus.split(split)
    if processes is None:
        processes = workers.cores() if len(pieces) >= LARGE else 1
    if processes == 1:
        parts = [_cut(corpus, codec, length, pieces, how, cut)]
    else:
        same = {"corpus": str(corpus.path), "codec": codec.name, "options": codec.options, "length": length}
        same |= {"preprocess": dataclasses.asdict(how), "cut": cut}
        tasks = [{**same, "items": pieces[i : i + CHUNK]} for i in range(0, len(pieces), CHUNK)]
        done = dict(workers.run("aurljax.data.windows:_task", tasks, processes, float("inf")))
        parts = [done[i] for i in range(len(tasks))]
    rows = [row for part, _ in parts for row in part]
    if not rows:
        raise UserError(f"{corpus.path}: no bar of split '{split}' fits length {length}; choose a longer one")
    return Windows(*np.array(rows, np.int32).T.copy(), sum(left_out for _, left_out in parts))


def _cut(
    corpus: Corpus, codec: Codec, length: int, pieces: list[int], how: Preprocess, cut: str, at: Callable = int
) -> tuple[list, int]:
    """([(piece, first bar, bar after the last, ids)], bars left out) of some pieces; calls at(k) before the k-th."""
    rows, left_out = [], 0
    for k, i in enumerate(pieces):
        at(k)
        windows, out = cuts.cut(preprocess.prepare(corpus[i], how)[0], codec, length, cut)
        rows += [(i, *w) for w in windows]
        left_out += out
    return rows, left_out


def _task(task: workers.Task, at: Callable) -> tuple[list, int]:
    """`_cut` in a worker process."""
    if task["bad"]:
        raise RuntimeError(f"{task['corpus']}: workers died on pieces {task['items']} ({task['bad']})")
    made = codecs.make(task["codec"], **task["options"])
    how = Preprocess(**task["preprocess"])
    return _cut(Corpus(task["corpus"]), made, task["length"], task["items"], how, task["cut"], at)


def load(corpus: Corpus, codec: Codec, split: str, length: int, how: Preprocess = RAW, cut: str = "tile") -> Windows:
    """`compute`, kept on disk by all it depends on: in the corpus if it can be written, else in the user's cache; each
    keeps to the cache's limit."""
    code = files.code(codecs, scores, chords, preprocess, polyphony, cuts, sys.modules[__name__])
    key = f"{corpus.digest}/{codec.fingerprint}/{split}/{length}/{code}/{how}/{cut}"
    name = f"windows-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    kept = corpus.path / "cache" / name
    for get in (kept.read_bytes, lambda: cache.read(f"windows/{name}")):
        if (found := _read(get)) is not None:
            with contextlib.suppress(OSError):  # it may be in the other place, or another process just removed it
                os.utime(kept)
            return found
    windows = compute(corpus, codec, split, length, how=how, cut=cut)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.write(kept, _bytes(windows))
        cache.trim(within=Path(kept.parent))
    except OSError:
        with contextlib.suppress(OSError):
            cache.write(f"windows/{name}", _bytes(windows))
    return windows


def _bytes(windows: Windows) -> bytes:
    out = io.BytesIO()
    np.savez(out, **dataclasses.asdict(windows))
    return out.getvalue()


def _read(get: Callable[[], bytes | None]) -> Windows | None:
    """The windows in a file, None if there are none to be read: what is derived is then derived again."""
    try:
        with np.load(io.BytesIO(get())) as table:
            return Windows(*(table[f.name] for f in dataclasses.fields(Windows)[:-1]), int(table["left_out"]))
    except Exception:  # a missing, foreign or damaged file; npz has no one error of its own
        return None
