"""What a decoded score lacks of a file that other programs open: names of tracks, tempo, meter and key stated."""

from __future__ import annotations

import collections

import numpy as np

from aurljax.music import general_midi
from aurljax.music.score import DEFAULT_METER, DEFAULT_USEC, Score
from aurljax.music.theory import key


def finish(score: Score, prompt: Score | None = None) -> Score:
    """The score without silent tracks, every track named (else by its General MIDI instrument), with tempo, meter and key
    at tick 0. The keys are those that it has behind a prompt that states one, else the key of its own notes."""
    score = audible(_named(score))
    tempo, meter = score.tempo, score.meters
    if not len(tempo) or tempo["tick"][0] > 0:
        tempo = [(0, DEFAULT_USEC), *tempo.tolist()]
    if not len(meter):
        meter = [(0, *DEFAULT_METER)]
    if prompt is not None and len(prompt.key):
        return score.replace(tempo=tempo, meter=meter)
    found = key.find(score)
    return score.replace(tempo=tempo, meter=meter, key=[(0, *found)] if found else ())


def _named(score: Score) -> Score:
    names = list(score.names)
    unnamed = [i for i in np.unique(score.track).tolist() if not names[i]]
    plain = {i: general_midi.instrument(*score.tracks[i].item()) for i in unnamed}
    count, seen = collections.Counter(plain.values()), collections.Counter()
    for i, name in plain.items():
        seen[name] += 1
        names[i] = f"{name} {seen[name]}" if count[name] > 1 else name
    return score.replace(names=tuple(names))


def audible(score: Score) -> Score:
    """Without tracks that have no note: a MIDI file cannot say that they exist."""
    kept = np.unique(score.track)
    if len(kept) == len(score.tracks):
        return score
    notes, controls = score.notes.copy(), score.controls[np.isin(score.controls["track"], kept)].copy()
    for table in (notes, controls):
        table["track"] = np.searchsorted(kept, table["track"])
    names = tuple(score.names[i] for i in kept)
    return score.replace(notes=notes, controls=controls, tracks=score.tracks[kept], names=names)
