"""Terms of the loss: each does something, the metric stays the plain cross-entropy, and evaluation knows none."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import bigram, make_corpus, random_batch  # noqa: F401

from aurljax import config, legal, losses, params, state, step
from aurljax import mesh as meshes
from aurljax.data import pipeline
from aurljax.data.corpus import Corpus
from aurljax.errors import UserError
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.models.family import Inputs
from aurljax.terms import Terms

VOCAB = 12
PLAIN = DecoderConfig(vocab=VOCAB, d_model=16, layers=1, heads=2, kv_heads=2, d_ff=32)


@dataclasses.dataclass(frozen=True)
class Unrepeated:
    """A codec and its grammar in one: no id may follow itself."""

    @property
    def grammar(self):
        return self

    def init(self, batch, xp=np):
        return {"last": xp.zeros(batch, xp.int32) - 1}

    def advance(self, s, ids, xp=np):
        return {"last": ids}

    def allowed(self, s, xp=np):
        return xp.arange(VOCAB) != s["last"][:, None]


ALL = {
    "z": Terms(z=0.01),
    "smoothing": Terms(smoothing=0.1),
    "kinds": Terms(weights=(2.0, *[1.0] * (VOCAB - 1))),
    "unlikelihood": Terms(unlikelihood=1.0, codec=Unrepeated()),
}


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


def mass(logits, legal):
    """[...] probability of what is not legal, in float64."""
    p = np.exp(np.asarray(logits, np.float64) - np.max(logits, -1, keepdims=True))
    return (p * ~legal).sum(-1) / p.sum(-1)


def test_unlikelihood_is_its_formula_and_so_is_its_gradient():
    rng = np.random.default_rng(1)
    x, legal = (2 * rng.normal(size=(3, 5, VOCAB))).astype("f"), rng.random((3, 5, VOCAB)) < 0.5
    g = rng.normal(size=(3, 5)).astype("f")

    def by_hand(x):
        return (-jnp.log(jnp.sum(jax.nn.softmax(x) * legal, -1)) * g).sum()

    def ours(x):
        return (losses.unlikelihood(x, legal) * g).sum()

    np.testing.assert_allclose(losses.unlikelihood(x, legal), -np.log1p(-mass(x, legal)), rtol=1e-5)
    for a, b in zip(jax.value_and_grad(ours)(x), jax.value_and_grad(by_hand)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    gradient, h = np.asarray(jax.grad(ours)(x)), 1e-4
    assert np.abs(gradient).max() > 0.1
    for at in [(0, 0, 0), (1, 2, 3), (2, 4, 11)]:  # by differences, in float64
        moved = [x.astype(np.float64) for _ in range(2)]
        moved[0][at] += h
        moved[1][at] -= h
        up, down = ((-np.log1p(-mass(y, legal)) * g).sum() for y in moved)
        assert gradient[at] == pytest.approx((up - down) / (2 * h), rel=1e-3, abs=1e-5)


def test_unlikelihood_bears_the_extremes():
    """[V] each: what is forbidden has no mass, next to none, next to all; nothing is forbidden, or everything."""
    legal = np.arange(4) < 2
    none, little, most = [1.0, 2.0, -np.inf, -np.inf], [0.0, -3.0, -60.0, -61.0], [-200.0, -201.0, 3.0, 3.0]
    x = np.array([none, little, most, none, most], np.float32)
    legal = np.array([legal, legal, legal, ~legal | True, legal & False])
    cost, gradient = map(np.asarray, jax.vmap(jax.value_and_grad(losses.unlikelihood))(x, legal))
    assert np.isfinite(gradient).all() and np.isfinite(cost).all()
    np.testing.assert_array_equal(cost[[0, 3, 4]], 0)
    np.testing.assert_array_equal(gradient[[0, 3, 4]], 0)
    np.testing.assert_allclose(cost[1], mass(x[1], legal[1]), rtol=1e-5)  # 1e-26: not lost in rounding
    np.testing.assert_allclose(cost[2], 203 + np.log(2) - np.log1p(np.exp(-1)), rtol=1e-5)
    np.testing.assert_allclose(gradient[2], [-0.73106, -0.26894, 0.5, 0.5], rtol=1e-4)


def test_the_grammar_is_walked_for_unlikelihood_in_training_alone(monkeypatch):
    def loss(terms, key):
        c = dataclasses.replace(PLAIN, terms=terms)
        with meshes.use(meshes.make()):
            weights, batch = params.abstract(DECODER.spec(c)), meshes.place(random_batch(0, VOCAB))
            return jax.eval_shape(lambda w: DECODER.loss(c, w, batch, key)[0], weights)

    monkeypatch.setattr(legal, "ids", lambda *_: pytest.fail("walked"))
    assert loss(ALL["z"], jax.random.key(0)).shape == loss(ALL["unlikelihood"], None).shape == ()
    with pytest.raises(pytest.fail.Exception, match="walked"):
        loss(ALL["unlikelihood"], jax.random.key(0))


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """The tree of a tiny decoder of the codec voices, and batches of scales for it."""
    corpus = make_corpus(tmp_path_factory.mktemp("voices"))
    model = {"d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32}
    tree = {"codec": {"name": "voices"}, "model": model, "data": {"corpus": corpus, "length": 160, "batch": 8},
            "optim": {"learning_rate": 0.01, "warmup": 5, "schedule": "constant"}}  # fmt: skip
    parts = config.build(config.from_dict(tree))
    data = pipeline.training(parts.config, parts.codec, Corpus(corpus))
    return tree, parts.codec, [data.batch(i) for i in range(30)]


def lawful(codec, batch):
    """[B, T, V] what the grammar allows."""
    return jax.jit(lambda t, p: legal.ids(codec.grammar, t, p))(batch.tokens, batch.positions)


def left(logits, may, batch):
    """Mean illegal mass over the targets of a batch."""
    return np.average(mass(logits, np.asarray(may)), weights=np.asarray(batch.weights))


def test_with_unlikelihood_illegal_mass_goes_sooner(voices):
    """Of a table of logits by the id before, by plain descent: the loss itself takes it down more slowly."""
    _, codec, batches = voices
    found = {}
    with meshes.use(meshes.make()):
        batch = meshes.place(batches[0])
        may = lawful(codec, batch)

        @jax.jit
        def descend(table, a, batch, may):
            def loss(table):
                logits = meshes.take(table, batch.tokens)
                nats = losses.cross_entropy(logits, batch.targets)[0]
                return jnp.sum((nats + a * losses.unlikelihood(logits, may)) * batch.weights) / batch.weights.sum()

            return table - 20 * jax.grad(loss)(table)

        for a in (0.0, 2.0):
            table = jnp.zeros((len(codec.vocabulary),) * 2)
            for _ in range(20):
                table = descend(table, a, batch, may)
            found[a] = left(meshes.take(table, batch.tokens), may, batch)
    assert found[2.0] < 0.75 * found[0.0] < 0.5


def trained(tree, codec, batches, **loss):
    """(last illegal mass, last cross-entropy) of a decoder trained with these terms."""
    parts = config.build(config.from_dict(tree | {"loss": loss}))
    now, train_step = state.new(parts), step.train_step(parts)
    for batch in map(meshes.place, batches):
        now, metrics = train_step(now, batch)
    inputs = Inputs(batch.tokens, batch.positions, batch.features, batch.segments)
    logits = jax.jit(lambda w: parts.family.apply(parts.model, w, inputs)[0])(now.params)
    return left(logits, lawful(codec, batch), batch), float(metrics["loss"])


@pytest.mark.slow
def test_a_decoder_learns_the_grammar_sooner_whatever_the_microbatches(voices):
    tree, codec, batches = voices
    tree = tree | {"optim": tree["optim"] | {"accumulation": 2}}
    with meshes.use(meshes.make(2, 2)):
        (plain, _), parts = (trained(tree, codec, batches, unlikelihood=a) for a in (0.0, 5.0))
        whole = trained(tree | {"optim": tree["optim"] | {"accumulation": 1}}, codec, batches, unlikelihood=5.0)
    assert parts[0] < 0.7 * plain and whole == pytest.approx(parts, rel=1e-3)


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
    terms = config.build(config.from_dict({"loss": {"unlikelihood": 0.5}})).model.terms
    assert (terms.unlikelihood, terms.codec) == (0.5, parts.codec) and parts.model.terms.codec is None
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
        ({"loss": {"unlikelihood": -1.0}}, "loss.unlikelihood=-1.0 must be at least 0"),
        (
            {"loss": {"unlikelihood": 0.1}, "model": {"family": "bigram"}},
            "leave .* loss.unlikelihood at their defaults",
        ),
        ({"loss": {"z": 0.1}, "model": {"family": "bigram"}}, "the family bigram takes no terms"),
        ({"model": {"terms": 1}}, "model.terms comes from the codec"),
    ],
)
def test_what_cannot_work_is_refused(tree, words):
    with pytest.raises(UserError, match=words):
        config.build(config.from_dict(tree))
