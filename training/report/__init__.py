"""The report of a run: one page of HTML without scripts, published with the version.

    fitted, verified, warnings, rows ── page ─▶ report.html
                                         ├─ graph, importances, features ── distributions
                                         └─ service.insight.report ─▶ HTML, SVG

It has only what is the same when the run is repeated, so that its bytes are too.
"""

from training.report.page import page

__all__ = ["page"]
