"""The command `aurljax`: its sub-commands and their arguments, errors and exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from aurljax import commands as run
from aurljax.decode import asking, wording
from aurljax.errors import UserError

CONFIGURED = ("train", "corpus", "plan")  # the sub-commands that take overrides of a config


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a sub-command; returns its exit status (bad input: one sentence on standard error, 2)."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if unknown := [a for a in rest if not (args.command in CONFIGURED and a.startswith("--config."))]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    args.overrides = rest
    # Compiled programs are kept between runs. An environment variable, so that JAX sees it whenever it is imported.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "aurljax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"aurljax {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\naurljax {args.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("aurljax", description="Train symbolic-music models, generate MIDI from them.")
    found = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, help: str) -> argparse.ArgumentParser:
        sub = found.add_parser(function.__name__, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=function)
        return sub

    c = command(run.ingest, "turn MIDI files into a corpus")
    c.add_argument("paths", nargs="+", metavar="PATH", help="MIDI files, globs, or folders of any depth")
    c.add_argument("--out", required=True, metavar="CORPUS", help="folder of the corpus; run again to continue")
    c.add_argument("--workers", type=int, help="processes (default: one a core)")
    c.add_argument("--splits", metavar="FILE", help="JSON of names by split (default: by content)")
    c.add_argument("--earlier", metavar="CORPUS", help="a corpus whose pieces keep their splits")
    c.add_argument("--beats", metavar="GLOB", help="file of beat times beside each file ({stem}: its name)")
    c.add_argument("--chords", metavar="GLOB", help="file of chord labels beside each file: lines of start, end (seconds) "
                   "and symbol")  # fmt: skip
    c.add_argument("--limit", metavar="NAME=N", action="append", default=[], help="most bytes, notes, bars, ticks or "
                   "seconds of a file that is not refused; may be repeated")  # fmt: skip
    c.add_argument("--licence", metavar="TEXT", default="", help="a note that stays with the corpus and with what is "
                   "trained on it; may be given later")  # fmt: skip
    c.add_argument("--valid", type=float, default=0.05, help="share of pieces held out for validation (0.05)")
    c.add_argument("--test", type=float, default=0.05, help="share of pieces held out for tests (0.05)")

    c = command(run.corpus, "report what a corpus holds, or what a row of a batch is made of")
    c.add_argument("corpus", metavar="CORPUS", nargs="?", help="folder that ingest made")
    c.add_argument("--show", metavar="FILE.mid", help="draw a piece before and after the config's preprocessing")
    c.add_argument("--json", action="store_true", help="print one line of JSON")
    c.add_argument("--example", type=_step_and_row, metavar="STEP,ROW", help="show this row of this step's batch")
    c.add_argument("--config", metavar="FILE.py", help="experiment of --example or --show; --config.a.b=VALUE changes a "
                   "field")  # fmt: skip
    c.add_argument("--out", metavar="DIR", help="write a picture of the report or of --show, or the MIDI of --example, "
                   "here")  # fmt: skip

    c = command(run.train, "train a model; goes on by itself where a workdir has a checkpoint")
    c.add_argument("--config", required=True, metavar="FILE.py", help="experiment; --config.a.b=VALUE changes a field")
    c.add_argument("--workdir", required=True, metavar="DIR", help="receives checkpoints, metrics and samples")
    c.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 of several is, or auto: ask the cluster "
                   "(default: what srun says)")  # fmt: skip
    c.add_argument("--processes", type=_positive(int), metavar="N", help="how many there are")
    c.add_argument("--process", type=int, metavar="I", help="which this is, from 0")
    c.add_argument("--join-timeout", type=_positive(float), default=300, metavar="S", help="seconds to wait for the others "
                   "(300)")  # fmt: skip

    c = command(run.report, "show runs on one page: curves, music, what stands out, how their configs differ")
    c.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="folders of runs")
    c.add_argument("--out", required=True, metavar="FILE.html", help="the page; an earlier report is replaced")

    c = command(run.inspect, "tell everything that made a checkpoint, or a MIDI file")
    c.add_argument("checkpoint", metavar="PATH", help="a run's workdir, one of its checkpoints, or a MIDI file")
    c.add_argument("--json", action="store_true", help="print one line of JSON")

    c = command(run.generate, "generate MIDI from a checkpoint")
    c.add_argument("--checkpoint", required=True, metavar="DIR", help="a run's workdir or one of its checkpoints")
    c.add_argument("--out", required=True, metavar="DIR", help="folder for the MIDI files")
    task = c.add_mutually_exclusive_group()
    task.add_argument("--prompt", metavar="FILE.mid", help="music to continue")
    task.add_argument("--infill", metavar="FILE.mid", help="write bars or tracks of a piece anew: --in-bars, --in-tracks")
    task.add_argument("--accompany", metavar="FILE.mid", help="write all tracks of a piece anew but those of --given")
    task.add_argument("--vary", metavar="FILE.mid", help="write a --share of the notes of a piece anew")
    c.add_argument("--in-bars", metavar="A-B,...", help="bars of --infill, counted from 1 (all)")
    c.add_argument("--in-tracks", metavar="T,...", help="tracks of --infill, counted from 1, or by name (all)")
    c.add_argument("--given", metavar="T,...", help="tracks that --accompany leaves as they are (1)")
    c.add_argument("--add", metavar="P@N,...", help="programs of new tracks of --accompany, 128 for drums, and which "
                   "of the tracks they become, counted from 1 (the last)")  # fmt: skip
    c.add_argument("--share", type=float, metavar="S", help="share of the notes that --vary writes anew (0.3)")
    length = c.add_mutually_exclusive_group()
    length.add_argument("--bars", type=_positive(int), help="bars of new music")
    length.add_argument("--seconds", type=_positive(float), help="seconds of new music")
    c.add_argument("-n", type=_positive(int), default=1, metavar="K", help="how many (1)")
    c.add_argument("--seed", type=int, default=0, help="same seed, prompt and settings: same bytes (0)")
    c.add_argument("--stream", action="store_true", help="print each bar as it is complete, and how long ids took")
    c.add_argument("--chunk", type=_positive(int), default=8, metavar="K", help="ids between looks of --stream (8)")
    c.add_argument("--play", nargs="?", const="", metavar="PORT", help="send the bars of --stream to this MIDI output port "
                   "while they are made (the first port)")  # fmt: skip
    c.add_argument("--guidance", type=float, metavar="W", help="how much the controls of --prompt count: 0: not at all, "
                   "1: as learned")  # fmt: skip
    c.add_argument("--cache", choices=("float32", "bfloat16", "int8"), help="keep keys and values in fewer bytes (default: "
                   "as the model computes)")  # fmt: skip
    c.add_argument("--weights", choices=("float32", "int8"), help="keep the matrices in fewer bytes (float32)")
    c.add_argument("--draft", metavar="DIR", help="checkpoint of a smaller model that proposes ids: the same distribution, "
                   "sooner")  # fmt: skip
    c.add_argument("--ahead", type=_positive(int), default=4, metavar="K", help="ids that --draft proposes at a time (4)")
    wording.add(c)
    asking.add(c)
    c.add_argument("--check", metavar="CORPUS", help="report the longest passage shared with a corpus")
    c.add_argument("--png", action="store_true", help="write a piano roll beside each file")
    c.add_argument("--wav", action="store_true", help="write an audio preview beside each file")
    c.add_argument("--html", action="store_true", help="write player.html: all pieces to see and to hear in a browser")
    c.add_argument("--report", metavar="FILE.json", help="write what was checked on the written files")
    c.add_argument("--overwrite", action="store_true", help="replace files of the same name")

    c = command(run.evaluate, "measure how well a model predicts a corpus")
    c.add_argument("--checkpoint", required=True, metavar="DIR", help="a run's workdir or one of its checkpoints")
    c.add_argument("--corpus", required=True, metavar="CORPUS")
    c.add_argument("--split", default="valid", help="train, valid or test (valid)")
    c.add_argument("--infill", action="store_true", help="measure how well it fills in bars of each piece instead")
    c.add_argument("--json", action="store_true", help="print one line of JSON")

    c = command(run.plan, "tell what a run needs of memory and work, without data or accelerator")
    c.add_argument("--config", required=True, metavar="FILE.py", help="experiment; --config.a.b=VALUE changes a field")
    c.add_argument("--devices", type=_positive(int), metavar="N", help="plan for N devices (default: this machine's)")
    c.add_argument("--memory", type=_bytes, metavar="SIZE", help="find the largest batch for devices of 80GB, say")
    c.add_argument("--json", action="store_true", help="print one line of JSON")

    c = command(run.average, "make one checkpoint of the mean weights of several")
    c.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="steps, or workdirs whose newest step is taken")
    c.add_argument(
        "--last", type=_positive(int), default=0, metavar="N", help="take the N newest steps of each workdir"
    )
    c.add_argument("--out", required=True, metavar="DIR", help="a folder to generate from")
    return parser


def _step_and_row(text: str) -> tuple[int, int]:
    step, comma, row = text.partition(",")
    if not (comma and step.isdecimal() and row.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be STEP,ROW such as 100,0, not {text}")
    return int(step), int(row)


def _bytes(text: str) -> float:
    from aurljax import sizes

    try:
        return sizes.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(kind: type):
    def parse(text: str):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
        return value

    parse.__name__ = kind.__name__
    return parse


if __name__ == "__main__":
    sys.exit(main())
