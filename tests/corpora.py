"""Folders of generated MIDI files, corpora of them, and tasks that end badly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
from scores import long_piece, random_score

from aurljax.data.corpus import Corpus
from aurljax.data.ingest import ingest
from aurljax.music import midi
from aurljax.music.score import Score


def write_folder(folder: Path, pieces: int, seed: int = 0) -> Path:
    """So many different MIDI files, every third in a folder of its own, every fifth in capitals."""
    for i in range(pieces):
        at = folder / (f"deep/{i}" if i % 3 == 0 else "") / (f"{i:03d}.MIDI" if i % 5 == 0 else f"{i:03d}.mid")
        at.parent.mkdir(parents=True, exist_ok=True)
        score = long_piece(40, seed + i) if i % 7 == 0 else random_score(1000 * seed + i)
        if not len(score):
            score = Score(notes=[(0, 480, 0, 60 + i % 12, 64)], tracks=[(i % 128, False)])
        midi.save(score.replace(controls=()), at)
    return folder


def make_corpus(folder: Path, pieces: int = 24, **options) -> Corpus:
    """A corpus of `write_folder`."""
    ingest([write_folder(folder / "midi", pieces)], folder / "corpus", workers=1, **options)
    return Corpus(folder / "corpus")


def tree(folder: Path) -> dict[str, bytes]:
    """{path: bytes} of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(a, b) -> bool:
    """Whether two batches are equal to the last bit."""
    leaves = [(x, y) for x, y in zip(a[:-1], b[:-1], strict=True)]
    leaves += [(a.features[k], b.features[k]) for k in a.features.keys() | b.features.keys()]
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in leaves)


def unpacked(batch, rows=slice(None)):
    """The windows in a batch's rows: (ids, {feature: values}) each, in order."""
    for r in range(len(batch.tokens))[rows]:
        for segment in range(1, batch.segments[r].max() + 1):
            at = batch.segments[r] == segment
            ids = np.append(batch.tokens[r][at], batch.targets[r][at][-1])
            assert np.array_equal(ids[1:], batch.targets[r][at])
            assert np.array_equal(batch.positions[r][at], np.arange(at.sum()))
            yield ids, {k: v[r][at] for k, v in batch.features.items()}


def unruly(task, at):
    """A worker's function: items are numbers to be squared, or words for what goes wrong with them."""
    out = []
    for i, item in enumerate(task["items"]):
        if str(i) in task["bad"]:
            out.append(task["bad"][str(i)])
            continue
        at(i)
        if item == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif item == "hang":
            time.sleep(60)
        elif item == "disk":
            raise OSError(28, "No space left on device")
        elif item == "bug":
            raise KeyError("a bug")
        elif isinstance(item, str):  # the name of a file: the first to see it makes it and dies
            if not os.path.exists(item):
                Path(item).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            out.append("survived")
        else:
            print("chatter that must not mix with the answers")
            out.append(item**2)
    return out
