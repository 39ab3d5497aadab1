"""aurljax: train models of symbolic music in JAX and generate MIDI from their checkpoints.

    score = aurljax.load_midi("piece.mid")
    ids = aurljax.codec("score").encode(score)
    model = aurljax.load_model("runs/demo")
    model.generate(prompt=score, bars=8, seed=1)[0].save_midi("more.mid")

Importing this package imports neither jax nor anything else that is heavy; names are looked up when they are used.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Beam": ("aurljax.decode.beam", "Beam"),
    "Repetition": ("aurljax.decode.sampler", "Repetition"),
    "Sampler": ("aurljax.decode.sampler", "Sampler"),
    "Score": ("aurljax.music.score", "Score"),
    "load_midi": ("aurljax.music.midi", "load"),
    "MidiError": ("aurljax.music.midi", "MidiError"),
    "codec": ("aurljax.music.codec", "make"),
    "ingest": ("aurljax.data.ingest", "ingest"),
    "Corpus": ("aurljax.data.corpus", "Corpus"),
    "load_model": ("aurljax.model", "load"),
    "UserError": ("aurljax.errors", "UserError"),
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'aurljax' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
