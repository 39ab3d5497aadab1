"""Several processes as one run: who they are, a roll call, and only then JAX.

JAX ends a process without a word for people where another does not come, so that all are counted first, on the same
address and with the same patience.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from aurljax.errors import UserError

AUTO = "auto"  # JAX asks the cluster itself: TPU pods, Kubernetes
PORTS = 61440  # the first of 4096 from which a Slurm job takes its own
TIMEOUT = 300.0  # seconds


@dataclass(frozen=True)
class Place:
    """This process among all: the address of process 0, how many there are, and which it is."""

    coordinator: str
    processes: int
    process: int

    def __post_init__(self) -> None:
        host, colon, port = self.coordinator.rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
            raise UserError(f"--coordinator {self.coordinator}: write HOST:PORT, the address of process 0, or {AUTO}")
        if self.processes < 1:
            raise UserError(f"--processes {self.processes}: must be at least 1")
        if not 0 <= self.process < self.processes:
            raise UserError(
                f"--process {self.process}: must be in 0..{self.processes - 1}, one for each of --processes"
            )


def find(
    coordinator: str | None, processes: int | None, process: int | None, env: Mapping[str, str] = os.environ
) -> Place | str | None:
    """Who this process is, by what is given, else by the environment; `AUTO`, or None where it is alone.

    Read are AURLJAX_COORDINATOR, AURLJAX_PROCESSES and AURLJAX_PROCESS, and what srun tells of a step of several tasks.
    """

    def number(given: int | None, *names: str) -> int | None:
        text = next((env[name] for name in names if env.get(name)), None)
        if given is None and text is not None and not text.isdecimal():
            raise UserError(f"{names[0]}={text}: must be a whole number")
        return int(text) if given is None and text is not None else given

    coordinator = coordinator or env.get("AURLJAX_COORDINATOR") or _of_slurm(env)
    if coordinator == AUTO:
        return AUTO
    processes = number(processes, "AURLJAX_PROCESSES", "SLURM_STEP_NUM_TASKS")
    process = number(process, "AURLJAX_PROCESS", "SLURM_PROCID")
    if coordinator is None:
        if (processes or 1) > 1:
            raise UserError(f"--processes {processes}: say where process 0 is, with --coordinator HOST:PORT")
        return None
    if processes is None or process is None:
        raise UserError(
            f"--coordinator {coordinator}: add --processes N, how many there are, and --process I, which this is"
        )
    return Place(coordinator, processes, process)


def _of_slurm(env: Mapping[str, str]) -> str | None:
    """The address of the first node of a step of several tasks, with a port of the job's own."""
    if int(env.get("SLURM_STEP_NUM_TASKS") or 1) < 2:
        return None
    first = re.match(r"([^,\[]+)(?:\[([0-9]+))?", env["SLURM_STEP_NODELIST"])  # a[03-05,7],b -> a03
    return f"{first[1]}{first[2] or ''}:{PORTS + int(env['SLURM_JOB_ID']) % 4096}"


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Makes this process one of several, if it is; before any other use of JAX.

    UserError: what is given makes no sense, or after `timeout` seconds some are missing.
    """
    place = find(coordinator, processes, process)
    if place is None:
        return
    import jax

    if place == AUTO:
        try:
            jax.distributed.initialize(initialization_timeout=round(timeout))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"--coordinator {AUTO}: no cluster was found ({str(error).splitlines()[0]}); give "
                            "--coordinator HOST:PORT, --processes and --process") from error  # fmt: skip
    elif place.processes > 1:
        until = time.monotonic() + timeout
        (_call if place.process == 0 else _answer)(place, until, timeout)
        jax.distributed.initialize(
            place.coordinator, place.processes, place.process, initialization_timeout=max(30, round(timeout))
        )


def _call(place: Place, until: float, timeout: float) -> None:
    """Process 0: waits until all others have said their number, then tells them to go on."""
    host, port = place.coordinator.rsplit(":", 1)
    here: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        try:
            door = stack.enter_context(socket.create_server(("", int(port)), backlog=place.processes))
        except OSError as error:
            raise UserError(f"--coordinator {place.coordinator}: port {port} cannot be opened here ({error.strerror}); "
                            f"choose another, and run process 0 on {host}") from error  # fmt: skip
        while missing := {*range(1, place.processes)} - {*here}:
            door.settimeout(max(until - time.monotonic(), 0.001))
            try:
                line = stack.enter_context(door.accept()[0])
                line.settimeout(5)
                who = line.recv(64).decode().split()
            except TimeoutError:
                if time.monotonic() < until:
                    continue
                names = ", ".join(map(str, sorted(missing)))
                raise UserError(f"waited {timeout:.0f} s at {place.coordinator}: of {place.processes} processes, {names} "
                                "did not come; see their logs, or raise --join-timeout") from None  # fmt: skip
            except (OSError, UnicodeDecodeError):
                continue
            if len(who) == 3 and who[0] == "aurljax" and who[2].isdecimal():
                if who[1] != str(place.processes) or int(who[2]) not in missing:
                    line.sendall(b"no")
                    raise UserError(f"process {who[2]} of {who[1]} came to process 0 of {place.processes} once too often "
                                    "or by mistake; give all the same --processes and each its own --process")  # fmt: skip
                here[int(who[2])] = line
        for line in here.values():
            with contextlib.suppress(OSError):  # who is gone now is missed by JAX
                line.sendall(b"go")


def _answer(place: Place, until: float, timeout: float) -> None:
    """Any other process: says its number to process 0 and waits for its word."""
    host, port = place.coordinator.rsplit(":", 1)
    word = b""
    while word == b"" and time.monotonic() < until:  # nobody there yet, or somebody who went away
        try:
            with socket.create_connection(
                (host.strip("[]"), int(port)), timeout=max(until - time.monotonic(), 0.001)
            ) as line:
                line.sendall(f"aurljax {place.processes} {place.process}".encode())
                word = line.recv(2)
        except OSError:
            pass
        if word == b"":
            time.sleep(min(0.2, max(until - time.monotonic(), 0)))
    if word == b"no":
        raise UserError(f"--process {place.process} of --processes {place.processes} is not expected by process 0; give "
                        "all the same --processes and each its own --process")  # fmt: skip
    if word != b"go":
        raise UserError(f"waited {timeout:.0f} s: process 0 at {place.coordinator} did not call all {place.processes} "
                        "processes; see its log, the address and the firewall, or raise --join-timeout")  # fmt: skip
