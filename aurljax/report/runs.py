"""What a workdir tells of its run, read for a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from aurljax import config, paths
from aurljax.errors import UserError
from aurljax.fields import leaves
from aurljax.music import midi
from aurljax.music.score import Score
from aurljax.records import anomalies, metrics
from aurljax.records.anomalies import Anomaly
from aurljax.samples import FOLDER

MOST_SAMPLES = 4  # of the newest step


@dataclass(frozen=True)
class Sample:
    """A piece drawn while the run went on: its path below the workdir, the music, and how it was made ({}: unrecorded)."""

    path: str
    score: Score
    made: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run as its files tell it; `config` by dotted names."""

    name: str
    path: epath.Path
    config: Mapping[str, Any]
    defaults: Mapping[str, Any]
    records: Sequence[Mapping[str, float]]
    anomalies: Sequence[Anomaly]
    samples: Sequence[Sample]
    steps: int  # planned

    @property
    def step(self) -> int:
        """The last step with a record."""
        return int(self.records[-1]["step"]) if self.records else 0

    @property
    def beginnings(self) -> list[tuple[int, str]]:
        """(first step with a record, words) of each stage but the first."""
        stages, found = [s["name"] for s in self.config.get("stages", ())], {}
        for record in self.records:
            found.setdefault(record.get("stage"), int(record["step"]))
        return [(found[n], f"stage {name} begins") for n, name in enumerate(stages, 1) if n > 1 and n in found]

    def last(self, name: str) -> float | None:
        """The last value of a name."""
        return next((r[name] for r in reversed(self.records) if name in r), None)


def read(workdir: epath.PathLike) -> Run:
    """The run of a folder that `aurljax train` wrote; UserError naming the path where it is none or damaged."""
    workdir = paths.named(workdir)
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} holds no run: there is no {path.name}; give the --workdir of `aurljax train`")
    try:
        tree = json.loads(path.read_text())
        whole = config.from_dict(tree)
        full = config.to_dict(whole)  # fields that came later are at their defaults
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    try:
        records = metrics.read(workdir)
        records = sorted((r for r in records if "step" in r), key=lambda r: r["step"])
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{workdir / metrics.FILE} cannot be read: {error}") from error
    found, usual = [a for part in _stages(records) for a in anomalies.find(part)], leaves(config.defaults(full))
    steps = sum(c.run.steps for _, c in whole.stages) or whole.run.steps
    return Run(paths.absolute(workdir).name, workdir, leaves(full), usual, records, found, samples(workdir), steps)


def _stages(records: Sequence[Mapping[str, float]]) -> list[list[Mapping[str, float]]]:
    """The records of each stage: curves leap and turn where one begins."""
    parts: list[list[Mapping[str, float]]] = [[]]
    now = None
    for record in records:
        if record.get("stage", now) != now:
            now = record["stage"]
            parts.append([])
        parts[-1].append(record)
    return parts


def samples(workdir: epath.Path) -> list[Sample]:
    """The pieces of the newest step that has some, MOST_SAMPLES at most; those that cannot be read are left out."""
    folder = workdir / FOLDER
    files = sorted(folder.glob("*-*.mid")) if folder.is_dir() else []
    newest = files[-1].name.split("-")[0] if files else ""
    files = sorted((f for f in files if f.name.startswith(f"{newest}-")), key=lambda f: (len(f.name), f.name))
    beside, found = folder / f"{newest}.json", []
    made = json.loads(beside.read_text()) if beside.exists() else {}
    for file in files[:MOST_SAMPLES]:
        try:
            found.append(Sample(f"{FOLDER}/{file.name}", midi.read(file.read_bytes(), str(file))[0], made))
        except midi.MidiError:
            continue
    return found
