"""Sends bars to a port in time while further ones are made, and leaves no note sounding, however it ends."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from aurljax.decode.stream import Bar
from aurljax.errors import UserError
from aurljax.live.schedule import CONTROL, OFF, ON, Timed
from aurljax.live.timeline import Timeline, Underrun

PEDAL, ALL_NOTES_OFF = 64, 123  # controllers


class Port(Protocol):
    """What messages go to."""

    def send(self, message: bytes) -> None:
        """Takes one message of MIDI 1.0, to sound now."""


class Clock:
    """Seconds that pass, and waiting for one of them."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, until: float, stop: threading.Event) -> bool:
        """Returns at that time, or earlier once it is to stop: whether it is."""
        return stop.wait(max(0.0, until - self.now()))


class Player:
    """Plays one piece to a port; `underruns` tells which bars were late."""

    def __init__(self, port: Port, clock: Clock | None = None):
        self._port, self._clock, self._timeline = port, clock or Clock(), Timeline()
        self._queue: queue.SimpleQueue[list[Timed] | None] = queue.SimpleQueue()
        self._stop, self._error = threading.Event(), None
        self._channels: set[int] = set()
        self._sounding: set[tuple[int, int]] = set()  # (channel, pitch)

    @property
    def underruns(self) -> list[Underrun]:
        """Bars that came too late so far."""
        return self._timeline.underruns

    def play(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        """The same bars as they come, each on its way to the port; ends when the last note has ended.

        Once for each player. Closing the iterator, an error and Ctrl-C end every note. UserError: the port fails.
        """
        thread = threading.Thread(target=self._send, daemon=True)
        thread.start()
        try:
            for bar in bars:
                self._refuse()
                self._queue.put(self._timeline.place(bar, self._clock.now()))
                yield bar
            self._queue.put(None)
            thread.join()
            self._refuse()
        finally:
            self._stop.set()
            self._queue.put(None)
            thread.join()
            self._silence()

    def _refuse(self) -> None:
        if self._error is not None:
            raise UserError(f"the MIDI port takes no more: {self._error}") from self._error

    def _send(self) -> None:
        """Until there is no more to come: every message when it is due."""
        try:
            while (timed := self._queue.get()) is not None:
                for due, message in timed:
                    if self._clock.wait(due, self._stop):
                        return
                    self._port.send(message)
                    self._heard(message)
        except Exception as error:  # of the port; told where the bars come from
            self._error = error

    def _heard(self, message: bytes) -> None:
        status, channel = message[0] & 0xF0, message[0] & 0x0F
        self._channels.add(channel)
        if status == ON:
            self._sounding.add((channel, message[1]))
        elif status == OFF:
            self._sounding.discard((channel, message[1]))

    def _silence(self) -> None:
        """Ends what sounds, pedals too; of a port that fails as far as it goes."""
        with contextlib.suppress(Exception):
            for channel, pitch in sorted(self._sounding):
                self._port.send(bytes((OFF | channel, pitch, 0)))
            for channel in sorted(self._channels):
                for controller in (PEDAL, ALL_NOTES_OFF):
                    self._port.send(bytes((CONTROL | channel, controller, 0)))
