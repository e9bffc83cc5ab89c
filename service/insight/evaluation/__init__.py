"""Figures about the answers of one head whose targets are known: more than its one score.

    targets, answers ─┬─ ranking ─▶ ROC and precision-recall curves ─ thresholds ─▶ yes and no
                      ├─ confusion ─▶ which classes are taken for which
                      ├─ calibration ─▶ whether a probability of 0.8 is right in 8 of 10 rows
                      ├─ residuals ─▶ by how much numbers are off
                      └─ losses ─▶ the worst rows

The functions are pure, need numpy alone, and take rows whose answers are finite numbers; `judged`
has these rows of a head, a sample of them if there are many.
"""
