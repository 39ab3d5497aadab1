"""Prompts: what is written behind one leaves its own rows to the bit, whatever the codec and whatever it does not tell."""

import numpy as np
import pytest
from scores import random_score, tune

from aurljax.decode.behind import Behind
from aurljax.export.finish import finish
from aurljax.music import codec as codecs
from aurljax.music.score import TABLES, Score

CODECS = {
    "score": dict(microtiming=True, pedal=True, keys=True, chords=True),
    "grid": dict(),
    "voices": dict(name="voices", voices=3, grid=2),
    "onsets": dict(name="voices", voices=2, grid=4, onsets=True),
    "frames": dict(name="voices", voices=2, grid=1, barlines=False),
    "event": dict(name="event"),
}
every = pytest.mark.parametrize("which", CODECS)


def made(which: str):
    options = dict(CODECS[which])
    return codecs.make(options.pop("name", "score"), **options)


def gone_on(codec, prompt: Score, seed: int, most: int = 80) -> Score:
    """What random ids behind the prompt decode to, prompt included."""
    rng, ids, kind = np.random.default_rng(seed), codec.opening(prompt)[0].tolist(), codec.vocabulary.kind
    state = codec.grammar.init(1)
    for id in ids:
        state = codec.grammar.advance(state, np.array([id]))
    state["left"] = np.array([most], np.int32)
    while ids[-1] != codec.vocabulary.id("end"):
        (open_,) = np.nonzero(codec.grammar.allowed(state)[0])
        ids.append(int(rng.choice(open_[kind[open_] == rng.choice(np.unique(kind[open_]))])))
        state = codec.grammar.advance(state, np.array([ids[-1]]))
    return codec.decode(ids)


def without(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of a table that are not among others, each of which it has."""
    left = table.tolist()
    for row in rows.tolist():
        left.remove(row)
    return np.array(left, table.dtype)


@every
def test_the_rows_of_a_prompt_stay(which):
    """Of dense, odd pieces of up to 20 tracks and any resolution, much of which no codec tells."""
    codec, count = made(which), 0
    for seed in range(30):
        prompt = random_score(seed, 60)
        if not len(prompt):
            continue
        decoded, place = gone_on(codec, prompt, seed), Behind(codec, prompt)
        score = place.score(decoded)
        score.check()
        assert score.resolution == prompt.resolution and len(place.numbers(decoded)) == len(score.tracks)
        assert score.tracks[: len(prompt.tracks)].tobytes() == prompt.tracks.tobytes()
        assert score.names[: len(prompt.tracks)] == prompt.names and set(prompt.texts) <= set(score.texts)
        assert prompt.meta.items() <= score.meta.items()
        for name in sorted(TABLES.keys() - {"tracks"}):
            without(getattr(score, name), getattr(prompt, name))  # it has them all
        new = without(score.notes, prompt.notes)
        begin = int(place.ticks(decoded, place._edge[0]))
        assert all(new["onset"] >= begin)
        if "meter" in codec.vocabulary.index:  # new bars are of the meter that was written
            starts = [t for t in decoded.meters["tick"].tolist() if t > place._edge[0] + codec.early]
            for tick in [place._edge[0] + codec.early, *starts]:
                assert in_force(score, int(place.ticks(decoded, tick))) == in_force(decoded, tick)
        count += len(new)
    assert count > 50


def in_force(score: Score, tick: int) -> tuple:
    return score.meters[np.searchsorted(score.meters["tick"], tick, "right") - 1].item()[1:]


@every
def test_new_notes_are_those_of_the_codec(which):
    """In their own place: seconds or bars, tracks, pitches and velocities, to a tick of the prompt."""
    codec, count = made(which), 0
    for seed in range(12):
        prompt = tune(seed, bars=2)
        for resolution in (480, 96):
            own = prompt if resolution == 480 else coarse(prompt)
            decoded, place = gone_on(codec, own, seed), Behind(codec, own)
            score = place.score(decoded)
            new = score.replace(notes=without(score.notes, own.notes))
            begun = decoded.replace(notes=decoded.notes[decoded.onset >= place._edge[0]])
            held = len(new) - len(begun)
            assert held >= 0 if codec.name == "voices" else held == 0
            count += len(begun)
            if codec.name == "event":
                ours, theirs, slack = new.seconds(new.onset), begun.seconds(begun.onset), 0.6 * 2.1e-3 * 480 / resolution
            else:
                ours, theirs, slack = new.onset / resolution, begun.onset / decoded.resolution, 0.51 / resolution
            found = sorted(zip(ours.tolist(), new.pitch.tolist(), new.velocity.tolist(), strict=True))
            for at, pitch, velocity in zip(theirs.tolist(), begun.pitch.tolist(), begun.velocity.tolist(), strict=True):
                assert any(abs(a - at) <= slack and (p, v) == (pitch, velocity) for a, p, v in found)
    assert count > 25


def coarse(score: Score) -> Score:
    notes = score.notes.copy()
    for name in ("onset", "duration"):
        notes[name] //= 5
    return score.replace(resolution=96, notes=notes)


@pytest.mark.parametrize("which", ["score", "grid"])
def test_a_prompt_as_the_codec_writes_it_is_what_it_always_was(which):
    codec = made(which)
    for seed in range(12):
        prompt = codec.decode(codec.encode(tune(seed, bars=2)))
        decoded = gone_on(codec, prompt, seed)
        assert Behind(codec, prompt).score(decoded) == decoded
        assert Behind(codec, None).score(decoded) is decoded


def test_what_goes_on_sounding_is_a_new_note():
    """A voice that holds its pitch beyond the prompt; the prompt's note keeps its own end."""
    codec = made("onsets")
    prompt = Score(96, notes=[(0, 380, 0, 72, 31), (0, 384, 1, 60, 97)], tracks=[(0, False), (5, False)], names=("A", "B"))
    v, ids = codec.vocabulary, codec.opening(prompt)[0]
    frames = [v.id("hold"), v.id("hold"), v.id("hold"), v.id("rest")] + [v.id("rest")] * 28
    score = Behind(codec, prompt).score(codec.decode([*ids, *frames, v.id("end")]))
    assert score.notes[:2].tobytes() == prompt.notes.tobytes()
    assert score.notes[2:].tolist() == [(384, 48, 0, 72, 80), (384, 24, 1, 60, 80)]


def test_new_notes_wait_for_the_end_of_old_ones():
    """Legato beyond the bar line, which the grid cuts; and drums go on beside voices, which do not tell them."""
    codec = made("grid")
    prompt = Score(480, notes=[(0, 1927, 0, 60, 64)], tracks=[(0, False)])
    v = codec.vocabulary
    new = [v.id("position", 0), v.id("track", 0), v.id("pitch", 60), v.id("duration", 23), v.id("end")]
    ids = np.append(codec.opening(prompt)[0], new)
    assert Behind(codec, prompt).score(codec.decode(ids)).notes.tolist() == [(0, 1927, 0, 60, 64), (1927, 473, 0, 60, 66)]
    drums = tune(0, 1).replace(tracks=[(0, False), (0, True)])
    voices = made("frames")
    score = Behind(voices, drums).score(gone_on(voices, drums, 0))
    assert score.is_drum.sum() == drums.is_drum.sum() and without(score.notes, drums.notes)["track"].max() != 1


def test_instruments_that_the_prompt_lacks_are_tracks_behind_its_own():
    codec = made("event")
    prompt = Score(480, notes=[(0, 480, 0, 36, 64), (0, 480, 1, 60, 64)], tracks=[(0, True), (3, False)])
    prompt = prompt.replace(names=("Kit", "Keys"))
    v, ids = codec.vocabulary, codec.opening(prompt)[0]
    new = [v.id("instrument", 4), v.id("on", 40), v.id("instrument", 0), v.id("on", 41), v.id("shift", 31),
           v.id("instrument", 0), v.id("off", 41), v.id("instrument", 4), v.id("off", 40), v.id("end")]  # fmt: skip
    decoded = codec.decode([*ids, *new])
    score, place = Behind(codec, prompt).score(decoded), Behind(codec, prompt)
    assert score.tracks.tolist() == [(0, True), (3, False), (32, False)] and place.numbers(decoded) == [0, 1, 2 + 4]
    assert score.track[2:].tolist() == [1, 2] and score.names == ("Kit", "Keys", "")


def test_keys_are_the_prompts_where_it_states_them():
    score, prompt = tune(0), tune(0).replace(key=[(0, -5, True), (960, 2, False)])
    assert finish(score.replace(key=prompt.key), prompt).key.tolist() == prompt.key.tolist()
    assert finish(score.replace(key=prompt.key), tune(0)).key.tolist() == finish(score).key.tolist() != prompt.key.tolist()
