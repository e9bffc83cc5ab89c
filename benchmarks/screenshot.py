"""The picture of a report in the documentation: of the penguins, in light and in dark.

    python -m benchmarks.screenshot

It trains what `triceps init` writes for `training/data/penguins.csv`, shows the report in Chromium,
and writes docs/report.png.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.picture import beside
from tests.harness.chromium import MISSING, chromium, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "report.png"
HEADS = ("species", "body_mass_g", "sex")
WIDTH = 960  # of the page, in pixels
# What is shown: the scheme, and the titles at which a piece of the page begins and ends.
COLUMNS = (
    (("light", "Report of", "class"),),
    (
        ("dark", "sex", "Other thresholds"),
        ("dark", "Importance of", "body_mass_g:"),
        ("dark", "Data: the distribution", "Data: notes"),
    ),
)
TOP = """
[...document.querySelectorAll("h1,h2,h3,h4,caption,th")]
  .find(part => part.textContent.startsWith("{}")).getBoundingClientRect().top + scrollY
"""


def main() -> None:
    """Write the picture."""
    if MISSING:
        sys.exit(MISSING)
    with TemporaryDirectory() as name, chromium() as browser:
        report = _report(Path(name))
        columns = [[_piece(browser, report, *piece) for piece in pieces] for pieces in COLUMNS]
        PICTURE.write_bytes(beside(browser, columns, [WIDTH] * len(COLUMNS)))
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def _report(folder: Path) -> Path:
    """Train the penguins, and return their report."""
    shutil.copy(ROOT / "training" / "data" / "penguins.csv", folder)
    program = "from service.commands.main import main; main()"
    heads = [word for head in HEADS for word in ("--head", head)]
    for words in (["init", "penguins.csv", *heads], ["train", "penguins.toml"]):
        subprocess.run([sys.executable, "-c", program, *words], cwd=folder, check=True)
    return folder / "models" / "penguins" / "1" / "report.html"


def _piece(browser: Browser, report: Path, scheme: str, first: str, last: str) -> bytes:
    """Return the piece of a page between two titles as PNG."""
    with opened(browser, width=WIDTH, scheme=scheme) as page:
        page.goto(report.as_uri())
        top, bottom = (page.evaluate(TOP.format(title)) for title in (first, last))
        clip = {"x": 0, "y": round(top) - 8, "width": WIDTH, "height": round(bottom - top)}
        return page.screenshot(full_page=True, clip=clip)


if __name__ == "__main__":
    main()
