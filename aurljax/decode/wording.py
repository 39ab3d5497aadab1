"""The sampler as words on a command line, light enough for `--help`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from aurljax.errors import UserError

if TYPE_CHECKING:
    from aurljax.decode.beam import Beam
    from aurljax.decode.sampler import Sampler

OPTIONS = (  # name, metavar, help; of the sampler as a whole, and of kinds
    ("temperature", "T", "0: always the likeliest id; A:B goes from A to B over the piece (1)"),
    ("top-k", "K", "only the K likeliest ids (0: all)"),
    ("top-p", "P", "only the likeliest ids that make up this mass (1)"),
    ("min-p", "P", "only ids this likely beside the likeliest (0)"),
    ("typical", "P", "only the ids of this mass that are about as surprising as can be expected (1)"),
)
WHOLE = ("top-k",)


def add(parser: argparse.ArgumentParser) -> None:
    """The options, in a group of their own."""
    group = parser.add_argument_group("sampler", "how each id is drawn")
    for name, metavar, text in OPTIONS:
        group.add_argument(f"--{name}", metavar=metavar, help=text)
    group.add_argument("--kind", metavar="KIND:NAME=VALUE,...", action="append", default=[],
                       help="such options for ids of one kind alone: pitch:temperature=1.2,top-p=0.9; may be repeated; "
                       "what is not named is as above")  # fmt: skip
    group.add_argument("--repetition", metavar="PENALTY[:SPAN[:KIND,...]]", help="divides the probability of the SPAN "
                       "latest ids of these kinds (32; those that begin notes)")  # fmt: skip
    group.add_argument("--unrepeated", metavar="N", help="no bar equals one of the N before it")
    group.add_argument("--best-of", metavar="N", default="1", help="write the likeliest of N for each piece (1)")
    group.add_argument(
        "--beam", metavar="W", help="draw nothing: the likeliest pieces that W hypotheses side by side find"
    )
    group.add_argument("--length-penalty", metavar="A", help="pieces of n ids of --beam rank by their log-probability over "
                       "n ** A (0.6)")  # fmt: skip


def parse(args: argparse.Namespace) -> Sampler:
    """The sampler of parsed arguments; UserError naming the option that is not understood."""
    from aurljax.decode.sampler import Sampler

    given = {name: text for name, *_ in OPTIONS if (text := getattr(args, name.replace("-", "_"))) is not None}
    whole = {} if args.unrepeated is None else {"unrepeated": number("--unrepeated", args.unrepeated, int)}
    whole |= {} if args.repetition is None else {"repetition": _repetition(args.repetition)}
    kinds = tuple(_kind(text, given) for text in args.kind)
    return Sampler(**_settings("--", given), **whole, kinds=kinds)


def beam(args: argparse.Namespace) -> Beam | None:
    """The beam of parsed arguments; UserError naming the option that is not understood."""
    from aurljax.decode.beam import Beam

    if args.beam is None:
        if args.length_penalty is not None:
            raise UserError("--length-penalty: it is of --beam; give that too")
        return None
    more = {} if args.length_penalty is None else {"length_penalty": number("--length-penalty", args.length_penalty)}
    return Beam(number("--beam", args.beam, int), **more)


def number(option: str, text: str, kind: type = float) -> Any:
    """The number that an option is given."""
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{option} {text}: write a {'whole ' if kind is int else ''}number") from None


def _settings(prefix: str, given: dict[str, str]) -> dict[str, Any]:
    """Fields of a Sampler."""
    out = {}
    for name, text in given.items():
        first, colon, last = text.partition(":")
        if colon and name == "temperature":
            value = number(prefix + name, first), number(prefix + name, last)
        else:
            value = number(prefix + name, text, int if name in WHOLE else float)
        out[name.replace("-", "_")] = value
    return out


def _kind(text: str, others: dict[str, str]) -> tuple[str, Sampler]:
    from aurljax.decode.sampler import Sampler

    kind, colon, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",")]
    known = [name for name, *_ in OPTIONS]
    own = {name.strip().replace("_", "-"): value for name, _, value in pairs}
    if not kind or not colon or not all(is_ for _, is_, _ in pairs) or not own.keys() <= set(known):
        raise UserError(f"--kind {text}: write KIND:NAME=VALUE,... with names of {', '.join(known)}")
    if number(f"--kind {kind}:temperature", own.get("temperature", "1").partition(":")[0]) != 0:
        own = {k: v for k, v in others.items() if k != "temperature" or v != "0"} | own
    return kind, Sampler(**_settings(f"--kind {kind}:", own))


def _repetition(text: str) -> Any:
    from aurljax.decode.sampler import Repetition

    penalty, *more = text.split(":")
    if len(more) > 2:
        raise UserError(f"--repetition {text}: write PENALTY, PENALTY:SPAN or PENALTY:SPAN:KIND,...")
    settings: dict[str, Any] = {"penalty": number("--repetition", penalty)}
    settings |= {"span": number("--repetition", more[0], int)} if more else {}
    settings |= {"kinds": tuple(more[1].split(","))} if len(more) > 1 else {}
    return Repetition(**settings)
