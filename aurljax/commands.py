"""What each sub-command of `aurljax` does: parsed arguments in, one call of the library, its result in words."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aurljax.errors import UserError

if TYPE_CHECKING:
    from aurljax.music.midi import Limits

PLAYER = "player.html"


def ingest(args: argparse.Namespace) -> None:
    """MIDI files -> a corpus."""
    from aurljax.data.ingest import ingest
    from aurljax.records.progress import Counter

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
    from aurljax.records.progress import Counter

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
    metrics = {k: v for k, v in outcome.metrics.items() if k != "step"}
    print(f"{args.workdir}: step {outcome.step}" + "".join(f", {k} {v:.4g}" for k, v in metrics.items()))


def report(args: argparse.Namespace) -> None:
    """Workdirs -> one page of HTML."""
    from aurljax.report import page

    print(page.write(args.workdirs, args.out))


def inspect(args: argparse.Namespace) -> None:
    """Checkpoint or MIDI file -> what made it."""
    if Path(args.checkpoint).is_file():
        from aurljax.export import validate

        report = validate.file(args.checkpoint)
        print(json.dumps(report.json()) if args.json else "\n".join(report.lines()))
        return
    from aurljax import inspection

    found = inspection.inspect(args.checkpoint)
    print(json.dumps(found) if args.json else "\n".join(inspection.lines(found)))


def generate(args: argparse.Namespace) -> None:
    """Checkpoint (and prompt) -> MIDI files."""
    import aurljax
    from aurljax.decode import asking, wording
    from aurljax.export import finish, player, provenance, write
    from aurljax.tasks import words

    out = Path(args.out)
    paths = [out / f"{i:03}.mid" for i in range(args.n)]
    _free(args, paths)
    asked = {"seed": args.seed, "constraints": asking.parse(args), "sampler": wording.parse(args), "cache": args.cache,
             "weights": args.weights}  # fmt: skip
    best_of = wording.number("--best-of", args.best_of, int)
    beam = wording.beam(args)
    apart = {"-n": args.n > 1, "--best-of": best_of > 1, "--draft": args.draft, "--beam": beam}
    if task := words.named(args):
        idle = {"--bars": args.bars, "--seconds": args.seconds, "--stream": args.stream, "--draft": args.draft,
                "--beam": beam, "--guidance": args.guidance is not None}  # fmt: skip
        if other := next((name for name, given in idle.items() if given), None):
            raise UserError(f"--{task} takes no {other}; leave it out")
    else:
        asked |= {"bars": args.bars, "seconds": args.seconds, "guidance": args.guidance}
    if args.stream and (other := next((name for name, given in apart.items() if given), None)):
        raise UserError(f"--stream writes one piece while it is made, id by id; leave out {other}")
    if beam:
        beam.check(args.n, asked["sampler"], best_of, args.draft)
    port = _port(args)
    given = getattr(args, task or "prompt")
    prompt = aurljax.load_midi(given) if given else None
    corpus = aurljax.Corpus(args.check) if args.check else None
    model = aurljax.load_model(args.checkpoint)
    filled = words.run(task, model, prompt, args, {"n": args.n, "best_of": best_of, **asked}) if task else []
    if task:
        scores = [finish.audible(f.score) for f in filled]
    elif args.stream:
        scores = [_streamed(model.stream(prompt=prompt, chunk=args.chunk, **asked), port)]
    else:
        draft = aurljax.load_model(args.draft) if args.draft else None
        how = {"best_of": best_of, "draft": draft, "ahead": args.ahead, "beam": beam}
        scores = model.generate(args.n, prompt=prompt, **how, **asked)
    if prompt is not None:
        scores = [provenance.name_prompt(s, Path(given).name) for s in scores]
    _folder(out)
    reports = []
    for path, score in zip(paths, scores, strict=True):
        reports.append(write.write_midi(score, path))
        print(reports[-1].line())
        if "ended" in score.meta:
            print(f"{path}: ended early in {score.meta['ended']}", file=sys.stderr)
    if args.report:
        write.write_reports(reports, args.report)
        print(args.report)
    write.refuse(reports)
    for path, answer in zip(paths, filled, strict=task is not None):
        print(f"{path}: {words.line(answer)}")
    _render(args, paths, scores, prompt)
    if task and corpus is not None:
        _check(corpus, paths, [f.score.replace(notes=f.new) for f in filled])
    elif corpus is not None:
        _check(corpus, paths, [s.replace(notes=s.notes[~player.given(s, prompt)]) for s in scores])


def _port(args: argparse.Namespace) -> str | None:
    """The name of the port to play to; UserError, before any work, where there is none."""
    if args.play is None:
        return None
    if not args.stream:
        raise UserError("--play plays bars while they are made; add --stream")
    from aurljax.live import port

    return port.find(args.play)


def _streamed(stream, port: str | None):
    """The score of a stream, each of its bars printed when it is complete, and played to a port if there is one."""
    if port is None:
        for bar in stream:
            print(_line(bar), flush=True)
    else:
        _played(stream, port)
    print(stream.latency)
    return stream.score


def _played(stream, name: str) -> None:
    from aurljax.live import player, port

    with port.opened(name) as out:
        playing = player.Player(out)
        with contextlib.closing(playing.play(stream)) as bars:
            for bar in bars:
                late = [u.seconds for u in playing.underruns if u.bar == bar.number]
                print(_line(bar) + "".join(f"  (late by {s:.2f} s)" for s in late), flush=True)
    if late := playing.underruns:
        print(f"{len(late)} of the bars came too late, by {sum(u.seconds for u in late):.2f} s in all")


def _line(bar) -> str:
    return f"bar {bar.number + 1:3}  {bar.seconds[0]:6.1f} s  {bar.names() or '-'}"


def _free(args: argparse.Namespace, paths: list[Path]) -> None:
    """UserError, before any work, for a file that stands where one would be written or a picture that cannot be drawn."""
    wanted = list(paths)
    for name in ("png", "wav"):
        wanted += [p.with_suffix(f".{name}") for p in paths if getattr(args, name)]
    wanted += [Path(args.out, PLAYER)] * args.html + ([Path(args.report)] if args.report else [])
    if taken := next((p for p in wanted if p.exists() and not (args.overwrite and p.is_file())), None):
        raise UserError(f"{taken} exists; choose another --out or add --overwrite")
    if args.png:
        from aurljax.evaluate import pictures

        pictures.load_matplotlib()
    if args.report:
        _folder(Path(args.report).parent)


def _render(args: argparse.Namespace, paths: list[Path], scores: list, prompt) -> None:
    """Pictures, sounds and the player, as far as they are asked for."""
    for path, score in zip(paths, scores, strict=True):
        if not len(score) and (args.png or args.wav):
            print(f"{path}: it has no notes, so there is no picture or sound of it")
            continue
        if args.png:
            from aurljax.evaluate import pictures

            pictures.piano_roll(score, path.with_suffix(".png"))
        if args.wav:
            from aurljax.evaluate import audio

            audio.save_wav(score, path.with_suffix(".wav"))
    if args.html:
        from aurljax.export import player

        pieces = [player.Piece(p.name, s, player.given(s, prompt)) for p, s in zip(paths, scores, strict=True)]
        print(player.write(pieces, Path(args.out, PLAYER)))


def _check(corpus, paths: list[Path], scores: list) -> None:
    """Reports what new music shares with the training split."""
    from aurljax.evaluate import copied

    index = copied.Index.of(corpus)
    for path, score in zip(paths, scores, strict=True):
        print(f"{path}: longest passage shared with the corpus: {index.longest(score)}")


def evaluate(args: argparse.Namespace) -> None:
    """Checkpoint and corpus -> likelihood, of pieces or of bars that are filled in."""
    import aurljax
    from aurljax.evaluate import infilling, likelihood
    from aurljax.records.progress import Counter

    corpus = aurljax.Corpus(args.corpus)
    chosen = corpus.split(args.split)
    model = aurljax.load_model(args.checkpoint)
    measure = infilling.of_scores if args.infill else likelihood.of_scores
    with Counter("pieces") as counter:
        found = measure(
            model, (corpus[i] for i in chosen), progress=lambda done: counter.update(done, len(chosen))
        ).summary()
    if args.json:
        print(json.dumps(found))
    elif args.infill:
        _print_infilling(found, args.split, len(chosen))
    else:
        _print_likelihood(found, args.split)


def _print_infilling(found: dict[str, float], split: str, pieces: int) -> None:
    print(f"{found['pieces']} pieces of {split}, a run of bars masked in each: {found['notes']:,} notes")
    if short := pieces - found["pieces"]:
        print(f"{short} others are left out: too short, or longer than the context with their answers")
    print(f"{'':24}nats per note")
    for name, label in (("both", "both sides given"), ("left", "the left side alone"),
                        ("written_on", "written on, no holes")):  # fmt: skip
        print(f"{label:24}{found[name + '_nats_per_note']:13.4f}")


def _print_likelihood(found: dict[str, float], split: str) -> None:
    print(f"{found['pieces']} pieces of {split}: {found['ids']:,} ids, {found['notes']:,} notes, "
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
