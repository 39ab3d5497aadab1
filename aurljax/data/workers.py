"""Worker processes that survive their input: a crash or an endless read costs one item, never the run.

Plain child processes over pipes, so a caller's script needs no `if __name__ == "__main__"`. Used by ingest.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Task = dict[str, Any]  # what JSON can hold; {"items": [...], ...}
TRIES = 2  # an item gets a second chance: its worker may have died of something else


def run(function: str, tasks: list[Task], workers: int, timeout: float) -> Iterator[tuple[int, Any]]:
    """Yields (index of the task, result) as tasks end, in any order.

    `function` is "module:name" of f(task, at) -> what JSON can hold. It calls at(i) before it touches items[i] and
    leaves out those in task["bad"] = {str(i): reason}: items on which a worker died or took more than `timeout`
    seconds, twice. An OSError of f is raised here as OSError, any other as RuntimeError.
    """
    todo, done = queue.SimpleQueue(), queue.SimpleQueue()
    for task in enumerate(tasks):
        todo.put(task)
    crew = [_Worker(function, todo, done, timeout) for _ in range(min(workers, len(tasks)))]
    try:
        for worker in crew:
            worker.start()
        left = len(tasks)
        while left:
            for worker in crew:
                worker.watch()
            try:
                index, result = done.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(result, BaseException):
                raise result
            left -= 1
            yield index, result
    finally:
        for worker in crew:
            worker.stop()


def cores() -> int:
    """How many processes can run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Died(Exception):
    """The child ended while it worked."""


class _Worker(threading.Thread):
    """One thread that keeps one child process busy."""

    def __init__(self, function: str, todo: queue.SimpleQueue, done: queue.SimpleQueue, timeout: float):
        super().__init__(daemon=True)
        self.function, self.todo, self.done, self.timeout = function, todo, done, timeout
        self.child: subprocess.Popen | None = None
        self.item: tuple[int, float] | None = None  # (index, monotonic time it was begun)
        self.stopped = self.late = False

    def run(self) -> None:
        try:
            while not self.stopped:
                index, task = self.todo.get_nowait()
                self.done.put((index, self._do(task)))
        except queue.Empty:
            pass
        except BaseException as e:
            self.done.put((-1, e))
        finally:
            if self.child:
                _end(self.child)

    def watch(self) -> None:
        """Ends a child that is too long at one item."""
        item, child = self.item, self.child
        if child and item and time.monotonic() - item[1] > self.timeout:
            self.late = True
            child.kill()

    def stop(self) -> None:
        """Ends the child at once, and with it the thread."""
        self.stopped = True
        if child := self.child:
            child.kill()
        if self.ident:
            self.join()

    def _do(self, task: Task) -> Any:
        tries, bad = collections.Counter(), {}
        while True:
            self.item, self.late = None, False
            try:
                return self._ask({**task, "bad": bad})
            except (_Died, BrokenPipeError) as e:
                code, self.child = _end(self.child), None
                if self.stopped:
                    raise _Died from e
                at = self.item[0] if self.item else None
                tries[at] += 1
                if tries[at] == TRIES:
                    if at is None:
                        raise RuntimeError(f"a worker process of {self.function} does not start (status {code})") from e
                    why = f"not read within {self.timeout:g} s" if self.late else f"crashes its reader ({code})"
                    bad[str(at)] = why

    def _ask(self, task: Task) -> Any:
        self.child = self.child or _spawn(self.function)
        if self.stopped:  # looked at after the child is there, as stop() looks for the child after it set this
            raise _Died
        self.child.stdin.write(json.dumps(task) + "\n")
        self.child.stdin.flush()
        for line in self.child.stdout:
            if not line.endswith("\n"):
                break
            kind, value = json.loads(line)
            if kind == "at":
                self.item = (value, time.monotonic())
            elif kind == "done":
                return value
            else:
                raise (OSError if kind == "os" else RuntimeError)(value)
        raise _Died


def _spawn(function: str) -> subprocess.Popen:
    """A child that runs `_serve`, with this process's import path and messages of its own kept out of the pipe."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", "from aurljax.data.workers import _serve; _serve()", function],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )


def _end(child: subprocess.Popen) -> int:
    """Ends a child; its status, which is its own if it had ended already."""
    child.kill()
    code = child.wait()
    child.stdout.close()
    with contextlib.suppress(OSError):  # of a task that was never read
        child.stdin.close()
    return code


def _serve() -> None:
    """In the child: a task a line from stdin, answers to stdout; ends when the parent does."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers

    def say(kind: str, value: Any) -> None:
        answers.write(json.dumps([kind, value]) + "\n")
        answers.flush()

    module, name = sys.argv[1].split(":")
    function: Callable = getattr(importlib.import_module(module), name)
    for line in sys.stdin:
        try:
            say("done", function(json.loads(line), lambda i: say("at", i)))
        except BrokenPipeError:
            os._exit(1)  # the parent is gone
        except OSError as e:
            say("os", str(e))
        except Exception as e:
            say("error", f"{type(e).__name__}: {e}")
