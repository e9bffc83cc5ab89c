"""A headless Chromium that shows a page, driven through a pipe by the DevTools protocol.

It has no address and no port; messages are JSON, and each ends with a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

# As Debian calls it, and as machines of continuous integration have it.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, _NAMES)), None)
needed = pytest.mark.skipif(
    PROGRAM is None, reason="needs Debian's Chromium: apt-get install chromium"
)
SECONDS = 60  # a busy machine takes some to start it
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)


@contextlib.contextmanager
def chromium():
    """Yield a `Browser` with an empty page; it ends, and its profile is removed, afterwards."""
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        # Chromium reads from descriptor 3 and writes to 4.
        script = f'exec 3<&{commands} 4>&{answers}; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *words],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": profile},
        )
        os.close(commands)
        os.close(answers)
        try:
            yield Browser(to_browser, from_browser)
        finally:
            os.close(to_browser)  # it ends when its pipe does
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(from_browser)


class Browser:
    """A page of a Chromium; `events` are what it has reported."""

    def __init__(self, to_browser, from_browser):
        self._to = to_browser
        self._from = from_browser
        self._read = b""
        self._id = 0
        self._session = None
        self.events = []
        [page] = [
            target
            for target in self.send("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        ]
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """Send a command and return its result."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._until(lambda message: message.get("id") == self._id)["result"]

    def open(self, path, *, width=1280, height=800, scheme="light", media="screen", scale=1):
        """Show a file in a window of a size, in a colour scheme, on the screen or in print."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
        self.events.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def value(self, expression):
        """Return the value of an expression in JavaScript."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"]["value"]

    def picture(self, top=0, height=None):
        """Return the page as PNG: all of it below `top`, or as many pixels."""
        width, bottom = self.value("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": top, "width": width, "height": height or bottom - top, "scale": 1}
        shot = self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def reported(self, *methods):
        """Return the events of some kinds since the page was opened."""
        return [event for event in self.events if event["method"] in methods]

    def _until(self, fits):
        """Read messages up to one that fits, and return it."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            while b"\0" in self._read:
                text, _, self._read = self._read.partition(b"\0")
                message = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                if fits(message):
                    assert "error" not in message, message
                    return message
            part = os.read(self._from, 1 << 16)
            assert part, "Chromium has ended"
            self._read += part
        raise TimeoutError
