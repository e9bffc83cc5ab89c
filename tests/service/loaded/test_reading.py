"""Rows are read in pieces, and every note and mistake has the row of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import BadRequest
from service.loaded.arguments import take
from service.loaded.reading import read
from service.signature import Feature, Head, Signature, Tensor, tabular

NAMES = [
    "plain",
    "a.b",
    "x[3]",
    '["7"][8]',
    'say "x"',
    "größe",
    "\\",
    "n" * 300,
    '"' * 300,
    "…]",
    "",
]
INPUTS = ["table", 'in[4]."p"', "t" * 250]


def signature_of(name):
    """Return the signature of a table whose features have odd names."""
    features = [
        *(Feature(feature, "", default=1.0) for feature in NAMES),
        Feature("kind", "", default="a", vocabulary=("a", "b")),
    ]
    head = Head("h", "regression", Tensor("h", "float32", (1,)), inputs=(name,))
    return Signature({name: tabular(name, features)}, {"h": head})


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("feature", NAMES)
@pytest.mark.parametrize("form", ["instances", "bare", "lists", "inputs", "columns", "arrays"])
def test_notes_have_their_rows(monkeypatch, name, feature, form):
    """Whatever the names are, and in whichever form the rows are given."""
    monkeypatch.setattr("service.loaded.reading.ROWS_AT_ONCE", 2)
    signature = signature_of(name)
    rows = [{**dict.fromkeys(NAMES, 2.0), "kind": "a"} for _ in range(5)]
    rows[3][feature] = None
    rows[4]["kind"] = "z"
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    given = {
        "instances": ([{name: row} for row in rows], None),
        "bare": (rows, None),
        "lists": ([[*row.values()] for row in rows], None),
        "inputs": (None, {name: rows}),
        "columns": (None, {name: columns}),
        "arrays": (None, {name: {k: np.array(v, dtype=object) for k, v in columns.items()}}),
    }[form]

    found = read(take(*given, None, signature), signature)

    assert {key: places.tolist() for key, places in found.imputed.items()} == {
        f"{name}.{feature}": [3]
    }
    assert {key: places.tolist() for key, places in found.unseen.items()} == {f"{name}.kind": [4]}
    assert found.query.arrays[name].shape == (5, len(NAMES))


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("feature", NAMES)
def test_mistakes_have_their_rows(monkeypatch, name, feature):
    """A mistake in a later piece has the same place as if all rows had been read at once."""
    signature = signature_of(name)
    rows = [{**dict.fromkeys(NAMES, 2.0), "kind": "a"} for _ in range(5)]
    rows[3][feature] = "x"
    columns = {key: [row[key] for row in rows] for key in rows[0]}

    def places(*given):
        with pytest.raises(BadRequest) as caught:
            read(take(*given, None, signature), signature)
        return [problem.at for problem in caught.value.problems]

    for given in (([{name: row} for row in rows], None), (None, {name: columns})):
        whole = places(*given)
        with monkeypatch.context() as patch:
            patch.setattr("service.loaded.reading.ROWS_AT_ONCE", 2)
            assert places(*given) == whole


def test_what_is_wrong_with_the_whole_call_is_reported_once(monkeypatch):
    """Unknown names are no mistakes of a row."""
    monkeypatch.setattr("service.loaded.reading.ROWS_AT_ONCE", 2)
    signature = signature_of("table")
    columns = {"table": {"plain": [1.0, 2, 3, 4, "x"], "other": [1] * 5}}

    with pytest.raises(BadRequest) as caught:
        read(take(None, columns, ["g"], signature), signature)

    assert [problem.at for problem in caught.value.problems] == [
        "heads[0]",
        "inputs.table.other",
        "inputs.table.plain[4]",
    ]
    assert caught.value.count == 3
