"""Drift while a service serves: answered rows, counted and compared with a reference.

answered ─▶ a meter of the version ─▶ the vector of this worker ─┐
those of the others ───────────────────┴▶ drift ─▶ a page, metrics
"""
