"""Declared once: bits, shardings, the abstract tree and the count follow."""

import jax
import numpy as np
import pytest

from aurljax import mesh as meshes
from aurljax import params
from aurljax.errors import UserError
from aurljax.params import Param

LAYER = {"a": Param((16, 8), ("embed", "heads"), scale=0.1), "b": Param((24, 16), ("mlp", "embed"))}
TREE = {
    "separate": {"layers": {str(i): LAYER for i in range(3)}},
    "stacked": {"layers": params.stacked(LAYER, 3)},
    "norm": Param((16,), (None,), "ones"),
    "bias": Param((16,), (None,), "zeros"),
}


def create(tree, data=1, model=1, seed=0):
    with meshes.use(meshes.make(data, model)):
        return jax.jit(lambda key: params.init(tree, key))(jax.random.key(seed))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def drawn():
    return create(TREE)


@pytest.mark.parametrize("shape", [(8, 1), (4, 2), (2, 4)], ids=str)
def test_init_is_bitwise_equal_on_every_mesh(shape, drawn):
    same(drawn, create(TREE, *shape))


def test_stacked_layers_begin_as_separate_ones():
    separate = create({"layers": {str(i): {"a": LAYER["a"]} for i in range(3)}}, 4, 2)["layers"]
    stacked = create({"layers": params.stacked({"a": LAYER["a"]}, 3)}, 4, 2)["layers"]
    same(params.stack(separate), stacked)
    same(params.unstack(stacked), separate)


def test_every_weight_draws_its_own_bits_and_a_new_one_moves_none(drawn):
    new = create({"extra": Param((24, 16), ("mlp", "embed")), **TREE["separate"]})
    same(drawn["separate"]["layers"]["1"]["b"], create({"separate": TREE["separate"]})["separate"]["layers"]["1"]["b"])
    first = [np.asarray(w).ravel()[:4].tobytes() for w in jax.tree.leaves(new)]
    assert len(set(first)) == len(first) == 7


def test_seed_spread_and_constants(drawn):
    one, two = (create({"w": Param((64, 64), (None, None), scale=0.1)}, seed=seed)["w"] for seed in (0, 1))
    assert abs(np.std(one) - 0.1) < 0.01 and not np.array_equal(one, two)
    assert np.all(np.asarray(drawn["norm"]) == 1) and np.all(np.asarray(drawn["bias"]) == 0)


def test_abstract_tree_and_count_are_those_of_init(mesh):
    tree = {"stacked": {"layers": params.stacked({"b": LAYER["b"]}, 3)}, "norm": TREE["norm"]}
    real = create(tree, *mesh.shape.values())
    planned = params.abstract(tree)
    assert jax.tree.map(jax.typeof, real) == jax.tree.map(jax.typeof, planned)
    assert all(p.sharding == w.sharding for p, w in zip(*map(jax.tree.leaves, (planned, real)), strict=True))
    assert params.count(tree) == sum(w.size for w in jax.tree.leaves(real)) == 3 * 24 * 16 + 16


def test_check_names_the_parameter_and_the_nearest_size():
    with meshes.use(meshes.make(2, 4)):
        params.check(TREE)
        with pytest.raises(UserError, match=r"layers/0/b: mlp = 18 .* nearest that works is 16"):
            params.check({"layers": {"0": {"b": Param((18, 16), ("mlp", "embed"))}}})


def test_declarations_that_cannot_be():
    with pytest.raises(ValueError, match="2 dimensions, 1 axes"):
        Param((2, 3), (None,))
    with pytest.raises(ValueError, match="none of normal"):
        create({"w": Param((2,), (None,), "uniform")})
