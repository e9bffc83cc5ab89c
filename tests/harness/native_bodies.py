"""Hypothesis strategies for bodies in Triceps' own JSON, right ones and nearly right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from service.signature import Input, Signature

numbers = st.one_of(
    st.integers(-(2**66), 2**66),
    st.integers(-200, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1000, 1000, width=32),
    st.sampled_from([3.4028234e38, 3.4028236e38, 65504, 65520, 1e308, -0.0, 2.0, 2**53 + 1]),
)
odd = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.just([]), st.just({}))
leaves = st.one_of(numbers, numbers, numbers, odd)


def lists(length: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for lists, most of them of the right length."""
    right = st.lists(values, min_size=length, max_size=length)
    return st.one_of(right, right, right, st.lists(values, max_size=length + 1))


def rows_of(entry: Input) -> st.SearchStrategy[Any]:
    """Return a strategy for rows: right, wrong, and with a nesting that hides their length."""
    if entry.features:
        values = {
            feature.name: leaves
            if feature.vocabulary is None
            else st.sampled_from([*feature.vocabulary, "[", "", None, 1])
            for feature in entry.features
        }
        return st.one_of(
            st.fixed_dictionaries({}, optional=values),
            st.fixed_dictionaries(values),
            st.tuples(*values.values()).map(list),
            lists(len(values), leaves),
            leaves,
        )
    tensor = entry.tensors[0]
    texts = st.one_of(st.text(max_size=2), st.text(max_size=2), odd)
    value = {"string": texts, "bool": st.one_of(st.booleans(), leaves)}.get(tensor.dtype, leaves)
    whole = st.integers(-3, 3)
    flat = tensor.size or 2
    nested = value
    for axis in reversed(tensor.shape):
        nested = lists(2 if axis is None else axis, nested)
    image = [lists(entry.size[0], lists(entry.size[1], numbers))] if entry.size else []
    hidden = st.just([list(range(flat)), *[[]] * (flat - 1)])
    return st.one_of(nested, lists(flat, value), lists(flat, whole), hidden, *image, value)


def columns_of(entry: Input, rows: int) -> st.SearchStrategy[Any]:
    """Return a strategy for an input by column: mostly rows, and for a table mostly columns."""
    right = st.lists(rows_of(entry), min_size=rows, max_size=rows)
    if not entry.features:
        return right
    of_feature = {
        feature.name: lists(
            rows,
            leaves
            if feature.vocabulary is None
            else st.sampled_from([*feature.vocabulary, "[", "", None, 1]),
        )
        for feature in entry.features
    }
    hidden = st.just([[1] * rows, *[[]] * (rows - 1)])
    return st.one_of(
        right,
        st.fixed_dictionaries(of_feature),
        st.fixed_dictionaries(of_feature),
        st.fixed_dictionaries({}, optional={**of_feature, "other": hidden}),
        st.fixed_dictionaries({name: hidden | column for name, column in of_feature.items()}),
        st.just({}),
    )


def bodies(signature: Signature) -> st.SearchStrategy[Any]:
    """Return a strategy for bodies of a signature in both forms, most of them nearly right."""
    each = {name: rows_of(entry) for name, entry in signature.inputs.items()}
    heads = st.lists(st.sampled_from([*signature.heads, "o9"]), max_size=3)
    alone = list(each.values()) if len(each) == 1 else []
    row = st.one_of(
        st.fixed_dictionaries(each),
        st.fixed_dictionaries(each),
        st.fixed_dictionaries({}, optional={**each, "other": leaves}),
        *alone,
    )
    columns = {name: st.lists(value, min_size=1, max_size=3) for name, value in each.items()}
    two = {name: columns_of(entry, 2) for name, entry in signature.inputs.items()}
    some = {"heads": heads}
    return st.one_of(
        st.fixed_dictionaries({"instances": lists(2, row)}, optional=some),
        st.fixed_dictionaries({"instances": lists(2, row)}),
        st.fixed_dictionaries({"inputs": st.fixed_dictionaries(two)}, optional=some),
        st.fixed_dictionaries(
            {"inputs": st.fixed_dictionaries({}, optional=columns)}, optional=some
        ),
        *(st.fixed_dictionaries({"inputs": lists(2, value)}) for value in alone),
        *(st.fixed_dictionaries({"inputs": value}) for value in two.values() if alone),
    )
