"""One page of HTML that plays pieces and shows them as piano rolls: nothing beside it, nothing from a network."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from etils import epath

from aurljax import atomic
from aurljax.evaluate import audio
from aurljax.evaluate.pictures import heights
from aurljax.export import provenance
from aurljax.music import general_midi, midi, pedal
from aurljax.music.score import Score
from aurljax.music.theory.key import Key
from aurljax.report.style import STYLE

FILES = ("player.html", "player.css", "sound.js", "player.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # the browser refuses all else


@dataclasses.dataclass(frozen=True)
class Piece:
    """What the page shows of a piece: the name of its MIDI file, the score, and [N] which of its notes were given."""

    name: str
    score: Score
    given: np.ndarray | None = None
    title: str = ""

    @property
    def heading(self) -> str:
        """The title, as given or as the score's, else the file's name."""
        own = (self.score.meta[k] for k in ("title", "composer") if k in self.score.meta)
        return self.title or " · ".join(own) or self.name


def given(score: Score, prompt: Score | None, bars: tuple[int, int] | None = None) -> np.ndarray:
    """[N] whether each note was given: it stands in the prompt too (time, pitch, instrument), or starts in bars a..b-1."""
    if bars is not None:
        lines = score.bar_ticks
        return (score.onset >= lines[bars[0]]) & (score.onset < lines[min(bars[1], len(lines) - 1)])
    if prompt is None:
        return np.zeros(len(score), bool)
    known = set(zip((prompt.onset / prompt.resolution).tolist(), *_instrumental(prompt), strict=True))
    each = zip((score.onset / score.resolution).tolist(), *_instrumental(score), strict=True)
    return np.array([row in known for row in each], bool)


def _instrumental(score: Score) -> tuple[list, list, list]:
    return score.pitch.tolist(), score.program.tolist(), score.is_drum.tolist()


def write(pieces: Sequence[Piece], path: str | os.PathLike) -> str:
    """Writes the page, at once or not at all; returns its path. UserError where it cannot be written."""
    atomic.write(epath.Path(path), page(pieces))
    return str(path)


def page(pieces: Sequence[Piece]) -> str:
    """The page."""
    data = {"pieces": [_piece(p) for p in pieces], "metal": audio.METAL}
    embedded = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")  # ends no script
    files = {name: resources.files(__package__).joinpath(name).read_text() for name in FILES}
    buttons = "".join(f"<button>{html.escape(p.heading)}</button>" for p in pieces)
    menu = f'<nav class="pieces" aria-label="Pieces">{buttons}</nav>' if len(pieces) > 1 else ""
    return files["player.html"].format(
        policy=POLICY, title=html.escape(pieces[0].heading), style=STYLE + files["player.css"], menu=menu,
        data=embedded, script=files["sound.js"] + files["player.js"],
    )  # fmt: skip


def _piece(piece: Piece) -> dict[str, Any]:
    """All that the page's script needs, times in seconds."""
    score = piece.score
    mask = np.zeros(len(score), bool) if piece.given is None else np.asarray(piece.given, bool)
    lines, drums = heights(score)
    bars, low, high = score.bar_ticks, int(lines.min(initial=60)) - 1, int(lines.max(initial=71)) + 2
    ends = score.onset + score.duration
    tracks = [
        {"name": name or general_midi.instrument(program, is_drum), "drum": is_drum,
         "timbre": dataclasses.asdict(audio.timbre(program))}
        for name, (program, is_drum) in zip(score.names, score.tracks.tolist(), strict=True)
    ]  # fmt: skip
    return {
        "name": piece.name,
        "title": piece.heading,
        "facts": _facts(score),
        "midi": base64.b64encode(midi.dumps(score)).decode(),
        "made": provenance.rows(provenance.read(score) or {}),
        "tracks": tracks,
        "notes": {
            "start": _seconds(score, score.onset),
            "end": _seconds(score, ends),
            "ring": _seconds(score, pedal.sounding(score)),
            "pitch": score.pitch.tolist(),
            "line": lines.tolist(),
            "velocity": score.velocity.tolist(),
            "track": score.track.tolist(),
            "given": mask.astype(int).tolist(),
        },
        "longest": float((score.seconds(ends) - score.seconds(score.onset)).max(initial=0)),
        "bars": _seconds(score, bars),
        "beats": _seconds(score, _beats(score)),
        "given": _stretches(score, mask),
        "end": _seconds(score, bars[-1:])[0] if len(score) else 0,
        "low": low,
        "high": high,
        "floor": max(drums.values(), default=low - 1),
        "drums": {line: general_midi.DRUMS.get(p, f"drum {p}") for p, line in drums.items()},
    }


def _seconds(score: Score, ticks: np.ndarray) -> list[float]:
    return np.round(score.seconds(ticks), 4).tolist()


def _facts(score: Score) -> str:
    """Notes, bars, length, meter, tempo and key in a line."""
    seconds, meter, usec = round(float(score.seconds(score.end))), score.meters[0], score.tempo_map[1]
    tempo = " to ".join(dict.fromkeys(f"{60e6 / u:.0f}" for u in (usec.max(), usec.min())))
    parts = [f"{len(score)} notes", f"{score.bar_count} bars", f"{seconds // 60}:{seconds % 60:02}"]
    parts += [f"{meter['numerator']}/{meter['denominator']}", f"♩ = {tempo}"]
    return " · ".join(parts + [str(Key(*row)) for _, *row in score.key[:1].tolist()])


def _beats(score: Score) -> np.ndarray:
    """Ticks of all beats that are no bar lines."""
    lines, meters = score.bar_ticks, score.meters
    unit = 4 * score.resolution / meters["denominator"][np.searchsorted(meters["tick"], lines[:-1], "right") - 1]
    beats = [np.arange(a, b, u)[1:] for a, b, u in zip(lines[:-1], lines[1:], unit, strict=True)]
    return np.concatenate(beats)


def _stretches(score: Score, mask: np.ndarray) -> list[list[float]]:
    """Seconds of the stretches of bars in which notes begin that all were given."""
    lines = score.bar_ticks
    bar = np.searchsorted(lines, score.onset, "right") - 1
    count = np.bincount(bar, minlength=len(lines))
    whole = (np.bincount(bar, mask, len(lines)) == count) & (count > 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]]).astype(int))).reshape(-1, 2)
    return [_seconds(score, lines[pair]) for pair in edges]
