"""How long notes sound under the sustain pedal."""

from __future__ import annotations

import numpy as np

from aurljax.music.score import CHANGE, Score

CONTROLLER, DOWN = 64, 64  # its number, and the least value at which it is down (MIDI 1.0)


def sounding(score: Score) -> np.ndarray:
    """[N] ticks at which notes cease to sound: where they end or, if their track's pedal is down then, where it is lifted
    (never: at the end of the piece), at latest where their pitch is struck again."""
    stop = score.onset + score.duration
    pedal = score.controls[(score.controls["kind"] == CHANGE) & (score.controls["number"] == CONTROLLER)]
    for track in np.unique(pedal["track"]):
        rows, own = pedal[pedal["track"] == track], np.flatnonzero(score.track == track)
        own = own[np.lexsort([score.onset[own], score.pitch[own]])]
        down, lifts = rows["value"] >= DOWN, rows["tick"][rows["value"] < DOWN]
        last = np.searchsorted(rows["tick"], stop[own], "right") - 1  # of the pedal's rows, the one in force
        held = own[(last >= 0) & down[np.maximum(last, 0)]]
        stop[held] = np.append(lifts, score.end)[np.searchsorted(lifts, stop[held], "right")]
        again = score.pitch[own][1:] == score.pitch[own][:-1]
        stop[own[:-1][again]] = np.minimum(stop[own[:-1]], score.onset[own[1:]])[again]
    return stop
