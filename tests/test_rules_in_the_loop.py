"""What random weights write through the compiled loop under the constraints of `voices` and `event`."""

import jax
import numpy as np
import pytest
import test_event_rules as event
import test_voices_rules as voices
import walking

from aurljax import mesh as meshes
from aurljax import params
from aurljax.decode import constraints as c
from aurljax.decode import loop
from aurljax.decode.sampler import Sampler
from aurljax.models.decoder import DECODER, DecoderConfig
from aurljax.music.codec import make

ROWS = 16


def generate(codec, asked, seconds):
    """The scores of rows, each under its own constraints and of so many seconds, at temperature 2."""
    config = DecoderConfig(vocab=len(codec.vocabulary), features=tuple(codec.feature_sizes.items()), d_model=16, layers=1,
                           heads=2, kv_heads=1, d_ff=32)  # fmt: skip
    plan = loop.Plan(DECODER, config, codec, Sampler(temperature=2.0), 384, 1, c.kinds(asked[0]))
    start = np.array([codec.vocabulary.id("start")], np.int32)
    with meshes.use(meshes.make()):
        ids, first = loop.left_padded([start] * ROWS)
        weights = params.init(DECODER.spec(config), jax.random.key(0))
        limits = loop.limits(ROWS, None, seconds, False)
        keys, registers = jax.random.split(jax.random.key(1), ROWS), walking.registers(codec, asked)
        new = np.asarray(loop.generate(plan, weights, ids, first, keys, *limits, asked=registers))
    assert (new == codec.vocabulary.id("end")).any(1).all()
    return c.decoded(codec, asked[0], [start] * ROWS, new, [384] * ROWS, limits)


@pytest.mark.parametrize("name", ["voices", "event"])
def test_random_weights_keep_to_what_is_asked_for_exactly_so_many_seconds(name):
    codec, rng = make(name), np.random.default_rng(7)
    drawn = [event.draw(rng) if name == "event" else voices.draw(rng, codec) for _ in range(ROWS)]
    for score, (asked, checks) in zip(generate(codec, [[*d[0], c.Exact()] for d in drawn], 2.0), drawn, strict=True):
        score.check()
        assert "ended" not in score.meta
        if name == "event":
            assert max(e for _, e, *_ in event.spans(score)) == 128
        else:
            assert voices.ends_at(codec, score, voices.OPEN, 2.0)
        for kind, keeps in checks.items():
            assert keeps(score) if name == "event" else keeps(score, codec.bars(score)), (kind, *map(str, asked))
