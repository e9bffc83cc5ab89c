"""Drift: what rows and answers are like, so that later ones can be compared with them.

    signature ─ quantities ─▶ a quantity for each feature and head, or part of one
    arrays ─ columns ─▶ a value for each row and quantity ─ record ─▶ the reference

The modules need numpy alone.
"""
