"""What can be read of a damaged MIDI file: events out of any bytes, in time proportional to their number.

Lengths, counts and formats that a file claims are believed only where they agree with its bytes. A damaged event costs
itself, not the rest of its track. The format: "Standard MIDI Files 1.0", MIDI Manufacturers Association 1996.
"""

from __future__ import annotations

import collections
import dataclasses

import numpy as np

from aurljax.music import words
from aurljax.music.score import (
    BEND,
    CHANGE,
    CONTROL,
    DEFAULT_USEC,
    KEY,
    METER,
    NOTE,
    TEMPO,
    TRACK,
    Score,
    possible_meter,
)

FORMAT_1 = b"\0\1"  # tracks of one piece side by side
DIVISION = 480  # where a file does not say, or says what cannot be
LONGEST_STEP = 7200  # quarters (an hour at 120 a minute): a longer delta time is damage
LONGEST_OWN = 256  # bytes of an event that is a program's own
LONGEST_OPEN = 4  # quarters that a note sounds which nothing ends
DRUM_CHANNEL = 9
META = {0x00: 2, 0x20: 1, 0x21: 1, 0x2F: 0, 0x51: 3, 0x54: 5, 0x58: 4, 0x59: 2}  # types of a fixed length

SENTENCES = {
    "mark": "took {} chunk(s) for tracks whose marks are damaged",
    "length": "read {} track(s) up to the next one, for their lengths are wrong",
    "division": "took {} impossible division(s) for 480 ticks per quarter note",
    "skipped": "skipped {} byte(s) that belong to no event",
    "step": "left out {} delta time(s) longer than an hour",
    "meta": "resumed after {} meta or system event(s) whose lengths are wrong",
    "high": "cleared the top bit of {} data byte(s)",
    "cut": "kept what {} track(s) hold before they break off",
    "open": "ended {} note(s) that nothing ends",
    "impossible": "left out {} impossible tempo, meter or key event(s)",
    "pressure": "left out {} event(s) of pressure",
    "homeless": "left out {} controller event(s) of channels without notes",
}


@dataclasses.dataclass
class Events:
    """Rows as they stand in the file. A voice is (track chunk, channel, program)."""

    notes: list = dataclasses.field(default_factory=list)  # onset, duration, pitch, velocity, voice
    controls: list = dataclasses.field(default_factory=list)  # tick, kind, number, value, voice
    tempo: list = dataclasses.field(default_factory=list)
    meter: list = dataclasses.field(default_factory=list)
    key: list = dataclasses.field(default_factory=list)
    texts: list = dataclasses.field(default_factory=list)
    names: dict = dataclasses.field(default_factory=dict)  # by chunk
    played: set = dataclasses.field(default_factory=set)  # chunks with channel messages
    repairs: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def intact(data: bytes) -> bool:
    """Whether the header and the chunk lengths of a file describe exactly its bytes."""
    if len(data) < 14 or data[:8] != b"MThd\0\0\0\6" or not 0 < _int(data[12:14]) < 0x8000:
        return False
    at, tracks = 14, 0
    while at + 8 <= len(data):
        tracks += data[at : at + 4] == b"MTrk"
        at += 8 + _int(data[at + 4 : at + 8])
    return at == len(data) and tracks == _int(data[10:12]) > 0 and _int(data[8:10]) < 2


def read(data: bytes, repairs: list[str], most: int) -> Score:
    """The score of what stands in `data`; sentences on what was repaired are added. ValueError: more than `most` notes,
    or no track at all."""
    events = Events()
    spans = tracks(data, events)
    if not spans:
        raise ValueError("no track in it can be found")
    head = data.find(b"MThd")
    ticks, usec = division(data[head + 12 : head + 14] if head >= 0 else b"", events)
    for chunk, span in enumerate(spans):
        Track(data, *span, chunk, ticks, events).read()
        if len(events.notes) > most:
            raise ValueError(f"more than {most} notes")
    if usec:  # ticks of a clock, not of a beat: what tempo events say does not count
        events.tempo = [(0, usec)]
    title = events.names.get(0, "") if data[head + 8 : head + 10] == FORMAT_1 and head >= 0 else ""
    texts, meta = words.sort_out(events.texts, title if len(spans) > 1 and 0 not in events.played else "")
    score = _score(events, ticks).replace(texts=texts, meta=meta)
    repairs += [SENTENCES[k].format(n) for k, n in events.repairs.items() if n]
    return score


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")


def division(two: bytes, events: Events) -> tuple[int, int]:
    """(ticks per quarter, microseconds per quarter or 0: as the tempo events say)."""
    value = _int(two) if len(two) == 2 else 0
    frames, ticks = 256 - (value >> 8), value & 255
    if value & 0x8000 and frames in (24, 25, 29, 30) and ticks:
        return frames * ticks, 1_000_000  # a "quarter" of one second
    if not 0 < value < 0x8000:
        events.repairs["division"] += 1
        return DIVISION, 0
    return value, 0


def tracks(data: bytes, events: Events) -> list[tuple[int, int, bool]]:
    """(start, stop, whether it claims that length) of each track's events; a claim counts that leads to a chunk or the
    end."""
    spans = []
    head = data.find(b"MThd")
    headed = head >= 0 and data[head + 4 : head + 8] == b"\0\0\0\6"
    at = head + 14 if head >= 0 else 0
    while 0 <= at < len(data) - 8:
        mark = data[at : at + 4]
        if mark != b"MTrk" and sum(a == b for a, b in zip(mark, b"MTrk", strict=True)) < 2:
            following = data.find(b"MTrk", at)  # past chunks of other kinds, and past what is none
            if following >= 0 or spans or not headed:
                at = following
                continue
        events.repairs["mark"] += mark != b"MTrk"
        start = at + 8
        stop = start + _int(data[at + 4 : start])
        claimed = stop == len(data) or (stop > start and data[stop : stop + 4].isalpha())
        if not claimed:
            events.repairs["length"] += 1
            following = data.find(b"MTrk", start)
            stop = following if following >= 0 else len(data)
        spans.append((start, stop, claimed))
        at = stop
    return spans


class Track:
    """Reads one track's events."""

    def __init__(self, data: bytes, start: int, stop: int, claimed: bool, chunk: int, division: int, events: Events):
        self.data, self.at, self.stop = data, start, min(stop, len(data))
        self.chunk, self.division, self.events = chunk, division, events
        self.claimed = claimed
        self.tick, self.status = 0, 0
        self.program = [0] * 16
        self.sounding: dict[tuple[int, int], collections.deque] = {}

    def read(self) -> None:
        try:
            while self.at < self.stop and self.event():
                pass
        except IndexError:
            self.events.repairs["cut"] += 1
        if self.status:
            self.events.played.add(self.chunk)
        self._close()

    def _byte(self) -> int:
        if self.at >= self.stop:
            raise IndexError
        self.at += 1
        return self.data[self.at - 1]

    def _number(self) -> int | None:
        """A number of variable length; None: of more than four bytes, which are skipped."""
        value = 0
        for _ in range(4):
            byte = self._byte()
            value = value << 7 | byte & 127
            if byte < 128:
                return value
        while self._byte() >= 128:
            pass
        return None

    def _datum(self) -> int:
        byte = self._byte()
        self.events.repairs["high"] += byte > 127
        return byte & 127

    def event(self) -> bool:
        """Reads one event; False: the track says that it ends."""
        step = self._number()
        if step is None or step > LONGEST_STEP * self.division:
            self.events.repairs["step"] += 1
        else:
            self.tick += step
        status = self.data[self.at] if self.at < self.stop else self._byte()
        if status >= 128:
            self.at += 1
        else:
            status = self.status  # running: meta and system events between do not end it, against the letter
        if status >= 0xF0:
            return self._other(status)
        if not status:  # a data byte before any status
            self.at += 1
            self.events.repairs["skipped"] += 1
            return True
        self.status = status
        self._message(status >> 4, status & 15)
        return True

    def _message(self, kind: int, channel: int) -> None:
        first = self._datum()
        if kind == 0xC:
            self.program[channel] = first
            return
        second = 0 if kind == 0xD else self._datum()
        if kind in (8, 9):
            self._note(channel, first, second if kind == 9 else 0)
            return
        if kind in (0xA, 0xD):
            self.events.repairs["pressure"] += 1
            return
        row = (CHANGE, first, second) if kind == 0xB else (BEND, 0, (second << 7 | first) - 8192)
        self.events.controls.append((self.tick, *row, self._voice(channel)))

    def _voice(self, channel: int) -> tuple[int, int, int]:
        return self.chunk, channel, self.program[channel]

    def _note(self, channel: int, pitch: int, velocity: int) -> None:
        queue = self.sounding.setdefault((channel, pitch), collections.deque())
        if velocity:
            queue.append((self.tick, velocity, self._voice(channel)))
        elif queue:
            onset, struck, voice = queue.popleft()
            self.events.notes.append((onset, max(self.tick - onset, 1), pitch, struck, voice))

    def _close(self) -> None:
        """Ends what still sounds where its pitch is struck again, at latest after four quarters."""
        longest = LONGEST_OPEN * self.division
        for (_, pitch), queue in self.sounding.items():
            struck_again = [onset for onset, _, _ in queue][1:]
            for (onset, velocity, voice), end in zip(queue, [*struck_again, self.tick + longest], strict=False):
                length = max(1, min(end - onset, longest))
                self.events.notes.append((onset, length, pitch, velocity, voice))
                self.events.repairs["open"] += 1

    def _other(self, status: int) -> bool:
        """A meta or a system event."""
        kind = self._byte() if status == 0xFF else None
        if status not in (0xF0, 0xF7, 0xFF):  # of the wire, not of files
            self.events.repairs["skipped"] += 1
            return True
        begin, length = self.at, self._number()
        fixed = META.get(kind, length)
        if length is None or length != fixed or not self._plausible(status, kind, length):
            self.events.repairs["meta"] += 1
            length = min(fixed, self.stop - self.at) if kind in META else 0
            self.at = max(self.at, begin + 1)
        body = self.data[self.at : self.at + length]
        self.at += length
        if kind == 0x2F:  # an end before the end is damage, unless the track's length is
            return self.claimed
        if kind is not None:
            self._meta(kind, body)
        return True

    def _plausible(self, status: int, kind: int | None, length: int) -> bool:
        """Whether the next bytes can be the body of an event: damage to a length would swallow the events after it."""
        body = self.data[self.at : min(self.at + length, self.stop)]
        if len(body) < length:
            return False
        if status == 0xF0:
            return max(body[:-1], default=0) < 128
        if kind in META:
            return True
        if kind is not None and 0 < kind < 16:  # a text, which has no use for zeros; events are full of them
            return body.count(0) <= max(8, length / 20)
        return length <= LONGEST_OWN

    def _meta(self, kind: int, body: bytes) -> None:
        e, tick = self.events, self.tick
        if kind == 0x51 and len(body) == 3:
            e.tempo.append((tick, _int(body)))
        elif kind == 0x58 and len(body) == 4:
            e.meter.append((tick, body[0], 1 << body[1] if body[1] < 8 else 0))
        elif kind == 0x59 and len(body) == 2:
            e.key.append((tick, body[0] - 256 * (body[0] > 127), body[1] == 1))
        elif kind == 0x03:
            e.names.setdefault(self.chunk, text(body))
        elif kind in words.EVENTS:
            e.texts.append((tick, words.EVENTS[kind], text(body)))


def text(body: bytes) -> str:
    """The text of a meta event: Unicode or, where it is not, Latin-1."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _score(events: Events, division: int) -> Score:
    """The events as a score; of tempo, meter and key only what can be."""
    voices = sorted({voice for *_, voice in events.notes})
    number = {voice: i for i, voice in enumerate(voices)}
    home = {voice[:2]: i for i, voice in reversed(list(enumerate(voices)))}  # of a channel: its first program's track
    notes = np.array([(*row, number[voice]) for *row, voice in events.notes] or np.empty((0, 5)), np.int64)
    table = np.zeros(len(notes), NOTE)
    for column, name in enumerate(("onset", "duration", "pitch", "velocity", "track")):
        table[name] = notes[:, column]
    controls = [(tick, home[v[:2]] if v not in number else number[v], kind, n, value)
                for tick, kind, n, value, v in events.controls if v[:2] in home]  # fmt: skip
    events.repairs["homeless"] += len(events.controls) - len(controls)
    rows = np.zeros(len(controls), CONTROL)
    for column, name in enumerate(("tick", "track", "kind", "number", "value")):
        rows[name] = [c[column] for c in controls]
    tempo = [t for t in events.tempo if t[1] > 0]
    meter = [m for m in events.meter if possible_meter(np.array(m[1]), np.array(m[2]))]
    key = [k for k in events.key if -7 <= k[1] <= 7]
    given = len(events.tempo) + len(events.meter) + len(events.key)
    events.repairs["impossible"] += given - len(tempo) - len(meter) - len(key)
    if division < DIVISION // 20 and len(table):  # so coarse that no music fits it
        last = int((table["onset"] + table["duration"]).max())
        if last / division * max([DEFAULT_USEC, *(u for _, u in tempo)]) > 24 * 3600e6:
            events.repairs["division"] += 1
            division = DIVISION
    return Score(
        resolution=division,
        notes=table,
        tracks=np.array([(program, channel == DRUM_CHANNEL) for _, channel, program in voices], TRACK),
        tempo=np.array(tempo, TEMPO),
        meter=np.array(meter, METER),
        key=np.array(key, KEY),
        controls=rows,
        names=tuple(events.names.get(chunk, "") for chunk, _, _ in voices),
    )
