"""Rows of `small.three`, and the answers that they must get, computed without the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

# What a text adds to the risk; any other one adds 5.
SMOKES = {"no": 0, "yes": 10}
HEADS = ("risk", "size", "digits", "tags")


def rows(count: int = 2) -> Arrays:
    """Return different rows by tensor; every other text is one that training never saw."""
    steps = np.arange(count, dtype=np.float32)[:, None]
    return {
        "insurance": np.hstack([20 + steps, 40 - 0.5 * steps]),
        "insurance.smoker": np.where(steps % 2 == 0, "yes", "größe").astype(object),
        "fruit": np.hstack([steps, 2 * steps]),
        "digit": np.hstack([steps, -steps, 0 * steps, 1 + steps]),
    }


def answers(arrays: Arrays, scale: float = 1.0) -> Arrays:
    """Return the answer of each head."""
    smokes = np.float32([[SMOKES.get(text, 5)] for (text,) in arrays["insurance.smoker"]])
    risky = arrays["insurance"].sum(1, keepdims=True) + smokes - 60
    return {
        "risk": _sigmoid(risky),
        "size": scale * arrays["fruit"].sum(1, keepdims=True),
        "digits": arrays["digit"][:, :3],
        "tags": _sigmoid(arrays["fruit"] - 1),
    }


def _sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    # In float64, since e to the 90th is no float32.
    return 1 / (1 + np.exp(-values.astype(np.float64)))


def check(
    output_of: Callable[[str], NDArray[Any] | None], arrays: Arrays, scale: float = 1.0
) -> None:
    """Check the outputs of all heads, which `output_of` returns by name."""
    for name, expected in answers(arrays, scale).items():
        output = output_of(name)
        assert output is not None, name
        assert output.dtype == np.float32
        assert output.shape == expected.shape
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
