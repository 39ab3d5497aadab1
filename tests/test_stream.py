"""Streams: the batch's ids and events, told bar by bar, however long the chunks; closing one stops the work."""

import itertools

import jax
import numpy as np
import pytest
from scores import random_score

from aurljax import mesh as meshes
from aurljax import params
from aurljax.config import build, from_dict
from aurljax.decode import loop, stream
from aurljax.decode.behind import Behind
from aurljax.decode.constraints import Exact
from aurljax.decode.sampler import Repetition, Sampler
from aurljax.decode.stream import Latency, events
from aurljax.errors import UserError
from aurljax.export import provenance
from aurljax.model import Model
from aurljax.models.family import Inputs
from aurljax.music import codec as codecs
from aurljax.music.score import Score

SMALL = {"family": "decoder", "d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32}


def model(length=320, name="score", **options):
    parts = build(from_dict({"model": SMALL, "data": {"length": length}, "codec": {"name": name, "options": options}}))
    devices = meshes.make()
    with meshes.use(devices):
        return Model(parts, params.init(parts.family.spec(parts.model), jax.random.key(2)), devices)


MODEL = model(length=192, microtiming=True, pedal=True)
SAMPLER = Sampler((1.2, 0.7), top_p=0.9, repetition=Repetition(1.3), unrepeated=2)
ASKED = {"bars": 6, "seed": 4, "sampler": SAMPLER, "constraints": [Exact()]}  # so that there are six


def told(bars):
    return [event for bar in bars for event in bar.events]


@pytest.mark.parametrize("chunk", [1, 7])
def test_a_stream_is_the_batch_bit_for_bit(chunk):
    """Of several bars, so that nothing is told too early, and with a cache that grows on the way."""
    found = MODEL.stream(chunk=chunk, **ASKED)
    bars = list(found)
    want = MODEL.generate(**ASKED)[0]
    assert found.score == want and len(want) > 10
    assert len(found.ids) > 100, "one length of the cache"
    assert told(bars) == list(events(MODEL.codec, MODEL.codec.decode(found.ids)))
    assert [b.number for b in bars] == list(range(len(bars))) and len(bars) == 6
    assert found.latency.ids == len(found.ids) - 1 and found.latency.p95 >= found.latency.p50 > 0


def test_bars_are_told_as_soon_as_the_next_begins():
    found, bar = MODEL.stream(chunk=1, **ASKED), MODEL.codec.vocabulary.id("bar")
    first = next(found)
    assert first.number == 0 and (found.ids == bar).sum() == 2 and found.ids[-1] == bar
    assert found.score.bar_ticks[1] <= first.ticks[1]
    assert told([first]) == [e for e in events(MODEL.codec, found.score) if e.tick < first.ticks[1] - 10]


CODECS = {
    "score": dict(microtiming=True, pedal=True),
    "holes": dict(infill=True, keys=True, chords=True),
    "voices": dict(name="voices", voices=2, grid=1, onsets=True),
    "frames": dict(name="voices", voices=2, grid=1, barlines=False),
    "event": dict(name="event"),
}


def written(codec, ids, size=5, given=1):
    """A stream of a piece that is known, the first ids of it given."""
    prompt, new = ids[:given], ids[given:]
    pieces = iter([new[i : i + size] for i in range(0, len(new), size)])
    return stream.Stream(codec, prompt, pieces, lambda n: codec.decode(np.concatenate([prompt, n])), lambda s: s)


@pytest.mark.parametrize("which", CODECS)
def test_events_are_those_of_the_piece(which):
    """Random pieces, through each codec's idea of what is over; a bar is told before the piece ends."""
    options = dict(CODECS[which])
    codec = codecs.make(options.pop("name", "score"), **options)
    early = 0
    for seed in range(12):
        score = random_score(seed, 40)
        cells = {"holes": [(codec.bars(score) - 1, 0), (codec.bars(score) // 2, 0)]} if which == "holes" else {}
        ids = codec.encode(score, **cells)
        found = written(codec, ids)
        bars, known = [], []
        for bar in found:
            bars.append(bar)
            known.append(len(found.ids))
            assert all(e.tick < bar.ticks[1] for e in bar.events) or found.ids[-1] == ids[-1]
        early += known[0] < len(ids) - 5
        assert told(bars) == list(events(codec, codec.decode(ids)))
        assert [b.number for b in bars] == list(range(len(bars)))
        assert all(a.ticks[1] == b.ticks[0] for a, b in itertools.pairwise(bars))
    assert early >= 4


@pytest.mark.parametrize("which", ["score", "voices"])
def test_what_is_given_is_not_told(which):
    options = dict(CODECS[which])
    codec, checked = codecs.make(options.pop("name", "score"), **options), 0
    for seed in range(6):
        ids = codec.encode(random_score(seed, 40))
        for number, at in enumerate(codec.bar_starts(ids, codec.bars(codec.decode(ids)))[1:4], 1):
            bars = list(written(codec, ids, given=at + 1))
            whole = codec.decode(ids)
            edge = codec.bar_tick(whole, number) - codec.early
            assert told(bars) == [e for e in events(codec, whole) if e.tick >= edge] and bars[0].number == number
            checked += edge > 0
    assert checked > 8


def test_notes_a_little_before_their_bar_line_are_told_once():
    """And end the note of their pitch that sounds until then."""
    codec = codecs.make("score", microtiming=True)
    notes = [(max(1920 * bar - 5, 0), 1915, 0, 60 + bar // 2, 80) for bar in range(6)]
    ids = codec.encode(Score(480, notes=notes, tracks=[(0, False)]))
    bars = list(written(codec, ids))
    assert told(bars) == list(events(codec, codec.decode(ids)))
    assert len(bars) == 6 and 1915 in codec.decode(ids).onset


@pytest.mark.slow
@pytest.mark.parametrize("name", ["score", "event"])
def test_a_stream_goes_on_from_a_prompt(name):
    m = model(length=320, name=name)
    prompt = random_score(5, 12)
    limit = {"bars": 2} if name == "score" else {"seconds": 3.0}
    found = m.stream(prompt=prompt, seed=1, **limit)
    bars = list(found)
    assert found.score == m.generate(prompt=prompt, seed=1, **limit)[0]
    place, decoded = Behind(m.codec, prompt), m.codec.decode(found.ids)
    score, numbers = place.score(decoded), place.numbers(decoded)
    edge = int(place.ticks(decoded, place._edge[0]))
    assert told(bars) == [e for e in events(m.codec, score, numbers=numbers) if e.tick >= edge]
    old = set(map(tuple, prompt.notes[["onset", "pitch", "velocity"]].tolist()))
    rows = found.score.notes[["onset", "pitch", "velocity"]].tolist()
    assert old <= set(rows) and found.score.resolution == prompt.resolution
    assert sum(e.kind == "on" for e in told(bars)) == sum(at >= edge for at, *_ in rows)


@pytest.mark.slow
def test_a_mesh_streams_the_same():
    devices = meshes.make(1, 2)
    with meshes.use(devices):
        weights = jax.tree.map(lambda w, p: jax.device_put(np.asarray(w), meshes.sharding(p.axes)),
                               MODEL.weights, MODEL.parts.family.spec(MODEL.parts.model))  # fmt: skip
    other = Model(MODEL.parts, weights, devices)
    assert np.array_equal(*([*s] and s.ids for s in (m.stream(**ASKED) for m in (MODEL, other))))


def test_closing_a_stream_stops_the_work(monkeypatch):
    steps, proceed = [], loop.proceed
    monkeypatch.setattr(loop, "proceed", lambda *a: steps.append(a[3]) or proceed(*a))
    found = MODEL.stream(chunk=4, **ASKED)
    next(found)
    count, ids = len(steps), len(found.ids)
    found.close()
    assert list(found) == [] and len(steps) == count and len(found.ids) == ids
    assert jax.sharding.get_mesh().empty  # the caller's JAX is as it was


def test_few_programs_are_compiled():
    list(MODEL.stream(**ASKED))
    known = loop.proceed._cache_size()
    list(MODEL.stream(chunk=3, **ASKED | {"bars": 3, "seed": 5}))
    MODEL.generate(**ASKED | {"seed": 6})
    assert loop.proceed._cache_size() == known


@pytest.mark.slow
def test_the_best_of_several_is_the_likeliest():
    """By a plain sum over the forward pass of each candidate alone, and by any other measure of scores."""
    asked = {"prompt": random_score(5, 12), "bars": 1, "seed": 3, "temperature": 1.5}
    candidates = MODEL.generate(6, **asked)
    best = MODEL.generate(2, best_of=3, **asked)
    given = len(MODEL.codec.opening(asked["prompt"])[0])
    ranks = []
    for score in candidates:
        ids = MODEL.codec.encode(score)
        features = {k: x[None, :-1] for k, x in MODEL.codec.features(ids).items()}
        with meshes.use(MODEL.mesh):
            family, config = MODEL.parts.family, MODEL.parts.model
            logits, _ = family.apply(config, MODEL.weights, Inputs(ids[None, :-1], np.arange(len(ids) - 1)[None], features))
            log_p = np.asarray(jax.nn.log_softmax(logits))[0]
        ranks.append(log_p[np.arange(len(ids) - 1), ids[1:]][given - 1 :].mean())
    at = [int(np.argmax(ranks[:3])), 3 + int(np.argmax(ranks[3:]))]
    assert len(set(np.round(ranks, 4))) == 6
    for score, i in zip(best, at, strict=True):
        assert score.notes.tobytes() == candidates[i].notes.tobytes()
        assert provenance.read(score)["row"] == i and provenance.read(score)["best_of"] == 3
    fewest = MODEL.generate(best_of=6, rank=lambda scores: [-len(s) for s in scores], **asked)[0]
    assert len(fewest) == min(map(len, candidates))
    with pytest.raises(UserError, match="one number for each of 2"):
        MODEL.generate(best_of=2, rank=lambda scores: 1.0, **asked)
    with pytest.raises(UserError, match="set best_of"):
        MODEL.generate(rank=len, **asked)


def test_latency_is_of_each_id():
    found = Latency.of([(8, 5.0), (8, 0.8), (2, 0.8)])
    assert found.first == 5.0 and found.ids == 18 and np.isclose(found.p50, 0.1) and np.isclose(found.p95, 0.4)
    assert np.isnan(Latency.of([]).p50)


def test_what_cannot_be_streamed_is_refused_before_any_work():
    for wrong, words in (({"chunk": 0}, "chunk must be above 0"), ({"bars": -1}, "bars"), ({"top": 3}, "no setting 'top'")):
        with pytest.raises(UserError, match=words):
            MODEL.stream(**wrong)
    with pytest.raises(UserError, match="'pitch'"):
        MODEL.stream(kinds=(("pitche", Sampler()),))
