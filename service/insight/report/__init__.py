"""Parts of a report: one page of HTML without scripts, about a model and its rows.

    evaluation ── answers_of_labels, answers_of_numbers ─┐
    bars, compared, matrix ─▶ tables, small drawings     ├─ document ── elements ─▶ HTML
    plane ── curves, histogram ─▶ SVG                    │
    chart, picture, layout ── network ─▶ SVG ────────────┘

Training makes such a page of a run, and `triceps report` of a labelled file.
"""
