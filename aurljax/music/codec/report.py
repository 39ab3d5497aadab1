"""What an encoding loses, in numbers."""

from __future__ import annotations

import numpy as np

from aurljax.music import chords
from aurljax.music.codec.event import USEC
from aurljax.music.codec.event_grammar import RATE
from aurljax.music.codec.markings import PEDAL
from aurljax.music.score import CHANGE, Score


def of_score(codec, score: Score) -> dict[str, float]:
    """Counts of what the `score` codec leaves out or changes, and the worst errors of the notes it keeps.

    notes, kept: notes in and out. doubled: a second note of the pitch on one grid position. dropped_notes: of tracks
    beyond 16. shortened: longer than 128 quarters. onset_error: seconds, the median and worst of kept notes, through the
    written tempo map. end_error: seconds, worst. velocity_error: worst, steps of 127. basses: written chords over another
    bass than their root. The rest counts rows not written: with the codec's options, keys, chords and pedals that are in
    force already or followed by another at once.
    """
    layout, found = codec.layout(score), chords.of(score)
    pedals = int(((score.controls["kind"] == CHANGE) & (score.controls["number"] == PEDAL)).sum())
    given = sum(name in score.meta for name, _ in codec.controls)
    report = _compared(codec, score)
    report["metadata"] -= given
    report["keys"] -= len(layout.key)
    if codec.chords:
        report["texts"] -= len(layout.chord)
        report["basses"] = int(((found["root"] >= 0) & (found["bass"] != found["root"])).sum())
    return report | {"controls": len(score.controls) - pedals, "pedals": pedals - len(layout.pedal)}


def of_event(codec, score: Score) -> dict[str, float]:
    """Counts of what the `event` codec leaves out or changes, and the worst errors of the notes it keeps.

    drums, outside: notes of drums, and beyond pitches 21..108. folded: notes of a program that is not its family's
    first, written as that one. merged_tracks: tracks beyond one a family. doubled, cut: notes struck with or during
    another of their pitch and family. pedals, tempi: rows not written, being in force or followed by another within
    1/64 s. tempo_error: worst ratio of a tempo to the one written, less 1; it moves no note. Else as `of_score`.
    """
    layout, tempo = codec.layout(score), score.tempo_map
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
        **_unwritten(score),
    }


def _unwritten(score: Score) -> dict[str, int]:
    """Rows that no codec writes."""
    return {
        "keys": len(score.key),
        "texts": len(score.texts),
        "names": sum(bool(n) for n in score.names),
        "metadata": len(score.meta),
    }


def of_voices(codec, score: Score) -> dict[str, float]:
    """Counts of what the `voices` codec leaves out or changes, and the worst errors of what it keeps.

    notes, kept: notes in, and those of which anything is written. drums, dropped: notes not written. shortened, split:
    notes cut short by their voice's next one, and struck again in another voice. merged: notes that are not told from
    the one before, of the same pitch. onset_error: seconds on the score's own clock, median and worst; velocity_error:
    worst, steps of 127; tempo_error: worst ratio of a written tempo less one. programs: tracks with a program, which is
    not written. meters, tempi: rows not written, all of them without bar lines. The rest counts rows not written.
    """
    layout = codec.layout(score)
    frames, voices = np.nonzero(layout.struck)
    row, first = np.unique(layout.source[frames, voices], return_index=True)  # the frames ascend
    seconds = score.seconds(frames[first] * (score.resolution / codec.grid))
    onset = np.abs(seconds - score.seconds(score.onset[row]))
    again = layout.struck[1:] & (layout.sound[1:] == layout.sound[:-1])
    return {
        "notes": len(score),
        "kept": len(row),
        **layout.lost,
        "merged": 0 if codec.onsets else int(again.sum()),
        "onset_error_median": float(np.median(onset)) if len(onset) else 0.0,
        "onset_error": float(onset.max(initial=0)),
        "velocity_error": float(np.abs(score.velocity[row].astype(int) - codec.velocity).max(initial=0)),
        **_maps(codec, score, layout),
        "programs": int((score.tracks["program"] > 0).sum()),
        "controls": len(score.controls),
        **_unwritten(score),
    }


def _maps(codec, score: Score, layout) -> dict[str, float]:
    """How many meters and tempi are left out, and how far the worst written tempo is from any in force in its bar."""
    if not codec.barlines:
        return {"meters": len(score.meter), "tempi": len(score.tempo), "tempo_error": 0.0}
    end = layout.lines[-1] * score.resolution
    late = [int((table["tick"] * codec.grid >= end).sum()) for table in (score.meter, score.tempo)]
    tick, usec, _ = score.tempo_map
    lines = layout.lines * (score.resolution / codec.grid)
    at = np.unique(np.concatenate([lines[:-1], tick[tick < lines[-1]]]))
    true = usec[np.searchsorted(tick, at, "right") - 1]
    written = codec.tempi[layout.tempo[np.searchsorted(lines, at, "right") - 1]]
    ratio = np.maximum(true / written, written / true)
    return {"meters": late[0], "tempi": late[1], "tempo_error": float(ratio.max() - 1)}
