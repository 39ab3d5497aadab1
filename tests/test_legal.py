"""What the grammar allows at each position of packed rows is what it allows each window alone; pipelines keep to it."""

import jax
import numpy as np
import pytest
from corpora import make_corpus, unpacked

from aurljax import legal
from aurljax import mesh as meshes
from aurljax.data.augment import Augment, Effect
from aurljax.data.batch import Batch
from aurljax.data.objective import Objective
from aurljax.data.pipeline import Dataset
from aurljax.music import codec as codecs

ALL = {"microtiming": True, "pedal": True, "keys": True, "chords": True, "infill": True, "controls": (("mood", 5),)}
CODECS = {
    "score": codecs.make("score"),
    "infill": codecs.make("score", **ALL),
    "event": codecs.make("event"),
    "voices": codecs.make("voices"),
}
MIX = Objective(bars=0.2, tracks=0.2, span=0.2, cells=0.2, slack=0.5)
EFFECTS = Augment(drop=Effect(0.5, 0.3), tempo=Effect(0.5, 0.1))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("legal"), fractions=(0, 0))


@pytest.fixture(scope="module", params=CODECS)
def data(request, corpus) -> Dataset:
    """Batches with all that training does to windows."""
    codec = CODECS[request.param]
    objective = MIX if request.param == "infill" else Objective()
    return Dataset(corpus, codec, "train", 512, 4, transpose=(-5, 6), effects=EFFECTS, objective=objective,
                   controls_dropout=0.5 * (request.param == "infill"))  # fmt: skip


def by_hand(grammar, ids: np.ndarray) -> np.ndarray:
    """[n - 1, V] what may follow each id of a window but its last, one id at a time."""
    state, found = grammar.init(1), []
    for token in ids[:-1]:
        assert grammar.allowed(state)[0, token]
        state = grammar.advance(state, np.array([token]))
        found.append(grammar.allowed(state)[0])
    return np.array(found)


def of(grammar, batch: Batch) -> np.ndarray:
    placed = meshes.place(batch)
    found = jax.jit(lambda t, p: legal.ids(grammar, t, p))(placed.tokens, placed.positions)
    assert found.sharding.is_equivalent_to(placed.tokens.sharding, 3)  # each device has the rows it had
    return np.asarray(found)


def test_rows_of_windows_are_their_windows_alone_and_targets_are_lawful(data, mesh):
    """On every mesh; padding may be anything."""
    batch, grammar = max(map(data.batch, range(8)), key=lambda b: b.segments.max()), data.codec.grammar
    found, windows = of(grammar, batch), list(unpacked(batch))
    alone = np.concatenate([by_hand(grammar, ids) for ids, _ in windows])
    assert batch.segments.max() > 1 and (batch.segments == 0).any()
    np.testing.assert_array_equal(found[batch.segments > 0], alone)
    assert found[batch.segments == 0].all() and found.shape == (4, 512, len(data.codec.vocabulary))
    assert 0 < alone.mean() < 0.6


def test_no_target_of_a_pipeline_is_illegal(data):
    with meshes.use(meshes.make()):
        for step in range(8):
            batch = data.batch(step)
            found = of(data.codec.grammar, batch)
            targets = np.take_along_axis(found, batch.targets[..., None], -1)[..., 0]
            assert targets.all()
            assert not found[batch.segments > 0].all(-1).any()  # no window was given up as unlawful


def test_behind_an_illegal_id_all_are_allowed_until_the_next_window():
    codec = CODECS["voices"]
    v, grammar = codec.vocabulary, codec.grammar
    window = [v.id("start"), v.id("bar"), v.id("meter", 3)]
    ids = np.array([[*window, v.id("bar"), v.id("end"), *window]])
    positions = np.array([[0, 1, 2, 3, 4, 0, 1, 2]])
    with meshes.use(meshes.make()):
        found = of(grammar, Batch(ids, ids, ids, ids, positions, {}))[0]
    np.testing.assert_array_equal(found[3:5], True)
    np.testing.assert_array_equal(found[5:], found[:3])
    np.testing.assert_array_equal(found[:3], by_hand(grammar, np.array([*window, 0])))
