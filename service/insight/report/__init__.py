"""Parts of a report: one page of HTML without scripts, about a model and its rows.

    document ── elements ─▶ HTML
        └─ bars, chart, compared, network ── layout, picture ─▶ SVG

Training makes such a page of a run; this package needs the standard library alone.
"""
