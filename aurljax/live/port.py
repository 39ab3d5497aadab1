"""MIDI output ports of this machine. Needs the `play` extra (mido and python-rtmidi), imported when it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType

from aurljax.errors import UserError

MISSING = "playing needs mido with a backend such as python-rtmidi: pip install 'aurljax[play]'"


class MidoPort:
    """An open port of mido as one that takes bytes."""

    def __init__(self, port):
        self._port, self._parse = port, _mido().Message.from_bytes

    def send(self, message: bytes) -> None:
        """Sends one message now."""
        self._port.send(self._parse(message))


def find(name: str = "") -> str:
    """The full name of the output port of that name, or of the one whose name begins so; without a name of the first.

    UserError: there is none, or nothing is installed that knows.
    """
    names = _names()
    if not names:
        raise UserError("there is no MIDI output port; start a synthesizer or connect a device")
    found = next((n for n in names if n == name), None) or next((n for n in names if n.startswith(name)), None)
    if found is None:
        raise UserError(f"there is no MIDI output port {name!r}; there are {', '.join(map(repr, names))}")
    return found


@contextlib.contextmanager
def opened(name: str) -> Iterator[MidoPort]:
    """The port of a full name, closed at the end. UserError: it cannot be opened."""
    try:
        port = _mido().open_output(name)
    except Exception as error:  # each backend has its own
        raise UserError(f"the MIDI output port {name!r} cannot be opened: {error}") from error
    with port:
        yield MidoPort(port)


def _names() -> list[str]:
    try:
        return list(dict.fromkeys(_mido().get_output_names()))
    except ImportError as error:  # mido loads its backend late
        raise UserError(MISSING) from error
    except UserError:
        raise
    except Exception as error:  # each backend has its own
        raise UserError(f"MIDI output ports cannot be listed: {error}") from error


def _mido() -> ModuleType:
    try:
        import mido
    except ImportError as error:
        raise UserError(MISSING) from error
    return mido
