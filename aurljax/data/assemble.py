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

from aurljax.data import parse, similar
from aurljax.data.corpus import MANIFEST, SHARD_PIECES, SPLITS, VERSION, Corpus, Piece, digest_of
from aurljax.data.splits import Tunes, by_tune
from aurljax.errors import UserError
from aurljax.music.midi import LIMITS, Limits

REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a corpus is to be made of."""

    found: list[tuple[str, str]]  # (id, path) of the files to read, by id
    unnamed: tuple[str, ...]  # ids that a table of splits leaves out
    splits: dict[str, str] | None  # {id: split} of that table
    fractions: tuple[float, float]  # else the shares of valid and test
    earlier: Corpus | None = None  # whose pieces keep their splits
    beside: dict[str, str] = dataclasses.field(default_factory=dict)  # {"beats" or "chords": pattern of that file}
    limits: Limits = LIMITS
    licence: str = ""  # a note

    def inputs(self, shas: list[str]) -> str:
        """Hex hash of all that the pieces follow from; `shas` are the sha256 of the files found and those beside them."""
        how = self.fractions if self.splits is None else self.splits
        before = self.earlier and self.earlier.digest
        text = json.dumps(
            [VERSION, how, before, self.beside, dataclasses.asdict(self.limits), [id for id, _ in self.found], shas],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def tunes(self, read: list[parse.Row]) -> Tunes:
        """Split and cluster of every music that was read."""
        sketches = {row["digest"]: similar.unpacked(row["sketch"]) for row in read}
        before = {} if self.earlier is None else {p.digest: p.split for p in self.earlier.pieces}
        for i, piece in enumerate(self.earlier.pieces if self.earlier else ()):
            if piece.digest not in sketches:
                sketches[piece.digest] = similar.sketch(self.earlier[i])
        return by_tune(sketches, self.fractions, before)


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the files; `report.json` beside the manifest."""

    files: int
    pieces: int
    splits: dict[str, int]
    skipped: dict[str, str]  # id: reason
    duplicates: dict[str, str]  # id: the piece that was kept
    tunes: int  # clusters of pieces that are one tune, with two or more pieces
    straddling: int  # those of them that a table of splits puts in several
    repairs: dict[str, int]  # kind of repair: files
    quarantined: list[str]  # ids of those skipped that end, hold up or break their reader
    unchanged: bool = False  # there was nothing to do

    def lines(self, most: int = 5) -> list[str]:
        """What happened, in words; of the files skipped, so many with their reasons."""
        splits = ", ".join(f"{n:,} {split}" for split, n in self.splits.items())
        out = ["nothing to do: this corpus is complete"] if self.unchanged else []
        out.append(f"{self.pieces:,} pieces of {self.files:,} files ({splits})")
        out += [f"{len(self.duplicates):,} files repeat the music of another"] * bool(self.duplicates)
        if self.tunes:
            where = f", {self.straddling:,} of them in several splits" if self.straddling else ""
            out.append(f"{self.tunes:,} tune{'s stand' if self.tunes > 1 else ' stands'} in several pieces" + where)
        out += [f"repaired in {n:,} files: {what}" for what, n in sorted(self.repairs.items(), key=lambda r: -r[1])]
        skipped = sorted(self.skipped.items(), key=lambda s: s[0] not in self.quarantined)  # first what is rare
        out += [f"skipped {id}: {reason}" for id, reason in skipped[:most]]
        if len(self.skipped) > most:
            out.append(f"... and {len(self.skipped) - most:,} more skipped; {REPORT} lists them all")
        return out


def assemble(plan: Plan, chunks: list[Path], stage: Path, out: Path) -> Report:
    """Writes the corpus of the staged chunks to `out`, the manifest last; UserError if there is no piece in them."""
    parsed = [row for path in chunks for row, _ in parse.staged(path)]
    skipped = dict.fromkeys(plan.unnamed, "not named in the splits")
    skipped |= {row["id"]: row["skipped"] for row in parsed if "skipped" in row}
    read = [row for row in parsed if "skipped" not in row]
    tunes = plan.tunes(read)
    if plan.splits is None:
        skipped |= {row["id"]: tunes.left_out[row["digest"]] for row in read if row["digest"] in tunes.left_out}
        read = [row for row in read if row["digest"] in tunes.split]
    read = [
        row
        | {
            "split": tunes.split[row["digest"]] if plan.splits is None else plan.splits[row["id"]],
            "cluster": tunes.cluster[row["digest"]],
        }
        for row in read
    ]
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
        **_shared(pieces),
        repairs=_kinds(row["repairs"] for row in read),
        quarantined=sorted(row["id"] for row in parsed if "quarantined" in row),
    )
    ids = {p["id"] for p in pieces}
    records = (record for path in chunks for row, record in parse.staged(path) if row["id"] in ids)
    counts = [min(SHARD_PIECES, len(pieces) - i) for i in range(0, len(pieces), SHARD_PIECES)]
    shards = [_shard(records, count, stage, out / f"shard-{i:05d}.array_record") for i, count in enumerate(counts)]
    manifest = {"version": VERSION, "inputs": plan.inputs([row["read"] for row in parsed]), "licence": plan.licence}
    manifest |= {"shards": shards, "pieces": pieces}
    fields = dataclasses.asdict(report)
    del fields["unchanged"]
    for name, text in (
        (REPORT, json.dumps(fields, indent=1) + "\n"),
        (MANIFEST, as_text({"digest": digest_of(manifest), **manifest})),
    ):
        (stage / name).write_text(text)  # staged first: what is killed here leaves nothing beside the shards
        os.replace(stage / name, out / name)
    return report


def _kept(read: list[parse.Row]) -> dict[str, str]:
    """{digest: id} of the piece kept of each music: an evaluation split goes before train, then the first id."""
    rows = sorted(read, key=lambda row: (-SPLITS.index(row["split"]), row["id"]))
    return {row["digest"]: row["id"] for row in reversed(rows)}


def _shared(pieces: list[dict[str, Any]]) -> dict[str, int]:
    """How many clusters hold several pieces, and how many of those several splits."""
    splits = collections.defaultdict(list)
    for piece in pieces:
        splits[piece["cluster"]].append(piece["split"])
    several = [s for s in splits.values() if len(s) > 1]
    return {"tunes": len(several), "straddling": sum(len(set(s)) > 1 for s in several)}


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


def as_text(manifest: dict[str, Any]) -> str:
    """A manifest as JSON with one piece a line."""
    head = json.dumps({k: v for k, v in manifest.items() if k != "pieces"}, indent=1)
    pieces = ",\n".join(json.dumps(p) for p in manifest["pieces"])
    return f'{head[:-2]},\n "pieces": [\n{pieces}\n]}}\n'
