"""What symusic leaves out of a whole file, at little cost: events of text and copyright, the title, and pressure.

The reader of damaged files parses, but only where bytes that may be such an event stand: channel messages without
pressure are skipped many at a time. So it agrees with that reader event by event.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from aurljax.music import lenient

Text = tuple[int, str, str]

_PRESSURES = bytes([*range(0xA0, 0xB0), *range(0xD0, 0xE0)])
_NO_PRESSURES = bytes(sorted(set(range(256)) - set(_PRESSURES)))
_DELTA = rb"[\x80-\xff]{0,3}[\x00-\x7f]"
_TWO, _ONE = rb"(?:" + _DELTA + rb"[\x00-\x7f]{2})*+", rb"(?:" + _DELTA + rb"[\x00-\x7f])*+"  # running status
_MESSAGES = (
    rb"(?:" + _DELTA + rb"(?:(?P<two>[\x80-\x9f\xb0-\xbf\xe0-\xef])[\x00-\x7f]{2}" + _TWO
    + rb"|(?P<one>[\xc0-\xcf])[\x00-\x7f]" + _ONE + rb"))*+"
)  # fmt: skip
_SKIP = {2: re.compile(_TWO + _MESSAGES), 1: re.compile(_ONE + _MESSAGES), 0: re.compile(_MESSAGES)}
_SPOKEN = (b"\xff\x01", b"\xff\x02")  # events that symusic does not show
_TEXT = re.compile(rb"(?<!\x59\x02)\xff[\x01\x02\x05\x06]")  # not the key of F, one flat


def has_hidden_texts(data: bytes) -> bool:
    """Whether there may be events of text or copyright in a file."""
    return any(mark in data for mark in _SPOKEN) and any(m[0] in _SPOKEN for m in _TEXT.finditer(data))


def texts(data: bytes) -> list[Text]:
    """(tick, kind, text) of all the texts of a whole file, in its order: tracks with none are not parsed, others up to
    the last one."""
    out: list[Text] = []
    for track in _tracks(data):
        last = max((m.start() for m in _TEXT.finditer(data, track.at, track.stop)), default=-1)
        while track.at <= last and track.event():
            pass
        out += track.events.texts
    return out


def sequence_name(data: bytes) -> str:
    """The name of the first track of a whole file of format 1 with several, if that has no messages of a channel."""
    if data[8:10] != lenient.FORMAT_1 or data[10:12] == b"\0\1":
        return ""
    track = next(_tracks(data))
    if data.find(b"\xff\x03", track.at, track.stop) < 0:
        return ""
    while track.at < track.stop and not track.status and track.event():
        pass
    return "" if track.status else track.events.names.get(track.chunk, "")


def pressures(data: bytes) -> int:
    """Number of events of pressure, of channels and of keys, in a whole file."""
    if not data.translate(None, _NO_PRESSURES):
        return 0
    return sum(_pressures(track) for track in _tracks(data))


def _pressures(track: lenient.Track) -> int:
    data = track.data
    if not data[track.at : track.stop].translate(None, _NO_PRESSURES):
        return 0
    with contextlib.suppress(IndexError):  # a last event that breaks off
        while track.at < track.stop:
            _skip(track)
            if track.at < track.stop and not track.event():
                break
    return track.events.repairs["pressure"]


def _skip(track: lenient.Track) -> None:
    """Moves a track past messages of channels without pressure; its tick stays behind."""
    kind = track.status >> 4
    known = 0 if kind in (0, 0xA, 0xD) else 1 if kind == 0xC else 2
    match = _SKIP[known].match(track.data, track.at, track.stop)
    track.at = match.end()
    last = max(match.start("two"), match.start("one"))
    if last >= 0:
        track.status = track.data[last]


def _tracks(data: bytes) -> Iterator[lenient.Track]:
    """The tracks of a whole file, each ready to be read from its first event."""
    division = lenient.division(data[12:14], lenient.Events())[0]
    for chunk, span in enumerate(lenient.tracks(data, lenient.Events())):
        yield lenient.Track(data, *span, chunk, division, lenient.Events())
