"""A long run keeps to its memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import make_corpus

ROOT = Path(__file__).parent.parent
RUN = """
import sys
from aurljax import config, samples, train
train.train(config.load("configs/tiny.py", sys.argv[2:]), sys.argv[1], samples.write)
"""


@pytest.mark.slow
def test_resident_memory_does_not_grow_over_2000_steps_and_200_generations(tmp_path):
    """By more than 5 %, from the second tenth of the run to its last, saves and evaluations among them."""
    options = [f"data.corpus={make_corpus(tmp_path)}", "run.steps=2000", "run.sample_every=10", "run.samples=1",
               "run.eval_every=50", "run.eval_batches=1", "run.checkpoint_every=100", "guard.samples_after=0"]  # fmt: skip
    command = [sys.executable, "-c", RUN, str(tmp_path / "run"), *options]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "XLA_FLAGS": ""}, stderr=subprocess.DEVNULL)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    used = np.array([(r["step"], r["host_memory"]) for r in records if "host_memory" in r])
    early, late = (np.median(used[(used[:, 0] > low) & (used[:, 0] <= low + 200), 1]) for low in (200, 1800))
    print(f"resident: {early / 1e6:.0f} MB at steps 200 to 400, {late / 1e6:.0f} MB at steps 1800 to 2000")
    assert sum("sample_notes" in r for r in records) == 200 and late < 1.05 * early
