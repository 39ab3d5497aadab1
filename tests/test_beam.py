"""Beam search against greedy decoding, against every piece there is, and against the full forward pass."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from test_constraints import Hush

from aurljax import mesh as meshes
from aurljax import params
from aurljax.cli import main
from aurljax.config import build, from_dict
from aurljax.decode import beam as beams
from aurljax.decode import constraints as c
from aurljax.decode import loop
from aurljax.decode.beam import Beam
from aurljax.decode.sampler import Repetition, Sampler
from aurljax.errors import UserError
from aurljax.export import provenance
from aurljax.model import Model
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.models.family import Inputs
from aurljax.music import codec as codecs

FRAMES = codecs.make("voices", voices=1, grid=1, barlines=False)
VOICES = codecs.make("voices", voices=2, grid=1)
RANGE = [c.Range(60, 61)]


@pytest.fixture(autouse=True)
def one_device():
    with meshes.use(meshes.make()):
        yield


def model(codec, seed=1, most=64, asked=(), **fields):
    """(plan, weights) of a small model whose distribution is far from even."""
    sizes = {"vocab": len(codec.vocabulary), "features": tuple(codec.feature_sizes.items())}
    config = DecoderConfig(**sizes, d_model=16, layers=1, heads=2, kv_heads=2, d_ff=32, window=fields.pop("window", 0))
    weights = params.init(DECODER.spec(config), jax.random.key(seed))
    weights = jax.tree.map(lambda w: 2 * w, weights)
    settings = {"sampler": Sampler(), "segments": 2, "constraints": c.kinds(asked)} | fields
    return loop.Plan(DECODER, config, codec, most=most, **settings), weights


def arguments(codec, prompts, left, bars=None, asked=()):
    ids, start = loop.left_padded([np.array(p, np.int32) for p in prompts])
    keys = jax.random.split(jax.random.key(0), len(prompts))
    limits = loop.limits(len(prompts), bars, None, False)
    registers = c.registers(codec, asked, len(prompts))
    return ids, start, keys, *limits, np.full(len(prompts), left, np.int32), registers


def opening(codec, *pitches):
    """A prompt: a start, in a bar of four quarters if there are bars, and pitches."""
    v = codec.vocabulary
    begun = [v.id("start")] + [v.id(k, 3 * (k != "bar")) for k in ("bar", "meter", "tempo") if k in v.index]
    return begun + [v.id("pitch", p) for p in pitches]


def nats(plan, weights, prompt, pieces, left, asked=()):
    """[N] log-probabilities of pieces behind a prompt, by one pass over all of each, without a cache."""
    rows = [np.array([*prompt, *piece], np.int32) for piece in pieces]
    wide = -(-max(map(len, rows)) // 80) * 80 - 1
    padded = [np.pad(row, (0, wide + 1 - len(row))) for row in rows]
    features = [plan.codec.features(row) for row in rows]
    told = {k: np.stack([np.pad(f[k][:-1], (0, wide + 1 - len(f[k]))) for f in features]) for k in features[0]}
    positions = np.tile(np.arange(wide), (len(rows), 1))
    logits = np.asarray(forward(plan.config, weights, np.stack(padded)[:, :-1], positions, told), np.float64)
    return np.array([_nats(plan.codec, x, prompt, p, left, asked) for x, p in zip(logits, pieces, strict=True)])


@functools.partial(jax.jit, static_argnums=0)
def forward(config, weights, *inputs):
    return DECODER.apply(config, weights, Inputs(*inputs))[0]


def _nats(codec, logits, prompt, piece, left, asked):
    state, total = opened(codec, prompt, left, asked), 0.0
    for row, id in zip(logits[len(prompt) - 1 :], piece, strict=False):
        total += row[id] - np.log(np.exp(row[allowed(codec, state, asked)]).sum())
        state = advanced(codec, state, id, asked)
    assert state["phase"][0] == codec.grammar.phase.done
    return total


def opened(codec, prompt, left, asked):
    state = codec.grammar.init(1) | {"asked": c.registers(codec, asked, 1) if asked else {}}
    for id in prompt:
        state = advanced(codec, state, id, asked)
    state["left"][:] = left
    if asked:
        state["asked"] = c.rules(codec, c.kinds(asked)).begin(state, state["asked"])
    return state


def advanced(codec, state, id, asked):
    then = codec.grammar.advance(state, np.array([id]))
    if asked:
        then["asked"] = c.rules(codec, c.kinds(asked)).advance(state, state["asked"], np.array([id]))
    return then


def allowed(codec, state, asked):
    legal = codec.grammar.allowed(state)
    return np.flatnonzero(
        (legal & c.rules(codec, c.kinds(asked)).allowed(state, state["asked"]) if asked else legal)[0]
    )


def every(codec, state, asked):
    """All ways to go on until the piece ends."""
    if state["phase"][0] == codec.grammar.phase.done:
        yield ()
        return
    for id in allowed(codec, state, asked).tolist():
        for rest in every(codec, advanced(codec, state, id, asked), asked):
            yield (id, *rest)


def search(plan, weights, beam, *rest, **more):
    """(ids, log-probabilities, ranks) of the hypotheses, as numpy."""
    return [np.asarray(x) for x in beams.generate(plan, beam, weights, *arguments(plan.codec, *rest, **more))]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_with_room_for_all_it_is_the_best_of_all_pieces(penalty):
    """Of 5 ids within a range of two pitches, by the full forward pass of each."""
    plan, weights = model(FRAMES, asked=RANGE, most=6, segments=1)
    start, left = opening(FRAMES), 5
    pieces = list(every(FRAMES, opened(FRAMES, start, left, RANGE), RANGE))
    want = nats(plan, weights, start, pieces, left, RANGE)
    assert 40 < len(pieces) < 128 and np.exp(want).sum() == pytest.approx(1, abs=1e-4)
    order = np.argsort(-want / np.array([len(p) for p in pieces]) ** penalty)
    ids, found, ranks = search(plan, weights, Beam(128, penalty), [start], left, asked=RANGE)
    assert [tuple(i for i in row if i) for row in ids[0, :4].tolist()] == [pieces[i] for i in order[:4]]
    assert np.allclose(found[0, : len(pieces)], want[order], atol=1e-4)
    assert np.isneginf(ranks[0, len(pieces) :]).all()  # there are no more


UNREPEATED = Sampler(repetition=Repetition(2.0, 4), unrepeated=1)


@pytest.mark.parametrize(("sampler", "window"), [
    pytest.param(Sampler(), 0, id="plain"), pytest.param(UNREPEATED, 16, id="unrepeated-window", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_width_of_one_is_greedy(sampler, window):
    """Over several lengths of the cache, and a ring."""
    plan, weights = model(VOICES, 4, sampler=sampler, window=window)
    prompts = [opening(VOICES), opening(VOICES, 72, 60)]
    greedy = dataclasses.replace(plan, sampler=dataclasses.replace(sampler, temperature=0))
    want = np.asarray(loop.generate(greedy, weights, *arguments(VOICES, prompts, 64)))
    ids, found, _ = search(plan, weights, Beam(1), prompts, 64)
    assert np.array_equal(ids[:, 0], want) and (want > 0).sum() > 60
    if not window:
        for prompt, row, n in zip(prompts, ids[:, 0], found[:, 0], strict=True):
            assert nats(plan, weights, prompt, [row[row > 0]], 64)[0] == pytest.approx(n, abs=1e-3)


def test_rows_know_nothing_of_each_other():
    """The beam of a prompt is the same beside any other, and a full pass over every hypothesis tells its
    log-probability."""
    plan, weights = model(VOICES, 4, segments=1)
    prompts = [opening(VOICES), opening(VOICES, 72, 60)]
    ids, found, ranks = search(plan, weights, Beam(4, 0.0), prompts, 64)
    assert (np.diff(ranks) <= 0).all()
    for row, prompt in enumerate(prompts):
        pieces = [p[p > 0] for p in ids[row]]
        assert len({p.tobytes() for p in pieces}) == 4
        assert np.allclose(nats(plan, weights, prompt, pieces, 64), found[row], atol=1e-3)
    twice = search(plan, weights, Beam(4, 0.0), [prompts[1]] * 2, 64)
    assert np.array_equal(twice[0], ids[[1, 1]]) and np.allclose(twice[1], found[[1, 1]], atol=1e-4)


def test_rings_and_scales_follow_their_hypothesis():
    """Of keys and values in int8, which cost a little, in a window."""
    plan, weights = model(VOICES, 4, cache="int8", window=16, segments=1)
    prompt = opening(VOICES, 72, 60)
    ids, found, _ = search(plan, weights, Beam(4), [prompt], 64)
    pieces = [p[p > 0] for p in ids[0]]
    assert np.abs(nats(plan, weights, prompt, pieces, 64) - found[0]).max() < 0.5 and len(pieces[0]) > 20


def trained(length=64):
    """A model as a user has it, of random weights."""
    small = {"family": "decoder", "d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32}
    codec = {"name": "voices", "options": {"voices": 1, "grid": 1, "barlines": False}}
    parts = build(from_dict({"model": small, "data": {"length": length}, "codec": codec}))
    return Model(parts, params.init(parts.family.spec(parts.model), jax.random.key(3)), meshes.make())


def test_a_model_gives_the_best_of_a_beam(one_segment):
    """Whatever the seed, under constraints; a wider beam is not asked for more than there is."""
    m = trained()
    asked = {"seconds": 4.0, "max_ids": 16, "constraints": [c.Range(60, 72), c.Exact()]}
    first, second = m.generate(2, beam=Beam(3), seed=1, **asked)
    assert m.generate(2, beam=Beam(3), seed=2, **asked)[1].notes.tobytes() == second.notes.tobytes()
    assert first.notes.tobytes() != second.notes.tobytes() and set(range(60, 73)) >= {*first.pitch.tolist()}
    assert first.seconds(first.end) == 4.0
    made = provenance.read(second)
    assert made["beam"] == {"kind": "Beam", "width": 3} and made["row"] == 1


@pytest.mark.parametrize(("how", "words"), [
    ({"temperature": 0.9}, "temperature has no part"), ({"top_p": 0.9}, "top_p has no part"),
    ({"kinds": (("pitch", Sampler(0.5)),)}, "kinds has no part"), ({"best_of": 2}, "best_of has no part"),
    ({"draft": "itself"}, "draft has no part"), ({"n": 5}, "no 5 best pieces"),
])  # fmt: skip
def test_what_does_not_go_with_a_beam_is_refused(how, words):
    m = trained()
    with pytest.raises(UserError, match=words):
        m.generate(**{k: m if v == "itself" else v for k, v in how.items()}, beam=Beam(4))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"width": 2.0}, {"width": 9999}, {"length_penalty": -1}])
def test_beams_that_are_none_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Beam(**wrong)


@pytest.mark.parametrize(("flags", "words"), [
    ("--beam 4 --temperature 0.8", "temperature has no part"), ("--beam 4 --stream", "leave out --beam"),
    ("--beam many", "--beam many: write a whole number"), ("--length-penalty 1", "it is of --beam"),
    ("--beam 4 --best-of 2", "best_of has no part"), ("--beam 2 -n 3", "no 3 best pieces"),
    ("--beam 4 --draft x", "draft has no part"), ("--beam 4 --vary x.mid", "--vary takes no --beam"),
])  # fmt: skip
def test_the_command_refuses_it_before_anything_is_read(flags, words, tmp_path, capsys):
    assert main(["generate", "--checkpoint", "none", "--out", str(tmp_path / "out"), *flags.split()]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_every_mesh_finds_the_same():
    """Of four rows on 4 x 2 devices, heads and rows apart."""
    prompts, found = [opening(VOICES, *pitches) for pitches in ((), (72, 60), (60, 55), (64,))], []
    for shape in ((1, 1), (4, 2)):
        with meshes.use(meshes.make(*shape)):
            plan, weights = model(VOICES, 4)
            found.append(search(plan, weights, Beam(3), prompts, 64))
    assert np.array_equal(found[0][0], found[1][0]) and np.allclose(found[0][1], found[1][1], atol=1e-3)


@pytest.mark.slow
def test_what_ends_because_nothing_may_follow_comes_last():
    """However likely it is: of pieces in which notes fall silent from the third bar on, those that end before it."""
    codec, asked = codecs.make("score"), [c.Density(2, 5), Hush()]
    plan, weights = model(codec, 1, most=192, asked=asked, segments=1)
    end, stuck, whole = codec.vocabulary.id("end"), 0, 0
    for seed in range(3):
        weights = params.init(DECODER.spec(plan.config), jax.random.key(seed))
        ids, _, ranks = search(plan, weights, Beam(16, 1.0), [opening(codec)[:1]], 192, 8, asked=asked)
        ends = [(row == end).any() for row, rank in zip(ids[0], ranks[0], strict=True) if np.isfinite(rank)]
        assert ends == sorted(ends, reverse=True)
        stuck, whole = stuck + ends.count(False), whole + ends.count(True)
    assert stuck and whole
