"""Writes the JSB chorales of the literature's benchmark as MIDI, one folder for each of its splits.

    python tools/jsb.py Jsb16thSeparated.json OUT
    aurljax ingest OUT --splits OUT/splits.json --out corpus

The JSON (github.com/czhuang/JSB-Chorales-dataset; splits of Boulanger-Lewandowski 2012) holds for each piece its
sixteenths, four pitches each, -1 for silence, and does not tell a held note from a repeated one: here a pitch that
stays is one note. OUT receives train/000.mid and so on, tracks `voice 1` (soprano) to `voice 4` (bass), 4/4 at 120
quarters a minute, which the data does not know, and `splits.json`. `aurljax.codec("voices", barlines=False)` encodes a
piece as the published measure counts it: `start`, 4 ids a sixteenth, `end`. Ingest keeps equal music once, so
it may leave out a piece.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np

from aurljax.errors import UserError
from aurljax.music.codec.voices_layout import voice_name
from aurljax.music.score import Score

SPLITS = ("train", "valid", "test")
TICKS, PROGRAM, VELOCITY = 120, 52, 80  # of a sixteenth at 480 a quarter; choir


def score(frames: np.ndarray) -> Score:
    """The Score of [T, 4] pitches, -1 for silence; a pitch that stays is one note."""
    new = np.pad(np.diff(frames, axis=0) != 0, ((1, 1), (0, 0)), constant_values=True)
    rows = []
    for voice, column in enumerate(frames.T):
        at = np.flatnonzero(new[:, voice])
        rows += [(a * TICKS, (b - a) * TICKS, voice, column[a], VELOCITY)
                 for a, b in itertools.pairwise(at) if column[a] >= 0]  # fmt: skip
    names = tuple(voice_name(v) for v in range(frames.shape[1]))
    return Score(4 * TICKS, notes=rows, tracks=[(PROGRAM, False)] * len(names), names=names)


def read(path: Path) -> dict[str, list[np.ndarray]]:
    """{split: [[T, 4] pitches, ...]} of the JSON file; UserError if it is something else."""
    try:
        table = json.loads(path.read_text())
        pieces = {split: [np.array(piece, int) for piece in table[split]] for split in SPLITS}
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise UserError(f"{path}: is not Jsb16thSeparated.json ({e}); give that file") from e
    for split, group in pieces.items():
        for i, piece in enumerate(group):
            if piece.ndim != 2 or piece.shape[1] != 4 or piece.min(initial=0) < -1 or piece.max(initial=0) > 127:
                raise UserError(f"{path}: piece {i} of {split} has not four pitches in -1..127 at each sixteenth")
    return pieces


def write(pieces: dict[str, list[np.ndarray]], out: Path) -> None:
    """OUT/split/000.mid of every piece, and OUT/splits.json."""
    names = {split: [f"{split}/{i:03}" for i in range(len(group))] for split, group in pieces.items()}
    for split, group in pieces.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        for name, piece in zip(names[split], group, strict=True):
            score(piece).save_midi(out / f"{name}.mid")
    (out / "splits.json").write_text(json.dumps(names, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Converts the file; exit status 2 with one sentence if it cannot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args(argv)
    try:
        pieces = read(args.json)
        write(pieces, args.out)
    except (UserError, OSError) as e:
        print(f"jsb: {e}", file=sys.stderr)
        return 2
    print(", ".join(f"{len(group)} {split}" for split, group in pieces.items()), f"-> {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
