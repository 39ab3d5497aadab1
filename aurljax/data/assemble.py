"""The end of an ingest: shards, report and manifest out of parsed files."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aurljax.data import parse
from aurljax.data.corpus import MANIFEST, SHARD_PIECES, SPLITS, VERSION, Piece, digest_of
from aurljax.data.splits import by_content
from aurljax.errors import UserError

REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a corpus is to be made of."""

    found: list[tuple[str, str]]  # (id, path) of the files to read, by id
    unnamed: tuple[str, ...]  # ids that a table of splits leaves out
    splits: dict[str, str] | None  # {id: split} of that table
    fractions: tuple[float, float]  # else the shares of valid and test

    def inputs(self, shas: list[str]) -> str:
        """Hex hash of all that the corpus follows from; `shas` are the sha256 of the files found."""
        how = self.fractions if self.splits is None else self.splits
        text = json.dumps([VERSION, how, [id for id, _ in self.found], shas], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def split(self, row: parse.Row) -> str:
        """The split of a piece that was read."""
        return by_content(row["digest"], self.fractions) if self.splits is None else self.splits[row["id"]]


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the files; `report.json` beside the manifest."""

    files: int
    pieces: int
    splits: dict[str, int]
    skipped: dict[str, str]  # id: reason
    duplicates: dict[str, str]  # id: the piece that was kept
    repairs: dict[str, int]  # kind of repair: files
    unchanged: bool = False  # there was nothing to do

    def lines(self, most: int = 5) -> list[str]:
        """What happened, in words; of the files skipped, so many with their reasons."""
        splits = ", ".join(f"{n:,} {split}" for split, n in self.splits.items())
        out = ["nothing to do: this corpus is complete"] if self.unchanged else []
        out.append(f"{self.pieces:,} pieces of {self.files:,} files ({splits})")
        out += [f"{len(self.duplicates):,} files repeat the music of another"] * bool(self.duplicates)
        out += [f"repaired in {n:,} files: {what}" for what, n in sorted(self.repairs.items(), key=lambda r: -r[1])]
        out += [f"skipped {id}: {reason}" for id, reason in list(self.skipped.items())[:most]]
        if len(self.skipped) > most:
            out.append(f"... and {len(self.skipped) - most:,} more skipped; {REPORT} lists them all")
        return out


def assemble(plan: Plan, chunks: list[Path], stage: Path, out: Path) -> Report:
    """Writes the corpus of the staged chunks to `out`, the manifest last; UserError if there is no piece in them."""
    parsed = [row for path in chunks for row, _ in parse.staged(path)]
    skipped = dict.fromkeys(plan.unnamed, "not named in the splits")
    skipped |= {row["id"]: row["skipped"] for row in parsed if "skipped" in row}
    read = [row | {"split": plan.split(row)} for row in parsed if "skipped" not in row]
    if not read:
        id, reason = next(iter(skipped.items()))
        raise UserError(f"{out}: not made, for none of {len(skipped)} files gave music (the first, {id}: {reason})")
    kept = _kept(read)
    rows = [row for row in read if kept[row["digest"]] == row["id"]]
    pieces = [{f.name: row[f.name] for f in dataclasses.fields(Piece)} for row in rows]
    report = Report(
        files=len(plan.found) + len(plan.unnamed),
        pieces=len(pieces),
        splits={split: sum(p["split"] == split for p in pieces) for split in SPLITS},
        skipped=dict(sorted(skipped.items())),
        duplicates={row["id"]: kept[row["digest"]] for row in read if row["id"] != kept[row["digest"]]},
        repairs=_kinds(row["repairs"] for row in read),
    )
    ids = {p["id"] for p in pieces}
    records = (record for path in chunks for row, record in parse.staged(path) if row["id"] in ids)
    counts = [min(SHARD_PIECES, len(pieces) - i) for i in range(0, len(pieces), SHARD_PIECES)]
    shards = [_shard(records, count, stage, out / f"shard-{i:05d}.array_record") for i, count in enumerate(counts)]
    manifest = {"version": VERSION, "inputs": plan.inputs([row["source"] for row in parsed]), "shards": shards}
    manifest |= {"pieces": pieces}
    fields = dataclasses.asdict(report)
    del fields["unchanged"]
    for name, text in (
        (REPORT, json.dumps(fields, indent=1) + "\n"),
        (MANIFEST, _lines({"digest": digest_of(manifest), **manifest})),
    ):
        (stage / name).write_text(text)  # staged first: what is killed here leaves nothing beside the shards
        os.replace(stage / name, out / name)
    return report


def _kept(read: list[parse.Row]) -> dict[str, str]:
    """{digest: id} of the piece kept of each music: an evaluation split goes before train, then the first id."""
    rows = sorted(read, key=lambda row: (-SPLITS.index(row["split"]), row["id"]))
    return {row["digest"]: row["id"] for row in reversed(rows)}


def _kinds(repairs: Iterator[list[str]]) -> dict[str, int]:
    """{repair without its numbers: files that had it}."""
    kinds = collections.Counter(kind for file in repairs for kind in {re.sub(r"\d+", "N", r) for r in file})
    return dict(sorted(kinds.items()))


def _shard(records: Iterator[bytes], count: int, stage: Path, path: Path) -> dict[str, Any]:
    """Writes the next `count` records as one shard; its row of the manifest."""
    from array_record.python.array_record_module import ArrayRecordWriter

    part = stage / path.name
    try:
        writer = ArrayRecordWriter(str(part), "group_size:1")
        for _ in range(count):
            writer.write(next(records))
        writer.close()
    except RuntimeError as e:  # ArrayRecord's only error; here it is the disk's
        raise OSError(f"{part}: {e}") from e
    os.replace(part, path)
    return {"name": path.name, "records": count, "bytes": path.stat().st_size}


def _lines(manifest: dict[str, Any]) -> str:
    """JSON with one piece a line."""
    head = json.dumps({k: v for k, v in manifest.items() if k != "pieces"}, indent=1)
    pieces = ",\n".join(json.dumps(p) for p in manifest["pieces"])
    return f'{head[:-2]},\n "pieces": [\n{pieces}\n]}}\n'
