"""The document of a report: its shell and style, and the lists and tables in it, all bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.insight.report import bars, compared, network, picture
from service.insight.report.elements import as_bytes, element, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from xml.etree import ElementTree as ET

MOST_BYTES = 300_000  # of a page
MOST_LINES = 30
LEFT_OUT = "Left out, as this page has no room for its"
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--soft:#666;--tint:#eaf1f9;--line:#ddd;
--a:#0b62b8;--b:#b34700}
@media (prefers-color-scheme:dark){
:root{--ink:#e8e8e8;--paper:#161616;--soft:#a3a3a3;--tint:#1c2836;--line:#3a3a3a;
--a:#6cb2ff;--b:#ffa35c}}
@media print{:root{--ink:#000;--paper:#fff;--soft:#555;--tint:#eee;--line:#bbb;
--a:#0b62b8;--b:#b34700}
figure,tr{break-inside:avoid}h2,h3,h4{break-after:avoid}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:60rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
h1{line-height:1.2;margin:.5rem 0}h2{margin:2.5rem 0 .5rem;padding-top:.5rem;line-height:1.2;
font-size:1.25rem;border-top:2px solid var(--tint)}
h3{margin:2.5rem 0 .3rem}h4{margin:1.2rem 0 .3rem}
p{margin:.5rem 0}ul{padding-left:1.4rem}small{color:var(--soft)}
.wide{overflow-x:auto;margin:.5rem 0}table{border-collapse:collapse;overflow-wrap:break-word}
th,td{padding:.25rem .55rem;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-size:.95em}
th:first-child,td:first-child{text-align:left;padding-left:0}
.wide table{font-size:.9rem}.wide td{white-space:nowrap}th{vertical-align:bottom}
.wide td:first-child{white-space:normal;min-width:6em}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(21rem,100%),1fr));gap:1rem}
figure{margin:1rem 0;min-width:0}.tiles>figure{margin:0}
.tiles figcaption{font-weight:600;color:var(--ink)}
svg{width:100%;max-width:40rem;height:auto}
svg text{font-size:12px;fill:var(--ink)}.curve text{font-size:14px}
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
.wide small{font-size:.85em}
@media print{.wide{overflow:visible}.wide table{font-size:.7rem}
.wide td,.wide th{white-space:normal}}
"""
_STYLES = (_STYLE, bars.STYLE, compared.STYLE, picture.STYLE, network.STYLE)


def document(title: str, *content: ET.Element) -> bytes:
    """Return a page with a title and its content, as HTML in UTF-8."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
    )
    body = element("body", element("h1", title), *content)
    return as_bytes(element("html", head, body, lang="en"), "".join(_STYLES))


def titled(sections: Mapping[str, Sequence[ET.Element]]) -> list[ET.Element]:
    """Return sections, each below its title."""
    return [
        part for title, content in sections.items() for part in (element("h2", title), *content)
    ]


def bounded(sections: Mapping[str, list[ET.Element]], most: int) -> dict[str, list[ET.Element]]:
    """Return sections with a line in place of the largest, as long as all have too many bytes."""
    kept = dict(sections)
    sizes = {title: sum(map(size, content)) for title, content in sections.items()}
    for title in sorted(sizes, key=lambda title: -sizes[title]):
        if sum(sizes.values()) > most:
            kept[title] = [element("p", f"{LEFT_OUT} {sizes.pop(title) // 1000} kB.")]
    return kept


def room(content: Iterable[ET.Element]) -> int:
    """Return the bytes that a page of `MOST_BYTES` has left beside its shell and this content."""
    # With a title of 300 characters, and the line that says what is cut.
    shell = sum(map(len, _STYLES)) + 2000
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
