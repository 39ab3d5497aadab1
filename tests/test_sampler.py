"""Samplers beside plain numpy formulas, alone and in the loop, where what they remember is looked up in the ids."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scores import random_score

from aurljax import mesh as meshes
from aurljax import params
from aurljax.decode import loop, memory, wording
from aurljax.decode.sampler import Repetition, Sampler, make, sample, uniforms, weights
from aurljax.errors import UserError
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.models.family import Inputs
from aurljax.music import codec as codecs
from aurljax.music.codec.vocabulary import Vocabulary

WORDS = Vocabulary((("bar", 1), ("pitch", 30), ("duration", 20), ("end", 1), ("velocity", 18)))
SAMPLERS = {
    "plain": Sampler(),
    "cold": Sampler(temperature=0.6),
    "top_k": Sampler(top_k=5),
    "top_p": Sampler(top_p=0.6),
    "min_p": Sampler(min_p=0.15),
    "typical": Sampler(typical=0.5),
    "schedule": Sampler(temperature=(1.5, 0.5)),
    "kinds": Sampler(0.8, kinds=(("pitch", Sampler(1.6, top_k=7)), ("duration", Sampler(0)),
                                 ("velocity", Sampler(top_p=0.5)))),
    "greedy kinds": Sampler(0, kinds=(("pitch", Sampler(1.4)),)),
    "all": Sampler((2.0, 0.7), top_k=40, top_p=0.95, min_p=0.01, typical=0.8,
                   kinds=(("pitch", Sampler(typical=0.4, min_p=0.1)),)),
}  # fmt: skip


def shares(s, logits, progress=0.0, words=None):
    """float64 [V] the probability of each id of one row, by the definitions: sets of ids, one after the other."""
    inside = np.flatnonzero(np.isfinite(logits))
    p = np.zeros(len(logits))
    if not len(inside):
        return p
    if s.temperature == 0:
        p[np.argmax(logits)] = 1
    else:
        t = s.temperature if np.isscalar(s.temperature) else s.temperature[0] + progress * np.diff(s.temperature)[0]
        p[inside] = np.exp((logits[inside].astype(np.float64) - logits[inside].max()) / t)
        p /= p.sum()
        by_size = sorted(inside, key=lambda i: -p[i])
        kept = {i for i in inside if p[i] >= s.min_p * p.max()}
        kept &= set(by_size[: s.top_k]) if s.top_k else kept
        kept &= fewest(by_size, p, s.top_p) if s.top_p < 1 else kept
        p = np.where(np.isin(np.arange(len(p)), list(kept)), p, 0)
        p /= p.sum()
        if s.typical < 1:
            entropy = -sum(p[i] * np.log(p[i]) for i in kept)
            kept = fewest(sorted(kept, key=lambda i: abs(-np.log(p[i]) - entropy)), p, s.typical)
            p = np.where(np.isin(np.arange(len(p)), list(kept)), p, 0)
            p /= p.sum()
    for kind, own in s.kinds:
        mine = words.kind == words.index[kind]
        inner = shares(own, np.where(mine, logits, -np.inf), progress)
        p = np.where(mine, p[mine].sum() * inner, p)
    return p


def fewest(order, p, share):
    return set(order[: int((np.cumsum(p[order]) < share).sum()) + 1])


def random_logits(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, len(WORDS))).astype(np.float32)
    legal = rng.random((rows, len(WORDS))) < rng.uniform(0.1, 1, (rows, 1))
    legal[np.arange(rows), rng.integers(0, len(WORDS), rows)] = True
    return np.where(legal, logits, -np.inf).astype(np.float32), rng.random(rows).astype(np.float32)


@pytest.mark.parametrize("name", SAMPLERS)
def test_weights_are_those_of_the_definition(name):
    s = SAMPLERS[name]
    logits, progress = random_logits()
    w = np.asarray(jax.jit(lambda x, t: weights(s, x, WORDS, t))(logits, progress))
    want = np.stack([shares(s, row, t, WORDS) for row, t in zip(logits, progress, strict=True)])
    assert np.array_equal(w > 0, want > 0)
    assert np.abs(w / w.sum(1, keepdims=True) - want).max() < 1e-5


@pytest.mark.parametrize("name", ["schedule", "kinds", "all"])
def test_frequencies_are_those_of_the_definition(name):
    s, n = SAMPLERS[name], 20_000
    logits, progress = (x[:1] for x in random_logits(seed=3))
    want = shares(s, logits[0], progress[0], WORDS)
    random = jax.random.uniform(jax.random.key(1), (n,))
    whole = jnp.broadcast_to(jnp.asarray(logits), (n, len(WORDS)))
    drawn = sample(s, whole, None, random, WORDS, jnp.broadcast_to(progress, n))
    count = np.bincount(drawn, minlength=len(WORDS))
    assert count[want == 0].sum() == 0
    there = want > 0
    chi, free = ((count - n * want)[there] ** 2 / (n * want[there])).sum(), there.sum() - 1
    assert free > 3 and chi < free + 4 * np.sqrt(2 * free)  # four standard deviations


def test_a_kind_with_the_settings_of_all_changes_nothing():
    logits, progress = random_logits()
    every = tuple((kind, Sampler((1.4, 0.6))) for kind in WORDS.index)
    one, each = Sampler((1.4, 0.6)), Sampler((1.4, 0.6), kinds=every)
    a, b = (np.asarray(weights(s, jnp.asarray(logits), WORDS, jnp.asarray(progress))) for s in (one, each))
    assert np.abs(a / a.sum(1, keepdims=True) - b / b.sum(1, keepdims=True)).max() < 1e-6
    pitches = np.where(WORDS.kind == WORDS.index["pitch"], logits, -np.inf)
    pitches = jnp.asarray(pitches[np.isfinite(pitches).any(1)])
    own = Sampler(0.9, top_k=9, top_p=0.8, typical=0.7)  # truncation too, where only ids of the kind are legal
    a = weights(own, pitches)
    b = weights(Sampler(kinds=(("pitch", own),)), pitches, WORDS)
    assert np.abs(a / a.sum(1, keepdims=True) - b / b.sum(1, keepdims=True)).max() < 1e-6


def test_hotter_pitches_leave_the_rest_as_it_is():
    logits = jnp.asarray(random_logits()[0])
    mine = WORDS.kind == WORDS.index["pitch"]
    for t in (0.5, 3.0):
        a, b = (np.asarray(weights(s, logits, WORDS)) for s in (Sampler(), Sampler(kinds=(("pitch", Sampler(t)),))))
        assert np.allclose(a[:, ~mine], b[:, ~mine])
        assert np.allclose(a[:, mine].sum(1), b[:, mine].sum(1), rtol=1e-4, atol=1e-6)


# ---- in the loop ----------------------------------------------------------------------------------------------------


def model(codec):
    config = DecoderConfig(vocab=len(codec.vocabulary), features=tuple(codec.feature_sizes.items()), d_model=32, layers=2,
                           heads=4, kv_heads=2, d_ff=64)  # fmt: skip
    return config, params.init(DECODER.spec(config), jax.random.key(3))


def run(codec, sampler, rows, most, bars=None, prompts=None, seed=1):
    """(prompt, new ids) of each row."""
    config, w = model(codec)
    prompts = prompts or [np.array([codec.vocabulary.id("start")], np.int32)] * len(rows)
    keys = jnp.stack([jax.random.fold_in(jax.random.key(seed), i) for i in rows])
    ids, start = loop.left_padded(prompts)
    plan = loop.Plan(DECODER, config, codec, sampler, most, segments=1)
    new = loop.generate(plan, w, ids, start, keys, *loop.limits(len(rows), bars, None, False))
    return list(zip(prompts, map(np.asarray, new), strict=True))


def texts(codec, ids):
    """The ids of each bar, meter and tempo aside."""
    v = codec.vocabulary
    aside = [v.index[k] for k in ("meter", "tempo", "coarse", "fine") if k in v.index]
    bars = np.split(ids, np.flatnonzero(ids == v.id("bar")))[1:]
    return [tuple(i for i in bar[1:].tolist() if i != v.id("end") and v.kind[i] not in aside) for bar in bars]


def repeats(codec, ids, span):
    """Bars that equal one of the `span` before them."""
    found = texts(codec, ids)
    return [i for i, bar in enumerate(found) if bar in found[max(i - span, 0) : i]]


VOICES = codecs.make("voices", voices=2, grid=1)
SCORE = codecs.make("score")
OPENED = {
    "score": [("start", 0), ("program", 5), ("bar", 0), ("meter", 7), ("position", 0), ("coarse", 40), ("fine", 40)],
    "voices": [("start", 0), ("bar", 0), ("meter", 3), ("tempo", 40)],
}


def opened(codec, step):
    """A first bar begun, in one tempo or another, so that greedy rows differ."""
    ids = [codec.vocabulary.id(kind, value) for kind, value in OPENED[codec.name]]
    return np.array([*ids[:-1], ids[-1] + step], np.int32)


@pytest.mark.parametrize("codec", [VOICES, pytest.param(SCORE, marks=pytest.mark.slow)], ids=lambda c: c.name)
def test_no_bar_is_repeated(codec):
    """A greedy loop over random weights falls into a cycle of a few bars at once."""
    prompts, found = [opened(codec, i) for i in range(8)], {}
    with meshes.use(meshes.make()):
        for span in (0, 3):
            rows = run(codec, Sampler(0, unrepeated=span), range(8), 160, prompts=prompts)
            rows = [np.trim_zeros(np.concatenate(row), "b") for row in rows]
            assert all(codec.decode(ids) and ids[-1] == codec.vocabulary.id("end") for ids in rows)
            # A piece that runs out of ids must end where it is.
            found[span] = sum(len([i for i in repeats(codec, ids, 3) if i < 8 or len(ids) < 150]) for ids in rows)
    assert found[0] > 10, "the control repeats nothing"
    assert found[3] == 0


def banned(codec, ids, length):
    """The ids with which the bar that `ids` end in would be one of the two before it; `length`: of a whole bar."""
    bars, v = texts(codec, ids), codec.vocabulary
    closing = [v.id("bar"), v.id("end")] if bars[-1] in bars[-3:-1] else []
    cells = [i for i in range(v.id("rest"), len(v)) if len(bars[-1]) + 1 == length and (*bars[-1], i) in bars[-3:-1]]
    return closing + cells


def test_draws_are_those_of_the_definition_in_the_loop():
    """Each id drawn lies where its uniform number points, given the plain forward pass and the ids so far."""
    v, grammar, span, most, bars = VOICES.vocabulary, VOICES.grammar, 6, 96, 6
    s = Sampler((1.2, 0.5), top_p=0.98, repetition=Repetition(5.0, span), unrepeated=2,
                kinds=(("pitch", Sampler(0.9, min_p=0.02)),))  # fmt: skip
    prompts, checked = [opened(VOICES, i)[: 4 - i] for i in range(3)], 0  # ragged
    with meshes.use(meshes.make()):
        config, w = model(VOICES)
        forward = jax.jit(lambda w, inputs: DECODER.apply(config, w, inputs)[0])
        for row, (begin, new) in enumerate(run(VOICES, s, range(3), most, bars=bars, prompts=prompts)):
            whole = np.concatenate([begin, np.trim_zeros(new, "b")])
            padded = np.pad(whole, (0, 128 - len(whole)))
            features = {k: x[None] for k, x in VOICES.features(padded).items()}
            logits = forward(w, meshes.place(Inputs(padded[None], np.arange(128)[None], features)))
            logits = np.asarray(meshes.gather(logits, (None, None, None)))[0]
            key = jax.random.fold_in(jax.random.key(1), row)
            random = np.asarray(uniforms(key[None], jnp.arange(most)))[:, 0]
            state = grammar.init(1)
            for at, token in enumerate(whole):
                if at == len(begin):
                    state["left"], state["bars_left"] = np.array([most]), np.array([bars])
                if at >= len(begin):
                    legal, x = grammar.allowed(state)[0], grammar.within(state, logits[None, at - 1].copy())[0]
                    lately = [t for t in whole[:at] if v.kind[t] == v.index["pitch"]][-span:]
                    x[lately] = x[lately] - np.log(5.0)
                    ban = banned(VOICES, whole[:at], 2 * state["bar_length"][0]) if state["bar"][0] >= 0 else []
                    others = legal & ~np.isin(np.arange(len(v)), ban)
                    x = np.where(others if others.any() else legal, x, -np.inf)
                    p = shares(s, x, 1 - state["bars_left"][0] / bars, v)
                    u, up_to = random[at - len(begin)], np.cumsum(p)
                    assert p[token] > 0 and up_to[token] - p[token] - 2e-3 <= u <= up_to[token] + 2e-3
                    checked += state["bars_left"][0] < bars / 2
                state = grammar.advance(state, np.array([token]))
    assert checked > 20


EVERYTHING = Sampler((1.8, 0.8), top_k=200, typical=0.95, repetition=Repetition(3.0, 9, ("pitch", "duration")),
                     unrepeated=2, kinds=(("pitch", Sampler(1.3, top_p=0.9)),))  # fmt: skip


@pytest.mark.slow
def test_a_row_is_the_same_alone_and_again():
    prompts = [SCORE.encode(random_score(seed, 12 + seed), (0, 1)) for seed in (3, 4, 8)]
    with meshes.use(meshes.make()):
        rows = [run(SCORE, EVERYTHING, range(3), 64, bars=4, prompts=prompts) for _ in range(2)]
        (alone,) = run(SCORE, EVERYTHING, [1], 64, bars=4, prompts=prompts[1:2])
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(*rows, strict=True))
    assert np.array_equal(alone[1], rows[0][1][1])
    assert not np.array_equal(rows[0][0][1], rows[0][1][1])


def test_a_schedule_goes_from_one_end_to_the_other():
    state = {"bars_left": jnp.array([8, 2**30, 2**30]), "clock": jnp.array([1.0, 1.0, 1.0]),
             "seconds": jnp.array([jnp.inf, 5.0, jnp.inf]), "left": jnp.array([10, 10, 10])}  # fmt: skip
    m = memory.asked(Sampler((1.0, 2.0)), state)
    later = {"bars_left": jnp.array([2, 2**30, 2**30]), "clock": jnp.array([9.0, 4.0, 9.0]), "left": jnp.array([5] * 3)}
    assert np.allclose(memory.progress(m, state), 0)
    assert np.allclose(memory.progress(m, later), [0.75, 0.75, 0.5])
    assert memory.asked(Sampler(), state) == {}


# ---- what is refused ------------------------------------------------------------------------------------------------

REFUSED = [
    (dict(temperature=-1), "temperature"),
    (dict(temperature=(1.0, 0)), "above 0"),
    (dict(temperature=(1.0, 0.5, 0.2)), "schedule"),
    (dict(temperature="hot"), "must be a number"),
    (dict(top_p=0), "top_p"),
    (dict(top_k=1.5), "whole number"),
    (dict(typical=0), "typical"),
    (dict(unrepeated=-1), "unrepeated"),
    (dict(temperature=0, top_p=0.9), "leave out one"),
    (dict(kinds=(("pitch", Sampler()), ("pitch", Sampler(2.0)))), "twice"),
    (dict(kinds=(("pitch", Sampler(unrepeated=2)),)), "'pitch' can have"),
]


@pytest.mark.parametrize("fields, words", REFUSED, ids=lambda x: str(x)[:30])
def test_impossible_samplers_are_refused(fields, words):
    with pytest.raises(UserError, match=words):
        Sampler(**fields)


def test_names_that_do_not_exist_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="no setting 'top-k'; did you mean 'top_k'"):
        make(None, {"top-k": 3})
    with pytest.raises(UserError, match="give no sampler"):
        make(Sampler(), {"top_k": 3})
    assert make(None, {"top_k": 3}) == Sampler(top_k=3)
    with pytest.raises(UserError, match="no 'pitches'; did you mean 'pitch'"):
        Sampler(kinds=(("pitches", Sampler()),)).check(SCORE.vocabulary, "score")
    event = codecs.make("event")
    with pytest.raises(UserError, match="unrepeated: the codec 'event'"):
        Sampler(unrepeated=2).check(event.vocabulary, "event")
    with pytest.raises(UserError, match="penalty"):
        Repetition(0.5)
    assert Repetition().among(event.vocabulary) == ("on",)
    Sampler(repetition=Repetition()).check(event.vocabulary, "event")


def spoken(*flags):
    parser = argparse.ArgumentParser()
    wording.add(parser)
    return wording.parse(parser.parse_args(flags))


def test_samplers_in_words():
    assert spoken() == Sampler()
    assert spoken("--temperature", "1.2:0.8", "--top-k", "5", "--unrepeated", "4") == Sampler((1.2, 0.8), 5, unrepeated=4)
    cold = spoken("--top-p", "0.9", "--kind", "pitch:temperature=1.2", "--kind", "duration:temperature=0")
    assert cold == Sampler(top_p=0.9, kinds=(("pitch", Sampler(1.2, top_p=0.9)), ("duration", Sampler(0))))
    warm = spoken("--temperature", "0", "--kind", "pitch:temperature=0.9,min-p=0.1")
    assert warm == Sampler(0, kinds=(("pitch", Sampler(0.9, min_p=0.1)),))
    assert spoken("--repetition", "1.3").repetition == Repetition(1.3)
    assert spoken("--repetition", "1.3:8:pitch,chord").repetition == Repetition(1.3, 8, ("pitch", "chord"))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--temperature", "warm"], "--temperature warm: write a number"),
        (["--top-k", "2.5"], "--top-k 2.5: write a whole number"),
        (["--kind", "pitch"], "--kind pitch: write KIND:NAME=VALUE"),
        (["--kind", "pitch:heat=2"], "names of temperature"),
        (["--kind", "pitch:top-k=x"], "--kind pitch:top-k x: write a whole number"),
        (["--repetition", "2:8:pitch:3"], "write PENALTY"),
        (["--unrepeated", "-1"], "unrepeated must lie"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_words_that_are_not_understood_are_refused(flags, words):
    with pytest.raises(UserError, match=words):
        spoken(*flags)
