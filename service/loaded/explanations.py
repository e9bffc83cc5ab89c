"""The explanations of a call as arrays: how much each feature moves the answer of a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire.body import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.wire import explanations as wire


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanations of one head.

    Args:
        features: the names of the features that the head needs, such as `insurance.age`, or
            `digit[0:4,8:12]` for a patch of an image.
        parts: [rows, features], float64: how much each feature moves the answer away from the
            reference; below 0 if it lowers it.
        answer: [rows], the value that is explained, in the dtype of the head.
        reference: [rows], that value where every feature is at its reference.
        label: [rows], the labels whose probabilities are explained; `None` if the head has none.
        index: the index of the DataFrame that was given; else `None`.
    """

    features: tuple[str, ...]
    parts: NDArray[np.float64]
    answer: NDArray[Any]
    reference: NDArray[Any]
    label: NDArray[Any] | None
    index: Any = None

    def frame(self) -> Any:
        """Return the parts as a DataFrame with a column for each feature.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        pandas = import_module("pandas")
        return pandas.DataFrame(self.parts, columns=[*self.features], index=self.index)


@dataclass(frozen=True, eq=False, repr=False)
class Explanations(Mapping[str, Explanation]):
    """The explanations of a call by head: `explanations["o1"].parts`.

    Args:
        heads: the explanations of each head.
        method: "occlusion" or "shapley".
        exact: whether Shapley values are exact; `None` for occlusion.
        runs: the rows that the model ran.
    """

    heads: Mapping[str, Explanation]
    method: str
    exact: bool | None
    runs: int

    @classmethod
    def of(cls, parts: Sequence[wire.Explanations], index: Any) -> Explanations:
        """Return the explanations of all rows.

        Args:
            parts: those of some rows each, in order; there is at least one.
            index: the index of the DataFrame that was given; else `None`.
        """
        about = parts[0].about
        heads = {
            name: _joined([part.heads[name] for part in parts], index) for name in parts[0].heads
        }
        runs = sum(part.about["runs"] for part in parts)
        return cls(heads, about["method"], about.get("exact"), runs)

    def __getitem__(self, head: str) -> Explanation:
        return self.heads[head]

    def __iter__(self) -> Iterator[str]:
        return iter(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    def __repr__(self) -> str:
        how = {None: self.method, True: f"{self.method}, exact", False: f"{self.method}, sampled"}
        lines = [
            f"{name}: {count(len(one.parts), 'row')}, {count(len(one.features), 'feature')}"
            for name, one in self.heads.items()
        ]
        return "\n".join([*lines, f"{how[self.exact]}, {count(self.runs, 'run')}"])


def _joined(parts: Sequence[wire.Explained], index: Any) -> Explanation:
    labels = [label for part in parts for label in part.labels]
    return Explanation(
        tuple(parts[0].features),
        np.concatenate([part.parts for part in parts]),
        np.concatenate([part.answers for part in parts]),
        np.concatenate([part.references for part in parts]),
        np.array(labels, dtype=object) if labels else None,
        index,
    )
