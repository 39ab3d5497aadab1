"""Declared once: bits, shardings, the abstract tree and the count follow."""

import jax
import numpy as np
import pytest

from aurljax import mesh as meshes
from aurljax import params
from aurljax.errors import UserError
from aurljax.params import Param

LAYER = {"a": Param((16, 8), ("embed", "heads"), scale=0.1), "b": Param((24, 16), ("mlp", "embed"))}
TREE = {"layers": {str(i): LAYER for i in range(3)}, "norm": Param((16,), (None,), "ones"),
        "bias": Param((16,), (None,), "zeros"), "head": Param((16, 7), ("embed", "vocab"))}
STACKED = {**TREE, "layers": params.stacked(LAYER, 3)}


def create(tree, data=1, model=1, seed=0):
    with meshes.use(meshes.make(data, model)):
        return jax.jit(lambda key: params.init(tree, key))(jax.random.key(seed))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("tree", [TREE, STACKED], ids=["separate", "stacked"])
def test_init_is_bitwise_equal_on_every_mesh(tree):
    one = create(tree)
    for shape in ((8, 1), (4, 2), (2, 4)):
        same(one, create(tree, *shape))


def test_stacked_layers_begin_as_separate_ones():
    separate, stacked = create(TREE, 4, 2), create(STACKED, 4, 2)
    same(params.stack(separate["layers"]), stacked["layers"])
    same(params.unstack(stacked["layers"]), separate["layers"])


def test_every_weight_draws_its_own_bits_and_a_new_one_moves_none():
    old = create(TREE)
    new = create({**TREE, "extra": Param((16, 8), ("embed", None))})
    same(old, {k: v for k, v in new.items() if k != "extra"})
    drawn = [np.asarray(w).ravel()[:4].tobytes() for w in jax.tree.leaves((new["layers"], new["head"], new["extra"]))]
    assert len(set(drawn)) == len(drawn)
    assert not np.array_equal(old["head"], create(TREE, seed=1)["head"])


def test_spread_and_constants():
    tree = create(TREE)
    wide = create({"w": Param((64, 64), (None, None), scale=0.1)})["w"]
    assert abs(np.std(wide) - 0.1) < 0.01
    assert np.all(np.asarray(tree["norm"]) == 1) and np.all(np.asarray(tree["bias"]) == 0)


def test_abstract_tree_and_count_are_those_of_init(mesh):
    real = jax.jit(lambda key: params.init(STACKED, key))(jax.random.key(0))
    planned = params.abstract(STACKED)
    assert jax.tree.map(jax.typeof, real) == jax.tree.map(jax.typeof, planned)
    assert params.count(STACKED) == params.count(TREE) == sum(w.size for w in jax.tree.leaves(real))


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
