"""Synthetic curves that each finder must, and must not, speak of."""

import io

import numpy as np
import pytest
from runs import bigram, bigram_config, make_corpus  # noqa: F401

from aurljax.records import anomalies
from aurljax.records.anomalies import Watch, find
from aurljax.records.progress import Progress
from aurljax.train import train

STEPS = 10 * np.arange(1, 201)


def power(noise: float = 0.01, seed: int = 0, floor: float = 1.0) -> np.ndarray:
    """Loss as runs have it: a power of the step above a floor, with noise."""
    rng = np.random.default_rng(seed)
    return (floor + 4 * STEPS**-0.3) * (1 + noise * rng.standard_normal(len(STEPS)))


def run(loss: np.ndarray, **more) -> list[dict]:
    """Records of a healthy run but for what is given."""
    columns = {"grad_norm": 0.5 + 3 / np.sqrt(STEPS), "skipped": 0 * STEPS, "data_wait": 0.01 + 0 * STEPS} | more
    return [
        {"step": int(s), "loss": float(x), **{k: float(v[i]) for k, v in columns.items() if i < len(v)}}
        for i, (s, x) in enumerate(zip(STEPS[: len(loss)], loss, strict=True))
    ]


def evaluated(records: list[dict], valid: np.ndarray) -> list[dict]:
    """With held-out losses, one every twenty records."""
    return records + [{"step": int(20 * 10 * (i + 1)), "valid_loss": float(v)} for i, v in enumerate(valid)]


def kinds(records) -> list[str]:
    return [a.kind for a in find(records)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_a_healthy_run_is_not_spoken_of(noise, seed):
    records = run(power(noise, seed))
    valid = power(0.005, seed + 100)[19::20] + 0.1
    assert kinds(evaluated(records, valid)) == []
    assert not [a for i in range(1, 200, 13) for a in find(records[:i])]


@pytest.mark.parametrize("seed", range(10))
def test_plateau(seed):
    rng = np.random.default_rng(seed)
    flat = np.maximum(power(0), power(0)[60])
    (found,) = find(run(flat * (1 + 0.003 * rng.standard_normal(200))))
    assert found.kind == "plateau" and found.step == 2000
    assert "has not fallen since step 1010" in found.what and "optim.learning_rate" in found.advice
    rising = np.concatenate([power(0)[:100], power(0)[99] * (1 + 0.002 * np.arange(100))])
    assert ["rises" in a.what for a in find(run(rising))] == [True]
    assert kinds(run(flat)[:39]) == []  # too soon to say


@pytest.mark.parametrize("seed", range(10))
def test_spike(seed):
    loss = power(0.01, seed)
    loss[120:124] *= [2, 1.8, 1.5, 1.2]
    (found,) = find(run(loss))
    assert (found.kind, found.step) == ("spike", 1210)
    assert f"to {loss[120]:.3g} at step 1210" in found.what and "optim.learning_rate" in found.advice
    loss[160] *= 3
    assert [a.step for a in find(run(loss))] == [1210, 1610]
    small = power(0.01, seed)
    small[120] *= 1.08  # is no spike, however quiet the run
    assert kinds(run(small)) == []
    early = power(0.01, seed)
    early[:5] *= 4  # nor is the beginning
    assert kinds(run(early)) == []


@pytest.mark.parametrize("seed", range(10))
def test_overfitting(seed):
    rng = np.random.default_rng(seed)
    records, wobble = run(power(0.01, seed)), 1 + 0.004 * rng.standard_normal(10)
    up = np.array([2.6, 2.3, 2.1, 2.0, 2.0, 2.06, 2.15, 2.25, 2.35, 2.45]) * wobble
    (found,) = find(evaluated(records, up))
    assert (found.kind, found.step) == ("overfitting", 2000)
    assert "held-out loss rises, " in found.what and "data.transpose" in found.advice
    flat = np.array([2.6, 2.3, 2.1, 2.05, 2.03, 2.02, 2.01, 2.01, 2.01, 2.01]) * wobble
    assert kinds(evaluated(records, flat)) == []
    once = np.where(np.arange(10) == 9, 2.2, flat)  # one bad evaluation
    assert kinds(evaluated(records, once)) == []
    both = evaluated(run(power(0.01, seed)[::-1].copy()), up)  # training loss rises as well: that is something else
    assert "overfitting" not in kinds(both)


def test_dead_gradient():
    norm = 0.5 + 3 / np.sqrt(STEPS)
    dead = np.where(np.arange(200) >= 190, 1e-7, norm)
    (found,) = find(run(power(), grad_norm=dead))
    assert (found.kind, found.step) == ("dead gradient", 2000) and "1e-07" in found.what
    assert kinds(run(power(), grad_norm=np.where(np.arange(200) >= 190, norm / 10, norm))) == []
    assert kinds(run(power(), grad_norm=np.where(np.arange(200) == 199, 1e-7, norm))) == []  # once
    assert kinds(run(power()[:6], grad_norm=np.zeros(6))) == ["dead gradient"]  # from the beginning


def test_waiting_for_data():
    wait = np.where(np.arange(200) > 150, 0.3, 0.01)
    (found,) = find(run(power(), data_wait=wait))
    assert found.kind == "waiting for data" and "30% of the time" in found.what and "CPU cores" in found.advice
    assert kinds(run(power(), data_wait=np.where(np.arange(200) % 10 == 9, 0.5, 0.01))) == []  # now and then
    assert kinds(run(power(), data_wait=np.full(200, 0.08))) == []


def test_skipped_steps():
    some = np.maximum(0, np.arange(200) - 190)
    (found,) = find(run(power(), skipped=some))
    assert found.kind == "skipped steps" and "9 of the last 200 steps were skipped" in found.what
    assert kinds(run(power(), skipped=np.where(np.arange(200) > 150, 2, 0))) == []  # two in all
    assert kinds(run(power(), skipped=np.where(np.arange(200) > 20, 9, 0))) == []  # long ago


def test_a_loss_that_is_not_a_number_breaks_nothing():
    loss = power()
    loss[100:] = np.nan
    assert "skipped steps" in kinds(run(loss, skipped=np.maximum(0, np.arange(200) - 100)))


def test_a_watch_tells_once_and_again_when_it_comes_back():
    wait = np.full(200, 0.01)
    wait[50:70] = wait[120:140] = 0.4
    loss = power()
    loss[[90, 170]] *= 3
    watch, told = Watch(), []
    for record in run(loss, data_wait=wait):
        told += [(a.kind, a.step) for a in watch.add(record)]
    assert [k for k, _ in told] == ["waiting for data", "spike", "waiting for data", "spike"]
    assert [s for k, s in told if k == "spike"] == [910, 1710]
    assert 510 < told[0][1] <= 560
    again = Watch(run(loss, data_wait=wait)[:175])  # a resumed run does not repeat what is there
    assert again.add(run(loss)[175]) == []


def test_a_long_run_is_watched_cheaply():
    """Looking at all records each time would be quadratic: 4,000 records take two seconds."""
    import time

    watch, begun = Watch(), time.perf_counter()
    for i in range(4000):
        watch.add({"step": i, "loss": 2.0 - i / 4000, "grad_norm": 1.0, "skipped": 0.0, "data_wait": 0.0})
    assert time.perf_counter() - begun < 20
    assert anomalies.find(watch._records) == []


def test_a_run_says_so_itself(tmp_path):
    """Weights that overflow at once: the run tells it on the screen and in its log, once."""
    settings = bigram_config(
        data={"corpus": make_corpus(tmp_path), "length": 32}, mesh={"data": 1}, run={"steps": 8, "log_every": 1},
        optim={"learning_rate": 1e38, "clip": 0.0, "weight_decay": 0.0},
    )  # fmt: skip
    progress = Progress(1, io.StringIO())
    train(settings, tmp_path / "run", progress=progress)
    assert progress.stream.getvalue().count("warning: 3 of the last ") == 1
    assert (tmp_path / "run/log.txt").read_text().count("WARNING 3 of the last ") == 1
