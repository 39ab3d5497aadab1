"""The devices of a run, and what this process holds of its machine's memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import jax

STATM = Path("/proc/self/statm")


def describe() -> dict[str, Any]:
    """Kind and platform of the devices, the mesh in force, how many processes, and what the host is."""
    mesh, first = jax.sharding.get_mesh(), jax.local_devices()[0]
    return {
        "kind": first.device_kind, "platform": first.platform, "mesh": dict(mesh.shape),
        "processes": jax.process_count(), "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }  # fmt: skip


def memory() -> dict[str, float]:
    """Bytes: device_memory (in use now) and device_memory_peak of the first device, host_memory (resident); each where
    the system tells it."""
    found = {}
    if stats := jax.local_devices()[0].memory_stats():
        names = {"device_memory": "bytes_in_use", "device_memory_peak": "peak_bytes_in_use"}
        found = {ours: float(stats[theirs]) for ours, theirs in names.items() if theirs in stats}
    if STATM.exists():
        found["host_memory"] = float(int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return found
