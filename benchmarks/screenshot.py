"""The picture of a report in the documentation: of the penguins, in light and in dark.

    python -m benchmarks.screenshot

It trains what `triceps init` writes for `training/data/penguins.csv`, shows the report in Chromium,
and writes docs/report.png.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.harness.chromium import PROGRAM, chromium, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "report.png"
HEADS = ("species", "body_mass_g", "sex")
WIDTH = 960  # of the page, in pixels
COLOURS = 256
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
    if PROGRAM is None:
        sys.exit("expected Chromium, found none; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        report = _report(folder)
        columns = []
        for number, pieces in enumerate(COLUMNS):
            paths = []
            for place, piece in enumerate(pieces):
                paths.append(folder / f"{number}.{place}.png")
                paths[-1].write_bytes(_piece(browser, report, *piece))
            columns.append("".join(f'<img src="{path.name}">' for path in paths))
        page = folder / "page.html"
        page.write_text(
            "<!doctype html><style>body{margin:0;display:flex;background:#161616}"
            f"img{{display:block;width:{WIDTH}px}}div:first-child{{background:#fff}}</style>"
            + "".join(f"<div>{column}</div>" for column in columns)
        )
        PICTURE.write_bytes(_small(_picture(browser, page, width=WIDTH * len(COLUMNS))))
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
    return _picture(browser, report, first, last, width=WIDTH, scheme=scheme)


def _picture(browser: Browser, path: Path, *titles: str, **window: Any) -> bytes:
    """Return a page as PNG: all of it, or what is between two titles."""
    with opened(browser, **window) as page:
        page.goto(path.as_uri())
        shot: dict[str, Any] = {"full_page": True}
        if titles:
            top, bottom = (page.evaluate(TOP.format(title)) for title in titles)
            size = {"width": window["width"], "height": round(bottom - top)}
            shot["clip"] = {"x": 0, "y": round(top) - 8, **size}
        return page.screenshot(**shot)


def _small(png: bytes) -> bytes:
    """Return a PNG with a palette of its commonest colours, which takes a third of the bytes."""
    import tensorflow as tf  # what trains the model can read a picture, too

    pixels = tf.io.decode_png(png, channels=3).numpy()
    height, width, _ = pixels.shape
    every, place, counts = np.unique(
        pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    palette = every[np.argsort(-counts, kind="stable")[:COLOURS]].astype(int)
    nearest = [np.square(palette - colour).sum(axis=1).argmin() for colour in every.astype(int)]
    rows = np.uint8(nearest)[place.reshape(-1)].reshape(height, width)
    lines = np.insert(rows, 0, 0, axis=1)  # each begins with the number of its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette.astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


if __name__ == "__main__":
    main()
