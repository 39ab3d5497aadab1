"""Measures one thing and prints one line of JSON; `tools/versus.py` sets two such commands side by side.

    python tools/bench.py codec MIDI_FOLDER       score -> ids -> score, features; one core
    python tools/bench.py ingest MIDI_FOLDER      files/s beside symusic's bare parse
    python tools/bench.py train --size small      one optimizer step; medium: --batch 4 --length 1024
    python tools/bench.py decode --size small --batch 8 --new 512 [--plain | --constraints key,range]
                                                  [--cache int8] [--weights int8] [--window 256]
    python tools/bench.py cost CHECKPOINT CORPUS  what keys, values and weights in fewer bytes cost, in nats
    python tools/bench.py data-wait CORPUS        the share of a training step spent waiting for its batch
    python tools/bench.py overhead CORPUS         what a save and a record hold up a step of configs/demo.py
    python tools/bench.py --against BENCHMARKS.md [--peer DIR] [--only TEXT] [--pairs 3]
                                                  runs the rows of a table again and marks what fell (tools/against.py)

Sizes are those of configs/decoder.py, and `medium`: base with 8 layers. `--plain` decodes without grammar and features, as
peers do.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ("key", "range", "polyphony", "track-polyphony", "chords", "longest", "density", "meter", "tempo", "leap",
               "parallels")  # fmt: skip


WIDTHS = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes of a number


def seconds(run: Callable[[], object], least: int = 3, wall: float = 3.0, warm: int = 1) -> float:
    """Median seconds of `run` over at least `least` runs and `wall` seconds, after `warm` that do not count."""
    for _ in range(warm):
        run()
    times: list[float] = []
    while len(times) < least or sum(times) < wall:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def midi_files(folder: str) -> list[Path]:
    """POP909 keeps several arrangements of a song; of those only the song itself is taken."""
    files = sorted(Path(folder).rglob("*.mid"))
    return [f for f in files if f.stem[:1].isdigit() and "versions" not in f.parts] or files


def codec(args: argparse.Namespace) -> dict:
    """k ids/s and k notes/s of encode, decode and features, and files/s of reading."""
    import aurljax

    files = midi_files(args.folder)
    scores = [aurljax.load_midi(f) for f in files]
    out = {"files": len(files), "notes": sum(map(len, scores))}
    everything = {"microtiming": True, "pedal": True, "keys": True, "chords": True, "infill": True}
    codecs = {"": aurljax.codec("score"), "micro_": aurljax.codec("score", microtiming=True)}
    codecs |= {"all_": aurljax.codec("score", **everything), "event_": aurljax.codec("event")}
    for name, c in (codecs | {"voices_": aurljax.codec("voices")}).items():
        ids = [c.encode(s) for s in scores]
        count = sum(map(len, ids))
        encode = seconds(lambda c=c: [c.encode(s) for s in scores])
        out[f"{name}ids_per_note"] = count / out["notes"]
        out[f"{name}encode_ids_per_s"], out[f"{name}encode_notes_per_s"] = count / encode, out["notes"] / encode
        out[f"{name}decode_ids_per_s"] = count / seconds(lambda c=c, ids=ids: [c.decode(i) for i in ids])
        out[f"{name}features_ids_per_s"] = count / seconds(lambda c=c, ids=ids: [c.features(i) for i in ids])
    first = aurljax.codec("score")
    both = seconds(lambda: [first.encode(aurljax.load_midi(f)) for f in files])
    return out | {"file_to_ids_files_per_s": len(files) / both, "file_to_ids_notes_per_s": out["notes"] / both}


def ingest(args: argparse.Namespace) -> dict:
    """Files/s of `aurljax ingest` with one and two workers, of our reader and of symusic alone."""
    import symusic

    import aurljax

    files = midi_files(args.folder)

    def run(workers: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            aurljax.ingest(files, Path(folder) / "corpus", workers=workers)

    times = {
        "symusic": seconds(lambda: [symusic.Score(f) for f in files]),
        "read": seconds(lambda: [aurljax.load_midi(f) for f in files]),
        "ingest_1": seconds(lambda: run(1)),
        "ingest_2": seconds(lambda: run(2)),
    }
    return {"files": len(files)} | {f"{name}_files_per_s": len(files) / t for name, t in times.items()}


def _parts(args: argparse.Namespace):
    from aurljax import config

    medium = args.size == "medium"  # as peers have it; the configs go from small to base
    tree = config.to_dict(config.load(f"{ROOT}/configs/decoder.py:{'base' if medium else args.size}"))
    tree["model"] |= {"dtype": args.dtype, "scan": False, "remat": False, "dropout": 0.0}
    tree["model"] |= {"layers": 8} if medium else {}
    tree["data"] |= {"length": args.length, "batch": args.batch}
    tree["optim"] |= {"accumulation": 1}
    return config.build(config.from_dict(tree))


def train(args: argparse.Namespace) -> dict:
    """Tokens/s of the train step on one full batch."""
    import jax
    import numpy as np

    from aurljax import mesh, params, state, step
    from aurljax.data.batch import Batch

    parts, rng = _parts(args), np.random.default_rng(0)
    shape = (args.batch, args.length)
    tokens = rng.integers(0, len(parts.codec.vocabulary), shape).astype(np.int32)
    features = {k: rng.integers(0, n or 4096, shape).astype(np.int32) for k, n in parts.codec.feature_sizes.items()}
    positions = np.broadcast_to(np.arange(args.length, dtype=np.int32), shape)
    batch = Batch(tokens, tokens, np.ones(shape, np.float32), np.ones(shape, np.int32), positions, features)
    with mesh.use(mesh.make()):
        now, run, batch = state.new(parts), step.train_step(parts), mesh.place(batch)

        def go():
            nonlocal now
            now, metrics = run(now, batch)
            jax.block_until_ready(metrics)

        t = seconds(go, warm=5)  # the first steps still ask the system for memory
        count = params.count(parts.family.spec(parts.model))
    return {"size": args.size, "dtype": args.dtype, "batch": args.batch, "length": args.length, "parameters": count,
            "tokens_per_s": args.batch * args.length / t, "ms_per_step": 1e3 * t}  # fmt: skip


def data_wait(args: argparse.Namespace) -> dict:
    """Share of the time per step, with configs/demo.py on CORPUS, that the loop stands in next(batches).

    Each step is waited for, nothing is logged or saved; batches are made meanwhile by the loop's own background threads,
    from cold caches. Sums over 40 steps after 5; `make_ms` is one batch made by one thread while nothing else runs.
    """
    import jax

    from aurljax import config, mesh, state, step
    from aurljax.data import pipeline
    from aurljax.data.corpus import Corpus

    parts = config.build(config.load(f"{ROOT}/configs/demo.py"))
    data = pipeline.training(parts.config, parts.codec, Corpus(args.folder))
    waits, totals = [], []
    with mesh.use(mesh.make()):
        now, run, batches = state.new(parts), step.train_step(parts), data.iterate()
        for _ in range(45):
            begun = time.perf_counter()
            batch = next(batches)
            waits.append(time.perf_counter() - begun)
            now, metrics = run(now, mesh.place(batch))
            jax.block_until_ready(metrics)
            totals.append(time.perf_counter() - begun)
    del batches
    wait, total = statistics.mean(waits[5:]), statistics.mean(totals[5:])  # means: a stall now and then counts too
    cold, steps = pipeline.training(parts.config, parts.codec, Corpus(args.folder)), iter(range(1000, 2000))
    make = seconds(lambda: cold.batch(next(steps)), wall=1.0)
    return {"share": wait / total, "wait_ms": 1e3 * wait, "step_ms": 1e3 * total, "make_ms": 1e3 * make,
            "most_wait_ms": 1e3 * max(waits[5:])}  # fmt: skip


def overhead(args: argparse.Namespace) -> dict:
    """Milliseconds that the loop stands still for a save in the background and for a record, with configs/demo.py.

    Each alone, nothing else running: the shares are of a step, over the steps from one save or record to the next.
    """
    import io

    import jax

    from aurljax import checkpoint, config, mesh, state, step, train
    from aurljax.data import pipeline
    from aurljax.data.corpus import Corpus
    from aurljax.feed import Feed
    from aurljax.records.journal import Journal
    from aurljax.records.meter import Meter
    from aurljax.records.metrics import Log
    from aurljax.records.progress import Progress
    from aurljax.stages import Stage

    parts = config.build(config.load(f"{ROOT}/configs/demo.py"))
    run, data = parts.config.run, pipeline.training(parts.config, parts.codec, Corpus(args.folder))
    stage, folder = Stage(0, 1, "", parts, 0), Path(tempfile.mkdtemp())
    progress, batch, steps, saves, records = Progress(run.steps, io.StringIO()), data.batch(0), [], [], []
    with mesh.use(mesh.make()):
        now, go = state.new(parts), step.train_step(parts)
        with Feed([]) as feed, checkpoint.Checkpoints(folder, 1, train.describe(stage, data)) as saver:
            meter = Meter(stage, data, feed)
            progress.keep(Journal(folder))
            with Log(folder, 0, run.steps, progress, meter) as log:
                for at in range(1, args.count + 4):
                    times = [time.perf_counter()]
                    now, metrics = go(now, mesh.place(batch))
                    jax.block_until_ready(now)
                    times.append(time.perf_counter())
                    saver.save(now, at)
                    times.append(time.perf_counter())
                    saver.wait()
                    meter.count(at, batch, metrics["loss"], True)
                    times.append(time.perf_counter())
                    log.push(at, metrics)
                    log.flush()
                    times.append(time.perf_counter())
                    for found, first in ((steps, 0), (saves, 1), (records, 3)):
                        found.append(1e3 * (times[first + 1] - times[first]))
    a_step, a_save, a_record = (statistics.median(found[3:]) for found in (steps, saves, records))
    return {"step_ms": a_step, "save_ms": a_save, "record_ms": a_record,
            "save_share": a_save / run.checkpoint_every / a_step, "record_share": a_record / run.log_every / a_step,
            "checkpoint_every": run.checkpoint_every, "log_every": run.log_every}  # fmt: skip


def decode(args: argparse.Namespace) -> dict:
    """Tokens/s over all rows of the sampling loop, `new` ids a row, random weights, temperature 1."""
    import jax
    import numpy as np

    from aurljax import mesh, params
    from aurljax.decode import constraints as wishes
    from aurljax.decode import loop
    from aurljax.decode.sampler import Sampler

    args.length = args.new
    parts = _parts(args)
    model = dataclasses.replace(parts.model, window=args.window, **({"features": ()} if args.plain else {}))
    with mesh.use(mesh.make()):
        weights = params.init(parts.family.spec(model), jax.random.key(0))
        codec, asked = None if args.plain else endless(), [constraints()[name] for name in args.constraints]
        plan = loop.Plan(parts.family, model, codec, Sampler(), args.new, args.segments, wishes.kinds(asked),
                         args.cache, args.weights)  # fmt: skip
        ids, start = loop.left_padded([np.array([parts.codec.vocabulary.id("start")])] * args.batch)
        keys = jax.random.split(jax.random.key(1), args.batch)
        registers = wishes.registers(codec, asked, args.batch)
        limits = (*loop.limits(args.batch, None, None, False), None, registers)
        begun = time.perf_counter()
        written = jax.block_until_ready(loop.generate(plan, weights, ids, start, keys, *limits))
        first, new = time.perf_counter() - begun, int((written > 0).sum(1).max())  # constraints may end rows
        t = seconds(lambda: jax.block_until_ready(loop.generate(plan, weights, ids, start, keys, *limits)))
        count = params.count(parts.family.spec(model))
        floor = reading(count * WIDTHS[args.weights or args.dtype], model, args)
    return {"size": args.size, "batch": args.batch, "new": new, "grammar": not args.plain, "constraints": args.constraints,
            "cache": args.cache or "", "weights": args.weights or "", "window": args.window, "parameters": count,
            "tokens_per_s": args.batch * new / t, "us_per_step": 1e6 * t / new, "first_s": first,
            "floor_us": 1e6 * floor, "share_of_floor": floor * new / t}  # fmt: skip


def reading(weights: int, model, args: argparse.Namespace) -> float:
    """Seconds that a step's weights (bytes) and, of the average step, keys and values take to read: those of a jitted
    product of a matrix of as many bytes and a vector."""
    import jax
    import jax.numpy as jnp

    slots = 2 * model.layers * model.kv_heads * model.head_width * WIDTHS[args.cache or args.dtype]
    seen = args.new / 2 if not args.window else min(args.window, args.new / 2)
    rows = int((weights + args.batch * seen * slots) / 4 / 512)
    matrix, vector = jnp.ones((rows, 512)), jnp.ones(512)
    product = jax.jit(jnp.dot)
    return seconds(lambda: jax.block_until_ready(product(matrix, vector)))


def constraints() -> dict:
    """{name: a constraint} to measure with."""
    from aurljax.decode import constraints as c

    made = (c.Key("C major", 0.1), c.Range(36, 84), c.Polyphony(6), c.TrackPolyphony(2), c.Chords("C | Am F | G7"),
            c.Longest(4), c.Density(2, 16), c.Meter(((4, 4),)), c.Tempo(90, 90), c.Leap(9), c.Parallels())  # fmt: skip
    return dict(zip(CONSTRAINTS, made, strict=True))


def cost(args: argparse.Namespace) -> dict:
    """Nats per id of held-out pieces' first rows, read through the cache id by id, for each type of cache and weights."""
    import jax
    import numpy as np

    import aurljax
    from aurljax import mesh
    from aurljax.data.corpus import Corpus

    model, corpus = aurljax.load_model(args.checkpoint), Corpus(args.folder)
    pieces = [model.codec.encode(corpus[i])[: args.length + 1] for i in corpus.split("valid")[: args.batch]]
    ids, seen = np.zeros((len(pieces), args.length + 1), np.int32), np.zeros((len(pieces), args.length), bool)
    for row, (piece, valid) in enumerate(zip(pieces, seen, strict=True)):
        ids[row, : len(piece)], valid[: len(piece) - 1] = piece, True
    features = [model.codec.features(row[:-1]) for row in ids]
    features = {name: np.stack([f[name] for f in features]) for name in model.codec.feature_sizes}
    found = {}
    with mesh.use(model.mesh):
        for cache, weights in ((None, None), ("bfloat16", None), ("int8", None), (None, "int8"), ("int8", "int8")):
            nats = jax.jit(_forced, static_argnums=(0, 1, 2))(model.parts, cache, weights, model.weights, ids, features)
            found[f"cache_{cache or 'float32'}_weights_{weights or 'float32'}"] = float(np.asarray(nats)[seen].mean())
    base = found["cache_float32_weights_float32"]
    return {"ids": int(seen.sum()), "nats_per_id": base} | {k: v - base for k, v in list(found.items())[1:]}


def _forced(parts, cache_type, matrices, params, ids, features):
    """[B, T] nats of ids[:, 1:], each step given the ones before through the cache."""
    import jax
    import jax.numpy as jnp

    from aurljax.models.family import Inputs

    config, params = parts.family.prepare(parts.model, params, matrices)
    cache = parts.family.init_cache(config, len(ids), ids.shape[1] - 1, cache_type).replace(index=jnp.int32(0))

    def step(cache, column):
        token, target, told = column
        inputs = Inputs(token[:, None], None, {name: x[:, None] for name, x in told.items()})
        logits, cache = parts.family.apply(config, params, inputs, cache=cache)
        return cache, -jnp.take_along_axis(jax.nn.log_softmax(logits[:, 0]), target[:, None], 1)[:, 0]

    columns = ids[:, :-1].T, ids[:, 1:].T, {name: x.T for name, x in features.items()}
    return jax.lax.scan(step, cache, columns)[1].T


def endless():
    """The codec with a grammar under which no piece ends, so that every run writes as many ids."""
    from aurljax.music.codec.grammar import UNLIMITED, Grammar
    from aurljax.music.codec.score import BAR, ScoreCodec

    class Endless(Grammar):
        def advance(self, s, ids, xp):
            return super().advance(s, ids, xp) | {"left": xp.full_like(s["left"], UNLIMITED)}

        def allowed(self, s, xp):
            return super().allowed(s, xp) & (xp.arange(len(self.vocabulary)) != self.vocabulary.id("end"))

    class EndlessCodec(ScoreCodec):
        @functools.cached_property
        def grammar(self):
            return Endless(self.vocabulary, BAR)

    return EndlessCodec()


def main(argv: list[str] | None = None) -> int:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="FILE.md", type=Path, help="rerun the rows of its table")
    parser.add_argument("--peer", metavar="DIR", help="what $PEER means in those rows")
    parser.add_argument("--only", metavar="TEXT", default="", help="only rows whose command holds it")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each, in turn with its peer (3)")
    commands = parser.add_subparsers(dest="command")
    for run in (codec, ingest, data_wait, overhead):
        c = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__, description=run.__doc__)
        c.add_argument("folder")
        c.set_defaults(run=run)
    for run in (train, decode):
        c = commands.add_parser(run.__name__, help=run.__doc__)
        c.add_argument("--size", default="small")
        c.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
        c.add_argument("--batch", type=int, default=8)
        c.set_defaults(run=run)
    c = commands.add_parser("cost", help=cost.__doc__)
    c.add_argument("checkpoint")
    c.add_argument("folder")
    c.add_argument("--batch", type=int, default=16, help="pieces (16)")
    c.add_argument("--length", type=int, default=512, help="ids of each, at most (512)")
    c.set_defaults(run=cost)
    commands.choices["overhead"].add_argument("--count", type=int, default=10, help="saves and records (10)")
    commands.choices["train"].add_argument("--length", type=int, default=512)
    commands.choices["decode"].add_argument("--new", type=int, default=512)
    commands.choices["decode"].add_argument("--segments", type=int, default=4)
    commands.choices["decode"].add_argument("--plain", action="store_true")
    commands.choices["decode"].add_argument("--constraints", type=lambda t: t.split(","), default=[], metavar="NAME,...",
                                            help=f"of {', '.join(CONSTRAINTS)}")  # fmt: skip
    commands.choices["decode"].add_argument("--window", type=int, default=0)
    commands.choices["decode"].add_argument("--cache", choices=("float32", "bfloat16", "int8"))
    commands.choices["decode"].add_argument("--weights", choices=("float32", "int8"))
    args = parser.parse_args(argv)
    if args.against:
        import against

        return against.rerun(args.against, args.peer, args.only, args.pairs)
    if args.command is None:
        parser.error("name what to measure, or --against FILE.md")
    found = args.run(args)
    print(
        json.dumps({"bench": args.command} | {k: round(v, 5) if isinstance(v, float) else v for k, v in found.items()})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
