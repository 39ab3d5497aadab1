"""Constraints: what random weights write under them keeps to them, as told by code that reads the score alone."""

import jax
import jax.numpy as jnp
import keeping
import numpy as np
import pytest

from aurljax import mesh as meshes
from aurljax import params
from aurljax.decode import constraints as c
from aurljax.decode import loop
from aurljax.decode.constraints.replay import Replay
from aurljax.decode.sampler import Sampler
from aurljax.errors import UserError
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.music.codec import make
from aurljax.music.score import Score

CODEC = make("score")
MICRO = make("score", microtiming=True, pedal=True, keys=True, chords=True)
MAJOR = {0, 2, 4, 5, 7, 9, 11}
CHANGES, BARS = "C | Am F | G7 | %", [["C"], ["Am", "F"], ["G7"], ["G7"]]
OWN = ((40, 55, 67), (128, 35, 50))  # ranges of two programs
SECONDS = 6.0


def draw(rng):
    """(constraints of every kind, those whose checks matter, bars asked for or None): loose, where one is left out."""

    def maybe(share, kind, tight, loose, keeps):
        on = rng.random() < share
        out.append(kind(*(tight if on else loose)))
        if on:
            checks[kind.__name__] = keeps

    out, checks = [], {}
    share, low, span = float(rng.choice([0, 0.1, 0.3])), int(rng.integers(40, 60)), int(rng.integers(12, 30))
    every, own, most = int(rng.integers(1, 5)), int(rng.integers(1, 4)), float(rng.choice([0.5, 1, 4]))
    few = int(rng.integers(0, 4))
    many, tempo = few + int(rng.integers(1, 6)), float(rng.uniform(40, 200))
    maybe(0.5, c.Key, ("C major", share), ("C chromatic",), lambda x: keeping.keeps_key(x, MAJOR, share))
    maybe(0.5, c.Chords, (CHANGES,), ("N.C. N.C.",), lambda x: keeping.keeps_chords(x, BARS))
    maybe(0.5, c.Range, (low, low + span, OWN), (), lambda x: keeping.keeps_range(x, low, low + span, OWN))
    maybe(0.5, c.Longest, (most,), (128,), lambda x: keeping.longest(x) <= 24 * most)
    maybe(0.3, c.Meter, (((3, 4), (4, 4)),), (tuple((n, 4) for n in range(1, 9)),),
          lambda x: keeping.keeps_meter(x, {(3, 4), (4, 4)}))  # fmt: skip
    maybe(0.5, c.Tempo, (tempo, tempo * float(rng.choice([1, 1.2]))), (10, 500),
          lambda x: keeping.keeps_tempo(x, tempo, tempo * 1.2))  # fmt: skip
    maybe(0.3, c.Programs, ((0, 40, 128),), (tuple(range(129)),),
          lambda x: set(np.where(x.tracks["is_drum"], 128, x.tracks["program"])) <= {0, 40, 128})  # fmt: skip
    maybe(0.4, c.Tracks, (1, 3), (0, 16), lambda x: 1 <= len(x.tracks) <= 3)
    return out, checks, (every, own, few, many)


def crowded(rng, drawn):
    """More of them, of which the loop is another program: polyphony and density."""
    out, checks, (every, own, few, many) = drawn
    out += [c.Polyphony(every), c.TrackPolyphony(own), c.Density(few, many)]
    checks["Polyphony"] = lambda x: keeping.most_at_once(x)[0] <= every
    checks["TrackPolyphony"] = lambda x: keeping.most_at_once(x)[1] <= own
    checks["Density"] = lambda x, bars: all(few <= n <= many for n in keeping.notes_of_bars(x, bars))
    return out, checks


def fills(score):
    """Whether it has the fewest whole bars that reach the seconds asked for, to a position."""
    notes = keeping.spans(score)
    lines = keeping.bar_lines(score, max(e for _, e, *_ in notes))
    end, slack = score.seconds(lines * 20), 0.05
    return end[-1] >= SECONDS - slack and end[-2] < SECONDS + slack and max(a for a, *_ in notes) >= lines[-2]


def exact(rng, drawn):
    """A length on top, as (bars, seconds)."""
    out, checks = crowded(rng, drawn)
    bars = int(rng.integers(1, 4)) if rng.random() < 0.6 else None
    checks["Exact"] = fills if bars is None else lambda x: keeping.ends_in(x, bars)
    return [*out, c.Exact()], checks, bars


def stacked(rows):
    """Registers of rows, each with constraints of its own."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def config(codec):
    return DecoderConfig(vocab=len(codec.vocabulary), features=tuple(codec.feature_sizes.items()), d_model=16, layers=1,
                         heads=2, kv_heads=1, d_ff=32)  # fmt: skip


def generate(codec, asked, most, bars=None, seconds=None, seed=0, prompt=None, extra=()):
    """ids of rows, each under its own constraints, from random weights at temperature 2."""
    batch = len(asked)
    prompt = np.array([codec.vocabulary.id("start")], np.int32) if prompt is None else prompt
    plan = loop.Plan(DECODER, config(codec), codec, Sampler(temperature=2.0), most, 1, c.kinds(asked[0]))
    weights = params.init(DECODER.spec(config(codec)), jax.random.key(seed))
    ids, start = loop.left_padded([prompt] * batch)
    limits = loop.limits(batch, None, None, False)
    limits = (limits[0] if bars is None else np.array(bars, np.int32),
              limits[1] if seconds is None else np.array(seconds, np.float32))  # fmt: skip
    registers = stacked([c.registers(codec, row, 1) for row in asked]) if asked[0] else {}
    keys = jax.random.split(jax.random.key(seed + 1), batch)
    return np.asarray(loop.generate(plan, weights, ids, start, keys, *limits, registers)), limits


def legal(codec, mix, rows, most, seed):
    """How many of the rows were cut short, by length and by the constraints; all decode, and keep what is asked."""
    rng = np.random.default_rng(seed)
    with meshes.use(meshes.make()):
        drawn = [mix(rng, draw(rng)) for _ in range(rows)]
        timed = len(drawn[0]) == 3
        asked = [d[0] for d in drawn]
        bars = [2**30 if d[2] is None else d[2] for d in drawn] if timed else None
        seconds = [SECONDS if d[2] is None else np.inf for d in drawn] if timed else None
        new, _ = generate(codec, asked, most, bars, seconds, seed)
    start, end, full, stuck = codec.vocabulary.id("start"), codec.vocabulary.id("end"), 0, 0
    for row, (constraints, checks, *_) in zip(new, drawn, strict=True):
        ids = np.append(start, row[: np.count_nonzero(row)])
        full += len(ids) > most
        if ids[-1] != end:
            stuck += 1
            continue
        score = codec.decode(ids)
        score.check()
        assert np.array_equal(codec.encode(score), ids)
        count = int((ids == codec.vocabulary.id("bar")).sum())
        for name, keeps in checks.items():
            assert keeps(score, count) if name == "Density" else keeps(score), (name, *map(str, constraints))
    return full, stuck


MIXES = {"plain": lambda rng, d: d[:2], "crowded": crowded, "exact": exact}


@pytest.mark.parametrize("mix", MIXES)
def test_random_weights_keep_to_what_is_asked(mix):
    full, stuck = legal(CODEC, MIXES[mix], 150, 128, seed=1)
    assert stuck == 0
    assert full >= 1 or mix == "exact"


def test_they_do_with_all_that_a_codec_writes():
    assert legal(MICRO, MIXES["exact"], 150, 160, seed=2)[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("codec", [CODEC, MICRO], ids=["bare", "all"])
@pytest.mark.parametrize("mix", MIXES)
def test_ten_thousand_pieces(codec, mix):
    for seed in range(10):
        assert legal(codec, MIXES[mix], 170, 160, seed)[1] == 0
