"""The plan: its counts are those of the run, its memory that of the process, its batch the largest that fits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from runs import bigram, bigram_config  # noqa: F401

from aurljax import cli, config, mesh, plan, sizes, state, step
from aurljax.errors import UserError
from aurljax.records import products

ROOT = Path(__file__).parents[1]
SMALL = {"family": "decoder", "d_model": 16, "layers": 1, "heads": 2, "kv_heads": 2, "d_ff": 32}


def small(**sections) -> config.Config:
    tree = {"data": {"length": 16, "batch": 8}, "optim": {"ema": 0.9}, "mesh": {"data": 4, "model": 2}}
    return bigram_config(**{k: tree.get(k, {}) | sections.get(k, {}) for k in {**tree, **sections}})


def test_counts_are_those_of_the_state():
    c = small()
    found, parts = plan.make(c), config.build(c)
    with mesh.use(mesh.make(4, 2)):
        now = state.new(parts)
        device = jax.devices()[0]

        def held(tree):
            return sum(s.data.nbytes for x in jax.tree.leaves(tree) for s in x.addressable_shards if s.device == device)

        assert (found.weights, found.optimizer, found.average) == tuple(
            map(held, ((now.params, now.frozen), now.opt_state, now.ema))
        )
        assert found.parameters == sum(x.size for x in jax.tree.leaves((now.params, now.frozen)))
        assert 4 * found.parameters_a_device == found.weights
    assert found.mesh == {"data": 4, "model": 2} and (found.batch, found.tokens) == (8, 128)
    assert found.peak == found.weights + found.optimizer + found.average + found.inputs + found.working


def test_operations_are_counted_by_rounds_and_branches():
    def f(x, w):
        def body(h, w):
            return jax.checkpoint(lambda h: h @ w)(h), None

        h = jax.lax.scan(body, x, w)[0]
        return jax.lax.cond(h.sum() > 0, lambda h: h @ h, lambda h: h, h)

    traced = jax.jit(f).trace(jnp.ones((5, 5)), jnp.ones((3, 5, 5)))
    assert products.count(traced.jaxpr) == 4 * 2 * 5**3
    both = jax.jit(jax.grad(lambda x, w: f(x, w).sum(), (0, 1))).trace(jnp.ones((5, 5)), jnp.ones((3, 5, 5)))
    assert products.count(both.jaxpr) >= 3 * 4 * 2 * 5**3


def test_scanned_layers_count_as_unrolled_ones():
    found = []
    for scan in (False, True):
        parts = config.build(config.from_dict({"model": SMALL | {"layers": 3, "scan": scan}, "data": {"length": 16}}))
        with mesh.use(mesh.make()):
            now, batch = mesh.concrete(state.abstract(parts)), plan.rows(parts)
            found.append(products.count(step.train_step(parts).trace(now, batch).jaxpr))
    assert found[0] == found[1] > 0


def test_the_most_that_fits_is_found_by_few_trials():
    """A constant and so much a row; and a step on the way, where a buffer doubles."""
    tried = []

    def peak(n, jump):
        tried.append(n)
        return 1000 + 40 * n + (300 if n > 25 else 0) * jump

    for budget, jump, found in ((1045, 0, 1), (1085, 0, 2), (3000, 0, 50), (1500, 1, 12), (2050, 1, 25), (3000, 1, 42)):
        tried.clear()
        assert plan.most(lambda n, jump=jump: peak(n, jump), budget) == found
        assert len(tried) <= 6


def test_a_memory_too_small_for_any_batch_is_refused():
    with pytest.raises(
        UserError, match=r"--memory 1 KB: 4 rows, the smallest batch, need .* a device; use more devices"
    ):
        plan.largest(small(), 1000)


def test_sizes():
    assert [sizes.parse(t) for t in ("80GB", "1.5 GiB", "7", "1e9")] == [80e9, 1.5 * 2**30, 7, 1e9]
    assert [sizes.size(n) for n in (12, 1536, 80e9, 2e12)] == ["12 B", "1.54 KB", "80 GB", "2 TB"]
    for text in ("", "GB", "8 XB", "-1", "0"):
        with pytest.raises(ValueError, match="must be a size such as 80GB"):
            sizes.parse(text)


def test_the_command_plans_for_devices_that_are_not_there(capfd):
    options = [f"--config.model.{k}={v}" for k, v in SMALL.items()] + ["--config.data.length=16"]
    arguments = ["plan", f"--config={ROOT}/configs/tiny.py", "--config.mesh.model=2", *options]
    assert cli.main([*arguments, "--devices", "4", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["mesh"] == {"data": 2, "model": 2} and found["peak"] > found["weights"] > 0
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--memory", "much"])
    assert "must be a size such as 80GB" in capfd.readouterr().err


MEASURED = """
import ctypes, gc, json, sys
import jax
from aurljax import config, mesh, plan, state, step

def status(name):
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

c = config.load("configs/decoder.py", sys.argv[1:])
found, parts = plan.make(c), config.build(c)
with mesh.use(mesh.make()):
    now, batch = mesh.concrete(state.abstract(parts)), plan.rows(parts)
    run = step.train_step(parts).lower(now, batch).compile()
    new = jax.jit(lambda key: state.create(parts, key)).lower(jax.random.key(0)).compile()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    now = new(jax.random.key(0))
    for _ in range(2):
        now, metrics = run(now, mesh.place(jax.tree.map(lambda x: __import__("numpy").ones(x.shape, x.dtype), batch)))
    jax.block_until_ready((now, metrics))
    print(json.dumps([found.peak, status("VmHWM") - before]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["data.batch=8", "data.length=512"],
        [
            "data.batch=4",
            "model.scan=true",
            "model.remat=true",
            "model.d_model=512",
            "model.heads=8",
            "model.kv_heads=8",
            "model.d_ff=1376",
            "model.dtype=bfloat16",
        ],
    ],
)
def test_the_peak_is_what_a_process_takes(options):
    """Growth of the resident memory of a process that compiled before: within 15 %."""
    plain = {
        k: v for k, v in os.environ.items() if not k.startswith(("GLIBC_", "MALLOC_"))
    }  # else freed memory is kept
    env = {**plain, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", MEASURED, *options], cwd=ROOT, env=env, capture_output=True, text=True)
    planned, measured = json.loads(done.stdout)
    assert planned == pytest.approx(measured, rel=0.15)
