"""How a piece was made, as a field of its metadata that a MIDI file carries: model, seed, settings, prompt, version.

It holds no clock and no path, so the same request still gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from etils import epath

from aurljax.data import record
from aurljax.music.score import Score

FIELD = "generated"  # of Score.meta


def fingerprint(step: epath.PathLike) -> str:
    """64-bit hex name of what a checkpoint (the folder of a step) holds: a hash of its digests.json."""
    digests = json.loads((epath.Path(step) / "digests.json").read_text())
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]


def of(origin: Mapping[str, Any], seed: tuple[int, int], prompt: Score | None, **settings: Any) -> dict[str, Any]:
    """How row seed[1] of a request with seed[0] was made: `origin` says of which model, {"model": ..., "step": ...}.

    settings: what the request chose; dataclasses are written with the fields that differ from their defaults, and
    what is None is left out.
    """
    found = {"aurljax": metadata.version("aurljax"), **origin, "seed": seed[0], "row": seed[1]}
    found |= {name: _plain(value) for name, value in settings.items() if value is not None}
    return found | ({"prompt": {"digest": record.digest(prompt), "notes": len(prompt)}} if prompt is not None else {})


def asked(
    origin: Mapping[str, Any], row: tuple[int, int], prompt: Score | None, score: Score, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """`of` a score that was written under constraints, which may have ended it."""
    ended = {"constraints": settings["constraints"] or None, "ended": score.meta.get("ended")}
    return of(origin, row, prompt, **{**settings, **ended})


def attach(score: Score, made: Mapping[str, Any]) -> Score:
    """The score with that on it; `read` gives it back, also from a MIDI file."""
    text = json.dumps(made, separators=(",", ":"), ensure_ascii=False)
    return score.replace(meta={**score.meta, FIELD: text})


def read(score: Score) -> dict[str, Any] | None:
    """How a score was made; None where it does not say, or not in this form."""
    try:
        found = json.loads(score.meta[FIELD])
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def name_prompt(score: Score, name: str) -> Score:
    """The score with the name of its prompt's file in what it says of itself."""
    made = read(score)
    return attach(score, made | {"prompt": {"name": name} | made["prompt"]}) if made and "prompt" in made else score


def rows(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same as (name, value) for people: nested values one below the other, names joined with dots."""
    out = []
    for name, value in made.items():
        inner = rows(value) if isinstance(value, Mapping) else []
        out += [(f"{name}.{k}", v) for k, v in inner] or [
            (name, value if isinstance(value, str) else json.dumps(value))
        ]
    return out


def _plain(value: Any) -> Any:
    """A value as JSON holds it; of a dataclass its type's name and the fields that are not at their defaults."""
    if dataclasses.is_dataclass(value):
        fields = {
            f.name: getattr(value, f.name) for f in dataclasses.fields(value) if getattr(value, f.name) != f.default
        }
        return {"kind": type(value).__name__} | {name: _plain(v) for name, v in fields.items()}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return value.item() if hasattr(value, "item") else value
