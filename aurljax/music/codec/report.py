"""What an encoding loses, in numbers."""

from __future__ import annotations

import numpy as np

from aurljax.music.codec.event import CHANGE, PEDAL, USEC
from aurljax.music.codec.event_grammar import RATE
from aurljax.music.score import Score


def of_score(codec, score: Score) -> dict[str, float]:
    """Counts of what the `score` codec leaves out or changes, and the worst errors of the notes it keeps.

    notes, kept: notes in and out. doubled: a second note of the pitch on one grid position. dropped_notes: of tracks
    beyond 16. shortened: longer than 128 quarters. onset_error: seconds, the median and worst of kept notes, through the
    written tempo map. end_error: seconds, worst. velocity_error: worst, steps of 127. The rest counts rows not written.
    """
    return _compared(codec, score) | {"controls": len(score.controls)}


def of_event(codec, score: Score) -> dict[str, float]:
    """Counts of what the `event` codec leaves out or changes, and the worst errors of the notes it keeps.

    drums, outside: notes of drums, and beyond pitches 21..108. folded: notes of a program that is not its family's
    first, written as that one. merged_tracks: tracks beyond one a family. doubled, cut: notes struck with or during
    another of their pitch and family. pedals, tempi: rows not written, being in force or followed by another within
    1/64 s. tempo_error: worst ratio of a tempo to the one written, less 1; it moves no note. Else as `of_score`.
    """
    layout, tempo = codec.layout(score), score._tempo_map
    step = np.floor(score.seconds(tempo[0]) * RATE + 0.5)
    written = USEC[layout.tempo[np.searchsorted(layout.tempo[:, 0], step, "right") - 1, 1]]
    pedal = (score.controls["kind"] == CHANGE) & (score.controls["number"] == PEDAL)
    return _compared(codec, score) | {
        "tempo_error": float((np.maximum(written / tempo[1], tempo[1] / written) - 1).max()),
        "controls": int((~pedal).sum()),
        "meters": len(score.meter),
    }


def _compared(codec, score: Score) -> dict[str, float]:
    layout = codec.layout(score)
    kept = score.notes[layout.kept]
    decoded = codec.decode(codec.encode(score))
    back = decoded.notes
    onset = np.abs(decoded.seconds(back["onset"]) - score.seconds(kept["onset"]))
    end = np.abs(decoded.seconds(back["onset"] + back["duration"]) - score.seconds(kept["onset"] + kept["duration"]))
    velocity = np.abs(back["velocity"].astype(int) - kept["velocity"])
    worst = {"onset_error": onset, "end_error": end, "velocity_error": velocity}
    return {
        "notes": len(score),
        "kept": len(kept),
        **layout.lost,
        "onset_error_median": float(np.median(onset)) if len(onset) else 0.0,
        **{k: float(v.max(initial=0)) for k, v in worst.items()},
        "keys": len(score.key),
        "texts": len(score.texts),
        "names": sum(bool(n) for n in score.names),
        "metadata": len(score.meta),
    }
