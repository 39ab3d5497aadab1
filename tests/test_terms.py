"""Terms of the loss: each does something, the metric stays the plain cross-entropy, and evaluation knows none."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import bigram, random_batch  # noqa: F401

from aurljax import config, losses, params
from aurljax import mesh as meshes
from aurljax.errors import UserError
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.terms import Terms

VOCAB = 12
PLAIN = DecoderConfig(vocab=VOCAB, d_model=16, layers=1, heads=2, kv_heads=2, d_ff=32)
ALL = {"z": Terms(z=0.01), "smoothing": Terms(smoothing=0.1), "kinds": Terms(weights=(2.0, *[1.0] * (VOCAB - 1)))}


def test_the_objective_is_its_formula_and_so_is_its_gradient():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(3, 5, VOCAB)).astype("f"), rng.integers(0, VOCAB, (3, 5))
    g = rng.normal(size=(3, 5)).astype("f")

    def by_hand(x):
        logs = jax.nn.log_softmax(x)
        smooth = 0.8 * jax.nn.one_hot(t, VOCAB) + 0.2 / VOCAB
        return ((-(smooth * logs).sum(-1) + 0.3 * jax.nn.logsumexp(x, -1) ** 2) * g).sum()

    def ours(x):
        return (losses.objective(x, t, 0.2, 0.3)[0] * g).sum()

    for a, b in zip(jax.value_and_grad(ours)(x), jax.value_and_grad(by_hand)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    nats, hits = losses.cross_entropy(x, t)
    for a, b in zip(losses.objective(x, t, 0.2, 0.3)[1:], (nats, hits), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_term_changes_the_gradient_and_not_the_metrics(mesh):
    """The gradient of the last norm alone, which all terms reach and which costs little to compile."""
    weights = jax.jit(lambda key: params.init(DECODER.spec(PLAIN), key))(jax.random.key(0))
    batch = meshes.place(random_batch(0, VOCAB, rows=8))

    @jax.jit
    def of_all(weights):
        def of(c, key):
            def f(scale):
                return DECODER.loss(c, {**weights, "body": {**weights["body"], "norm": scale}}, batch, key)

            return jax.value_and_grad(f, has_aux=True)(weights["body"]["norm"])

        configs = [dataclasses.replace(PLAIN, terms=terms) for terms in ALL.values()]
        return [of(c, jax.random.key(1)) for c in (PLAIN, *configs)], [of(configs[0], None), of(PLAIN, None)]

    ((_, plain), gradient), *changed = of_all(weights)[0]
    for (cost, aux), g in changed:
        assert float(jnp.abs(g - gradient).max()) > 1e-3 and float(cost) != float(aux.metrics["loss"])
        for k, v in aux.metrics.items():
            np.testing.assert_allclose(v, plain.metrics[k], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, *of_all(weights)[1])


def test_weights_of_kinds_are_those_of_their_ids():
    parts = config.build(config.from_dict({"loss": {"kinds": [["bar", 3.0], ["end", 0.0]]}}))
    found, v = np.array(parts.model.terms.weights), parts.codec.vocabulary
    assert (
        found[v.id("bar")] == 3
        and found[v.id("end")] == 0
        and (np.delete(found, [v.id("bar"), v.id("end")]) == 1).all()
    )
    assert len(found) == len(v) == parts.model.vocab
    tree = config.to_dict(parts.config)
    assert config.from_dict(tree) == parts.config and "terms" not in tree["model"]
    with meshes.use(meshes.make()):
        found = losses.of_targets((1.0, 5.0, 2.0), meshes.place(np.array([[2, 0], [1, 1]])))
    np.testing.assert_array_equal(found, [[2, 1], [5, 5]])


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"loss": {"kinds": [["bars", 2.0]]}}, "loss.kinds=bars .*did you mean bar"),
        ({"loss": {"kinds": [["bar", -1.0]]}}, "the weight of bar is -1.0"),
        ({"loss": {"smoothing": 1.0}}, r"loss.smoothing=1.0 must be in \[0, 1\)"),
        ({"loss": {"z": -1.0}}, "loss.z=-1.0"),
        ({"loss": {"z": 0.1}, "model": {"family": "bigram"}}, "the family bigram takes no terms"),
        ({"model": {"terms": 1}}, "model.terms comes from the codec"),
    ],
)
def test_what_cannot_work_is_refused(tree, words):
    with pytest.raises(UserError, match=words):
        config.build(config.from_dict(tree))
