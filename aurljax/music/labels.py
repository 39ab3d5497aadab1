"""Chords that were annotated beside a performance, in seconds: as markers of its score."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aurljax.music import chords
from aurljax.music.score import Score
from aurljax.music.sidecar import SidecarError

GAP = 0.02  # seconds without a label that are no chord, rather than rounding
NOTHING = "N"


class LabelsError(SidecarError):
    """A file of chord labels that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Where labels start and end in seconds, the starts rising [N, 2], and the labels [N] as they are written."""

    seconds: np.ndarray
    texts: tuple[str, ...]

    @property
    def unknown(self) -> int:
        """How many labels are no chord symbols that `chords.parse` reads."""
        return sum(chords.parse(text) is None for text in self.texts)


def read(path: str | os.PathLike) -> Labels:
    """Labels of a text file with lines `start end label`, the times in seconds (POP909's chord_midi.txt, any .lab file).

    Raises LabelsError, also where fewer than half of the labels are chord symbols.
    """
    try:
        rows = [line.split() for line in Path(path).read_text().splitlines() if line.strip()]
        seconds = np.array([row[:2] for row in rows], float)
    except (OSError, ValueError) as error:
        raise LabelsError(f"{path}: cannot be read as lines of start, end and chord ({error})") from error
    if not rows or any(len(row) != 3 for row in rows):
        raise LabelsError(f"{path}: must hold lines of start, end and chord, three words each")
    start, end = seconds.T
    if not np.all(np.isfinite(seconds)) or np.any(np.diff(start) <= 0) or np.any(end < start):
        raise LabelsError(f"{path}: its chords must start one after the other, and end no earlier than they start")
    labels = Labels(seconds, tuple(row[2] for row in rows))
    if 2 * labels.unknown > len(rows):
        raise LabelsError(f"{path}: {labels.unknown} of its {len(rows)} labels are no chord symbols")
    return labels


def put(score: Score, labels: Labels, ticks: Callable[[np.ndarray], np.ndarray]) -> Score:
    """The score with the labels as markers; `ticks` gives those of the score for seconds of the labels' recording.

    A label stays as it is written, but for a bare letter: C is C:maj, so that `chords.of` tells it from a section. What
    a label repeats is left out, what lies before tick 0 is put there if it lasts, what starts when the last note has
    ended goes. Where no label stands there is no chord (N).
    """
    spans = zip(*np.maximum(ticks(labels.seconds), 0).T.tolist(), *labels.seconds.T.tolist(), labels.texts, strict=True)
    at, until, ended = {}, 0, 0.0
    for tick, stop, start, end, text in spans:
        if start - ended > GAP and tick > until:
            at[until] = NOTHING
        at[tick] = f"{text}:maj" if text in chords.LETTERS else text
        until, ended = stop, end
    at[until] = NOTHING
    kept, before = [], NOTHING
    for tick, text in at.items():
        if text != before and tick < score.end:
            kept.append((tick, "marker", text))
            before = text
    return score.replace(texts=(*score.texts, *kept))
