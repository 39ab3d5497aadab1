"""The mesh and its words: a program says the same on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from aurljax import mesh as meshes
from aurljax.errors import UserError


def test_make_takes_what_remains_and_refuses_more_than_exist():
    assert dict(meshes.make(data=-1, model=2).shape) == {"data": 4, "model": 2}
    assert dict(meshes.make().shape) == {"data": 1, "model": 1}
    with pytest.raises(UserError, match="needs 16 devices and there are 8"):
        meshes.make(data=8, model=2)
    with pytest.raises(UserError, match="must be positive"):
        meshes.make(data=0)


def test_replicas_are_copies_of_a_mesh():
    with pytest.raises(UserError, match="2 x 4 x 2 needs 16 devices and there are 8"):
        meshes.make(data=4, model=2, replica=2)
    assert dict(meshes.make(data=-1, model=2, replica=2).shape) == {"replica": 2, "data": 2, "model": 2}
    with meshes.use(meshes.make(2, 2, 2)):
        assert meshes.ways("batch") == 4 and meshes.ways("embed") == 2
        x = meshes.place(np.arange(8).reshape(4, 2))
        assert jax.typeof(x).sharding.spec == P(("replica", "data"), None)
        w = jax.device_put(np.ones((4, 6)), meshes.sharding(("embed", "mlp")))
        assert {s.data.shape for s in w.addressable_shards} == {(2, 3)}
        with pytest.raises(UserError, match=r"rows.* = 6 .* 4 equal parts along the mesh axis \('replica', 'data'\)"):
            meshes.place(np.zeros((6, 3)))


def test_use_restores_what_was_there():
    with meshes.use(meshes.make(data=2)):
        assert meshes.current().shape["data"] == 2
        with meshes.use(meshes.make(data=4)):
            assert meshes.current().shape["data"] == 4
        assert meshes.current().shape["data"] == 2
    with pytest.raises(RuntimeError, match="no mesh in force"):
        meshes.current()


@pytest.mark.parametrize(("size", "near"), [(6, "8"), (1, "4"), (13, "12")])
def test_divide_names_the_nearest_that_works(size, near):
    with meshes.use(meshes.make(data=4, model=2)), pytest.raises(UserError, match=rf"width = {size} .* is {near}$"):
        meshes.divide("width", size, "batch")


def test_place_puts_rows_on_data(mesh):
    x = {"a": np.arange(16).reshape(8, 2)}
    placed = meshes.place(x)["a"]
    assert jax.typeof(placed).sharding.spec == P("data", None)
    np.testing.assert_array_equal(placed, x["a"])


def test_place_refuses_uneven_rows():
    with meshes.use(meshes.make(data=4)), pytest.raises(UserError, match="rows.* = 6 .*nearest that works is 8"):
        meshes.place(np.zeros((6, 3)))


def test_words_compute_what_numpy_does(mesh):
    """take, gather and einsum, and their gradients, on a stored (data x model) table."""
    rng = np.random.default_rng(0)
    table, w = rng.normal(size=(10, 8)).astype("f"), rng.normal(size=(8, 6)).astype("f")
    ids = rng.integers(0, 10, (8, 5))

    def f(table, w, ids):
        x = meshes.take(table, ids)
        y = meshes.einsum("btd,dm->btm", x, meshes.gather(w, (None, "mlp")), ("batch", None, "mlp"))
        z = meshes.einsum("btm,dm->btd", y, meshes.gather(w, (None, "mlp")), ("batch", None, None))
        return (z**2).sum(), (x, y, z)

    stored = (
        jax.device_put(table, meshes.sharding(("vocab", "embed"))),
        jax.device_put(w, meshes.sharding(("embed", "mlp"))),
    )
    (_, (x, y, z)), grads = jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(*stored, meshes.place(ids))
    np.testing.assert_array_equal(x, table[ids])
    np.testing.assert_allclose(y, table[ids] @ w, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(z, table[ids] @ w @ w.T, rtol=1e-5, atol=1e-4)
    assert jax.typeof(y).sharding.spec == P("data", None, "model")
    dz = 2 * np.asarray(z)
    expected = np.zeros_like(table)
    np.add.at(expected, ids, dz @ w @ w.T)
    np.testing.assert_allclose(grads[0], expected, rtol=1e-4, atol=1e-3)
    assert [jax.typeof(g) for g in grads] == [jax.typeof(p) for p in stored]


def test_take_outside_the_table_is_seen():
    with meshes.use(meshes.make()):
        assert jnp.isnan(meshes.take(jnp.ones((3, 2)), jnp.array([[0, 3]]))[0, 1]).all()
