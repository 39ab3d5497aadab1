"""Several processes as one: who a process is, and one sentence where another does not come."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aurljax import cluster
from aurljax.cluster import AUTO, Place
from aurljax.errors import UserError

ROOT = Path(__file__).parents[1]
SLURM = {"SLURM_JOB_ID": "4100", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    ("given", "env", "found"),
    [
        ((None, None, None), {}, None),
        (("a:1", 2, 1), {}, Place("a:1", 2, 1)),
        ((None, None, None), {"AURLJAX_COORDINATOR": "a:1", "AURLJAX_PROCESSES": "2", "AURLJAX_PROCESS": "0"},
         Place("a:1", 2, 0)),
        (("auto", None, None), SLURM, AUTO),
        ((None, None, None), SLURM | {"SLURM_STEP_NODELIST": "gpu[03-05,7],b1"}, Place("gpu03:61444", 4, 3)),
        ((None, None, None), SLURM | {"SLURM_STEP_NODELIST": "alpha,beta[1-2]"}, Place("alpha:61444", 4, 3)),
        ((None, None, None), SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": "alpha"}, None),
        (("[::1]:7", 4, None), SLURM | {"SLURM_STEP_NODELIST": "alpha"}, Place("[::1]:7", 4, 3)),
    ],
)  # fmt: skip
def test_who_a_process_is(given, env, found):
    assert cluster.find(*given, env) == found


@pytest.mark.parametrize(
    ("given", "env", "words"),
    [
        (("a", 2, 0), {}, "--coordinator a: write HOST:PORT"),
        (("a:0", 2, 0), {}, "--coordinator a:0: write HOST:PORT"),
        (("a:1", 2, 2), {}, "--process 2: must be in 0..1"),
        (("a:1", 0, 0), {}, "--processes 0: must be at least 1"),
        (("a:1", 2, None), {}, "add --processes N, .* and --process I"),
        ((None, 2, 1), {}, "say where process 0 is, with --coordinator"),
        ((None, None, None), {"AURLJAX_PROCESSES": "two"}, "AURLJAX_PROCESSES=two: must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(given, env, words):
    with pytest.raises(UserError, match=words):
        cluster.find(*given, env)


CODE = """
import sys
from aurljax import cluster
from aurljax.errors import UserError
try:
    cluster.join(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
except UserError as error:
    sys.exit(f"refused: {error}")
import jax, json
print(json.dumps([jax.process_index(), jax.process_count(), jax.device_count(), len(jax.local_devices())]))
"""


def start(port, processes, process, timeout=60.0):
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CODE, f"localhost:{port}", str(processes), str(process), str(timeout)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("", 0))
        return s.getsockname()[1]


def test_processes_find_each_other():
    """In any order; a stranger at the door is not counted."""
    port = free_port()
    late = start(port, 2, 1)
    first = start(port, 2, 0)
    for index, process in enumerate((first, late)):
        out, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        assert json.loads(out) == [index, 2, 4, 2]


def test_who_waits_in_vain_says_so_in_one_sentence():
    port, other = free_port(), free_port()
    waiting = [start(port, 4, 0, 3.0), start(port, 4, 2, 3.0), start(other, 2, 1, 1.0)]
    first, second, third = (p.communicate(timeout=60)[1] for p in waiting)
    assert first.strip() == (f"refused: waited 3 s at localhost:{port}: of 4 processes, 1, 3 did not come; see their "
                             "logs, or raise --join-timeout")  # fmt: skip
    assert second.startswith("refused: waited 3 s: process 0 at") and len(second.splitlines()) == 1
    assert third.startswith(f"refused: waited 1 s: process 0 at localhost:{other} did not call all 2 processes")


def test_two_of_one_number_are_refused():
    port = free_port()
    waiting = [start(port, 3, 0), start(port, 3, 1), start(port, 3, 1)]
    errors = [p.communicate(timeout=60)[1] for p in waiting[:1]]
    assert "process 1 of 3 came to process 0 of 3 once too often" in errors[0]
    for p in waiting[1:]:
        p.kill()
        p.communicate()


def test_a_taken_port_is_refused():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} cannot be opened here"):
            cluster.join(f"localhost:{port}", 2, 0, 1.0)
