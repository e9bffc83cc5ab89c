"""Checks of decoded bodies: their problems and their arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def problems(read: Callable[..., Any], *arguments: Any) -> list[tuple[str, str, str]]:
    """Return the problems of a body as (at, expected, received)."""
    with pytest.raises(BadRequest) as caught:
        read(*arguments)
    assert caught.value.count == len(caught.value.problems)
    return [(problem.at, problem.expected, problem.received) for problem in caught.value.problems]


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Return whether two sets of arrays are equal, with the same order and dtypes."""
    assert list(found) == list(expected)
    return all(
        found[name].dtype == expected[name].dtype and np.array_equal(found[name], expected[name])
        for name in expected
    )


def both(row: Mapping[str, Any], **parts: Any) -> list[Any]:
    """Return a request of one row in each form, with its paths; `parts` change, `...` omits."""
    said = {name: value for name, value in {**row, **parts}.items() if value is not ...}
    by_column = {"inputs": {name: [value] for name, value in said.items()}}
    return [
        pytest.param({"instances": [said]}, lambda name: f"instances[0].{name}", id="by-row"),
        pytest.param(by_column, lambda name: f"inputs.{name}[0]", id="by-column"),
    ]
