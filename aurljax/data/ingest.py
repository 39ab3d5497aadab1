"""Ingest: MIDI files -> a corpus, in parallel, in an order that nothing disturbs, stopped and continued at will.

Files are parsed in chunks; a parsed chunk is staged as one file under `.staging`, so a run that was killed continues
where it was. Shards and manifest are made from the staged chunks alone, the manifest last: with it the corpus exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from aurljax.data import files, parse, sources, workers
from aurljax.data import splits as tables
from aurljax.data.assemble import REPORT, Plan, Report, as_text, assemble
from aurljax.data.corpus import MANIFEST, Corpus, CorpusError
from aurljax.data.workers import cores
from aurljax.errors import UserError
from aurljax.music.midi import LIMITS, Limits
from aurljax.music.sidecar import beside as find_beside

STAGING = ".staging"
CHUNK = 64  # files
Progress = Callable[[int, int], None]

__all__ = ["Report", "ingest"]


def ingest(
    paths: Iterable[str | os.PathLike],
    out: str | os.PathLike,
    *,
    workers: int | None = None,
    splits: str | os.PathLike | None = None,
    fractions: tuple[float, float] = (0.05, 0.05),
    earlier: str | os.PathLike | None = None,
    beats: str | None = None,
    chords: str | None = None,
    limits: Limits = LIMITS,
    licence: str = "",
    timeout: float = 60.0,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Makes a corpus of MIDI files, globs and folders in the local folder `out`; run again, it continues.

    `splits`: a JSON file of names by split; else shares of `fractions` go to valid and test, chosen by their content,
    all pieces of one tune to one split. `earlier`: a corpus whose pieces keep their splits; new pieces of a tune of its
    follow it, and are left out where they would join tunes of several splits.
    `beats`: the pattern of a file in each file's folder ({stem}: its name) on whose beats it is laid out anew.
    `chords`: such a pattern of a file of chord labels, which become its markers.
    `limits`: what a file may hold at most. `licence`: a note for the manifest; a corpus that is complete takes it over.
    `workers`: processes, None for one a core; `timeout`: seconds for a file; `progress(done, total)` counts files.
    Equal music is kept once. The corpus is the same whatever the workers and interruptions. UserError, and no corpus,
    if no file can be read or `out` cannot be written or holds something else.
    """
    beside = {what: pattern for what, pattern in (("beats", beats), ("chords", chords)) if pattern is not None}
    plan, out = _plan(paths, splits, fractions, earlier, beside, limits, licence), Path(out)
    try:
        if (out / MANIFEST).exists():
            return _already(plan, out)
        with _staging(out) as stage:
            chunks = _parse(plan, stage, workers or cores(), timeout, progress)
            return assemble(plan, chunks, stage, out)
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e}); make room or choose another folder, then run again") from e


def _plan(
    paths: Iterable,
    splits: str | os.PathLike | None,
    fractions: tuple[float, float],
    earlier: str | os.PathLike | None,
    beside: dict[str, str],
    limits: Limits,
    licence: str,
) -> Plan:
    if splits is not None and earlier is not None:
        raise UserError("splits: a table of splits and an earlier corpus cannot both decide; give one of them")
    if min(fractions) < 0 or sum(fractions) >= 1:
        raise UserError(f"fractions: {fractions} must be shares for valid and test that leave some pieces for train")
    found = sources.find([paths] if isinstance(paths, str | os.PathLike) else paths)
    if not found:
        raise UserError("paths: name no MIDI file; give files, folders or patterns")
    if splits is None:
        before = None if earlier is None else Corpus(earlier)
        return Plan(found, (), None, tuple(fractions), before, beside, limits, licence)
    chosen = tables.assign([id for id, _ in found], tables.read(splits), splits)
    unnamed = tuple(id for id, _ in found if id not in chosen)
    return Plan([f for f in found if f[0] in chosen], unnamed, chosen, tuple(fractions), None, beside, limits, licence)


def _already(plan: Plan, out: Path) -> Report:
    """The report of a corpus that is complete; UserError if it was made of something else."""
    corpus = Corpus(out)
    corpus.check()
    try:
        report = Report(**json.loads((out / REPORT).read_text()))
    except (OSError, ValueError, TypeError) as e:
        raise CorpusError(f"{out / REPORT}: cannot be read ({e}); delete {out} and run again") from e
    unread = set(report.quarantined)  # nor were they hashed
    shas = ["" if id in unread else _source(path, plan.beside) for id, path in plan.found]
    if corpus.manifest["inputs"] != plan.inputs(shas):
        raise UserError(f"{out}: holds a corpus of other files or splits; choose another folder or delete this one")
    shutil.rmtree(out / STAGING, ignore_errors=True)
    same = plan.licence in ("", corpus.licence)
    if not same:
        files.write(out / MANIFEST, as_text({**corpus.manifest, "licence": plan.licence}).encode())
    return replace(report, unchanged=same)


def _source(path: str, beside: dict[str, str]) -> str:
    try:
        return parse.source(path, beside)[1]
    except OSError:
        return ""


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """The staging folder, for this process alone; gone after success and after a UserError, kept by all else."""
    stage, new = out / STAGING, not out.exists()
    if out.exists() and not stage.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and holds no corpus; choose a new or empty folder")
    stage.mkdir(parents=True, exist_ok=True)
    with open(stage / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{out}: another ingest is writing here; wait for it or choose another folder") from None
        try:
            yield stage
        except UserError:
            shutil.rmtree(out if new else stage, ignore_errors=True)
            raise
        shutil.rmtree(stage, ignore_errors=True)  # an orphan of a killed run may still write here


def _parse(plan: Plan, stage: Path, count: int, timeout: float, progress: Progress) -> list[Path]:
    """The staged chunks of all files, in order; those that are staged already are taken as they are."""
    chunks, tasks, version, done = [], [], parse.version(), 0
    for i in range(0, len(plan.found), CHUNK):
        items = plan.found[i : i + CHUNK]
        key = json.dumps(
            [version, plan.beside, asdict(plan.limits), [[id, *_state(path, plan.beside)] for id, path in items]]
        ).encode()
        chunks.append(stage / f"{hashlib.sha256(key).hexdigest()[:24]}.chunk")
        if chunks[-1].exists():
            done += len(items)
        else:
            tasks.append(
                {"items": items, "beside": plan.beside, "limits": asdict(plan.limits), "stage": str(chunks[-1])}
            )
    progress(done, len(plan.found))
    with contextlib.closing(workers.run("aurljax.data.parse:chunk", tasks, count, timeout)) as sizes:
        for _, size in sizes:
            done += size
            progress(done, len(plan.found))
    return chunks


def _state(path: str, patterns: dict[str, str]) -> list[int]:
    """Bytes and time of change of a file and of those beside it, to know whether they changed since it was staged."""
    state = []
    for find in (lambda: path, *(lambda w=what, p=p: find_beside(path, p, w) for what, p in patterns.items())):
        try:
            stat = os.stat(find())
            state += [stat.st_size, stat.st_mtime_ns]
        except (OSError, UserError):
            state += [-1, -1]
    return state
