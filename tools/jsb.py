"""The JSB chorales of the literature's benchmark: as MIDI, one folder for each of its splits, and scored by its measure.

    python tools/jsb.py midi Jsb16thSeparated.json OUT
    aurljax ingest OUT --splits OUT/splits.json --out corpus
    aurljax train --config=configs/jsb.py --config.data.corpus=corpus --workdir=run
    python tools/jsb.py score run --json Jsb16thSeparated.json --split valid --keys 12 --out pred.json

The JSON (github.com/czhuang/JSB-Chorales-dataset; splits of Boulanger-Lewandowski 2012) holds for each piece its
sixteenths, four pitches each, -1 for silence, and does not tell a held note from a repeated one: here a pitch that
stays is one note. OUT receives train/000.mid and so on, tracks `voice 1` (soprano) to `voice 4` (bass), 4/4 at 120
quarters a minute, which the data does not know, and `splits.json`. `aurljax.codec("voices", barlines=False)` encodes a
piece as the published measure counts it: `start`, 4 ids a sixteenth, `end`. Ingest keeps equal music once, so
it may leave out a piece; `score` reads the JSON itself, and every piece of it. How it scores: `tools/jsb_score.py`.
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
    """Runs a sub-command; exit status 2 with one sentence if it cannot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    midi = commands.add_parser("midi", help="the JSON as MIDI, ready for `aurljax ingest`")
    midi.add_argument("json", type=Path)
    midi.add_argument("out", type=Path)
    midi.set_defaults(run=to_midi)
    scored = commands.add_parser("score", help="log-probabilities of every token of a split")
    scored.add_argument("checkpoints", nargs="+", help="runs or steps; the prediction is the mean of their models")
    scored.add_argument("--json", type=Path, required=True)
    scored.add_argument("--split", choices=SPLITS, default="valid")
    scored.add_argument(
        "--keys", type=int, default=1, help="of transpositions that are heard, the nearest (1: as it is)"
    )
    scored.add_argument("--memory", type=float, default=0.0, help="how far members are weighed by their past success: "
                        "1 as Bayes has it, 0 not at all, 0.99 by about the last hundred tokens")  # fmt: skip
    scored.add_argument("--mean", choices=("arithmetic", "geometric"), default="arithmetic")
    scored.add_argument("--probes", type=int, default=200, help="distributions written out whole, for the check")
    scored.add_argument("--out", type=Path)
    scored.set_defaults(run=to_score)
    args = parser.parse_args(argv)
    try:
        pieces = read(args.json)
        print(args.run(args, pieces))
    except (UserError, OSError) as e:
        print(f"jsb: {e}", file=sys.stderr)
        return 2
    return 0


def to_midi(args: argparse.Namespace, pieces: dict[str, list[np.ndarray]]) -> str:
    """Writes the MIDI files; what was done."""
    write(pieces, args.out)
    return ", ".join(f"{len(group)} {split}" for split, group in pieces.items()) + f" -> {args.out}"


def to_score(args: argparse.Namespace, pieces: dict[str, list[np.ndarray]]) -> str:
    """Writes the log-probabilities; their mean."""
    import jsb_score

    import aurljax

    models = [aurljax.load_model(path) for path in args.checkpoints]
    how = jsb_score.Mixture(args.keys, args.memory, args.mean)
    found = jsb_score.distributions(models, pieces[args.split], how)
    table = jsb_score.prediction(args.split, pieces[args.split], found, args.probes)
    if args.out:
        args.out.write_text(json.dumps(table) + "\n")
    nats = -sum(map(sum, table["logp"])) / sum(map(len, table["logp"]))
    return f"{args.split}: {nats:.5f} nats per token, {len(found)} pieces, {len(models) * args.keys} members"


if __name__ == "__main__":
    sys.exit(main())
