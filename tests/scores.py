"""Generated scores: dense, odd, and lawful."""

from __future__ import annotations

import numpy as np

from aurljax.music.chords import QUALITIES, ROOTS
from aurljax.music.score import NOTE, Score


def random_score(seed: int, notes: int = 200) -> Score:
    """Many notes in few pitches, off the grid, over random tempo and meter maps; keys, chords, pedals; up to 20 tracks."""
    rng = np.random.default_rng(seed)
    resolution = int(rng.choice([96, 120, 384, 480, 1024]))
    tracks, count = int(rng.integers(1, 21)), int(rng.integers(0, notes))
    span = resolution * int(rng.integers(4, 64))
    rows = np.zeros(count, NOTE)
    rows["onset"], rows["duration"] = rng.integers(0, span, count), rng.integers(1, resolution * 3, count)
    rows["track"], rows["pitch"] = rng.integers(0, tracks, count), rng.integers(40, 60, count)
    rows["velocity"] = rng.integers(1, 128, count)
    meter = [(int(rng.integers(0, span)), int(rng.integers(1, 13)), int(rng.choice([2, 4, 8, 16, 32])))
             for _ in range(rng.integers(0, 5))]  # fmt: skip
    tempo = [(int(rng.integers(0, span)), int(rng.integers(100_000, 3_000_000))) for _ in range(rng.integers(0, 8))]
    programs = [(int(rng.integers(0, 128)), bool(rng.random() < 0.1)) for _ in range(tracks)]
    key = [(int(rng.integers(0, span)), int(rng.integers(-7, 8)), bool(rng.random() < 0.5)) for _ in range(3)]
    symbols = [f"{ROOTS[int(rng.integers(12))]}:{QUALITIES[int(rng.integers(len(QUALITIES)))]}" for _ in range(6)]
    texts = [(int(rng.integers(0, span)), "marker", str(rng.choice([*symbols, "N"]))) for _ in range(8)]
    pedal = [(int(rng.integers(0, span)), int(rng.integers(tracks)), 0, int(rng.choice([64, 1])), int(rng.integers(128)))
             for _ in range(count // 4)]  # fmt: skip
    return Score(resolution, notes=rows, tracks=programs, meter=meter, tempo=tempo, key=key, texts=texts, controls=pedal,
                 meta={"mood": str(rng.integers(5))}).repaired()[0]  # fmt: skip


def long_piece(bars: int = 400, seed: int = 0) -> Score:
    """A quarter of an hour: a note on every quarter, wandering tempo, changing meters, all on the grid."""
    rng = np.random.default_rng(seed)
    meters, tick = [], 0
    for _ in range(bars):
        n = int(rng.integers(2, 6))
        meters.append((tick, n, 4))
        tick += n * 480
    onset = np.arange(0, tick, 480)
    tempo = np.exp(np.cumsum(rng.normal(0, 0.03, len(onset)))) * 1_300_000
    notes = [(t, 480, 0, int(p), 64) for t, p in zip(onset, rng.integers(36, 84, len(onset)), strict=True)]
    return Score(480, notes=notes, tracks=[(0, False)], meter=meters,
                 tempo=list(zip(onset.tolist(), np.clip(tempo, 4e5, 3e6).astype(int).tolist(), strict=True)))  # fmt: skip


def tune(seed: int, bars: int = 4) -> Score:
    """A little melody over held notes."""
    rng = np.random.default_rng(seed)
    notes = [(i * 240, 240, 0, int(60 + rng.integers(0, 12)), 80) for i in range(8 * bars)]
    notes += [(i * 1920, 1920, 1, int(40 + rng.integers(0, 12)), 70) for i in range(bars)]
    return Score(480, notes=notes, tracks=[(0, False), (32, False)], tempo=[(0, 500_000)])
