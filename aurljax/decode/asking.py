"""Constraints as words on a command line: one option for each, light enough for `--help`."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from aurljax.errors import UserError

if TYPE_CHECKING:
    from aurljax.decode.constraints import Constraint

DRUMS = 128
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
OPTIONS = (  # name, metavar, help
    ("key", "KEY", "only notes of a scale, such as 'D minor' or 'F# dorian'; drums are free"),
    ("passing", "SHARE", "share of the notes so far that may lie outside --key (0)"),
    ("chords", "CHANGES", "notes begin on tones of these chords: 'C | Am F | G7', one or more to a bar; they repeat"),
    ("chord-seconds", "SECONDS", "how long a bar of --chords is, where the codec has no bars"),
    ("range", "LOW-HIGH", "pitches, as numbers or names (C4 is 60); PROGRAM=LOW-HIGH for one program; may be repeated"),
    ("programs", "P,...", "only tracks of these programs, 0..127 or drums"),
    ("tracks", "LOW-HIGH", "number of tracks"),
    ("polyphony", "N", "at most so many notes at once"),
    ("track-polyphony", "N", "at most so many notes of a track at once"),
    ("longest", "QUARTERS", "no note is longer; 1.5s: seconds, for a codec that counts in them"),
    ("density", "LOW-HIGH", "notes that begin in every bar"),
    ("meter", "N/D,...", "only these meters"),
    ("tempo", "T or LOW-HIGH", "quarters a minute"),
    ("leap", "N", "make pitches further than so many semitones from the track's last one unlikely"),
)
FLAGS = (
    ("exact", "all the bars (or the bars that fill the seconds) asked for, closed at the last bar line"),
    ("avoid-parallels", "make parallel fifths and octaves unlikely"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """The options, in a group of their own."""
    group = parser.add_argument_group("constraints", "what holds in every piece; a number N stands for N-N")
    for name, metavar, text in OPTIONS:
        group.add_argument(f"--{name}", metavar=metavar, help=text, action="append" if name == "range" else "store")
    for name, text in FLAGS:
        group.add_argument(f"--{name}", action="store_true", help=text)


def parse(args: argparse.Namespace) -> list[Constraint]:
    """The constraints of parsed arguments; UserError naming the option that is not understood."""
    from aurljax.decode import constraints as c

    def given(name: str) -> str | None:
        return getattr(args, name.replace("-", "_"))

    if given("passing") is not None and given("key") is None:
        raise UserError("--passing: it is a share of notes outside --key; give that too")
    if given("chord-seconds") is not None and given("chords") is None:
        raise UserError("--chord-seconds: it is the length of a bar of --chords; give that too")
    makers = {
        "key": lambda text: c.Key(text, _number("passing", given("passing") or "0")),
        "chords": lambda text: c.Chords(text, (long := given("chord-seconds")) and _number("chord-seconds", long)),
        "range": _range,
        "programs": lambda text: c.Programs(tuple(_program("programs", p) for p in text.split(","))),
        "tracks": lambda text: c.Tracks(*_band("tracks", text)),
        "polyphony": lambda text: c.Polyphony(_whole("polyphony", text)),
        "track-polyphony": lambda text: c.TrackPolyphony(_whole("track-polyphony", text)),
        "longest": _longest,
        "density": lambda text: c.Density(*_band("density", text)),
        "meter": lambda text: c.Meter(tuple(_meter(m) for m in text.split(","))),
        "tempo": lambda text: c.Tempo(*(_number("tempo", t) for t in _ends("tempo", text))),
        "leap": lambda text: c.Leap(_whole("leap", text)),
    }
    found = [make(given(name)) for name, make in makers.items() if given(name) is not None]
    return found + [c.Exact()] * args.exact + [c.Parallels()] * args.avoid_parallels


def _longest(text: str) -> Constraint:
    from aurljax.decode import constraints as c

    number = _number("longest", text.removesuffix("s"))
    return c.Longest(seconds=number) if text.endswith("s") else c.Longest(number)


def _range(texts: list[str]) -> Constraint:
    from aurljax.decode.constraints import Range

    every, own = (0, 127), []
    for text in texts:
        program, is_, band = text.rpartition("=")
        low, high = (_pitch(p) for p in _ends("range", band))
        if is_:
            own.append((_program("range", program), low, high))
        else:
            every = low, high
    return Range(*every, tuple(own))


def _ends(option: str, text: str) -> tuple[str, str]:
    low, dash, high = text.partition("-")
    if not low or (dash and not high):
        raise UserError(f"--{option} {text}: write LOW-HIGH, or one number")
    return low, high or low


def _band(option: str, text: str) -> tuple[int, int]:
    low, high = _ends(option, text)
    return _whole(option, low), _whole(option, high)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--{option} {text}: write a number") from None


def _whole(option: str, text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--{option} {text}: write a whole number")
    return int(text)


def _pitch(text: str) -> int:
    match = re.fullmatch(r"([A-Ga-g])([#b]*)(-?\d+)", text)
    if match:
        return 12 * (int(match[3]) + 1) + LETTERS[match[1].upper()] + match[2].count("#") - match[2].count("b")
    return _whole("range", text)


def _program(option: str, text: str) -> int:
    return DRUMS if text.strip() == "drums" else _whole(option, text.strip())


def _meter(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d+)/(\d+)\s*", text)
    if not match:
        raise UserError(f"--meter {text}: write such as 3/4")
    return int(match[1]), int(match[2])
