"""A run and its copy that is killed again and again, each a fork of one process that has imported everything.

    python killing.py FOLDER CORPUS SEED KILLS

writes FOLDER/whole and FOLDER/killed; prints a line for each kill.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import runs

import aurljax.train  # before the forks, without a backend of JAX
from aurljax import config, models
from aurljax.records import metrics

STEPS = 90


def settings(corpus: str) -> config.Config:
    """Saves often, keeps the best, and goes back once: steps 20 to 24 are not finite."""
    from test_recovery import unsteady

    models.FAMILIES["bigram"] = unsteady(20, 25, float("nan"))
    run = {"steps": STEPS, "log_every": 1, "eval_every": 5, "eval_batches": 1, "checkpoint_every": 3}
    run |= {"best": "valid_loss", "stop_on": ["valid_loss"], "patience": 99, "keep_every": 30}
    c = runs.bigram_config(
        data={"corpus": corpus, "length": 32}, optim={"ema": 0.9}, run=run, guard={"patience": 3}, mesh={"data": 1}
    )
    return replace(c, seed=1)


def start(corpus: str, folder: Path) -> int:
    """Forks a run; its process id."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        aurljax.train.train(settings(corpus), folder)
        status = 0
    finally:
        os._exit(status)


def reached(folder: Path) -> int:
    """Records on disk."""
    path = folder / metrics.FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0


def main(folder: Path, corpus: str, seed: int, kills: int) -> int:
    """Two kills of three come within a hundredth of a second after a random record, one while a run begins."""
    rng = np.random.default_rng(seed)
    if os.waitpid(start(corpus, folder / "whole"), 0)[1]:
        return 1
    done = 0
    for left in range(kills, 0, -1):
        pid = start(corpus, folder / "killed")
        if left % 3 == 2:
            time.sleep(rng.uniform(0, 2))
        else:
            done += rng.integers(1, max(2, int((STEPS - 10 - done) / left * 2)))
            while reached(folder / "killed") < done:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL:
            print("killed after", reached(folder / "killed"), "records", flush=True)
    return os.waitpid(start(corpus, folder / "killed"), 0)[1]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])) != 0)
