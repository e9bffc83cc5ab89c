"""The answers of a call as arrays: for each head a value and, if it has labels, a label a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire.body import count
from service.wire.column_names import of_answer
from service.wire.labels import labels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.loaded.reading import Places
    from service.signature import Head, Signature

# An array of more values is printed by its first and its last ones.
_FEW = 6
# The labels of a multilabel head are lists.
_OBJECTS: dict[str, Any] = {"O": {"object": repr}}


@dataclass(frozen=True, eq=False)
class Answer:
    """The answers of one head.

    Args:
        value: [rows], or [rows, …] if the head has several values a row, in the dtype of the graph;
            of a model that takes whole tensors, the tensor.
        label: [rows], each the text of a label, or `None` where a value is NaN; of a multilabel
            head, each a list of labels.  `None` if the head has no labels.
    """

    value: NDArray[Any]
    label: NDArray[Any] | None

    @classmethod
    def of(cls, head: Head, output: NDArray[Any], *, whole: bool) -> Answer:
        """Return the answers in a head's output, [rows, …]; or in a whole tensor."""
        label = None
        if head.labels is not None:
            # The labels of a multilabel head are lists, of which numpy would make another axis.
            label = np.fromiter(labels_of(head, output), dtype=object, count=len(output))
        one = not whole and head.tensor.shape == (1,)
        return cls(output[:, 0] if one else output, label)

    def __str__(self) -> str:
        return _brief(self.value) + ("" if self.label is None else f" {_brief(self.label)}")


@dataclass(frozen=True, eq=False, repr=False)
class Answers(Mapping[str, Answer]):
    """The answers of a call by head, in the order in which they were asked: `answers["o1"].value`.

    Args:
        signature: the signature of the model.
        heads: the answer of each head.
        imputed: by feature (`insurance.age`), the numbers of the rows that miss it, where it took
            its default.
        unseen: by feature, the numbers of the rows that have a text which training never saw.
        index: the index of the DataFrame that was given; else `None`.
    """

    signature: Signature
    heads: Mapping[str, Answer]
    imputed: Places
    unseen: Places
    index: Any = None

    def __getitem__(self, head: str) -> Answer:
        return self.heads[head]

    def __iter__(self) -> Iterator[str]:
        return iter(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    def frame(self) -> Any:
        """Return the answers as a DataFrame, with the columns that `triceps predict` writes.

        They are `o1` and `o1.label`; or `o3.0`, `o3.1`, … and `o3.label` for a head with several
        values a row.  The labels of a multilabel head are lists.  The index is that of the
        DataFrame that was given.

        Raises:
            ModuleNotFoundError: pandas is not installed.
            TypeError: the model takes whole tensors, so its answers have no rows.
        """
        if self.signature.tensor:
            raise TypeError(f"the answers have no rows: {self.signature.tensor}")
        columns: dict[str, Any] = {}
        for name, answer in self.heads.items():
            values, label = of_answer(self.signature.heads[name])
            if values == [name]:
                columns[name] = answer.value if answer.value.ndim == 1 else [*answer.value]
            else:
                flat = answer.value.reshape(len(answer.value), len(values))
                columns |= dict(zip(values, flat.T, strict=True))
            if label is not None:
                columns[label] = answer.label
        return import_module("pandas").DataFrame(columns, index=self.index)

    def __repr__(self) -> str:
        lines = [f"{name}: {answer}" for name, answer in self.heads.items()]
        for what, places in (("missing", self.imputed), ("unseen", self.unseen)):
            lines += [f"{what}: {name}, in {count(len(n), 'row')}" for name, n in places.items()]
        return "\n".join(lines)


def _brief(array: NDArray[Any]) -> str:
    """Return the first and the last values of an array on one line."""
    text = np.array2string(
        array, precision=4, threshold=_FEW, edgeitems=2, formatter=_OBJECTS.get(array.dtype.kind)
    )
    return " ".join(text.split())
