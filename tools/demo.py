"""The demonstration: Bach's chorales -> a corpus -> a model -> new chorales, with figures that say what it learned.

    python tools/demo.py --out demo [--fresh] [--samples 8] [--config.run.steps=300 ...]

OUT receives midi/ (the chorales), corpus/, run/ (checkpoints, metrics), samples/ (MIDI, WAV and piano roll of each),
player.html (all of them, to see and to hear) and summary.html. A second run goes on where the first one stopped and does
nothing twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chorales
import summary

from aurljax.errors import UserError

CONFIG = Path(__file__).parents[1] / "configs" / "demo.py"
SOURCE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
ORDERS = (5, 9, 13)
OURS = ("midi", "corpus", "run", "samples", "compiled", "phases.json", "summary.html", "loss.png",
        "player.html")  # fmt: skip
PROMPT_BARS, NEW_BARS = 4, 8  # at most


class Ledger:
    """What each phase found and how long it took, kept between runs in a JSON file."""

    def __init__(self, path: Path):
        self.path = path
        self.records: dict[str, dict] = json.loads(path.read_text()) if path.is_file() else {}

    def phase(self, name: str, key: Any, work: Callable[[], Any], always: bool = False) -> Any:
        """The result of `work`, from the file if it ran for the same `key` before (`always`: it skips by itself)."""
        key = hashlib.sha256(json.dumps([SOURCE, key], sort_keys=True).encode()).hexdigest()
        record = self.records.get(name, {})
        known = record.get("key") == key
        print(f"{name}: {'done before' if known else '...'}", flush=True)
        if known and not always:
            return record["result"]
        begun = time.monotonic()
        result = work()
        seconds = record["seconds"] if known else time.monotonic() - begun
        self.records[name] = {"key": key, "seconds": seconds, "result": result}
        self.path.write_text(json.dumps(self.records, indent=1) + "\n")
        return result


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run left in OUT")
    parser.add_argument("--samples", type=int, default=8, help="chorales to generate (8)")
    args, overrides = parser.parse_known_args(argv)
    if unknown := [a for a in overrides if not a.startswith("--config.")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return demonstrate(args.out, args.fresh, args.samples, overrides)
    except UserError as error:
        print(f"demo: {error} (--fresh starts over)", file=sys.stderr)
    except OSError as error:
        where = error.filename or args.out
        print(f"demo: {where}: {error.strerror}; make room or choose another --out", file=sys.stderr)
    return 2


def demonstrate(out: Path, fresh: bool, samples: int, overrides: list[str]) -> int:
    """All phases; returns the exit status."""
    begun = time.monotonic()
    for name in OURS if fresh else ():
        shutil.rmtree(out / name, ignore_errors=True) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((out / "compiled").resolve()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    from aurljax import checkpoint, config

    ledger = Ledger(out / "phases.json")
    pieces = ledger.phase("chorales", 0, lambda: chorales.write(out / "midi"), always=True)
    corpus = ledger.phase("ingest", pieces, lambda: ingest(out), always=True)
    experiment = config.load(str(CONFIG), [f"--config.data.corpus={out / 'corpus'}", *overrides])
    key = [config.to_dict(experiment), corpus]
    saved = checkpoint.steps(out / "run" / checkpoint.FOLDER)
    if not saved or saved[-1] < experiment.run.steps:
        ledger.records.pop("train", None)
    if ledger.phase("train", key, lambda: train(experiment, out)) is None:
        return 130
    figures = ledger.phase("evaluate", [key, ORDERS], lambda: evaluate(experiment, out))
    made = ledger.phase("generate", [key, samples], lambda: generate(out, samples))
    draw_loss(out, figures)
    phases = {name: record["seconds"] for name, record in ledger.records.items()}
    page = summary.Summary(pieces["pieces"], figures, made, phases)
    (out / "summary.html").write_text(page.html(out))
    print(page.text(out))
    print(f"this run took {time.monotonic() - begun:.0f} s")
    return 0


def ingest(out: Path) -> str:
    """The corpus of the chorales; returns its digest."""
    import aurljax
    from aurljax.records.progress import Counter

    with Counter("files") as counter:
        aurljax.ingest([out / "midi"], out / "corpus", splits=out / "midi" / "splits.json", progress=counter.update)
    return aurljax.Corpus(out / "corpus").digest


def train(experiment, out: Path) -> int | None:
    """The step reached; None if a signal stopped the run before its end."""
    from aurljax import samples
    from aurljax import train as training

    outcome = training.train(experiment, out / "run", sample=samples.write)
    return None if outcome.stopped else outcome.step


def evaluate(experiment, out: Path) -> dict[str, Any]:
    """Held-out likelihood of the model and of n-grams that heard the same pieces in the same keys."""
    import aurljax
    from aurljax import params
    from aurljax.data.augment import transpose
    from aurljax.evaluate import likelihood
    from aurljax.evaluate.copied import Index
    from aurljax.evaluate.ngram import Ngram

    corpus, model = aurljax.Corpus(out / "corpus"), aurljax.load_model(out / "run")
    scores = {split: [corpus[i] for i in corpus.split(split)] for split in ("train", "valid", "test")}
    found = likelihood.of_scores(model, scores["test"]).summary()
    low, high = experiment.data.transpose
    heard = [model.codec.encode(transpose(s, by)) for s in scores["train"] for by in range(low, high + 1)]
    grams = Ngram.fit_orders(heard, ORDERS, len(model.codec.vocabulary))

    def floor(gram: Ngram, split: str) -> float:
        ids = [model.codec.encode(score) for score in scores[split]]
        return sum(gram.nats(row).sum() for row in ids) / sum(len(row) - 1 for row in ids)

    index = Index.of(corpus)
    real = [index.longest(score).notes for score in scores["test"]]
    return {
        "model": found,
        "parameters": params.count(model.parts.family.spec(model.parts.model)),
        "steps": experiment.run.steps,
        "floors": {split: {f"{g.order}-gram": floor(g, split) for g in grams} for split in ("valid", "test")},
        "shared_by_bach": {"median": statistics.median(real), "most": max(real)},
    }


def generate(out: Path, count: int) -> list[dict[str, Any]]:
    """New chorales, and one that was held out continued and harmonised anew, written to samples/ and to player.html; what
    there is to say of each."""
    import aurljax
    from aurljax.evaluate.copied import Index
    from aurljax.export import player

    corpus, model = aurljax.Corpus(out / "corpus"), aurljax.load_model(out / "run")
    scores = model.generate(count, seed=1, min_p=0.02)
    pieces = [player.Piece(f"chorale-{i + 1}", named(s), None, f"New chorale {i + 1}") for i, s in enumerate(scores)]
    common = [i for i in corpus.split("test") if corpus[i].meters[["numerator", "denominator"]].tolist() == [(4, 4)]]
    held = (common or corpus.split("test"))[0]
    openings = {bars: model.codec.encode(corpus[held], (0, bars)) for bars in range(1, PROMPT_BARS + 1)}
    given = max((bars for bars, ids in openings.items() if len(ids) <= model.context // 2), default=1)
    opening = model.codec.decode(openings[given])
    score = named(model.generate(1, prompt=opening, bars=NEW_BARS, seed=1, min_p=0.02)[0])
    new = model.codec.bars(score) - given  # fewer than were asked for where the context was full before
    name = Path(corpus.pieces[held].id).stem
    title = f"{name.replace('bwv', 'BWV ')}, its first {given} bars and {new} new ones"
    pieces.append(player.Piece(f"{name}-continued", score, player.given(score, opening), title))
    pieces += harmonised(model, corpus[held], name)
    index, folder = Index.of(corpus), out / "samples"
    folder.mkdir(exist_ok=True)
    made = [sample(index, folder / piece.name, piece) for piece in pieces]
    player.write([dataclasses.replace(piece, name=f"{piece.name}.mid") for piece in pieces], out / "player.html")
    return made


def harmonised(model, score, name: str) -> list:
    """The melody of a chorale with three new voices below it; nothing where the model was not trained to fill in."""
    from aurljax.export import player

    if "hole" not in model.codec.vocabulary.index:
        return []
    (new,) = model.accompany(score, given=[0], seed=1, min_p=0.02)
    title = f"{name.replace('bwv', 'BWV ')}, its melody and three new voices"
    return [player.Piece(f"{name}-harmonised", named(new), new.track == 0, title)]


def named(score):
    """The score with the names of the voices, in the order of the tracks it learned from."""
    return score.replace(names=chorales.VOICES) if len(score.tracks) == len(chorales.VOICES) else score


def sample(index, path: Path, piece) -> dict[str, Any]:
    """Writes a piece as MIDI and, unless it is empty, as WAV and PNG; returns what there is to say about it.

    What was given is not the model's own, so what that shares with other pieces does not count.
    """
    from aurljax.evaluate import audio, pictures
    from aurljax.export import write

    score = piece.score
    report = write.write_midi(score, path.with_name(path.name + ".mid"))
    shared = index.longest(score if piece.given is None else score.replace(notes=score.notes[~piece.given]))
    if len(score):
        pictures.piano_roll(score, path.with_name(path.name + ".png"), piece.title)
        audio.save_wav(score, path.with_name(path.name + ".wav"))
    return {
        "title": piece.title,
        "name": path.name,
        "valid": report.valid,
        "notes": len(score),
        "bars": score.bar_count,
        "seconds": float(score.seconds(score.end)),
        "shared": shared.notes,
        "shared_text": str(shared),
    }


def draw_loss(out: Path, figures: dict[str, Any]) -> None:
    """loss.png: the run over its steps, with the n-grams' held-out figures as lines."""
    from aurljax.evaluate import pictures
    from aurljax.records import metrics

    floors = figures["floors"]["valid"] | {"uniform over\nthe grammar": figures["model"]["uniform_nats_per_id"]}
    pictures.loss_curve(metrics.read(out / "run"), out / "loss.png", floors)


if __name__ == "__main__":
    sys.exit(main())
