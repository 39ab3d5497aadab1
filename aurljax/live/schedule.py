"""Events as MIDI messages with the seconds at which they are due: no port and no clock is known here."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator

from aurljax.decode.stream import Event, events
from aurljax.music.score import Score

Timed = tuple[float, bytes]  # seconds, and a message of MIDI 1.0
OFF, ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0  # status bytes of channel 0
DRUMS = 9  # the channel of drums in General MIDI
MELODIC = tuple(channel for channel in range(16) if channel != DRUMS)


class Schedule:
    """Turns the events of one piece into messages, bar after bar.

    Each track has a channel of its own as long as there are some; drums share theirs, and so do tracks beyond the
    fifteenth. What goes out on a channel has its track's program before it. Every `note_on` has its `note_off`: a pitch
    that two tracks of a channel sound at once is struck again and ends with the later one.
    """

    def __init__(self):
        self._channels: dict[int, int] = {}  # of the tracks
        self._programs: dict[int, int] = {}  # of the channels, as last sent
        self._sounding: collections.Counter[tuple[int, int]] = collections.Counter()  # (channel, pitch)

    def messages(self, told: Iterable[Event]) -> list[Timed]:
        """Messages of the next events, in order, each with its event's seconds."""
        return [(event.seconds, message) for event in told for message in self._of(event)]

    def _of(self, e: Event) -> Iterator[bytes]:
        channel = self._channel(e)
        if e.kind == "off":
            yield from self._off(channel, e.number)
            return
        if self._programs.get(channel) != e.program:
            self._programs[channel] = e.program
            yield bytes((PROGRAM | channel, e.program))
        if e.kind == "control":
            yield bytes((CONTROL | channel, e.number, e.value))
            return
        if self._sounding[channel, e.number]:
            yield bytes((OFF | channel, e.number, 0))
        self._sounding[channel, e.number] += 1
        yield bytes((ON | channel, e.number, e.value))

    def _off(self, channel: int, pitch: int) -> Iterator[bytes]:
        """The end of a note, unless another one sounds on; of a note that was never begun (in a prompt) nothing."""
        left = self._sounding[channel, pitch] - 1
        self._sounding[channel, pitch] = max(left, 0)
        if left == 0:
            yield bytes((OFF | channel, pitch, 0))

    def _channel(self, e: Event) -> int:
        if e.is_drum:
            return DRUMS
        taken = len(self._channels)
        return self._channels.setdefault(e.track, MELODIC[taken % len(MELODIC)])


def of_score(score: Score) -> list[Timed]:
    """All messages of a score, in order, in seconds from its beginning."""
    return Schedule().messages(events(None, score, numbers=list(range(len(score.tracks)))))
