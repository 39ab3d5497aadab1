"""A memory of what was asked for last."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Any

import numpy as np


class Recent:
    """The last values asked for, up to so many bytes; shared by threads."""

    def __init__(self, limit: int):
        self.limit, self.size = limit, 0
        self._values: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key: the one kept, else a new one."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self.size += _bytes(value)
                while self.size > self.limit:
                    self.size -= _bytes(self._values.popitem(last=False)[1])
        return value


def _bytes(value: tuple) -> int:
    """About how much memory an encoded window, or a score and its counts, takes."""
    first, rest = value
    if isinstance(first, np.ndarray):
        return 200 + first.nbytes + sum(f.nbytes for f in rest.values())
    return 2000 + 100 * len(first.notes) + first.controls.nbytes
