"""Debian's Chromium, driven by Playwright, and what a page in it does that no page of ours may."""

from __future__ import annotations

import contextlib
import shutil
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

# As Debian calls it, and as machines of continuous integration have it.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, _NAMES)), None)
MISSING = "" if PROGRAM else "needs Debian's Chromium: apt-get install chromium"
MILLISECONDS = 60_000  # a busy machine takes some to start it
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage")


@contextlib.contextmanager
def chromium():
    """Yield a browser of Playwright, which ends afterwards."""
    with sync_playwright() as playwright:
        options = {"executable_path": PROGRAM, "args": FLAGS, "timeout": MILLISECONDS}
        with playwright.chromium.launch(**options) as browser:
            yield browser


@contextlib.contextmanager
def opened(browser, *, width=1280, height=800, scheme="light", media="screen", **more):
    """Yield an empty page in a window of a size, in a colour scheme, on the screen or in print."""
    size = {"width": width, "height": height}
    with browser.new_context(viewport=size, color_scheme=scheme, **more) as context:
        page = context.new_page()
        page.emulate_media(media=media)
        yield page


class Faults:
    """What a page requests and reports, from now on."""

    def __init__(self, page):
        self.requests = []
        self.reports = []
        """Errors, messages on the console (breaches of its policy are among them), and dialogs."""
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.reports.append(message.text))
        page.on("pageerror", lambda error: self.reports.append(str(error)))
        page.on("dialog", self._dismiss)

    def _dismiss(self, dialog):
        self.reports.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def hosts(self):
        """Return the hosts and ports of all requests over a network."""
        return {urlsplit(url).netloc for url in self.requests} - {""}
