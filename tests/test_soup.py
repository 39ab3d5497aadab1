"""Averages of checkpoints: the mean, something to generate from, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aurljax import checkpoint, cli, config, model, params, soup, state
from aurljax import mesh as meshes
from aurljax.errors import UserError

SIZES = {"d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32}


def save(folder, steps=(1, 2, 3), **values):
    """Checkpoints whose weights are all `step`, or their averages ten times as much where there is one."""
    tree = {"model": SIZES | values.pop("model", {}), "data": {"length": 64}, "optim": values}
    parts = config.build(config.from_dict(tree))
    codec = {"name": parts.codec.name, "options": {}, "fingerprint": parts.codec.fingerprint}
    with meshes.use(meshes.make()):
        spec = parts.family.spec(parts.model)
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape), spec, is_leaf=params.is_param)
        with checkpoint.Checkpoints(folder, 5, {"config": config.to_dict(parts.config), "codec": codec}) as saver:
            for step in steps:
                w = jax.tree.map(lambda x, s=step: x + s, zeros)
                ema = jax.tree.map(lambda x: 10 * x, w) if parts.config.optim.ema else {}
                saver.save(state.State(w, {}, ema, jnp.int32(step), jax.random.key(0), {}, {}), step)
    return folder


def test_the_mean_of_checkpoints_is_a_model(tmp_path):
    run, averaged = save(tmp_path / "run"), save(tmp_path / "averaged", (5,), ema=0.9)
    arguments = [str(run / "checkpoints" / "1"), str(averaged), "--out", str(tmp_path / "out")]
    assert cli.main(["average", *arguments]) == 0
    found = model.load(tmp_path / "out")
    assert {float(x) for x in jax.tree.leaves(jax.tree.map(jnp.max, found.weights))} == {25.5}  # of 1 and 50
    assert len(checkpoint.describe(tmp_path / "out").metadata["averaged"]) == 2
    last = model.load(soup.average([run], tmp_path / "last", last=2))
    np.testing.assert_array_equal(jax.tree.leaves(last.weights)[0], 2.5)


def test_what_is_no_average_is_refused(tmp_path, capsys):
    run = save(tmp_path / "run", (1, 2))
    with pytest.raises(UserError, match="1 checkpoint is no average"):
        soup.average([run], tmp_path / "out")
    with pytest.raises(UserError, match="--last 3: .* keeps 2; .*run.keep=3"):
        soup.average([run], tmp_path / "out", last=3)
    with pytest.raises(UserError, match="another model"):
        soup.average([run, save(tmp_path / "wide", (1,), model={"d_ff": 48})], tmp_path / "out")
    assert cli.main(["average", str(run), str(run / "checkpoints" / "1"), "--out", str(run)]) == 2
    assert "holds checkpoints; choose another --out" in capsys.readouterr().err
