"""One piece while it is written: bars as they complete, with what sounds in them, as soon as nothing can change it.

A stream runs the programs of a batch, stopping every few ids to look, so it writes what the batch would.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from aurljax import mesh
from aurljax.decode import behind, loop
from aurljax.decode.behind import Behind
from aurljax.errors import UserError
from aurljax.music.codec import Codec
from aurljax.music.score import CHANGE, Score

KINDS = ("off", "control", "on")  # in the order of one tick
NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


class Event(NamedTuple):
    """What happens at a tick of the piece (480 a quarter, or as its `score` says), `seconds` after its beginning.

    kind: "on" and "off" with a pitch and velocity (0) as number and value; "control" with a controller and its value.
    """

    tick: int
    seconds: float
    kind: str
    number: int
    value: int
    track: int
    program: int
    is_drum: bool


class Bar(NamedTuple):
    """A bar of the piece, counted from 0: where it begins and ends, in ticks and seconds, and its events in order.

    What micro-timing puts a little before its bar line is told with its bar; the last bar tells all that is left.
    """

    number: int
    ticks: tuple[int, int]
    seconds: tuple[float, float]
    events: tuple[Event, ...]

    def names(self) -> str:
        """Its notes by the time they begin, those that begin together joined: C5+E4 D5."""
        begun = itertools.groupby((e for e in self.events if e.kind == "on"), lambda e: e.tick)
        return " ".join("+".join(f"{NAMES[e.number % 12]}{e.number // 12 - 1}" for e in notes) for _, notes in begun)


@dataclasses.dataclass(frozen=True)
class Latency:
    """Seconds to the first ids, and of each id after them: median, 95th percentile and sum. An id's time is its share of
    the time that its chunk took, from the call to its bars; of the first chunk, the programs' compilation is a part."""

    first: float
    p50: float
    p95: float
    rest: float
    ids: int

    @classmethod
    def of(cls, times: list[tuple[int, float]]) -> Latency:
        """From (ids, seconds) of each chunk; nan where there is none yet."""
        each = np.repeat([t / n for n, t in times[1:]], [n for n, _ in times[1:]]) if times[1:] else [np.nan]
        p50, p95 = np.percentile(each, (50, 95)).tolist()
        first, rest = times[0][1] if times else np.nan, sum(t for _, t in times[1:])
        return cls(first, p50, p95, rest, sum(n for n, _ in times))

    def __str__(self) -> str:
        each = f"p50 {1e3 * self.p50:.2f} ms, p95 {1e3 * self.p95:.2f} ms per id"
        return f"{self.ids} ids: the first after {self.first:.2f} s, the rest in {self.rest:.2f} s; {each}"


class Stream(Iterator[Bar]):
    """Iterating writes the piece, one bar at a time; `close()`, or leaving it alone, stops the work.

    `latency` tells how fast it goes, `score` the piece: all of it at the end, before that the bars that are complete.
    """

    def __init__(
        self,
        codec: Codec,
        prompt: np.ndarray,
        chunks: Iterator[np.ndarray],
        decode: Callable[[np.ndarray], Score],
        finish: Callable[[Score], Score],
        behind: Behind | None = None,
    ):
        """chunks: new ids, a few at a time; decode: all new ids -> the score; finish: what is done with a whole one;
        behind: puts a decoded score behind its prompt."""
        self._behind = behind or Behind(codec, None)
        self._codec, self._prompt, self._decode, self._finish = codec, prompt, decode, finish
        self._chunks, self._times, self._score = chunks, [], None
        self._new, self._end = np.zeros(0, np.int32), codec.vocabulary.id("end")
        self._bars = self._run()

    def __next__(self) -> Bar:
        return next(self._bars)

    def close(self) -> None:
        """Writes no further."""
        self._bars.close()
        self._chunks.close()

    @property
    def ids(self) -> np.ndarray:
        """int32 [T] the ids so far, prompt included."""
        return np.concatenate([self._prompt, self._new])

    @property
    def latency(self) -> Latency:
        """How long ids took so far."""
        return Latency.of(self._times)

    @property
    def score(self) -> Score:
        """The piece as far as its bars are complete; at the end, what `generate` would return."""
        if self._score is not None:
            return self._score
        count, told = self._codec.finished(self.ids)
        return self._behind.score(self._codec.decode(told)) if count else Score(480)

    def _run(self) -> Iterator[Bar]:
        count, _ = self._codec.finished(self._prompt)
        edge, _ = behind.edge(self._codec, self._prompt)
        while self._score is None:
            begun, score, stop = time.perf_counter(), None, count
            new = next(self._chunks, None)
            if new is None:
                score = self._decode(self._new)
                self._score = self._finish(score)
                stop = self._codec.finished(self.ids)[0] + 1
            else:
                self._new = np.append(self._new, new)
            if new is not None and new[-1] != self._end:
                found, told = self._codec.finished(self.ids)
                if found > count:
                    score, stop = self._codec.decode(told), found
            ready = []
            for number in range(count, stop):
                until = np.inf if new is None and number == stop - 1 else self._tick(score, number + 1)
                ready.append(self._bar(score, number, edge, until))
                edge = until
            count = stop
            if new is not None:
                self._times.append((len(new), time.perf_counter() - begun))
            yield from ready

    def _tick(self, score: Score, number: int) -> int:
        """The tick before which nothing changes once all bars before `number` are complete."""
        return self._codec.bar_tick(score, number) - self._codec.early

    def _bar(self, decoded: Score, number: int, low: float, high: float) -> Bar:
        """A bar, with what happens from tick `low` to below `high` of a decoded score."""
        score = self._behind.score(decoded)
        lines = [self._codec.bar_tick(decoded, n) for n in (number, number + 1)]
        ticks = tuple(self._behind.ticks(decoded, lines).tolist())
        first, last = (self._behind.ticks(decoded, t).item() if np.isfinite(t) else t for t in (low, high))
        told = events(self._codec, score, first, last, self._behind.numbers(decoded))
        return Bar(number, ticks, tuple(score.seconds(ticks).tolist()), told)


def events(
    codec: Codec, score: Score, low: float = -np.inf, high: float = np.inf, numbers: list[int] | None = None
) -> tuple[Event, ...]:
    """What happens in a score at ticks from `low` to below `high`, in order. numbers: of its tracks, if it is not as the
    codec decoded it."""
    n, c = score.notes, score.controls[score.controls["kind"] == CHANGE]
    zero = np.zeros_like(n["onset"])
    columns = (
        (n["onset"] + n["duration"], zero, n["track"], n["pitch"], zero),
        (c["tick"], np.ones_like(c["tick"]), c["track"], c["number"], c["value"]),
        (n["onset"], zero + 2, n["track"], n["pitch"], n["velocity"]),
    )
    rows = np.concatenate([np.stack([x.astype(np.int64) for x in part], 1) for part in columns])
    rows = rows[(rows[:, 0] >= low) & (rows[:, 0] < high)]
    rows = rows[np.lexsort(rows.T[::-1])]
    tracks, numbers = score.tracks.tolist(), codec.track_numbers(score) if numbers is None else numbers
    seconds = score.seconds(rows[:, 0]).tolist()
    return tuple(
        Event(tick, at, KINDS[kind], number, value, numbers[track], *tracks[track])
        for (tick, kind, track, number, value), at in zip(rows.tolist(), seconds, strict=True)
    )


def chunks(
    plan: loop.Plan, params: Any, devices: jax.sharding.Mesh, arguments: tuple, size: int
) -> Iterator[np.ndarray]:
    """The new ids of the one row of `loop.generate(plan, params, *arguments)`, at most `size` at a time, without padding.

    All programs are compiled before the first id, so that none of them holds up what is sounding.
    """
    if size < 1:
        raise UserError(f"chunk must be above 0, not {size}")
    return _chunks(plan, params, devices, arguments, size)


def _chunks(plan, params, devices, arguments, size) -> Iterator[np.ndarray]:
    with mesh.use(devices):
        plan, params = loop.prepare(plan, params)
        carry = loop.begin(plan, params, *arguments)
        spans = loop.segments(plan, arguments[0].shape[1], carry.cache.window)
        for length, _ in spans:
            loop.proceed(plan, params, loop.widen(jax.tree.map(lambda x: x.copy(), carry), length), 0)
    index, end = 0, plan.codec.vocabulary.id("end")
    for length, stop in spans:
        with mesh.use(devices):
            carry = loop.widen(carry, length)
        while index < stop:
            until = min(index + size, stop)
            with mesh.use(devices):
                carry = loop.proceed(plan, params, carry, until)
                new = np.asarray(carry.out)[0, index:until]
            if not new.all() or new[-1] == end:
                if new[0]:
                    yield np.trim_zeros(new, "b")
                return
            yield new
            index = until
