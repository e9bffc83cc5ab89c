"""Drift: how far rows and answers differ from those that a signature's reference is of.

    signature ─ quantities ─▶ a quantity for each feature and head, or part of one
    arrays ─ columns ─▶ a value for each row and quantity ─┬─ record ─▶ the reference
                                                           └─ Layout.count ─▶ counts by cell
    counts, reference ─ findings ─▶ statistics and a verdict for each quantity, worst first

Counts of several runs, workers or pods are added.  The modules need numpy alone.
"""
