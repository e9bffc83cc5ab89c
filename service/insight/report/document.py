"""The document of a report: its shell and style, and the lists and tables in it, all bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.insight.report.elements import as_bytes, element, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree import ElementTree as ET

MOST_BYTES = 300_000  # of a page
MOST_LINES = 30
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--soft:#767676;--a:#0b62b8;--b:#b34700}
@media (prefers-color-scheme:dark){
:root{--ink:#e8e8e8;--paper:#161616;--soft:#9a9a9a;--a:#6cb2ff;--b:#ffa35c}}
@media print{:root{--ink:#000;--paper:#fff;--soft:#555;--a:#0b62b8;--b:#b34700}
figure,tr{break-inside:avoid}h2,h3,h4{break-after:avoid}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:56rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:.5rem 0}table{border-collapse:collapse;overflow-wrap:break-word}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--soft)}
th:first-child,td:first-child{text-align:left}td:first-child{white-space:nowrap}
figure{margin:1rem 0}svg{width:100%;max-width:40rem;height:auto}
svg text{font-size:12px;fill:var(--ink)}
.grid{stroke:var(--soft);stroke-width:.5}.mark{stroke:var(--ink);stroke-dasharray:2 3}
polyline{fill:none;stroke-width:2}
.train{stroke:var(--a)}.held{stroke:var(--b);stroke-dasharray:7 3}
.side{display:flex;flex-wrap:wrap;gap:0 1rem}.side figure{flex:1 1 15rem;max-width:24rem}
figcaption,small{font-size:.85rem;color:var(--soft)}
.line{stroke:var(--a)}.dot,.bar{fill:var(--a)}.guide{stroke:var(--soft);stroke-dasharray:4 3}
.matrix td{text-align:center}.matrix small{display:block;color:inherit}
td[class]{print-color-adjust:exact}
td.f1{background:color-mix(in srgb,var(--a) 8%,transparent)}
td.f2{background:color-mix(in srgb,var(--a) 16%,transparent)}
td.f3{background:color-mix(in srgb,var(--a) 25%,transparent)}
td.f4{background:color-mix(in srgb,var(--a) 35%,transparent)}
td.f5{background:color-mix(in srgb,var(--a) 45%,transparent)}
path.f1{opacity:.3}path.f2{opacity:.45}path.f3{opacity:.6}path.f4{opacity:.8}
"""


def document(title: str, *content: ET.Element) -> bytes:
    """Return a page with a title and its content, as HTML in UTF-8."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
    )
    body = element("body", element("h1", title), *content)
    return as_bytes(element("html", head, body, lang="en"), _STYLE)


def room(content: Iterable[ET.Element]) -> int:
    """Return the bytes that a page of `MOST_BYTES` has left beside its shell and this content."""
    shell = len(_STYLE) + 2000  # with a title of 300 characters, and the line that says what is cut
    return MOST_BYTES - shell - sum(map(size, content))


def listed(texts: Sequence[str]) -> list[ET.Element]:
    """Return a list of texts, or a paragraph that says that there is none."""
    if not texts:
        return [element("p", "None.")]
    items = element("ul", *(element("li", text) for text in texts[:MOST_LINES]))
    return [items, *more(len(texts), MOST_LINES, "lines")]


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> ET.Element:
    """Return a table, which scrolls sideways where it is wider than the page."""
    top = element("tr", *(element("th", column) for column in columns))
    lines = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    return element("div", element("table", top, *lines), class_="wide")


def more(count: int, most: int, what: str) -> list[ET.Element]:
    """Return a line that says how many things are left out, if any are."""
    return [element("p", f"and {count - most} more {what}")] if count > most else []


def shown(score: float | None) -> str:
    """Return a score with four decimals, or a dash for none."""
    return "–" if score is None else f"{score:.4f}"  # noqa: RUF001  (a dash)
