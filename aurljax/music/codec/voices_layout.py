"""A score as voices on a grid: which note sounds in each voice at each frame."""

from __future__ import annotations

import numpy as np

from aurljax.music.score import Score, rounded


def voice_name(voice: int) -> str:
    """The name of a voice's track; a score whose tracks are so named has its voices given."""
    return f"voice {voice + 1}"


def paint(score: Score, voices: int, grid: int) -> tuple[np.ndarray, dict[str, int]]:
    """([frames, voices] int32 row of the note that sounds, -1 for a rest; counts of what is left out or changed).

    Frames are `grid` to the quarter and end with the last note. Voices are the tracks, highest mean pitch first, if
    there are as many with pitched notes, or fewer that each sing one note at a time. Else, frame by frame, the first
    voice has the highest note, the second the next, and so on.

    drums, dropped: notes not written. shortened: notes that end earlier, for their voice sings another.
    split: notes continued by another voice, hence struck again there.
    """
    rows = np.flatnonzero(~score.is_drum)
    notes = score.notes[rows]
    start, stop = _frames(notes, grid, score.resolution)
    track, pitch = notes["track"].astype(np.int64), notes["pitch"].astype(np.int64)
    voice = _voices(score, track, pitch, start, stop, voices)
    if voice is None:
        at, place, note = _skyline(start, stop, pitch, voices)
    else:
        at, place, note = _lines(start, stop, pitch, voice)
    source = np.full((int(at.max(initial=-1)) + 1, voices), -1, np.int32)
    source[at, place] = note
    cells = np.bincount(note, minlength=len(rows))
    head = source[struck(source)]
    lost = {
        "drums": len(score) - len(rows),
        "dropped": int((cells == 0).sum()),
        "shortened": int(((cells > 0) & (cells < stop - start)).sum()),
        "split": len(head) - int((cells > 0).sum()),
    }
    return np.where(source < 0, -1, rows[source] if len(rows) else -1).astype(np.int32), lost


def struck(source: np.ndarray) -> np.ndarray:
    """[frames, voices] where a note begins in its voice."""
    new = source >= 0
    new[1:] &= source[1:] != source[:-1]
    return new


def _frames(notes: np.ndarray, grid: int, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """([N] first frame, [N] frame after the last) of notes, each at least one frame long."""
    ticks = np.stack([notes["onset"], notes["onset"] + notes["duration"]]).astype(np.int64)
    start, stop = rounded(ticks * grid, resolution)
    return start, np.maximum(stop, start + 1)


def _voices(score: Score, track, pitch, start, stop, voices: int) -> np.ndarray | None:
    """[N] the voice of each note where tracks are voices, else None."""
    used = np.unique(track)
    numbers = {voice_name(v): v for v in range(voices)}
    named = [numbers.get(score.names[t], -1) for t in used]
    of_track = np.full(len(score.tracks), -1)
    if min(named, default=0) >= 0 and len(set(named)) == len(named):
        of_track[used] = named
        return of_track[track]
    if len(used) > voices or (len(used) < voices and _crowded(track, start, stop)):
        return None
    mean = np.bincount(track, pitch)[used] / np.bincount(track)[used]
    of_track[used[np.argsort(-mean, kind="stable")]] = np.arange(len(used))
    return of_track[track]


def _crowded(track: np.ndarray, start: np.ndarray, stop: np.ndarray) -> bool:
    """Whether two notes of a track sound in one frame."""
    order = np.lexsort([start, track])
    t, begin, end = track[order], start[order], stop[order]
    return bool(((t[1:] == t[:-1]) & (begin[1:] < end[:-1])).any())


def _lines(start, stop, pitch, voice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(frame, voice, note) of every cell: of notes that begin together the highest stays, and lasts to the next."""
    order = np.lexsort([-pitch, start, voice])
    v, begin = voice[order], start[order]
    first = np.append(True, (v[1:] != v[:-1]) | (begin[1:] != begin[:-1]))[: len(order)]
    order, v, begin = order[first], v[first], begin[first]
    following = np.append(np.where(v[1:] == v[:-1], begin[1:], np.iinfo(np.int64).max), np.iinfo(np.int64).max)
    at, which = _cells(begin, np.minimum(stop[order], following[: len(order)]))
    return at, v[which], order[which]


def _skyline(start, stop, pitch, voices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(frame, voice, note) of every cell: each frame's notes from the top, as many as there are voices."""
    at, note = _cells(start, stop)
    order = np.argsort(at * 128 + 127 - pitch[note], kind="stable")
    at, note = at[order], note[order]
    index = np.arange(len(at))
    rank = index - np.maximum.accumulate(np.where(np.append(True, at[1:] != at[:-1]), index, 0))
    kept = rank < voices
    return at[kept], rank[kept], note[kept]


def _cells(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(frame, note) for every frame of every note."""
    length = stop - start
    note = np.repeat(np.arange(len(start)), length)
    return np.arange(length.sum()) - (np.cumsum(length) - length - start)[note], note
