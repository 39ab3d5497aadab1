"""New notes among old ones: the old stay to the bit, the new give way."""

from __future__ import annotations

import numpy as np

from aurljax.music.score import repair


def settle(locked: np.ndarray, new: np.ndarray, late: bool = False) -> tuple[np.ndarray, int, int]:
    """(new notes, how many of them were cut, dropped) so that none sounds while a locked note of its pitch and track
    does: one that would begin during a locked note goes (if `late`, begins at its end where it lasts beyond), one that
    would last into a locked note ends where that begins."""
    if late:
        new = _waiting(locked, new)
    new, counts = repair(new)
    order = np.argsort(_key(locked, locked["onset"]), kind="stable")
    locked = locked[order]
    keys, last = _key(locked, locked["onset"]), len(locked) - 1
    at = np.searchsorted(keys, _key(new, new["onset"]), "right")
    if last < 0 or not len(new):
        return new, counts["cut"], counts["duplicate"]
    before, after = locked[np.clip(at - 1, 0, last)], locked[np.clip(at, 0, last)]
    during = (at > 0) & _same(before, new) & (before["onset"] + before["duration"] > new["onset"])
    room = np.where((at <= last) & _same(after, new), after["onset"] - new["onset"], np.iinfo(np.int64).max)
    into = ~during & (new["duration"] > room)
    new["duration"] = np.minimum(new["duration"], room)
    return new[~during], counts["cut"] + int(into.sum()), counts["duplicate"] + int(during.sum())


def _key(notes: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """[N] one number that sorts by track, pitch and tick (below 2**40)."""
    return (notes["track"].astype(np.int64) << 47) + (notes["pitch"].astype(np.int64) << 40) + onset


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a["track"] == b["track"]) & (a["pitch"] == b["pitch"])


def _waiting(locked: np.ndarray, new: np.ndarray) -> np.ndarray:
    """New notes, of which those that begin during a locked one and last beyond it begin at its end."""
    new = new.copy()
    for note in new:
        mine = locked[_same(locked, note) & (locked["onset"] <= note["onset"])]
        wait = (mine["onset"] + mine["duration"]).max(initial=0) - note["onset"]
        if 0 < wait < note["duration"]:
            note["onset"] += wait
            note["duration"] -= wait
    return new
