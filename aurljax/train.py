"""The training loop: any family, any mesh, resumed exactly.

WORKDIR receives config.json, metrics.jsonl, log.txt, report.html, tensorboard/, samples/ and checkpoints/. Data is
addressed by step and random numbers by step and key, so a run that was stopped, even by kill -9, goes on to the losses it
would have had.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from etils import epath

from aurljax import atomic, beginning, checkpoint, mesh, params, paths, stages, state, step
from aurljax.checkpoint import Checkpoints
from aurljax.config import Config, Parts, differences, from_dict, to_dict
from aurljax.data import pipeline
from aurljax.data.corpus import Corpus, CorpusError
from aurljax.data.pipeline import Dataset
from aurljax.errors import UserError
from aurljax.feed import Feed
from aurljax.fields import nearest_multiple
from aurljax.records import board, code, machine
from aurljax.records.journal import Journal
from aurljax.records.meter import Meter
from aurljax.records.metrics import Log
from aurljax.records.metrics import read as metrics_of
from aurljax.records.profiling import Trace
from aurljax.records.progress import Progress
from aurljax.report.live import Reporter
from aurljax.sections import Run
from aurljax.stages import Stage
from aurljax.state import State
from aurljax.survival import collapse, retention
from aurljax.survival.clock import Clock
from aurljax.survival.interruption import Interruption
from aurljax.survival.lock import Lock
from aurljax.survival.plateau import Plateau
from aurljax.survival.recovery import Recovery
from aurljax.survival.stopping import Stopping

Tree = Any
Sample = Callable[[Parts, Tree, int, epath.Path], Mapping[str, float]]  # parts, weights, step, folder -> numbers to log


@dataclass(frozen=True)
class Outcome:
    """Where a run ended: its step, whether a signal stopped it before run.steps, and the last record of metrics."""

    step: int
    stopped: bool
    metrics: Mapping[str, float]


def train(
    config: Config, workdir: epath.PathLike, sample: Sample | None = None, progress: Progress | None = None
) -> Outcome:
    """Trains until run.steps, or through all stages, from the newest checkpoint of `workdir` if it has one.

    `sample` is called every run.sample_every steps with the weights that generation would use. SIGTERM and ctrl-C save
    and return; run.stop_on ends a stage. UserError: an impossible config or mesh, a missing corpus or split (if it goes
    away later, the state is saved), a folder of another model, of another run at work or not writable, a damaged
    checkpoint, weights to begin with that do not fit, a loss or samples that going back does not mend.
    """
    built, workdir = stages.build(config), paths.named(workdir)
    if sample is None and any(parts.config.run.sample_every for _, parts in built):
        raise ValueError("run.sample_every is set: train() needs a `sample` function")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mesh.use(mesh.make(config.mesh.data, config.mesh.model, config.mesh.replica)))
        for _, parts in built:
            check(parts)
        if config.run.wandb:
            board.load(config.run.wandb)
        data = [datasets(parts) for _, parts in built]
        if config.run.init and not checkpoint.steps(workdir / checkpoint.FOLDER):
            beginning.check(built[0][1])
        stack.enter_context(Lock(workdir))
        number, begun, newest = beginning.where(workdir, len(built))
        steps = [parts.config.run.steps for _, parts in built]
        stream = None if jax.process_index() == 0 else io.StringIO()
        progress = progress or Progress(begun + sum(steps[number:]), stream)
        trace = stack.enter_context(Trace(workdir, config.profile, newest, progress))
        session = Session(config, workdir, sample, progress, stack.enter_context(Interruption()), trace)
        for i, (name, parts) in list(enumerate(built))[number:]:
            stage = Stage(i, len(built), name, parts, begun, sum(steps[i + 1 :]))
            ended = train_stage(session, stage, *data[i])
            begun = ended.step
            if ended.stopped:
                break
        return ended


class Session(NamedTuple):
    """What all stages of a run share."""

    config: Config
    workdir: epath.Path
    sample: Sample | None
    progress: Progress
    interruption: Interruption
    trace: Trace


def train_stage(session: Session, stage: Stage, data: Dataset, valid: Dataset | None) -> Outcome:
    """The one loop, of a whole run or of one of its stages."""
    (config, workdir, sample, progress, interruption, trace), parts, run = session, stage.parts, stage.parts.config.run
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(workdir, run.keep, describe(stage, data), run.keep_every, run.best, stage.begin)
        )
        now, start = begin(config, stage, workdir, data, progress)
        records = [r for r in metrics_of(workdir) if stage.begin < r["step"] <= start]
        stopping, plateau = Stopping(run.stop_on, run.patience, records), Plateau(parts.config.optim, records)
        heeded = [metric for metric in (run.best, *run.stop_on, *plateau.heeded) if metric]
        left = 0 if stopping.over else stage.end - start
        begun = start - stage.begin  # data are addressed by the steps of the stage
        batches = data.iterate(begun, begun + left, jax.process_index(), jax.process_count()) if left > 0 else ()
        feed = stack.enter_context(Feed(batches))
        meter, remote = Meter(stage, data, feed), None
        if jax.process_index() == 0:
            progress.keep(Journal(workdir))
            remote = board.Board(config, workdir, start) if config.run.wandb else None
        log = stack.enter_context(Log(workdir, start, stage.last, progress, meter, remote, stage.begin))
        reporter = Reporter(workdir, progress)
        first = functools.partial(beginning.first, stage, workdir)
        recovery = Recovery(parts, checkpoints, progress, now, first, judge(stage, data, progress))
        train_step, eval_step = step.train_step(parts), step.eval_step(parts)
        if left <= 0 and stage.number + 1 == stage.of:
            why = f"{stopping.line()}; raise run.patience" if stopping.over else "raise run.steps"
            progress.note(f"step {start} is reached; {why} to go on")

        stopped, at, clock = False, start, Clock(run.checkpoint_minutes)

        def rescue(_: Any, error: BaseException | None, __: Any) -> None:
            """What was learned is saved though the corpus went away."""
            if isinstance(error, CorpusError) and at > start:
                log.flush()
                checkpoints.save(now, at)
                progress.note(f"the corpus failed after step {at}, which is saved; the same command goes on from there")

        stack.push(rescue)
        for at, batch in enumerate(feed, start + 1):
            with trace.step(at):
                now, metrics = train_step(now, mesh.place(batch))
            trace.done(at, metrics["loss"])
            now = recovery.watch(now, at, metrics["in_a_row"])
            record = at % run.log_every == 0 or at == stage.end
            meter.count(at, batch, metrics["loss"], record)
            if record:
                log.push(at, metrics)
            if valid and due(at, run.eval_every):
                log.push(at, evaluate(eval_step, now, valid, run.eval_batches), "valid_")
                reporter.update(log)
            if sample and due(at, run.sample_every):
                drawn = sample(parts, now.weights, at, workdir / "samples")
                log.push(at, drawn, "sample_")
                log.sample = f"{workdir / 'samples'}/{at:07}-*"
                now = recovery.judge(now, at, drawn)
            measured = measures(log, at, run, heeded)
            stopped = interruption.reached(at)
            stopping.update(measured)
            now = plateau.update(now, at, measured, progress)
            scheduled = due(at, run.checkpoint_every) or checkpoints.improves(measured)
            scheduled |= at == stage.end or stopping.over
            scheduled |= due(at, run.log_every) and clock.due()
            if scheduled or stopped or recovery.went_back(at):
                log.flush()  # what a checkpoint stands for is on disk before it
                now = recovery.saving(now, at, scheduled)
                checkpoints.save(now, at, measured)
                clock.reset()
            if at == stage.end or stopped or stopping.over:
                reporter.update(log, last=True)
            if stopped:
                progress.note(f"stopped at step {at} and saved; the same command goes on from there")
            elif stopping.over:
                progress.note(f"ended at step {at}: {stopping.line()}; raise run.patience to go on")
            if stopped or stopping.over:
                break
        if data.fell_back:
            progress.note(f"{data.fell_back:,} windows went without effects that made them too long for their rows; "
                          "to keep more room for them, raise data.augment.slack")  # fmt: skip
        if data.shortened:
            progress.note(f"{data.shortened:,} windows went without their last bars or without holes, which made them too "
                          "long for their rows; to keep more room for them, raise data.objective.slack")  # fmt: skip
        checkpoints.settle()  # the next stage reads it
    return Outcome(at, stopped and at < stage.last, log.last)


def check(parts: Parts) -> None:
    """Refuses a model or batch that the mesh in force does not divide."""
    config, ways = parts.config, mesh.ways("batch") * parts.config.optim.accumulation
    if config.data.batch % ways:
        raise UserError(
            f"data.batch={config.data.batch} cannot be cut evenly over {mesh.ways('batch')} devices and "
            f"optim.accumulation={config.optim.accumulation}; the nearest that works is "
            f"{nearest_multiple(config.data.batch, ways)}"
        )
    params.check(parts.family.spec(parts.model))


def datasets(parts: Parts) -> tuple[Dataset, Dataset | None]:
    """The training split, and the held-out split if the run evaluates; UserError where the corpus lacks one."""
    config = parts.config
    if not config.data.corpus:
        raise UserError("data.corpus names no folder; set it to one that `aurljax ingest` made")
    corpus = Corpus(config.data.corpus)
    data = pipeline.training(config, parts.codec, corpus)
    return data, pipeline.held_out(config, parts.codec, corpus) if config.run.eval_every else None


def judge(stage: Stage, data: Dataset, progress: Progress) -> collapse.Judge | None:
    """The judge of a run's samples by its held-out pieces, if it comes to judge any."""
    parts = stage.parts
    run, after, corpus = parts.config.run, parts.config.guard.samples_after, data.sources[0].corpus
    if not (run.sample_every and after and run.steps >= max(after, run.sample_every)):
        return None
    if not any(piece.split == "valid" for piece in corpus.pieces):
        progress.note(f"samples are not judged: {corpus.path} has no held-out pieces to compare them with")
        return None
    found = collapse.of(collapse.windows(pipeline.held_out(parts.config, parts.codec, corpus)))
    progress.note(f"from step {stage.begin + after} on, samples are held to {found.line()}")
    return found


def describe(stage: Stage, data: Dataset) -> dict[str, Any]:
    """The metadata of every checkpoint of this stage; its config is whole."""
    parts, codec = stage.parts, stage.parts.codec
    return {
        "config": to_dict(parts.config),
        "codec": {
            "name": codec.name,
            "options": dict(codec.options),
            "fingerprint": codec.fingerprint,
            "vocabulary": len(codec.vocabulary),
        },
        "data": {"path": parts.config.data.corpus, **data.provenance},
        "code": code.version(),
        "versions": code.packages(),
        "device": machine.describe(),
        **stage.record,
    }


def begin(config: Config, stage: Stage, workdir: epath.Path, data: Dataset, progress: Progress) -> tuple[State, int]:
    """The state to go on from and its step: of the newest checkpoint of this stage, else its first; writes config.json."""
    parts, saved = stage.parts, checkpoint.steps(workdir / checkpoint.FOLDER)
    count = params.count(parts.family.spec(parts.model))
    if stage.name:
        progress.note(stage.line())
    progress.note(f"{parts.family.name}, {count:,} parameters; {data.summary['tokens']:,} tokens in an epoch")
    resumed = bool(saved) and saved[-1] > stage.begin
    if resumed:
        found = checkpoint.describe(workdir / checkpoint.FOLDER / str(saved[-1]))
        same_run(found, parts, workdir)
        progress.note(f"going on from {found.path}")
        if changed := differences(_with_defaults(found), to_dict(parts.config)):
            progress.note(f"changed since: {'; '.join(changed)}")
        for corpus in strangers(found, data):
            progress.note(f"the corpus {corpus.path} is not what step {found.step} was trained on")
    elif source := beginning.origin(stage, workdir):
        progress.note(f"beginning with the weights of {source}")
    if jax.process_index() == 0:
        atomic.write(workdir / "config.json", json.dumps(to_dict(config), indent=2) + "\n")
    if resumed:
        return checkpoint.load_state(found.path, state.abstract(parts)), found.step
    return beginning.first(stage, workdir), stage.begin


def strangers(found: checkpoint.Saved, data: Dataset) -> list[Corpus]:
    """The corpora of a run that the run of a checkpoint did not read."""
    known = found.metadata["data"].get("corpora") or [found.metadata["data"]["corpus"]]  # older checkpoints name one
    return [source.corpus for source in data.sources if source.corpus.digest not in known]


def same_run(found: checkpoint.Saved, parts: Parts, workdir: epath.Path) -> None:
    """Refuses a folder whose checkpoint is of another model or codec."""
    old, new = _with_defaults(found)["model"], to_dict(parts.config)["model"]
    if other := differences(old, new, "model."):
        raise UserError(f"{workdir} holds a run of another model ({'; '.join(other)}); choose another folder")
    checkpoint.check_codec(found, parts.codec)


def _with_defaults(found: checkpoint.Saved) -> dict[str, Any]:
    """The config of a checkpoint; fields that came later are at their defaults."""
    return to_dict(from_dict(found.metadata["config"]))


def evaluate(eval_step: Callable, now: State, valid: Dataset, batches: int) -> step.Metrics:
    """Means over the first `batches` batches of a split, by the weights that generation would use."""
    rows = valid.one_epoch(jax.process_index(), jax.process_count())
    sums = (eval_step(now.weights, mesh.place(batch)) for batch in itertools.islice(rows, batches))
    return step.means(jax.tree.map(lambda *s: sum(s), *sums))


def measures(log: Log, at: int, run: Run, heeded: Sequence[str]) -> dict[str, float]:
    """The metrics by evaluation and samples that were taken at this step; waits for them only if any are heeded."""
    taken = [p for p, every in (("valid_", run.eval_every), ("sample_", run.sample_every)) if due(at, every)]
    if not (taken and heeded):
        return {}
    log.flush()
    found = {name: value for name, value in log.last.items() if name.startswith(tuple(taken))}
    for metric in map(retention.name, heeded):
        if metric.startswith(tuple(taken)) and metric not in found:
            raise UserError(f"no metric {metric} was measured at step {at}; there are {', '.join(sorted(found))}")
    return found


def due(at: int, every: int) -> bool:
    """Whether a step ends a period (0: never)."""
    return every > 0 and at % every == 0
