"""A headless Chromium driven over its DevTools protocol, on two pipes: what a page does, logs and asks of a network."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--no-first-run", "--hide-scrollbars",
         "--autoplay-policy=no-user-gesture-required", "--disable-background-networking", "--disable-dev-shm-usage",
         "--disable-extensions", "--disable-component-update", "--remote-debugging-pipe")  # fmt: skip


def find() -> str | None:
    """The browser's path, of the environment variable AURLJAX_BROWSER or on the PATH."""
    return os.environ.get("AURLJAX_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. `events` are what it reported so far, (method, parameters) in order."""

    def __init__(self, write: int, read: int):
        self._write, self._read, self._rest, self._id = write, read, b"", 0
        self._session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        text, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(text)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def open(self, path: Path, width: int = 1200, height: int = 760, dark: bool = False) -> None:
        """Loads a file and waits until it is there."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self("Emulation.setEmulatedMedia", features=scheme)
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        begun = len(self.events)
        self("Page.navigate", url=path.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events[begun:]):
            self._receive()
        self("Page.bringToFront")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        result = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 20) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.03)

    def press(self, key: str) -> None:
        """A key, down and up."""
        text = {"text": key} if len(key) == 1 else {}
        self("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, selector: str, x: float | None = None, y: float | None = None) -> None:
        """A mouse click on an element, in its middle or x, y from its corner."""
        box = self.run(f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
                       "return [b.x, b.y, b.width, b.height]; })()")  # fmt: skip
        at = {"x": box[0] + (box[2] / 2 if x is None else x), "y": box[1] + (box[3] / 2 if y is None else y)}
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot", format="png")["data"]))

    @property
    def complaints(self) -> list[Any]:
        """Errors and warnings of the page's console."""
        return [p for m, p in self.events
                if m == "Runtime.exceptionThrown" or (m == "Log.entryAdded" and p["entry"]["level"] in ("error", "warning"))
                or (m == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"))]  # fmt: skip

    @property
    def requests(self) -> list[str]:
        """All that was fetched."""
        return [p["request"]["url"] for m, p in self.events if m == "Network.requestWillBeSent"]


@contextlib.contextmanager
def start() -> Iterator[Page]:
    """A fresh browser with one empty page."""
    inward, outward = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="aurljax-browser-", ignore_cleanup_errors=True) as profile:
        command = ["bash", "-c", f'exec "$@" 3<&{inward[0]} 4>&{outward[1]}', "browser", find(), *FLAGS,
                   f"--user-data-dir={profile}"]  # fmt: skip
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        home = {**os.environ, "HOME": profile}
        process = subprocess.Popen(command, pass_fds=(inward[0], outward[1]), env=home, **quiet)
        os.close(inward[0])
        os.close(outward[1])
        try:
            yield Page(inward[1], outward[0])
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(inward[1])
            os.close(outward[0])
