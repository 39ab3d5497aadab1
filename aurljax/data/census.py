"""What a corpus holds, in figures, and the traps that figures show."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from aurljax.data import contents
from aurljax.data.assemble import REPORT
from aurljax.data.corpus import Corpus, CorpusError
from aurljax.music import chords
from aurljax.music import codec as codecs
from aurljax.music.codec import Codec
from aurljax.music.polyphony import sounding
from aurljax.music.score import Score, rounded

GRID, BEAT = 24, 4  # positions per quarter: the codec's, and sixteenths
SAMPLE = 256  # pieces that are encoded to count ids
BINS = 31  # of a histogram, at most; odd, so that one lies in the middle
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
Spread = tuple[float, ...]  # values at QUANTILES
FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe",
    "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects", contents.DRUMS,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How many pieces have which values; the outermost half percent at either side may be cut off."""

    edges: list[float]  # one more than counts
    counts: list[int]
    beyond: int  # pieces outside


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What a codec with its default options makes of pieces."""

    ids: Spread
    kept: float  # share of their notes of which anything is written


@dataclasses.dataclass(frozen=True)
class Census:
    """Figures of a corpus. Spreads are over pieces; shares are of all notes, meters' of all bars."""

    licence: str  # a note, or nothing
    splits: dict[str, int]
    notes: int
    seconds: float
    length_seconds: Spread
    length_bars: Spread
    length_notes: Spread
    histograms: dict[str, Histogram]  # of bars, tempo and polyphony
    meters: dict[str, float]  # share of bars, the most frequent first
    keys: dict[str, float]  # share of notes by the key signature in force; "none stated" is one of them
    tempo: Spread  # quarters per minute, over the whole of a piece
    programs: dict[str, float]  # share of notes; "drums" is one of them
    pitches: dict[str, list[int]]  # [128] notes of each pitch, by General MIDI family; "drums" is one of them
    tracks: Spread
    polyphony: Spread  # mean of the pitched notes that sound where one starts
    most_polyphony: int
    velocity: Spread  # over notes
    velocities: dict[int, float]  # share of notes
    one_velocity: float  # share of pieces whose notes are all equally loud
    on_grid: float  # share of onsets nearest to a position of 24 per quarter
    on_sixteenths: float
    stated: dict[str, float]  # share of pieces that state a title, a composer, chord symbols
    encoded: dict[str, Encoded]  # by codec
    sampled: int  # pieces that `encoded` is of: all, or so many drawn at random
    tunes: int  # that stand in several pieces, in whatever key, tempo and accompaniment
    tune_pieces: int  # which those are
    largest_tune: int  # pieces
    skipped: dict[str, int] | None  # files by reason; None, as the next two: the corpus has lost its report
    duplicates: int | None  # files left out, for another has the same music
    quarantined: dict[str, str] | None  # reason by id of those skipped that end, hold up or break their reader

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
                f"only {self.on_grid:.0%} of onsets lie on the grid of {GRID} per quarter: played freely, or in ticks "
                "that are not the music's beats; keep the timing (codec event, or score with codec.options.microtiming), "
                "lay the files out on annotated beats (ingest --beats), or where the beats are right, "
                "set data.preprocess.quantise"
            )
        return out

    def lines(self, most: int = 6) -> list[str]:
        """The figures in words, then the warnings; of long lists so many entries."""
        splits = ", ".join(f"{n:,} {split}" for split, n in self.splits.items())
        out = [
            f"{sum(self.splits.values()):,} pieces ({splits}), {self.notes:,} notes, {self.seconds / 3600:.2f} hours",
            f"licence: {self.licence or 'not stated'}",
            f"{'':16}{'least':>10}{'5 %':>10}{'median':>10}{'95 %':>10}{'most':>10}",
        ]
        for name, values in (
            ("seconds", self.length_seconds), ("bars", self.length_bars), ("notes", self.length_notes),
            ("tempo", self.tempo), ("tracks", self.tracks), ("polyphony", self.polyphony), ("velocity", self.velocity),
            *((f"ids, {name}", made.ids) for name, made in self.encoded.items()),
        ):  # fmt: skip
            out.append(f"{name:16}" + "".join(f"{v:10,.{v < 100_000:d}f}" for v in values))
        pieces = sum(self.splits.values())
        drawn = f" (as the ids, of {self.sampled:,} pieces drawn at random)" if self.sampled < pieces else ""
        kept = ", ".join(f"{name} {made.kept:.1%}" for name, made in self.encoded.items())
        out += [
            f"notes that codecs keep: {kept}{drawn}",
            f"meters, of bars: {_shares(self.meters, most)}",
            f"keys, of notes: {_shares(self.keys, most)}",
            "pieces that state " + ", ".join(f"{name}: {share:.0%}" for name, share in self.stated.items()),
            f"programs, of notes: {_shares(self.programs, most)}",
            f"most pitched notes at once: {self.most_polyphony}",
            f"pieces with one velocity: {self.one_velocity:.0%}",
            f"onsets on the grid of {GRID} per quarter: {self.on_grid:.1%}; on sixteenths: {self.on_sixteenths:.1%}",
            f"tunes in several pieces: {self.tunes:,}"
            + f", of {self.tune_pieces:,} pieces, the largest of {self.largest_tune:,}" * (self.tunes > 0),
            *self._left_out(most),
        ]
        return out + [f"warning: {text}" for text in self.warnings()]

    def _left_out(self, most: int) -> list[str]:
        """What of the files became no piece, in words."""
        if self.skipped is None:
            return [f"skipped files: not known, {REPORT} is missing"]
        reasons = sorted(self.skipped.items(), key=lambda r: -r[1])
        out = [
            f"files left out that repeat the music of another: {self.duplicates:,}",
            f"skipped files: {sum(self.skipped.values()):,}",
            *(f"  {n:,}: {reason}" for reason, n in reasons[:most]),
            *[f"  ... and {len(reasons) - most:,} more reasons; {REPORT} lists all files"] * (len(reasons) > most),
        ]
        if self.quarantined:
            out.append(f"of them, files that end, hold up or break their reader: {len(self.quarantined):,}")
            out += [f"  {id}: {reason}" for id, reason in list(self.quarantined.items())[:most]]
            out += [f"  ... and {len(self.quarantined) - most:,} more; {REPORT} lists them all"] * (
                len(self.quarantined) > most
            )
        return out


def of(corpus: Corpus, progress: Callable[[int, int], None] = lambda done, total: None, sample: int = SAMPLE) -> Census:
    """The census of all splits of a corpus; ids are counted on at most `sample` pieces, drawn at random, always the same.

    CorpusError where a record or the report is damaged.
    """
    rows, keys = [], collections.Counter()
    velocities, pitches = np.zeros(128, np.int64), np.zeros((len(FAMILIES), 128), np.int64)
    made = {name: codecs.make(name) for name in codecs.CODECS}
    drawn = set(np.random.default_rng(0).permutation(len(corpus))[:sample].tolist())
    encoded: dict[str, list[tuple[int, int, int]]] = {name: [] for name in made}
    for i in range(len(corpus)):
        score = corpus[i]
        rows.append(_piece(score))
        keys.update(contents.keys(score))
        velocities += np.bincount(score.velocity, minlength=128)
        family = np.where(score.is_drum, len(FAMILIES) - 1, score.program // 8)
        np.add.at(pitches, (family, score.pitch), 1)
        for name, codec in made.items() if i in drawn else ():
            encoded[name].append(_encoded(codec, score))
        progress(i + 1, len(corpus))
    notes = sum(r["notes"] for r in rows)
    tunes = [n for n in collections.Counter(p.cluster for p in corpus.pieces).values() if n > 1]
    values = {name: [r[name] for r in rows] for name in ("bars", "tempo")}
    values["polyphony"] = [r["polyphony"] for r in rows if r["polyphony"]] or [0.0]
    return Census(
        licence=corpus.licence,
        splits=dict(collections.Counter(p.split for p in corpus.pieces).most_common()),
        notes=notes,
        seconds=sum(r["seconds"] for r in rows),
        length_seconds=_spread(r["seconds"] for r in rows),
        length_bars=_spread(values["bars"]),
        length_notes=_spread(r["notes"] for r in rows),
        histograms={name: _histogram(np.array(found), name == "bars") for name, found in values.items()},
        meters=_merged(p.meters for p in corpus.pieces),
        keys=_merged([keys]),
        tempo=_spread(values["tempo"]),
        programs=_merged(p.programs for p in corpus.pieces),
        pitches={name: row.tolist() for name, row in zip(FAMILIES, pitches, strict=True) if row.any()},
        tracks=_spread(r["tracks"] for r in rows),
        polyphony=_spread(values["polyphony"]),
        most_polyphony=max(r["most"] for r in rows),
        velocity=_spread_of(velocities),
        velocities={int(v): float(velocities[v] / max(notes, 1)) for v in np.flatnonzero(velocities)},
        one_velocity=sum(r["one_velocity"] for r in rows) / len(rows),
        on_grid=sum(r["on_grid"] for r in rows) / max(notes, 1),
        on_sixteenths=sum(r["on_beat"] for r in rows) / max(notes, 1),
        stated={n: sum(n in r["stated"] for r in rows) / len(rows) for n in ("title", "composer", "chords")},
        encoded={
            name: Encoded(_spread(ids), sum(kept) / max(sum(written), 1))
            for name, (ids, written, kept) in ((name, zip(*found, strict=True)) for name, found in encoded.items())
        },
        sampled=len(drawn),
        tunes=len(tunes),
        tune_pieces=sum(tunes),
        largest_tune=max(tunes, default=1),
        **_report(corpus),
    )


def _piece(score: Score) -> dict[str, Any]:
    voices, seconds = sounding(score), float(score.seconds(score.end))
    return {
        "notes": len(score),
        "seconds": seconds,
        "bars": score.bar_count,
        "tracks": len(np.unique(score.track)),
        "tempo": 60 * score.end / score.resolution / seconds if seconds else 0.0,
        "polyphony": float(voices.mean()) if len(voices) else 0.0,
        "most": int(voices.max(initial=0)),
        "one_velocity": bool((score.velocity == score.velocity[:1]).all()),
        "on_grid": int(_on(score, GRID).sum()),
        "on_beat": int(_on(score, BEAT).sum()),
        "stated": [name for name in ("title", "composer") if name in score.meta]
        + ["chords"] * bool(len(chords.of(score))),
    }


def _encoded(codec: Codec, score: Score) -> tuple[int, int, int]:
    """(ids, notes, notes kept) of a piece."""
    report = codec.loss_report(score)
    return len(codec.encode(score)), report["notes"], report["kept"]


def _on(score: Score, steps: int) -> np.ndarray:
    """[N] whether no other tick is nearer to a position of the grid than the onset is."""
    r = score.resolution
    position = rounded(score.onset * steps, r)
    return 2 * np.abs(score.onset * steps - position * r) <= steps


def _spread(values: Iterable[float]) -> Spread:
    found = np.array(list(values), np.float64)
    return tuple(np.quantile(found, QUANTILES).tolist()) if len(found) else (0.0,) * len(QUANTILES)


def _spread_of(counts: np.ndarray) -> Spread:
    """`_spread` of whole numbers from 0 on, of each so many, without a list of them all."""
    upto = np.cumsum(counts)
    place = np.array(QUANTILES) * max(upto[-1] - 1, 0)
    low, high = (np.searchsorted(upto, side(place), "right") for side in (np.floor, np.ceil))
    return tuple((low + (high - low) * (place % 1)).tolist())


def _histogram(values: np.ndarray, whole: bool) -> Histogram:
    """Of at least one value; where they are whole numbers, every bin holds as many of them, else all span a fifth."""
    low, high = np.quantile(values, (0.005, 0.995), method="nearest")
    if whole:
        low, high = low - 0.5, high + 0.5
    else:
        middle = (low + high) / 2
        low, high = min(low, 0.9 * middle), max(high, 1.1 * middle, 0.1)
    width = math.ceil((high - low) / BINS) if whole else (high - low) / BINS
    edges = low + width * np.arange(math.ceil((high - low) / width) + 1 if whole else BINS + 1)
    counts, _ = np.histogram(values, edges)
    return Histogram(edges.tolist(), counts.tolist(), int(len(values) - counts.sum()))


def _merged(counts: Iterable[Mapping[str, int]]) -> dict[str, float]:
    """Shares of all that was counted, the largest first."""
    total = collections.Counter()
    for count in counts:
        total.update(count)
    whole = max(sum(total.values()), 1)
    return {name: n / whole for name, n in sorted(total.items(), key=lambda c: (-c[1], c[0]))}


def _shares(shares: dict[str, float], most: int) -> str:
    text = ", ".join(f"{name} {share:.1%}" for name, share in list(shares.items())[:most])
    return text + f" and {len(shares) - most} more" * (len(shares) > most)


def _report(corpus: Corpus) -> dict[str, Any]:
    """The fields of the census that ingest's report has to tell."""
    path = corpus.path / REPORT
    if not path.exists():
        return {"skipped": None, "duplicates": None, "quarantined": None}
    try:
        report = json.loads(path.read_text())
        return {
            "skipped": dict(collections.Counter(report["skipped"].values())),
            "duplicates": len(report["duplicates"]),
            "quarantined": {id: report["skipped"][id] for id in report["quarantined"]},
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
        raise CorpusError(f"{path}: cannot be read ({type(e).__name__}: {e}); delete it or ingest again") from e
