"""What a save that failed leaves, removed for good.

Orbax 0.12 gives a save up at its first failure; its threads for other items, and TensorStore's writes below them, go on
for a while and make folders anew. They are waited for, and then removed is what stays removed.
"""

from __future__ import annotations

import threading
import time

from etils import epath


def clear(directory: epath.Path) -> None:
    """Removes the unfinished saves of a folder of checkpoints; OSError if one cannot be removed."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if ".orbax-checkpoint-tmp" in path.name:
            remove(path)


def remove(path: epath.Path, seconds: float = 20) -> None:
    """Removes a folder in which Orbax may still write; OSError if that cannot be done in time."""
    end, gone = time.monotonic() + seconds, 0
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):
            threading.Thread.join(thread, max(0.0, end - time.monotonic()))  # its own `join` raises what it died of
    while gone < 3:
        try:
            path.rmtree(missing_ok=True)
        except OSError:  # a folder that is written to while it is emptied
            if time.monotonic() > end:
                raise
        gone = 0 if path.exists() else gone + 1
        time.sleep(0.01)
