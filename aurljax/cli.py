"""The command `aurljax`: each sub-command parses its arguments and calls the library."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aurljax.errors import UserError

if TYPE_CHECKING:
    from aurljax.music.midi import Limits

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


def ingest(args: argparse.Namespace) -> None:
    """MIDI files -> a corpus."""
    from aurljax.data.ingest import ingest
    from aurljax.progress import Counter

    with Counter("files") as counter:
        report = ingest(
            args.paths, args.out, workers=args.workers, splits=args.splits,
            fractions=(args.valid, args.test), earlier=args.earlier, beats=args.beats,
            chords=args.chords, limits=_limits(args.limit), licence=args.licence, progress=counter.update,
        )  # fmt: skip
    print(f"{args.out}: " + "\n".join(report.lines()))


def _limits(texts: list[str]) -> Limits:
    from aurljax.music.midi import Limits

    names = [f.name for f in dataclasses.fields(Limits)]
    given = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in names or not value.isdecimal():
            raise UserError(f"--limit {text}: write NAME=N with a whole number and one of {', '.join(names)}")
        given[name] = int(value)
    return Limits(**given)


def corpus(args: argparse.Namespace) -> None:
    """Corpus -> what it holds; or with a config, what a row of a batch holds."""
    if args.show is not None:
        if not (args.config and args.out) or args.example or args.json:
            raise UserError(
                "--show needs --config=FILE.py, whose preprocessing is shown, and --out DIR, and nothing else"
            )
        _show(args)
    elif args.corpus is None:
        raise UserError("CORPUS: name a folder that ingest made, or --show a MIDI file")
    elif args.example is None:
        if args.config or args.overrides:
            raise UserError("--config is for --example; add --example STEP,ROW or leave it out")
        _census(args)
    elif not args.config:
        raise UserError("--example needs --config=FILE.py, the experiment whose batch is shown")
    elif args.json:
        raise UserError("--json is for the report; leave out --json or --example")
    else:
        _example(args)


def _census(args: argparse.Namespace) -> None:
    from aurljax.data import census
    from aurljax.data.corpus import Corpus
    from aurljax.progress import Counter

    corpus = Corpus(args.corpus)
    picture = _picture(args.out, Path(args.corpus).resolve().name) if args.out else None
    with Counter("pieces") as counter:
        found = census.of(corpus, counter.update)
    if args.json:
        print(json.dumps(dataclasses.asdict(found) | {"warnings": found.warnings()}))
    else:
        print(f"{args.corpus}: " + "\n".join(found.lines()))
    if picture is not None:
        from aurljax.evaluate import overview

        overview.overview(found, picture, f"{picture.stem}: what the corpus holds")
        print(picture, file=sys.stderr if args.json else sys.stdout)


def _picture(out: str, name: str) -> Path:
    """Where a picture goes; UserError, before any work, where it cannot be drawn or stand there."""
    from aurljax.evaluate import pictures

    pictures.load_matplotlib()
    path = Path(out, f"{name}.png")
    if path.exists():
        raise UserError(f"{path} exists; choose another --out")
    _folder(path.parent)
    return path


def _example(args: argparse.Namespace) -> None:
    from aurljax import config
    from aurljax.data import pipeline
    from aurljax.data.corpus import Corpus

    chosen = config.load(args.config, args.overrides)
    codec, (step, row) = chosen.codec.make(), args.example
    data = pipeline.training(chosen, codec, Corpus(args.corpus))
    found = data.examples(step, row)
    paths = [Path(args.out, f"{step:06}-{row:03}-{i}.mid") for i in range(len(found))] if args.out else []
    if taken := next((p for p in paths if p.exists()), None):
        raise UserError(f"{taken} exists; choose another --out")
    print(f"step {step}, row {row}: {len(found)} window{'s' * (len(found) > 1)}, {sum(len(e.ids) - 1 for e in found):,} of "
          f"{data.row_length(step):,} slots")  # fmt: skip
    for example in found:
        print(example.line())
    if paths:
        _folder(Path(args.out))
    for path, example in zip(paths, found, strict=bool(paths)):
        codec.decode(example.ids).save_midi(path)
        print(path)


def _show(args: argparse.Namespace) -> None:
    import aurljax
    from aurljax import config
    from aurljax.evaluate import pictures
    from aurljax.music import preprocess

    before = aurljax.load_midi(args.show)
    after, lost = preprocess.prepare(before, config.load(args.config, args.overrides).data.preprocess)
    path = _picture(args.out, Path(args.show).stem)
    pictures.before_and_after(before, after, path, Path(args.show).name)
    print(
        f"{path}: {len(before)} notes, {len(after)} after" + "".join(f", {n} {name}" for name, n in lost.items() if n)
    )


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror}); choose another --out") from None


def train(args: argparse.Namespace) -> None:
    """Config -> a workdir with checkpoints."""
    from aurljax import cluster, config, samples, train

    cluster.join(args.coordinator, args.processes, args.process, args.join_timeout)
    outcome = train.train(config.load(args.config, args.overrides), args.workdir, sample=samples.write)
    print(f"{args.workdir}: step {outcome.step}" + "".join(f", {k} {v:.4g}" for k, v in outcome.metrics.items()))


def report(args: argparse.Namespace) -> None:
    """Workdirs -> one page of HTML."""
    from aurljax.report import page

    print(page.write(args.workdirs, args.out))


def inspect(args: argparse.Namespace) -> None:
    """Checkpoint -> what made it."""
    from aurljax import inspection

    found = inspection.inspect(args.checkpoint)
    print(json.dumps(found) if args.json else "\n".join(inspection.lines(found)))


def generate(args: argparse.Namespace) -> None:
    """Checkpoint (and prompt) -> MIDI files."""
    import aurljax

    out = Path(args.out)
    paths = [out / f"{i:03}.mid" for i in range(args.n)]
    if taken := next((p for p in paths if p.exists() and not args.overwrite), None):
        raise UserError(f"{taken} exists; choose another --out or add --overwrite")
    prompt = aurljax.load_midi(args.prompt) if args.prompt else None
    corpus = aurljax.Corpus(args.check) if args.check else None
    model = aurljax.load_model(args.checkpoint)
    scores = model.generate(
        args.n, prompt=prompt, bars=args.bars, seconds=args.seconds, seed=args.seed, temperature=args.temperature,
        top_k=args.top_k, top_p=args.top_p, min_p=args.min_p,
    )  # fmt: skip
    _folder(out)
    for path, score in zip(paths, scores, strict=True):
        score.save_midi(path)
        print(f"{path}: {len(score)} notes, {score.bar_count} bars, {score.seconds(score.end):.1f} s")
        _render(args, path, score)
    if corpus is not None:
        _check(corpus, paths, [model.codec.continuation(s, prompt) if prompt else s for s in scores])


def _render(args: argparse.Namespace, path: Path, score) -> None:
    if args.png:
        from aurljax.evaluate import pictures

        pictures.piano_roll(score, path.with_suffix(".png"))
    if args.wav:
        from aurljax.evaluate import audio

        audio.save_wav(score, path.with_suffix(".wav"))


def _check(corpus, paths: list[Path], scores: list) -> None:
    """Reports what new music shares with the training split."""
    from aurljax.evaluate import copied

    index = copied.Index.of(corpus)
    for path, score in zip(paths, scores, strict=True):
        print(f"{path}: longest passage shared with the corpus: {index.longest(score)}")


def evaluate(args: argparse.Namespace) -> None:
    """Checkpoint and corpus -> likelihood."""
    import aurljax
    from aurljax.evaluate import likelihood
    from aurljax.progress import Counter

    corpus = aurljax.Corpus(args.corpus)
    chosen = corpus.split(args.split)
    model = aurljax.load_model(args.checkpoint)
    with Counter("pieces") as counter:
        found = likelihood.of_scores(
            model, (corpus[i] for i in chosen), lambda done: counter.update(done, len(chosen))
        ).summary()
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['pieces']} pieces of {args.split}: {found['ids']:,} ids, {found['notes']:,} notes, "
          f"{found['seconds']:,.0f} s")  # fmt: skip
    print(f"{'':18}{'raw':>10}{'within the grammar':>22}")
    for name, label in (("nats_per_id", "nats per id"), ("nats_per_note", "nats per note"),
                        ("bits_per_second", "bits per second")):  # fmt: skip
        print(f"{label:18}{found[name]:10.4f}{found['legal_' + name]:22.4f}")
    print(
        f"{'illegal mass':18}{found['illegal_mass']:10.2%}{'uniform: ' + format(found['uniform_nats_per_id'], '.4f'):>22}"
    )


def average(args: argparse.Namespace) -> None:
    """Checkpoints -> one of their mean weights."""
    from aurljax import soup

    print(soup.average(args.checkpoints, args.out, args.last))


def plan(args: argparse.Namespace) -> int | None:
    """Config -> what its run needs; nothing is trained. With --devices in a process that has so many of the CPU's."""
    if args.devices:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={args.devices}"
        command = [sys.executable, "-m", "aurljax.cli", "plan", f"--config={args.config}", *args.overrides]
        command += [f"--memory={args.memory}"] if args.memory else []
        command += ["--json"] if args.json else []
        return subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}).returncode
    from aurljax import config
    from aurljax import plan as plans

    plans.run(config.load(args.config, args.overrides), args.memory, args.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("aurljax", description="Train symbolic-music models, generate MIDI from them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(run.__name__, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    c = command(ingest, "turn MIDI files into a corpus")
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

    c = command(corpus, "report what a corpus holds, or what a row of a batch is made of")
    c.add_argument("corpus", metavar="CORPUS", nargs="?", help="folder that ingest made")
    c.add_argument("--show", metavar="FILE.mid", help="draw a piece before and after the config's preprocessing")
    c.add_argument("--json", action="store_true", help="print one line of JSON")
    c.add_argument("--example", type=_step_and_row, metavar="STEP,ROW", help="show this row of this step's batch")
    c.add_argument("--config", metavar="FILE.py", help="experiment of --example or --show; --config.a.b=VALUE changes a "
                   "field")  # fmt: skip
    c.add_argument("--out", metavar="DIR", help="write a picture of the report or of --show, or the MIDI of --example, "
                   "here")  # fmt: skip

    c = command(train, "train a model; goes on by itself where a workdir has a checkpoint")
    c.add_argument("--config", required=True, metavar="FILE.py", help="experiment; --config.a.b=VALUE changes a field")
    c.add_argument("--workdir", required=True, metavar="DIR", help="receives checkpoints, metrics and samples")
    c.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 of several is, or auto: ask the cluster "
                   "(default: what srun says)")  # fmt: skip
    c.add_argument("--processes", type=_positive(int), metavar="N", help="how many there are")
    c.add_argument("--process", type=int, metavar="I", help="which this is, from 0")
    c.add_argument("--join-timeout", type=_positive(float), default=300, metavar="S", help="seconds to wait for the others "
                   "(300)")  # fmt: skip

    c = command(report, "show runs on one page: curves, music, what stands out, how their configs differ")
    c.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="folders of runs")
    c.add_argument("--out", required=True, metavar="FILE.html", help="the page; an earlier report is replaced")

    c = command(inspect, "tell everything that made a checkpoint")
    c.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's workdir or one of its checkpoints")
    c.add_argument("--json", action="store_true", help="print one line of JSON")

    c = command(generate, "generate MIDI from a checkpoint")
    c.add_argument("--checkpoint", required=True, metavar="DIR", help="a run's workdir or one of its checkpoints")
    c.add_argument("--out", required=True, metavar="DIR", help="folder for the MIDI files")
    c.add_argument("--prompt", metavar="FILE.mid", help="music to continue")
    length = c.add_mutually_exclusive_group()
    length.add_argument("--bars", type=_positive(int), help="bars of new music")
    length.add_argument("--seconds", type=_positive(float), help="seconds of new music")
    c.add_argument("-n", type=_positive(int), default=1, metavar="K", help="how many (1)")
    c.add_argument("--seed", type=int, default=0, help="same seed, prompt and settings: same bytes (0)")
    c.add_argument("--temperature", type=float, default=1.0, help="0: always the likeliest id (1)")
    c.add_argument("--top-k", type=int, default=0, metavar="K", help="only the K likeliest ids (0: all)")
    c.add_argument("--top-p", type=float, default=1.0, metavar="P", help="only ids that make up this mass (1)")
    c.add_argument(
        "--min-p", type=float, default=0.0, metavar="P", help="only ids this likely beside the likeliest (0)"
    )
    c.add_argument("--check", metavar="CORPUS", help="report the longest passage shared with a corpus")
    c.add_argument("--png", action="store_true", help="write a piano roll beside each file")
    c.add_argument("--wav", action="store_true", help="write an audio preview beside each file")
    c.add_argument("--overwrite", action="store_true", help="replace files of the same name")

    c = command(evaluate, "measure how well a model predicts a corpus")
    c.add_argument("--checkpoint", required=True, metavar="DIR", help="a run's workdir or one of its checkpoints")
    c.add_argument("--corpus", required=True, metavar="CORPUS")
    c.add_argument("--split", default="valid", help="train, valid or test (valid)")
    c.add_argument("--json", action="store_true", help="print one line of JSON")

    c = command(plan, "tell what a run needs of memory and work, without data or accelerator")
    c.add_argument("--config", required=True, metavar="FILE.py", help="experiment; --config.a.b=VALUE changes a field")
    c.add_argument("--devices", type=_positive(int), metavar="N", help="plan for N devices (default: this machine's)")
    c.add_argument("--memory", type=_bytes, metavar="SIZE", help="find the largest batch for devices of 80GB, say")
    c.add_argument("--json", action="store_true", help="print one line of JSON")

    c = command(average, "make one checkpoint of the mean weights of several")
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
