"""What an encoding loses, in numbers."""

from __future__ import annotations

import numpy as np

from aurljax.music.score import Score


def of_score(codec, score: Score) -> dict[str, float]:
    """Counts of what the `score` codec leaves out or changes, and the worst errors of the notes it keeps.

    notes, kept: notes in and out. doubled: a second note of the pitch on one grid position. dropped_notes: of tracks
    beyond 16. shortened: longer than 128 quarters. onset_error: seconds, the median and worst of kept notes, through the
    written tempo map. end_error: seconds, worst. velocity_error: worst, steps of 127. The rest counts rows not written.
    """
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
        "controls": len(score.controls),
        "keys": len(score.key),
        "texts": len(score.texts),
        "names": sum(bool(n) for n in score.names),
        "metadata": len(score.meta),
    }
