"""The console in Chromium: its size, the time to its first answer, and its pictures.

    python -m benchmarks.console [--write]

It serves `models/` and a model of two versions, opens the console as a new user does, and measures
bytes, requests and the time from the address to the first answer of the shipped model.  axe-core
looks at each view.  With --write it writes CONSOLE.md and the pictures of docs/console.md.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from axe_playwright_python.sync_playwright import Axe

from benchmarks import report
from benchmarks.picture import beside
from service.repository.scan import ALIASES
from tests.harness import small
from tests.harness.chromium import MISSING, chromium, opened
from tests.harness.serving import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "CONSOLE.md"
FILES = ROOT / "service" / "api" / "console"
ROUNDS = 9
VIEWS = {
    "models": "",
    "a model": "#/models/triceps",
    "two versions": "#/models/three?with=versions/1",
}
WINDOWS: dict[str, dict[str, Any]] = {
    "desk, light": {"width": 1280, "height": 800},
    "desk, dark": {"width": 1280, "height": 800, "scheme": "dark"},
    "phone, light": {"width": 360, "height": 740},
    "phone, dark": {"width": 360, "height": 740, "scheme": "dark"},
}
# The time at which the line with all answers is there, in milliseconds from the navigation.
ANSWERED = """
() => document.querySelector("output.summary")?.textContent.includes(":") && performance.now()
"""
FETCHED = """
() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .map(one => one.transferSize)
"""


@click.command()
@click.option("--write", "writes", is_flag=True, help=f"Write {PAGE.name} and the pictures.")
def main(*, writes: bool) -> None:
    """Measure, print the table, and write it if asked to."""
    if MISSING:
        sys.exit(MISSING)
    with TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        with Server("--models", _repository(folder), folder=folder) as server:
            server.until_ready()
            url = f"{server.url}/console/"
            table = _measured(browser, url)
            if writes:
                _draw(browser, url)
    report.show(table, report.console())
    if writes:
        how = f"the medians of {ROUNDS} new browsers' windows, without anything in their caches"
        report.write_page(PAGE, "The console", [table], how=how)


def _repository(folder: Path) -> Path:
    """Return a repository with the shipped model, and one of two versions."""
    models = folder / "models"
    shutil.copytree(ROOT / "models", models)
    for version in (1, 2):
        small.put(models, "three", version, small.three(float(version)))
    (models / "three" / ALIASES).write_text(json.dumps({"stable": "1", "canary": "2"}))
    return models


def _measured(browser: Browser, url: str) -> report.Table:
    seconds, requests, fetched = [], [], []
    for _ in range(ROUNDS):
        with opened(browser) as page:
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(url + VIEWS["a model"])
            seconds.append(page.wait_for_function(ANSWERED).json_value() / 1000)
            requests.append(len([one for one in asked if not one.startswith("data:")]))
            fetched.append(sum(page.evaluate(FETCHED)))
    found = [
        _violations(browser, url + view, window)
        for view in VIEWS.values()
        for window in WINDOWS.values()
    ]
    sizes = [path.stat().st_size for path in FILES.glob("console.*")]
    rows = [
        ["page, style sheet and script, in bytes", f"{sum(sizes):,}"],
        [
            "bytes received to the first answer, with headers and the model's signature",
            f"{median(fetched):,.0f}",
        ],
        ["requests to the first answer", f"{median(requests):.0f}"],
        ["seconds to the first answer", f"{median(seconds):.2f}"],
        [f"violations that axe-core finds in {len(found)} views", f"{sum(found)}"],
    ]
    return report.Table("Figures", ["Figure", "Value"], rows)


def _violations(browser: Browser, address: str, window: dict[str, Any]) -> int:
    with opened(browser, **window) as page:
        _show(page, address)
        return len(Axe().run(page).response["violations"])


def _show(page: Page, address: str) -> None:
    """Show a view, and wait for its answers."""
    page.goto(address)
    if "models/" in address:
        page.wait_for_function(ANSWERED)
    page.wait_for_timeout(500)  # bars grow


def _draw(browser: Browser, url: str) -> None:
    """Write the pictures: a model at a desk and on a phone, and the list and two versions."""
    shots = {}
    for name, view, window, height in (
        ("model", "a model", "desk, light", 800),
        ("phone", "a model", "phone, dark", 1400),
        ("list", "models", "desk, light", 420),
        ("two", "two versions", "desk, dark", 800),
    ):
        with opened(browser, **WINDOWS[window] | {"height": height}) as page:
            _show(page, url + VIEWS[view])
            if name == "two":
                page.locator("details").evaluate("details => details.open = true")
            if name == "model":
                page.get_by_role("button", name="Why? o3").click()
                page.get_by_text("at the reference").wait_for()
                page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
            shots[name] = page.screenshot(full_page=name != "phone")
    columns = {
        "console": [["model"], ["phone"]],
        "console-list": [["list"]],
        "console-two": [["two"]],
    }
    for name, parts in columns.items():
        path = ROOT / "docs" / f"{name}.png"
        widths = [360 if part == ["phone"] else 1280 for part in parts]
        path.write_bytes(
            beside(browser, [[shots[shot] for shot in part] for part in parts], widths)
        )
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
