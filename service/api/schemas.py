"""The JSON schemas of a model's requests and answers, with its names, shapes and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.api import explain_schemas
from service.api.descriptions import value_of
from service.wire.explanations import ABOUT_KEY, ANSWER_KEY
from service.wire.native import examples

if TYPE_CHECKING:
    from service.signature import Feature, Head, Input, Signature, Tensor

Schema = dict[str, Any]


def request_schema(signature: Signature, *, joint: bool) -> Schema:
    """Return the schema of a native body: rows, columns, or whole tensors.

    Args:
        signature: the signature of the model or view.
        joint: whether the rows of the model depend on each other.
    """
    heads: Schema = {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"enum": list(signature.heads)},
        "description": "Compute only these, and require only the inputs that they need.",
    }
    if signature.tensor:
        return _request_of_tensors(signature, heads)
    rows = {name: _input(entry) for name, entry in signature.inputs.items()}
    instance = _object(rows)
    by_input = {name: _by_column(entry) for name, entry in signature.inputs.items()}
    columns = _object({name: _any_of(forms) for name, forms in by_input.items()})
    if len(rows) == 1:
        name = next(iter(rows))
        instance = {"anyOf": [instance, rows[name]]}
        columns = {"anyOf": [columns, *by_input[name]]}
    more = {"heads": heads, "explain": explain_schemas.explain_schema(signature, joint=joint)}
    conditions = explain_schemas.explain_conditions(signature, joint=joint)
    return {
        "oneOf": [
            {
                **_object({"instances": {**_list_of(instance), "minItems": 1}, **more}),
                "required": ["instances"],
            },
            {**_object({"inputs": columns, **more}), "required": ["inputs"]},
        ],
        **({"allOf": conditions} if conditions else {}),
    }


def _request_of_tensors(signature: Signature, heads: Schema) -> Schema:
    """Describe whole tensors by name, in the graph's shapes; a single one needs no name."""
    whole = {name: _whole(entry.tensors[0]) for name, entry in signature.inputs.items()}
    inputs = _object(whole)
    if len(whole) == 1:
        inputs = {"anyOf": [inputs, *whole.values()]}
    request = {**_object({"inputs": inputs, "heads": heads}), "required": ["inputs"]}
    return {**request, "description": f"Whole tensors and no rows: {signature.tensor}."}


def _whole(tensor: Tensor) -> Schema:
    """Describe a tensor in the graph's shape, and flat or as one value if all axes are fixed."""
    value = _value(tensor.dtype)
    forms = [_least_one(_nested(tensor.shape, value))]
    if tensor.size is not None and len(tensor.shape) > 1:
        forms.append(_nested((tensor.size,), value))
    if tensor.size == 1 and tensor.shape:
        forms.append(value)
    return _any_of(forms)


def _least_one(schema: Schema) -> Schema:
    """Return a schema of nested lists in which no list may be empty."""
    if schema.get("type") != "array":
        return schema
    return {"minItems": 1, **schema, "items": _least_one(schema["items"])}


def _input(entry: Input) -> Schema:
    if entry.kind != "tabular":
        tensor = entry.tensors[0]
        shapes = [tensor.shape, *([entry.size] if entry.size else [])]
        if tensor.size is not None and tensor.shape:
            shapes.append((tensor.size,))
        if tensor.size == 1:
            shapes.append(())
        return _any_of([_nested(shape, _value(tensor.dtype)) for shape in dict.fromkeys(shapes)])
    features = {feature.name: _feature(feature, entry) for feature in entry.features}
    return {
        "anyOf": [
            {
                **_object(features),
                "required": [feature.name for feature in entry.features if feature.default is None],
            },
            {
                "type": "array",
                "prefixItems": list(features.values()),
                "items": False,
                "minItems": len(features),
            },
        ]
    }


def _by_column(entry: Input) -> list[Schema]:
    """Describe an input under `inputs`: a list of its rows, and for a table also its columns."""
    rows = {**_list_of(_input(entry)), "minItems": 1}
    if not entry.features:
        return [rows]
    columns = {f.name: {**_list_of(_feature(f, entry)), "minItems": 1} for f in entry.features}
    required = [feature.name for feature in entry.features if feature.default is None]
    return [rows, {**_object(columns), "required": required, "minProperties": 1}]


def _any_of(forms: list[Schema]) -> Schema:
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def _feature(feature: Feature, entry: Input) -> Schema:
    schema = _value(examples.dtype_of(feature, entry))
    if feature.default is not None:
        schema = {**schema, "type": [schema["type"], "null"], "default": feature.default}
    if feature.vocabulary is not None:
        schema |= _texts(feature, feature.vocabulary)
    return schema


def _texts(feature: Feature, vocabulary: tuple[str, ...]) -> Schema:
    """Describe the values of a categorical feature; `null` is one if there is a default."""
    if feature.unseen == "answer":
        return {"examples": list(vocabulary)}
    return {"enum": [*vocabulary, *([] if feature.default is None else [None])]}


def _value(dtype: str) -> Schema:
    if dtype in ("string", "bool"):
        return {"type": {"string": "string", "bool": "boolean"}[dtype]}
    if dtype.startswith("float"):
        largest = float(np.finfo(dtype).max)
        return {"type": "number", "minimum": -largest, "maximum": largest}
    info = np.iinfo(dtype)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def _nested(shape: tuple[int | None, ...], value: Schema) -> Schema:
    for axis in reversed(shape):
        value = (
            _list_of(value)
            if axis is None
            else {**_list_of(value), "minItems": axis, "maxItems": axis}
        )
    return value


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def answer_schema(signature: Signature) -> Schema:
    """Return the schema of a native answer: rows, columns, or whole tensors."""
    if signature.tensor:
        return _answer_of_tensors(signature)
    explanations = explain_schemas.explanations_schema(signature)
    of_heads = {name: _head_row(head) for name, head in signature.heads.items()}
    rows = _object({ANSWER_KEY: explanations, **of_heads})
    outputs = _object({name: _list_of(_head_value(head)) for name, head in signature.heads.items()})
    labels = _object(
        {
            name: _list_of(_label(head))
            for name, head in signature.heads.items()
            if head.labels is not None
        }
    )
    imputed = _object({"at": {"type": "string"}, "value": {"type": ["number", "string"]}})
    unseen = _object({"at": {"type": "string"}, "received": {"type": "string"}})
    return {
        "type": "object",
        "required": ["model", "version"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "predictions": _list_of(rows),
            "outputs": outputs,
            "labels": labels,
            ANSWER_KEY: _list_of(explanations),
            ABOUT_KEY: explain_schemas.about_schema(),
            "imputed": {**_list_of(imputed), "description": "missing values, and their defaults"},
            "unseen": {**_list_of(unseen), "description": "texts that training never saw"},
        },
    }


def _answer_of_tensors(signature: Signature) -> Schema:
    tensors = {name: head.tensor for name, head in signature.heads.items()}
    outputs = _object({name: _nested(t.shape, _out(t)) for name, t in tensors.items()})
    return {
        "type": "object",
        "required": ["model", "version", "outputs"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "outputs": outputs,
        },
    }


def _head_row(head: Head) -> Schema:
    properties = {"value": _head_value(head)}
    if head.labels is not None:
        properties["label"] = _label(head)
    return {**_object(properties), "required": list(properties)}


def _head_value(head: Head) -> Schema:
    shape = () if head.tensor.shape == (1,) else head.tensor.shape
    return {**_nested(shape, _out(head.tensor)), "description": value_of(head)}


def _out(tensor: Tensor) -> Schema:
    if tensor.dtype in ("string", "bool"):
        return _value(tensor.dtype)
    # A graph may return NaN or infinity, for which JSON has only null.
    return {"type": ["number", "null"]} if tensor.dtype.startswith("float") else {"type": "integer"}


def _label(head: Head) -> Schema:
    names = list(head.labels or ())
    # A value of NaN is null in the answer, and so is its label.
    if head.kind == "multilabel":
        return {**_list_of({"enum": names}), "type": ["array", "null"]}
    return {"enum": [*names, None]}
