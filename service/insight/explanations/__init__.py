"""Explanations: how much each feature moves the answer of a head away from a reference.

    arrays by tensor ─ Plan.expand ─▶ rows with some features at their reference ─ (the model) ─▶
    outputs by head ─ Plan.fold ─▶ outputs of the original rows, and the part of each feature

    features    what one feature is, and its reference
    occlusion   the answer without one feature at a time
    shapley     the gain of each feature, averaged over the orders in which features come

Arrays become arrays: the rows are run by others, as any rows are.
"""

from __future__ import annotations

from service.insight.explanations.features import feature_names
from service.insight.explanations.plan import Plan, check, split

__all__ = ["Plan", "check", "feature_names", "split"]
