"""Numbers that become arrays only when several requests are joined."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.model import Model
from service.wire import native
from service.wire.native import fast
from service.wire.numbers import Numbers, join
from service.wire.quick import FEW, UnsureError
from tests.harness import small

SIGNATURE = Model.load(small.three()).signature
DECODER = fast.Decoder(SIGNATURE)

values = st.floats(-1000, 1000, width=32)
rows = st.fixed_dictionaries(
    {
        "insurance": st.tuples(values, st.sampled_from(["yes", "no"]), values),
        "fruit": st.lists(values, min_size=2, max_size=2),
        "digit": st.lists(values, min_size=4, max_size=4),
    }
)
bodies = st.tuples(st.lists(rows, min_size=1, max_size=3), st.booleans(), st.booleans())


def body_of(listed: list[dict[str, Any]], by_row: bool, plain: bool) -> bytes:
    """Return a body with rows, by row or by column.

    With `plain`, a leading blank makes the reference reader read it.
    """
    columns = {name: [row[name] for row in listed] for name in reversed(listed[0])}
    body = json.dumps({"instances": listed} if by_row else {"inputs": columns}).encode()
    return b" " + body if plain else body


@given(st.lists(bodies, min_size=1, max_size=5))
def test_joined_or_apart_they_are_the_same(sent):
    """Joined numbers give the arrays of separate ones, in any form, order and reader."""
    read = [body_of(*body) for body in sent]
    expected = [native.decode(body, SIGNATURE).arrays for body in read]

    joined = join([DECODER.decode(body).arrays for body in read])

    assert joined.keys() == expected[0].keys()
    for name, array in joined.items():
        whole = np.concatenate([arrays[name] for arrays in expected])
        assert array.dtype == whole.dtype
        assert array.shape == whole.shape
        assert array.tolist() == whole.tolist()


def test_numbers_of_few_rows_are_no_arrays_yet():
    """The numbers of a few rows stay numbers until the run; those of many rows become arrays."""
    row = {"insurance": [1, "no", 2], "fruit": [1, 2], "digit": [1, 2, 3, 4]}

    few = DECODER.decode(body_of([row], by_row=True, plain=False)).arrays
    many = DECODER.decode(body_of([row] * FEW, by_row=True, plain=False)).arrays

    assert isinstance(few, Numbers)
    assert few.numbers
    assert few.arrays.keys() == {"insurance.smoker"}
    assert isinstance(many, Numbers)
    assert {len(array) for array in many.arrays.values()} == {FEW}
    assert len(many.arrays) == 4
    assert not many.numbers


@pytest.mark.parametrize("buffers", [[np.zeros(3)], [np.zeros(1)], []])
def test_as_many_as_there_should_be(buffers):
    """No row may get numbers of the next."""
    numbers = Numbers(DECODER._groups, 1)
    numbers.numbers["fruit"] = buffers

    with pytest.raises(UnsureError):
        numbers.check()
