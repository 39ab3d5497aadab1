"""What a corpus holds, in figures, and the traps that figures show."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from aurljax.data.assemble import REPORT
from aurljax.data.corpus import Corpus, CorpusError
from aurljax.music.polyphony import sounding
from aurljax.music.score import Score, rounded

GRID, BEAT = 24, 4  # positions per quarter: the codec's, and sixteenths
DRUMS = "drums"
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
Spread = tuple[float, ...]  # values at QUANTILES


@dataclasses.dataclass(frozen=True)
class Census:
    """Figures of a corpus. Spreads are over pieces; shares are of all notes, meters' of all bars."""

    splits: dict[str, int]
    notes: int
    seconds: float
    length_seconds: Spread
    length_bars: Spread
    length_notes: Spread
    meters: dict[str, float]  # share of bars, the most frequent first
    tempo: Spread  # quarters per minute, over the whole of a piece
    programs: dict[str, float]  # share of notes; "drums" is one of them
    tracks: Spread
    polyphony: Spread  # mean of the pitched notes that sound where one starts
    most_polyphony: int
    velocity: Spread  # over notes
    velocities: dict[int, float]  # share of notes
    one_velocity: float  # share of pieces whose notes are all equally loud
    on_grid: float  # share of onsets nearest to a position of 24 per quarter
    on_sixteenths: float
    skipped: dict[str, int] | None  # files by reason; None: the corpus has lost its report

    def warnings(self) -> list[str]:
        """A sentence for each known trap that the figures show."""
        out = []
        short = sum(share for meter, share in self.meters.items() if meter == "1/4")
        if short > 0.5:
            out.append(
                f"{short:.0%} of bars are 1/4: the meter is most likely unknown and bars are beats; "
                "lay them out on annotated beats (ingest --beats) or give the files their meter"
            )
        value, share = max(self.velocities.items(), key=lambda v: v[1], default=(0, 0.0))
        if share > 0.9:
            out.append(f"{share:.0%} of notes have velocity {value}: a model will learn no dynamics here")
        if self.on_grid < 0.5:
            out.append(
                f"only {self.on_grid:.0%} of onsets lie on the grid of {GRID} per quarter: these are performances, or "
                "files whose beats are not those of the music; set codec.options.microtiming or data.preprocess.quantise"
            )
        return out

    def lines(self, most: int = 6) -> list[str]:
        """The figures in words, then the warnings; of long lists so many entries."""
        splits = ", ".join(f"{n:,} {split}" for split, n in self.splits.items())
        out = [
            f"{sum(self.splits.values()):,} pieces ({splits}), {self.notes:,} notes, {self.seconds / 3600:.2f} hours",
            f"{'':16}{'least':>10}{'5 %':>10}{'median':>10}{'95 %':>10}{'most':>10}",
        ]
        for name, values in (
            ("seconds", self.length_seconds), ("bars", self.length_bars), ("notes", self.length_notes),
            ("tempo", self.tempo), ("tracks", self.tracks), ("polyphony", self.polyphony), ("velocity", self.velocity),
        ):  # fmt: skip
            out.append(f"{name:16}" + "".join(f"{v:10,.1f}" for v in values))
        out += [
            f"meters, of bars: {_shares(self.meters, most)}",
            f"programs, of notes: {_shares(self.programs, most)}",
            f"most pitched notes at once: {self.most_polyphony}",
            f"pieces with one velocity: {self.one_velocity:.0%}",
            f"onsets on the grid of {GRID} per quarter: {self.on_grid:.1%}; on sixteenths: {self.on_sixteenths:.1%}",
        ]
        if self.skipped is None:
            out.append(f"skipped files: not known, {REPORT} is missing")
        else:
            reasons = sorted(self.skipped.items(), key=lambda r: -r[1])
            out.append(f"skipped files: {sum(self.skipped.values()):,}")
            out += [f"  {n:,}: {reason}" for reason, n in reasons[:most]]
            out += [f"  ... and {len(reasons) - most:,} more reasons; {REPORT} lists all files"] * (len(reasons) > most)
        return out + [f"warning: {text}" for text in self.warnings()]


def of(corpus: Corpus, progress: Callable[[int, int], None] = lambda done, total: None) -> Census:
    """The census of all splits of a corpus; CorpusError where a record or the report is damaged."""
    rows = []
    for i in range(len(corpus)):
        rows.append(_piece(corpus[i]))
        progress(i + 1, len(corpus))
    notes = sum(r["notes"] for r in rows)
    velocities = np.sum([r["velocities"] for r in rows], 0)
    return Census(
        splits=dict(collections.Counter(p.split for p in corpus.pieces).most_common()),
        notes=notes,
        seconds=sum(r["seconds"] for r in rows),
        length_seconds=_spread(r["seconds"] for r in rows),
        length_bars=_spread(r["bars"] for r in rows),
        length_notes=_spread(r["notes"] for r in rows),
        meters=_merged(r["meters"] for r in rows),
        tempo=_spread(r["tempo"] for r in rows),
        programs=_merged(r["programs"] for r in rows),
        tracks=_spread(r["tracks"] for r in rows),
        polyphony=_spread(r["polyphony"] for r in rows if r["polyphony"]),
        most_polyphony=max(r["most"] for r in rows),
        velocity=_spread(np.repeat(np.arange(128), velocities)),
        velocities={int(v): float(velocities[v] / max(notes, 1)) for v in np.flatnonzero(velocities)},
        one_velocity=sum(np.count_nonzero(r["velocities"]) == 1 for r in rows) / len(rows),
        on_grid=sum(r["on_grid"] for r in rows) / max(notes, 1),
        on_sixteenths=sum(r["on_beat"] for r in rows) / max(notes, 1),
        skipped=_skipped(corpus),
    )


def _piece(score: Score) -> dict[str, Any]:
    meters, lines = score.meters, score.bar_ticks[:-1]
    of_bar = np.bincount(np.searchsorted(meters["tick"], lines, "right") - 1, minlength=len(meters))
    names = [f"{n}/{d}" for _, n, d in meters.tolist()]
    drum, voices = score.is_drum, sounding(score)
    programs = collections.Counter({str(p): int(n) for p, n in enumerate(np.bincount(score.program[~drum])) if n})
    if drum.any():
        programs[DRUMS] = int(drum.sum())
    seconds = float(score.seconds(score.end))
    bars = collections.Counter()
    for name, n in zip(names, of_bar.tolist(), strict=True):
        bars[name] += n
    return {
        "notes": len(score),
        "seconds": seconds,
        "bars": score.bar_count,
        "tracks": len(np.unique(score.track)),
        "meters": bars,
        "tempo": 60 * score.end / score.resolution / seconds if seconds else 0.0,
        "programs": programs,
        "polyphony": float(voices.mean()) if len(voices) else 0.0,
        "most": int(voices.max(initial=0)),
        "velocities": np.bincount(score.velocity, minlength=128),
        "on_grid": int(_on(score, GRID).sum()),
        "on_beat": int(_on(score, BEAT).sum()),
    }


def _on(score: Score, steps: int) -> np.ndarray:
    """[N] whether no other tick is nearer to a position of the grid than the onset is."""
    r = score.resolution
    position = rounded(score.onset * steps, r)
    return 2 * np.abs(score.onset * steps - position * r) <= steps


def _spread(values: Iterable[float]) -> Spread:
    found = np.array(list(values), np.float64)
    return tuple(np.quantile(found, QUANTILES).tolist()) if len(found) else (0.0,) * len(QUANTILES)


def _merged(counts: Iterable[collections.Counter]) -> dict[str, float]:
    """Shares of all that was counted, the largest first."""
    total = collections.Counter()
    for count in counts:
        total.update(count)
    whole = max(sum(total.values()), 1)
    return {name: n / whole for name, n in sorted(total.items(), key=lambda c: (-c[1], c[0]))}


def _shares(shares: dict[str, float], most: int) -> str:
    text = ", ".join(f"{name} {share:.1%}" for name, share in list(shares.items())[:most])
    return text + f" and {len(shares) - most} more" * (len(shares) > most)


def _skipped(corpus: Corpus) -> dict[str, int] | None:
    path = corpus.path / REPORT
    if not path.exists():
        return None
    try:
        return dict(collections.Counter(json.loads(path.read_text())["skipped"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
        raise CorpusError(f"{path}: cannot be read ({type(e).__name__}: {e}); delete it or ingest again") from e
