"""Tests of the messages to the process of the shadow."""

from __future__ import annotations

import numpy as np
import pytest

from service.insight.shadow.figures import Pair
from service.insight.shadow.handed import Handed, decode
from service.signature import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_each_dtype_are_received_as_they_were(dtype):
    """Also views of others, texts that are no ASCII, and arrays without values."""
    values = [["a", "ä\n"], ["", "🍎"]] if dtype == "string" else [[0, 1], [2, 3]]
    whole = np.array(values, object if dtype == "string" else dtype)
    arrays = {"whole": whole, "column": whole[:, :1], "none": whole[:, :0]}
    handed = Handed(Pair("m", "2", "1"), "files", "file", arrays, {"whole": whole[1:]})

    received = decode(handed.encode())

    assert received[:3] == handed[:3]
    assert received.rows == 1
    for mine, theirs in ((received.arrays, arrays), (received.outputs, handed.outputs)):
        assert mine.keys() == theirs.keys()
        for name, array in theirs.items():
            assert mine[name].dtype == array.dtype
            np.testing.assert_array_equal(mine[name], array)
