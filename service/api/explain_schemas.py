"""The JSON schemas of explanations: how a request asks for them, and what an answer says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.wire.explanations import METHODS, MOST_SAMPLES, SAMPLES, objections

if TYPE_CHECKING:
    from service.signature import Signature

    Schema = dict[str, Any]


def explain_schema(signature: Signature, *, joint: bool) -> Schema:
    """Return the schema of `explain` in a request.

    Args:
        signature: the signature of the model or view.
        joint: whether the rows of the model depend on each other.
    """
    able = _explainable(signature, joint=joint)
    if not able:
        return {"enum": [False], "description": "No head of this model can be explained."}
    heads: Schema = {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"enum": able},
        "description": "Requested heads; by default all that can be explained.",
    }
    samples: Schema = {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_SAMPLES,
        "default": SAMPLES,
        "description": "The orders of features, if Shapley values are not exact.",
    }
    method: Schema = {"enum": list(METHODS), "type": "string", "default": METHODS[0]}
    chosen = {"heads": heads, "method": method, "samples": samples}
    return {
        "anyOf": [
            {"type": "boolean"},
            {"type": "object", "properties": chosen, "additionalProperties": False},
        ],
        "default": False,
        "description": "Say how much each feature moves the answer away from a reference.",
    }


def explain_conditions(signature: Signature, *, joint: bool) -> list[Schema]:
    """Return the conditions of a request that has both `explain` and `heads`."""
    able = _explainable(signature, joint=joint)
    if not able:
        return []
    is_asked: Schema = {"not": {"const": False}}
    conditions = [_if(is_asked, {"enum": able})]
    for head in able:
        listed = {"properties": {"heads": {"contains": {"const": head}}}}
        conditions.append(_if({"type": "object", "required": ["heads"], **listed}, {"const": head}))
    return conditions


def _if(explain: Schema, head: Schema) -> Schema:
    """Return a condition: if `explain` is so, such a head is among the requested ones."""
    asked = {"required": ["heads", "explain"], "properties": {"explain": explain}}
    return {"if": asked, "then": {"properties": {"heads": {"contains": head}}}}


def _explainable(signature: Signature, *, joint: bool) -> list[str]:
    if signature.tensor or joint:
        return []
    return [name for name, reason in objections(signature).items() if not reason]


def explanations_schema(signature: Signature) -> Schema:
    """Return the schema of the explanations of one row."""
    number: Schema = {"type": ["number", "null"]}
    parts: Schema = {"type": "object", "additionalProperties": number}
    heads: dict[str, Schema] = {}
    for name in _explainable(signature, joint=False):
        labels = signature.heads[name].labels
        labelled: Schema = {} if labels is None else {"label": {"enum": [*labels, None]}}
        properties = {**labelled, "reference": number, "answer": number, "parts": parts}
        heads[name] = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"type": "object", "properties": heads, "additionalProperties": False}


def about_schema() -> Schema:
    """Return the schema of what an answer says about its explanations."""
    properties: Schema = {
        "method": {"enum": list(METHODS)},
        "exact": {"type": "boolean", "description": "Whether Shapley values are not sampled."},
        "runs": {"type": "integer", "description": "The rows that the model ran."},
    }
    return {"type": "object", "properties": properties, "required": ["method", "runs"]}
