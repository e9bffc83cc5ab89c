"""`triceps init`: a training spec from a table, with the reason for each choice in a comment.

    CSV ── profile ──▶ facts of each column ── features, heads ──▶ choices ── network ──▶ sizes
                                                                        └── text ──▶ SPEC.toml

Every choice follows from the data alone.  Nothing here needs TensorFlow.
"""
