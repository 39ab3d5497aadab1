"""Writes the four-part Bach chorales of the PyPI package music21 as MIDI, with splits by melody.

    python tools/chorales.py OUT

OUT receives one `bwv*.mid` per chorale (tracks Soprano, Alto, Tenor, Bass), `splits.json` (train, valid and test lists
of file stems) and `made.json`, the marker that lets a second run do nothing. Repeats are not expanded, a tied note is
one note, grace notes are dropped and counted, doubling instruments are left out. Harmonisations of one melody stay in
one split. The published JSB benchmark takes its validation and test pieces from this same collection: never train on
these files and report on that one.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from melodies import music, split

from aurljax.errors import UserError
from aurljax.music.score import Score
from aurljax.records.progress import Counter

VOICES = ("Soprano", "Alto", "Tenor", "Bass")
RESOLUTION, PROGRAM, VELOCITY, USEC = 480, 52, 80, 60_000_000 // 90  # choir, 90 quarters a minute

Spans = tuple[Fraction, tuple[int, int]]  # quarters and a meter


class Skip(Exception):
    """Why a file of the collection is no four-part chorale."""


# --- one piece -------------------------------------------------------------------------------------------------------


def convert(path: Path) -> tuple[Score, int]:
    """(score, grace notes dropped) of one MusicXML file; raises Skip."""
    from music21 import converter

    parts = [p for p in converter.parse(path, forceSource=True, storePickle=False).parts if p.partName]
    sung = [[p for p in parts if p.partName.split()[0] == voice] for voice in VOICES]
    if any(len(p) != 1 for p in sung):
        raise Skip("its parts are " + (", ".join(" ".join(p.partName.split()) for p in parts) or "not named"))
    parts = [p for (p,) in sung]
    measures = [_measures(p) for p in parts]
    if any(m != measures[0] for m in measures):
        raise Skip("its voices have different bar lines")
    pickup, meter = _bars(measures[0])
    notes, grace = [], 0
    for track, part in enumerate(parts):
        sounding, dropped = _melody(part)
        grace += dropped
        notes += [(_tick(pickup + on), _tick(off - on), track, pitch, VELOCITY) for on, off, pitch in sounding]
    score = Score(
        resolution=RESOLUTION,
        notes=notes,
        tracks=[(PROGRAM, False)] * 4,
        names=VOICES,
        tempo=[(0, USEC)],
        meter=[(_tick(at), *fraction) for at, fraction in meter],
        key=_key(parts[0], notes),
        meta={"title": "BWV " + path.stem.removeprefix("bwv"), "composer": "Johann Sebastian Bach"},
    )
    score.check()
    return score, grace


def _tick(quarters: Fraction) -> int:
    return round(quarters * RESOLUTION)


def _melody(part) -> tuple[list[tuple[Fraction, Fraction, int]], int]:
    """([(start, end, MIDI pitch)] in quarters with ties joined, grace notes dropped) of a part; raises Skip."""
    out, grace = [], 0
    for n in part.flatten().notes:
        if n.duration.isGrace:
            grace += 1
            continue
        if len(n.pitches) != 1:
            raise Skip(f"its {part.partName} divides")
        start, pitch = Fraction(n.offset), int(n.pitches[0].midi)
        if out and start < out[-1][1]:
            raise Skip(f"its {part.partName} sings two notes at once")
        end = start + Fraction(n.quarterLength)
        if n.tie and n.tie.type != "start" and out and out[-1][1:] == (start, pitch):
            start = out.pop()[0]
        out.append((start, end, pitch))
    if not out:
        raise Skip(f"its {part.partName} is silent")
    return out, grace


def _measures(part) -> list[Spans]:
    """[(length in quarters, meter in force)] of a part's written measures."""
    found = list(part.getElementsByClass("Measure"))
    starts = [Fraction(m.offset) for m in found] + [Fraction(part.highestTime)]
    out, meter = [], (4, 4)
    for m, start, end in zip(found, starts, starts[1:], strict=False):
        if m.timeSignature:
            meter = (m.timeSignature.numerator, m.timeSignature.denominator)
        out.append((end - start, meter))
    return out


def _bars(measures: list[Spans]) -> tuple[Fraction, list[Spans]]:
    """(quarters of rest before a pickup, meter map) that make true bars of the written measures.

    A pickup fills the end of a first whole bar. A bar that a repeat sign divides (3 + 1 beats) is one bar again. What
    is left, measures too short or too long for their meter, become bars of a meter of their own.
    """
    size = {meter: Fraction(4 * meter[0], meter[1]) for _, meter in measures}
    length, meter = measures[0]
    pickup = max(size[meter] - length, Fraction(0))
    bars, held, owner = [], pickup, meter  # `held` quarters of a bar of meter `owner` are not closed yet
    for length, meter in measures:
        if held and held + length > size[owner]:
            bars.append((held, _meter(held)))
            held = Fraction(0)
        if not held:
            owner = meter
        held += length
        while held >= size[owner]:
            bars.append((size[owner], owner))
            held -= size[owner]
            owner = meter
    if held:
        bars.append((held, owner))  # the last bar may stop early
    rows, at = [], Fraction(0)
    for length, meter in bars:
        if not rows or rows[-1][1] != meter:
            rows.append((at, meter))
        at += length
    return pickup, rows


def _meter(quarters: Fraction) -> tuple[int, int]:
    denominator = max(4, 4 * quarters.denominator)
    return int(quarters * denominator / 4), denominator


def _key(part, notes: list[tuple]) -> list[tuple[int, int, bool]]:
    """The written signature; minor if the bass ends on the tonic of the minor key (the files say major throughout)."""
    signature = next(iter(part.recurse().getElementsByClass("KeySignature")), None)
    if signature is None:
        return []
    last = max(n for n in notes if n[2] == 3)[3]
    return [(0, signature.sharps, (last - 7 * signature.sharps) % 12 == 9)]


# --- all pieces ------------------------------------------------------------------------------------------------------


def write(out: Path, processes: int | None = None) -> dict:
    """Writes the chorales to `out` unless they are there already; returns the marker's content. Raises UserError."""
    try:
        version = importlib.metadata.version("music21")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("music21 is not installed: `pip install 'aurljax[demo]'` brings the chorales") from None
    marker = out / "made.json"
    made_by = {"music21": version, "tool": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}
    if marker.is_file() and made_by.items() <= (done := json.loads(marker.read_text())).items():
        return done
    scores, grace, skipped = read(collection(), processes)
    out.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    if (out / "splits.json").is_file():  # of another version: its files may not be written again
        for stem in itertools.chain(*json.loads((out / "splits.json").read_text()).values()):
            (out / f"{stem}.mid").unlink(missing_ok=True)
    splits = split(scores)
    (out / "splits.json").write_text(json.dumps(splits, indent=1) + "\n")
    for stem, score in scores.items():
        score.save_midi(out / f"{stem}.mid")
    counts = {name: len(stems) for name, stems in splits.items()}
    done = made_by | {"pieces": counts, "grace_notes_dropped": grace, "skipped": skipped}
    marker.write_text(json.dumps(done, indent=1) + "\n")
    return done


def collection() -> list[Path]:
    """The files of music21's Bach folder, found without importing music21."""
    folder = Path(importlib.util.find_spec("music21").origin).parent / "corpus" / "bach"
    return sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: (p.stem, p.suffix))


def read(paths: Sequence[Path], processes: int | None = None) -> tuple[dict[str, Score], int, dict[str, str]]:
    """(scores by stem, grace notes dropped, {file: why it is not there}); the same music counts once."""
    scores, grace, skipped, seen = {}, 0, {}, {}
    processes = processes or min(os.cpu_count() or 1, 8)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, spawn) as pool, Counter("files") as counter:
        for done, (path, (score, count)) in enumerate(zip(paths, pool.map(_attempt, paths), strict=True), 1):
            counter.update(done, len(paths))
            if isinstance(score, Score):
                other = seen.setdefault(music(score), path.stem)
                score = score if other == path.stem else f"it is the same music as {other}"
            if isinstance(score, str):
                skipped[path.name] = score
            else:
                scores[path.stem] = score
                grace += count
    return scores, grace, skipped


def _attempt(path: Path) -> tuple[Score | str, int]:
    try:
        return convert(path)
    except Skip as why:
        return str(why), 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--processes", type=int, help="default: one per core, at most 8")
    args = parser.parse_args(argv)
    try:
        done = write(args.out, args.processes)
    except UserError as error:
        print(f"chorales: {error}", file=sys.stderr)
        return 2
    for name, why in done["skipped"].items():
        print(f"left out {name}: {why}")
    counts = ", ".join(f"{count} {name}" for name, count in done["pieces"].items())
    print(f"{sum(done['pieces'].values())} chorales in {args.out} ({counts})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
