"""New music behind a prompt, whose own rows stay to the bit: what is new takes its ticks, tempo, meter and tracks."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aurljax.music.codec import Codec
from aurljax.music.score import NOTE, Score, rounded
from aurljax.music.settling import settle


def edge(codec: Codec, ids: np.ndarray) -> tuple[float, Score]:
    """(tick of decoded scores before which nothing that follows the ids of a prompt begins; what they say until there)."""
    if len(ids) == 1:
        return -np.inf, Score(480)
    if "bar" not in codec.vocabulary.index:
        given = codec.decode(ids)
        return given.end, given
    count, told = codec.finished(ids)
    given = codec.decode(told) if count else Score(480)
    return (codec.bar_tick(given, count) - codec.early, given) if count else (-np.inf, given)


@dataclasses.dataclass(frozen=True, eq=False)
class Behind:
    """How what a codec writes behind a prompt is put behind the prompt's own rows. Without a prompt it stays as it is."""

    codec: Codec
    prompt: Score | None

    def score(self, decoded: Score) -> Score:
        """The prompt with all that is new in a decoded score, which begins with the prompt.

        Notes, tempi, meters, keys, controls, texts, names and metadata of the prompt are its own, also those that the
        codec does not tell. A new note that begins while one of them sounds in its pitch and track waits for its end.
        """
        if self.prompt is None:
            return decoded
        clock, ticks = self._clock(decoded), functools.partial(self.ticks, decoded)
        notes = self._notes(decoded, clock)
        controls = _beyond(decoded.controls, self._given.controls)
        homes, tracks, names = self._tracks(decoded, np.append(notes["track"], controls["track"]))
        controls["tick"] = ticks(controls["tick"], clock)
        for table in (notes, controls):
            table["track"] = homes[table["track"]]
        keys = [(int(ticks(row[0], clock)), *row[1:]) for row in _beyond(decoded.key, self._given.key).tolist()]
        old = set(self._given.texts)
        texts = [(int(ticks(t, clock)), *rest) for t, *rest in decoded.texts if (t, *rest) not in old]
        new, _, _ = settle(self.prompt.notes, notes, late=True)
        return clock.replace(
            notes=np.concatenate([self.prompt.notes, new]),
            tracks=tracks,
            names=names,
            meter=self._meters(decoded),
            key=[*keys, *self.prompt.key.tolist()],
            controls=np.concatenate([self.prompt.controls, controls]),
            texts=(*self.prompt.texts, *texts),
            meta={**self.prompt.meta, **decoded.meta},
        )

    def ticks(self, decoded: Score, ticks, clock: Score | None = None) -> np.ndarray:
        """Ticks of a decoded score, in the prompt's: at the same place in its bars, or by a codec that writes seconds, at
        the same time. clock: the prompt with new tempi, if it is known."""
        if self.prompt is None:
            return np.asarray(ticks)
        if self.codec.barred:
            return rounded(np.asarray(ticks) * self.prompt.resolution, decoded.resolution)
        return (clock or self._clock(decoded)).ticks(decoded.seconds(ticks))

    def numbers(self, decoded: Score) -> list[int]:
        """For each track of `score` a number that stays its own when more is written."""
        own = self.codec.track_numbers(decoded)
        if self.prompt is None:
            return own
        count = len(self.prompt.tracks)
        return [*range(count), *(count + n for n in own if self._home(n, decoded) is None)]

    @functools.cached_property
    def _edge(self) -> tuple[float, Score]:
        return edge(self.codec, self.codec.opening(self.prompt)[0])

    @property
    def _given(self) -> Score:
        return self._edge[1]

    @functools.cached_property
    def _homes(self) -> dict[int, int]:
        return self.codec.homes(self.prompt)

    def _home(self, number: int, decoded: Score) -> int | None:
        """The track of the prompt that a track of a decoded score goes on in; None: it is new."""
        if number in self._homes:
            return self._homes[number]
        own, at = self.prompt.tracks, self.codec.track_numbers(decoded).index(number)
        free = number < len(own) and number not in self._homes.values()
        return number if free and own[number] == decoded.tracks[at] else None

    def _tracks(self, decoded: Score, used: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """([tracks of the decoded score] where each goes on, all tracks, their names)."""
        found = [self._home(number, decoded) for number in self.codec.track_numbers(decoded)]
        new = [i for i, home in enumerate(found) if home is None]
        places = {i: len(self.prompt.tracks) + k for k, i in enumerate(new)}
        homes = np.array([places.get(i, home) for i, home in enumerate(found)], NOTE["track"])
        names = (*self.prompt.names, *(decoded.names[i] for i in new))
        return homes, np.concatenate([self.prompt.tracks, decoded.tracks[new]]), names

    def _clock(self, decoded: Score) -> Score:
        """The prompt with the tempi that are new."""
        clock = self.prompt
        for tick, usec in _beyond(decoded.tempo, self._given.tempo).tolist():
            clock = clock.replace(tempo=[(int(self.ticks(decoded, tick, clock)), usec), *clock.tempo.tolist()])
        return clock

    def _notes(self, decoded: Score, clock: Score) -> np.ndarray:
        """New notes, in ticks of the prompt; what goes on sounding beyond the prompt is one too."""
        first, given = self._edge
        new, old = decoded.notes[decoded.onset >= first].copy(), decoded.notes[decoded.onset < first].copy()
        longer = old["duration"] - given.duration
        old["onset"] += given.duration
        old["duration"] = longer
        new = np.concatenate([new, old[longer > 0]])
        end = self.ticks(decoded, new["onset"] + new["duration"], clock)
        new["onset"] = self.ticks(decoded, new["onset"], clock)
        new["duration"] = np.maximum(end - new["onset"], 1)
        return new

    def _meters(self, decoded: Score) -> list[tuple]:
        """The prompt's rows and the new ones; where a codec that lacks the prompt's last meter goes on in another, too."""
        own, line = self.prompt.meter.tolist(), self._edge[0] + self.codec.early
        if "meter" not in self.codec.vocabulary.index:
            return own
        rows = [(int(self.ticks(decoded, t)), n, d) for t, n, d in _beyond(decoded.meter, self._given.meter).tolist()]
        tick = int(self.ticks(decoded, line))
        written = _in_force(decoded, line)
        return [*rows, *([(tick, *written)] if written != _in_force(self.prompt, tick) else []), *own]


def _beyond(table: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The rows of a table that are not among those given."""
    old = set(given.tolist())
    return table[np.array([row not in old for row in table.tolist()], bool)].copy()


def _in_force(score: Score, tick: int) -> tuple[int, int]:
    meters = score.meters
    row = meters[np.searchsorted(meters["tick"], tick, "right") - 1]
    return int(row["numerator"]), int(row["denominator"])
