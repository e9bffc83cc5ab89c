"""The plan of an explanation: the rows that it runs, and what follows from their answers.

    [rows, …] ─ expand ─▶ [rows x runs + 1, …] ─ (the model) ─▶ [rows x runs + 1, …] ─ fold ─▶ parts

The first run of a row is the row itself.  The last row of all has every feature at its reference,
and serves all rows.
"""

from __future__ import annotations

import math
from sys import getsizeof
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from service.errors import TooLarge
from service.inference.batching import MOST_ROWS_WHOLE
from service.insight.explanations import occlusion, shapley
from service.insight.explanations.features import features_of
from service.wire.body import count, wrong
from service.wire.explanations import KEY, Explained, Explanations
from service.wire.limits import MOST_NUMBERS, numbers_a_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from service.inference.runner import Runner
    from service.insight.explanations.features import Features
    from service.signature import Head, Signature
    from service.wire import native
    from service.wire.explanations import Explain
    from service.wire.numbers import Arrays

# Rows that the explanations of one request run, and the bytes of these rows and of their answers.
MOST_RUNS = 2**16
MOST_BYTES = 2**26
# Bytes and parts that an event loop computes: less than a millisecond.
_SMALL_BYTES = 2**18
_SMALL_PARTS = 2**11
# For each value of an answer, whatever its dtype.
_ANSWER_BYTES = 8


class Plan(NamedTuple):
    """The explanations of the rows of one request."""

    signature: Signature
    explain: Explain
    heads: Sequence[str]
    """The heads that are answered, some of which are explained."""
    arrays: Mapping[str, NDArray[Any]]
    features: Features
    rows: int
    runs: int
    """The runs of each row."""
    size: int
    """The bytes of all rows that are run, and of their answers."""

    @classmethod
    def of(cls, signature: Signature, query: Any, model: Runner) -> Self:
        """Plan the explanations of the rows of one request.

        Args:
            signature: the signature of the model or view.
            query: the request, with its arrays by tensor, its `heads`, and `explain`.
            model: the model that is to run the rows.

        Raises:
            BadRequest: the rows depend on each other, or two features have the same name.
            TooLarge: too many rows would have to be run, or too many parts to be written.
        """
        check(model)
        cost = _Cost.of(signature, query, model)
        rows = len(next(iter(query.arrays.values())))
        if rows > cost.most_rows:
            raise cost.too_many(rows, query.explain)
        size = (rows * cost.runs + 1) * cost.each
        return cls(
            signature,
            query.explain,
            query.heads,
            query.arrays,
            cost.features,
            rows,
            cost.runs,
            size,
        )

    @property
    def is_small(self) -> bool:
        """True if an event loop may expand and fold it."""
        parts = self.rows * len(self.features.names) * len(self.explain.heads)
        if any(self.signature.heads[name].tensor.size is None for name in self.heads):
            return False  # as its answers may have any size
        return self.size <= _SMALL_BYTES and parts <= _SMALL_PARTS

    @property
    def total(self) -> int:
        """The rows that are run."""
        return self.rows * self.runs + 1

    def expand(self) -> dict[str, NDArray[Any]]:
        """Return the rows to run by tensor, [rows x runs + 1, …]."""
        masks = self._masks()
        return {name: self._expand(name, array, masks) for name, array in self.arrays.items()}

    def _expand(self, name: str, array: NDArray[Any], masks: NDArray[np.bool_]) -> NDArray[Any]:
        shape = array.shape[1:]
        width = math.prod(shape)
        expanded = np.empty((self.total, width), array.dtype)
        rows = expanded[:-1].reshape(self.rows, self.runs, width)
        own = array.reshape(self.rows, 1, width)
        owners = self.features.owners.get(name)
        if owners is None:
            # No head that is explained needs this tensor.
            rows[:], expanded[-1] = own, own[0, 0]
        else:
            rows[:] = expanded[-1] = self.features.references[name]
            np.copyto(rows, own, where=masks[:, owners])
        return expanded.reshape(self.total, *shape)

    def _masks(self) -> NDArray[np.bool_]:
        features = len(self.features.names)
        if self.explain.method == "shapley":
            return shapley.masks(features, self.explain.samples)
        return occlusion.masks(features)

    def of_use(self, outputs: Mapping[str, NDArray[Any]], start: int) -> dict[str, NDArray[Any]]:
        """Return the outputs that `fold` uses: those of the original rows, unless it explains them.

        Only heads of a fixed size are explained, and others may have any.

        Args:
            outputs: the outputs of some rows of `expand` by head.
            start: the number of the first of these rows.
        """
        rows = len(next(iter(outputs.values())))
        places = np.arange(-start % self.runs, min(rows, self.total - 1 - start), self.runs)
        return {
            # A copy, since a view would keep all outputs of a run.
            name: output if name in self.explain.heads else output[places]
            for name, output in outputs.items()
        }

    def fold(
        self, outputs: Mapping[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], Explanations]:
        """Return the outputs of the original rows by head, and the explanations.

        Args:
            outputs: the outputs of the rows of `expand` by head, [rows x runs + 1, …]; or of the
                original rows, [rows, …], as `of_use` returns them.
        """
        answers = {
            name: output if len(output) == self.rows else output[: -1 : self.runs]
            for name, output in outputs.items()
        }
        heads = {
            name: self._explained(self.signature.heads[name], outputs[name])
            for name in self.explain.heads
        }
        about: dict[str, Any] = {"method": self.explain.method}
        if self.explain.method == "shapley":
            about["exact"] = shapley.is_exact(len(self.features.names), self.explain.samples)
        return answers, Explanations(heads, {**about, "runs": self.total})

    def _explained(self, head: Head, output: NDArray[Any]) -> Explained:
        """Return the explanation of a head, from its outputs for all runs."""
        runs = output[:-1].reshape(self.rows, self.runs, -1)
        # Of a head with labels of which one is right, the answered one is explained.
        labels = runs[:, 0].argmax(axis=1)
        values = np.take_along_axis(runs, labels[:, None, None], axis=2)[:, :, 0]
        references = output[-1].reshape(-1)[labels]
        scores, zero = values.astype(np.float64), references.astype(np.float64)
        features = self.features
        with np.errstate(invalid="ignore", over="ignore"):  # answers may be infinite
            if self.explain.method == "shapley":
                parts = shapley.parts(scores, zero, self.explain.samples, len(features.names))
            else:
                parts = occlusion.parts(scores)
        own = [i for i, name in enumerate(features.inputs) if name in head.inputs]
        return Explained(
            [features.names[i] for i in own],
            _labels(head, labels, values[:, 0]),
            references,
            values[:, 0],
            parts[:, own],
        )


def _labels(head: Head, labels: NDArray[Any], answers: NDArray[Any]) -> list[str | None]:
    """Return the label that is explained in each row; none for a head without labels."""
    if head.labels is None:
        return []
    names = head.labels[1:] if head.kind == "binary" else head.labels
    known = ~np.isnan(answers.astype(np.float64))
    return [names[i] if is_known else None for i, is_known in zip(labels, known, strict=True)]


def _row_bytes(array: NDArray[Any]) -> int:
    """Return the bytes of a row of a tensor, with its texts: each run of a model copies them."""
    size: int = array[:1].nbytes
    if array.dtype.kind != "O":
        return size
    width = math.prod(array.shape[1:])
    return size + width * max(map(getsizeof, array.flat), default=0)


def check(model: Runner) -> None:
    """Check that the rows of a model can be changed one by one.

    Raises:
        BadRequest: they depend on each other.
    """
    if model.established.mode == "joint":
        expected = "a model whose rows do not depend on each other"
        raise wrong(KEY, expected, f"a joint one: {model.established.reason}")


def most_rows(signature: Signature, query: Any, model: Runner) -> int:
    """Return how many rows like those of a request one request may have, as for `Plan.of`."""
    return _Cost.of(signature, query, model).most_rows


def split(
    signature: Signature, query: native.Query[Arrays], model: Runner
) -> Iterator[native.Query[Arrays]]:
    """Yield the rows of a request in as many requests as its bounds require.

    Each has a row at least; `Plan.of` refuses one that takes too many runs by itself.
    """
    step = max(1, most_rows(signature, query, model))
    for start in range(0, len(next(iter(query.arrays.values()))), step):
        yield query._replace(
            arrays={name: array[start : start + step] for name, array in query.arrays.items()}
        )


class _Cost(NamedTuple):
    """The cost of a row of a request, and how much of it one request may have."""

    features: Features
    runs: int
    """The runs of a row."""
    each: int
    """The bytes of a run: its row and its answers."""
    parts: int
    """The parts of a row in the answer."""
    most: int
    """The runs of a request."""

    @classmethod
    def of(cls, signature: Signature, query: Any, model: Runner) -> Self:
        """Return the cost of the rows of a request, by the shapes of its arrays."""
        explain: Explain = query.explain
        arrays: Mapping[str, NDArray[Any]] = query.arrays
        features = features_of(signature, signature.needed(explain.heads), arrays)
        number = len(features.names)
        runs = number + 1
        if explain.method == "shapley":
            runs = shapley.runs(number, explain.samples)
        each = sum(map(_row_bytes, arrays.values()))
        each += _ANSWER_BYTES * numbers_a_row(signature, query.heads)
        most = min(MOST_RUNS, MOST_BYTES // max(1, each))
        if model.runs_whole:
            most = min(most, MOST_ROWS_WHOLE)
        return cls(features, runs, each, number * len(explain.heads), most)

    @property
    def most_rows(self) -> int:
        """The rows of a request."""
        return min((self.most - 1) // self.runs, MOST_NUMBERS // max(1, self.parts))

    def too_many(self, rows: int, explain: Explain) -> TooLarge:
        """Return the error for a request of too many rows."""
        total, parts = rows * self.runs + 1, rows * self.parts
        received = f"received {count(rows, 'row')}"
        if total <= self.most:
            return TooLarge(
                f"{KEY}: expected at most {MOST_NUMBERS} parts in one answer, {received} with "
                f"{parts}: ask in several requests, or for fewer heads"
            )
        number = len(self.features.names)
        sampled = explain.method == "shapley" and not shapley.is_exact(number, explain.samples)
        return TooLarge(
            f"{KEY}: expected at most {count(self.most, 'run')} of this model in one request, "
            f"{received} of {count(self.runs, 'run')}, {total} in all: ask in several requests, or "
            f"for fewer heads{' or samples' if sampled else ''}"
        )
