"""Figures about the answers of one head whose targets are known: more than its one score.

    targets, answers ─┬─ ranking ─▶ ROC and precision-recall curves ─ thresholds ─▶ yes and no
                      ├─ confusion ─▶ the rows by class and by answer
                      ├─ calibration ─▶ the error of probabilities
                      ├─ residuals ─▶ the errors of numbers
                      └─ losses ─▶ the worst rows

The functions are pure, need numpy alone, and take rows whose answers are finite numbers; `judged`
has these rows of a head, a sample of them if there are many.
"""
