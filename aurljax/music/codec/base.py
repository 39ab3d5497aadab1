"""What every codec does alike: pieces and windows framed by `start`, `continue` and `end`, and what follows from them."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np

from aurljax.music.codec.vocabulary import Vocabulary
from aurljax.music.score import Score


def commonest(values: np.ndarray) -> int:
    """The value that is there most often."""
    return int(np.bincount(values).argmax())


class Codec(abc.ABC):
    """Score <-> ids. A codec adds `name`, `options`, `vocabulary`, `grammar`, `fingerprint`, `bar_lengths`, `bar_starts`,
    `overhead`, `decode`, `features` and `loss_report`."""

    name: str
    early = 0  # ticks that a note of a bar may begin before its bar line
    barred = True  # whether its bars are music's, so that a number of them can be asked for
    vocabulary: Vocabulary
    grammar: Any

    @abc.abstractmethod
    def layout(self, score: Score) -> Any:
        """The score on the codec's grid; `bars` of it is how many bars, or what stands for them, it has."""

    @abc.abstractmethod
    def window(self, layout: Any, first: str, a: int, b: int) -> np.ndarray:
        """Ids of bars a..b-1 behind `first` (`start` or `continue`), without an `end`."""

    @property
    def feature_sizes(self) -> dict[str, int]:
        """How many values each per-token feature has."""
        return self.grammar.feature_sizes

    @property
    def pitch_ids(self) -> tuple[int, int]:
        """(the id of pitch 0, how many pitches), (0, 0) where no id is a pitch."""
        v = self.vocabulary
        return (v.id("pitch"), v.size("pitch")) if "pitch" in v.index else (0, 0)

    @property
    def pitch_features(self) -> tuple[str, ...]:
        """The features that are pitches to reckon the next one from, the voice's last first; other values: none."""
        return self.grammar.pitch_features

    def encode(self, score: Score, bars: tuple[int, int] | None = None) -> np.ndarray:
        """int32 [T] ids of a score, or of its bars a..b-1: an inner window begins with `continue` and the state in
        force, and has no `end` unless it reaches the last bar. What sounds into it: see `window`."""
        return self.framed(self.layout(score), bars)

    def encode_upto(self, score: Score, a: int, b: int) -> np.ndarray:
        """`encode` of those of the bars a..b-1 that a score has; no ids where it has none."""
        layout = self.layout(score)
        b = min(b, layout.bars)
        return self.framed(layout, (a, b)) if a < b else np.zeros(0, np.int32)

    def framed(self, layout: Any, bars: tuple[int, int] | None, *more) -> np.ndarray:
        """`encode` of a layout: many windows of one piece need it once."""
        a, b = bars or (0, layout.bars)
        if not 0 <= a < b <= layout.bars:
            raise ValueError(f"bars {a}..{b} of a score of {layout.bars} bars")
        ids = self.window(layout, "start" if a == 0 else "continue", a, b, *more)
        return np.append(ids, [self.vocabulary.id("end")] * (b == layout.bars)).astype(np.int32)

    def bars(self, score: Score) -> int:
        """Number of bars `encode` writes."""
        return self.layout(score).bars

    def finished(self, ids: np.ndarray) -> tuple[int, np.ndarray]:
        """(how many bars are followed by another, so that nothing written later can change them; the ids before that)."""
        starts = self.bar_starts(ids, len(ids))
        return (len(starts) - 1, ids[: starts[-1]]) if len(starts) else (0, ids[:0])

    def bar_tick(self, score: Score, bar: int) -> int:
        """The tick of a decoded score at which a bar begins, also behind its last note."""
        lines = score.bar_ticks
        beyond = bar - (len(lines) - 1)
        return int(lines[bar] if beyond <= 0 else lines[-1] + beyond * (lines[-1] - lines[-2]))

    def track_numbers(self, score: Score) -> list[int]:
        """For each track of a decoded score a number that stays its own when more is written."""
        return list(range(len(score.tracks)))

    def homes(self, prompt: Score) -> dict[int, int]:
        """{number of a track of decoded scores (`track_numbers`): the track of the prompt that most of its notes are of}"""
        given, source = self.decode(self.encode(prompt)), prompt.track[self.layout(prompt).kept]
        numbers = self.track_numbers(given)
        return {numbers[t]: commonest(source[given.track == t]) for t in np.unique(given.track).tolist()}

    def opening(self, prompt: Score | None) -> tuple[np.ndarray, bool]:
        """(ids to write on from, whether they begin the first new bar): `start`, or the prompt without its `end` and,
        where bars are written, the `bar` of the first new one."""
        v = self.vocabulary
        if prompt is None:
            return np.array([v.id("start")], np.int32), False
        ids = self.encode(prompt)[:-1]
        return (np.append(ids, np.int32(v.id("bar"))), True) if "bar" in v.index else (ids, False)
