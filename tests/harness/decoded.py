"""What tests of readers ask of a decoded body: what is wrong with it, and what its arrays are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def problems(read: Callable[..., Any], *arguments: Any) -> list[tuple[str, str, str]]:
    """What is wrong with a body: (at, expected, received) each."""
    with pytest.raises(BadRequest) as caught:
        read(*arguments)
    assert caught.value.count == len(caught.value.problems)
    return [(problem.at, problem.expected, problem.received) for problem in caught.value.problems]


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether two sets of arrays are one, their order and dtypes included."""
    assert list(found) == list(expected)
    return all(
        found[name].dtype == expected[name].dtype and np.array_equal(found[name], expected[name])
        for name in expected
    )


def both(row: Mapping[str, Any], **parts: Any) -> list[Any]:
    """A request for one row with `parts` changed (`...`: left out), in each form, and its paths."""
    said = {name: value for name, value in {**row, **parts}.items() if value is not ...}
    by_column = {"inputs": {name: [value] for name, value in said.items()}}
    return [
        pytest.param({"instances": [said]}, lambda name: f"instances[0].{name}", id="by-row"),
        pytest.param(by_column, lambda name: f"inputs.{name}[0]", id="by-column"),
    ]
