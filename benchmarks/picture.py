"""Pictures of the documentation: screenshots beside each other, with few colours, as PNG."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from tests.harness.chromium import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Browser

COLOURS = 256
STYLE = (
    "body{margin:0;display:flex;background:#161616}img{display:block}"
    "div:first-child{background:#fff}"
)


def beside(browser: Browser, columns: Sequence[Sequence[bytes]], widths: Sequence[int]) -> bytes:
    """Return columns of screenshots as one picture.

    Args:
        browser: the browser that draws it.
        columns: the screenshots of each column, as PNG.
        widths: the width of each column in pixels.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        body = ""
        for number, (pieces, width) in enumerate(zip(columns, widths, strict=True)):
            paths = [folder / f"{number}.{place}.png" for place in range(len(pieces))]
            for path, piece in zip(paths, pieces, strict=True):
                path.write_bytes(piece)
            images = "".join(f'<img src="{path.name}" width="{width}">' for path in paths)
            body += f"<div>{images}</div>"
        page = folder / "page.html"
        page.write_text(f"<!doctype html><style>{STYLE}</style>{body}")
        with opened(browser, width=sum(widths)) as shown:
            shown.goto(page.as_uri())
            return _small(shown.screenshot(full_page=True))


def _small(png: bytes) -> bytes:
    """Return a PNG with a palette of its commonest colours, which takes a third of the bytes."""
    import tensorflow as tf  # what trains models can read a picture, too

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
