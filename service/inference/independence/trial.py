"""The trial of row independence: a row must have the same answer alone and beside other rows.

each row alone ─▶ the same rows together, in other orders, beside extreme neighbours, in batches of
many sizes ─▶ the same answers, but for the rounding of float kernels in batches of other sizes

It is for graphs whose operators do not decide.  A trial finds a difference or finds none.  If it
could not have found one, for example because all rows have the same answer, it raises `Differs`.
The file is long with the neighbours that rows are given, and is one idea.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from service.signature import Input, Signature, Statistics, Tensor

    Arrays = Mapping[str, NDArray[Any]]
    Predict = Callable[[Arrays], Arrays]

# By dtype, the largest allowed difference from the answer alone, relative to the largest value of
# the row's answer.  Where it was measured (x86-64 with AVX-512, layers of up to 4,096 values), ONNX
# Runtime's float32 kernels gave the same bits for 1 to 300 rows.  On other processors, other
# kernels for a few rows add up in another order, which makes some units of 1e-7.  If rows mix,
# neighbours of a thousand or a million make a far larger difference.
TOLERANCES = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-5}
# A row's answer below this part of the largest answer of all rows may be what rounding leaves of a
# difference of large numbers, so its own size does not measure its error.
NOTHING = 1e-6
SEED = 0
ROWS = 8
# The lengths of free axes, tried in this order until the graph answers rows of one of them.
LENGTHS = (8, 1, 32, 224)
# The bound of random integers: those that a graph uses as indices are small.
WHOLE_NUMBERS = 10
SCALES = (1.0, 0.1, 30.0)
EXTREMES = (0.0, 1e3, -1e3, 1e6, 255.0, -1.0, float("nan"))
TEXTS = ("", "one", "another text", "1", "0.5")
# The sizes of batches.  Some are above `MOST_ROWS`, at which the runner cuts a request into runs.
COUNTS = (2, 3, 5, 16, 33, 64, 129, 257, 300)
FEW = 33
# After `SECONDS`, a trial leaves out the batches of more than `FEW` rows.  After `MOST_SECONDS`, a
# trial that has not come so far fails.
SECONDS = 0.5
MOST_SECONDS = 5.0


@dataclass(frozen=True)
class Tried:
    """The rows of a trial that found no difference, by tensor, and their answers by head."""

    arrays: Arrays
    answers: Arrays


class Differs(Exception):
    """Rows have other answers together than alone, or the trial could not have found that out."""


def attempt(run: Predict, signature: Signature, golden: Arrays) -> Tried:
    """Compare the answers of rows together with those of the same rows alone.

    Args:
        run: runs the whole graph, in one run, for all heads.
        signature: the signature of the graph.
        golden: the golden rows, [rows, …] by tensor; may be empty.

    Returns:
        The rows and extreme neighbours that were tried, in one batch, and the answers of the rows.

    Raises:
        Differs: a row's answer depends on other rows, or the trial cannot tell; with the reason.
    """
    began = time.monotonic()
    bounded = _in_time(run, began + MOST_SECONDS)
    rows, answers = _answered(bounded, signature, golden)
    extremes = each(bounded, _extremes(signature, rows))[0]
    for batch, base in _batches(rows, extremes):
        if base.is_optional and time.monotonic() - began > SECONDS:
            break
        _compare(bounded, batch, base.places, answers, base.how)
    together = stack([*rows, *extremes])
    try:
        return Tried(together, {head: a[: len(rows)] for head, a in run(together).items()})
    except Exception as error:
        raise Differs("rows that it answers alone fail together") from error


def _in_time(run: Predict, end: float) -> Predict:
    """Return `run`, which raises `Differs` from `end` on, by the monotonic clock."""

    def in_time(arrays: Arrays) -> Arrays:
        if time.monotonic() > end:
            raise Differs("a trial of its rows takes too long")
        return run(arrays)

    return in_time


@dataclass(frozen=True)
class _Base:
    """The rows of a batch, as pairs of an index in the batch and a row, and how they are tried."""

    places: list[tuple[int, int]]
    how: str
    is_optional: bool = False


def differs(answers: Arrays, expected: Arrays) -> str | None:
    """Return the first head whose rows differ by more than rounding; `None` if there is none."""
    for head, rows in expected.items():
        if not _same(answers[head][: len(rows)], rows, _scale(rows)):
            return head
    return None


def _answered(
    run: Predict, signature: Signature, golden: Arrays
) -> tuple[list[Arrays], list[Arrays]]:
    """Return rows that the graph answers alone, and their answers.

    Raises:
        Differs: there are too few, or no trial with them could find a difference.
    """
    for length in LENGTHS:
        rows, answers = each(run, candidates(signature, golden, length))
        if len(rows) > 2:  # noqa: PLR2004  two rows to compare, and one to move
            break
    else:
        raise Differs("no rows are known that it answers, so none can be tried together")
    for row, answer in zip(rows, answers, strict=True):
        again = run(row)
        if any(not _equal(again[head], answer[head]) for head in answer):
            raise Differs("a row has another answer each time")
    for head, first in answers[0].items():
        if any(len(answer[head]) != 1 for answer in answers):
            raise Differs(f"head {head!r} does not have one answer for one row")
        if all(_equal(answer[head], first) for answer in answers[1:]):
            raise Differs(f"head {head!r} has the same answer for all rows that were tried")
    return rows, answers


def each(run: Predict, candidates: Iterable[Arrays]) -> tuple[list[Arrays], list[Arrays]]:
    """Return those candidates that the graph answers alone, and their answers."""
    rows, answers = [], []
    for row in candidates:
        try:
            answer = run(row)
        except (MemoryError, Differs):
            raise
        except Exception:  # noqa: BLE001, S112  no valid row; ONNX Runtime's errors have no common class
            continue
        rows.append(row)
        answers.append(answer)
    return rows, answers


def stack(rows: list[Arrays]) -> dict[str, NDArray[Any]]:
    """Return rows as one batch."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _batches(rows: list[Arrays], extremes: list[Arrays]) -> Iterator[tuple[list[Arrays], _Base]]:
    """Yield batches of rows and extreme neighbours, with the places of the rows in each."""
    count = len(rows)
    forward, backward = list(range(count)), list(reversed(range(count)))
    for order, how in ((forward, "together"), (backward, "in another order")):
        yield [rows[i] for i in order], _Base(list(enumerate(order)), how)
    beside = "beside extreme neighbours"
    for extreme in extremes:
        yield [rows[0], extreme, rows[1]], _Base([(0, 0), (2, 1)], beside)
        yield [extreme, *rows], _Base([(i + 1, i) for i in range(count)], beside)
    yield [*rows, *extremes], _Base(list(enumerate(forward)), beside)
    random = np.random.default_rng(SEED)
    for many in COUNTS:
        order = random.integers(0, count, many).tolist()
        how = f"in a batch of {many}"
        yield [rows[i] for i in order], _Base(list(enumerate(order)), how, many > FEW)


def _compare(
    run: Predict,
    batch: list[Arrays],
    places: list[tuple[int, int]],
    answers: list[Arrays],
    how: str,
) -> None:
    """Run a batch, and compare the rows at `places` with their answers alone."""
    try:
        outputs = run(stack(batch))
    except (MemoryError, Differs):
        raise
    except Exception as error:
        raise Differs(f"rows that it answers alone fail {how}") from error
    for head, array in outputs.items():
        if array.ndim == 0 or len(array) != len(batch):
            raise Differs(f"head {head!r} does not have a row for each row {how}")
        scale = _scale(np.concatenate([answer[head] for answer in answers]))
        for place, row in places:
            if not _same(array[place : place + 1], answers[row][head], scale):
                raise Differs(f"head {head!r} answers a row differently {how} than alone")


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    nan = one.dtype.kind == "f"
    return one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=nan))


def _scale(rows: NDArray[Any]) -> float:
    """Return the largest finite magnitude of all answers; 0 if they are not floats."""
    if rows.dtype.kind != "f":
        return 0.0
    finite = np.abs(rows[np.isfinite(rows)]).astype(np.float64)
    return float(finite.max(initial=0.0))


def _same(answers: NDArray[Any], expected: NDArray[Any], scale: float) -> bool:
    """Return whether rows are equal but for rounding; `scale` is the largest of all answers."""
    if answers.shape != expected.shape or answers.dtype.kind != "f":
        return _equal(answers, expected)
    tolerance = TOLERANCES.get(str(answers.dtype), 0.0)
    for one, other in zip(answers.astype(np.float64), expected.astype(np.float64), strict=True):
        finite = np.isfinite(other)
        if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
            return False
        size = max(np.abs(other[finite]).max(initial=0.0), NOTHING * scale)
        if not (np.abs(one[finite] - other[finite]) <= tolerance * size).all():
            return False
    return True


def candidates(signature: Signature, golden: Arrays, length: int) -> Iterator[Arrays]:
    """Yield golden rows, and random rows in the ranges that the signature records."""
    count = min((len(array) for array in golden.values()), default=0)
    for i in range(min(count, ROWS)):
        yield {name: array[i : i + 1] for name, array in golden.items()}
    random = np.random.default_rng(SEED)
    for _, scale in zip(range(ROWS), itertools.cycle(SCALES), strict=False):
        row: dict[str, NDArray[Any]] = {}
        for entry in signature.inputs.values():
            row |= _draw(entry, random, scale, length)
        yield row


def _draw(
    entry: Input, random: np.random.Generator, scale: float, length: int
) -> dict[str, NDArray[Any]]:
    return {
        tensor.name: _draw_tensor(entry, tensor, random, scale, length) for tensor in entry.tensors
    }


def _draw_tensor(
    entry: Input, tensor: Tensor, random: np.random.Generator, scale: float, length: int
) -> NDArray[Any]:
    features = [feature for feature in entry.features if feature.tensor == tensor.name]
    shape = (1, *(length if axis is None else axis for axis in tensor.shape))
    if tensor.dtype == "string":
        known = [text for feature in features for text in feature.vocabulary or ()]
        return random.choice(np.array([*known, *TEXTS], object), shape)
    if tensor.dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if tensor.dtype.startswith("float"):
        values = random.normal(size=shape) * scale
    else:
        values = random.integers(0, WHOLE_NUMBERS, shape).astype(np.float64)
    if entry.statistics is not None:
        values = _within(entry.statistics, shape, random)
    for feature in features:
        if feature.statistics is not None:
            values[:, feature.column] = _within(feature.statistics, (1,), random)
    if not tensor.dtype.startswith("float"):
        values = np.round(values)
    return values.astype(tensor.dtype)


def _within(
    statistics: Statistics, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[Any]:
    drawn = random.normal(statistics.mean, statistics.std, shape)
    return np.clip(drawn, statistics.min, statistics.max)


def _extremes(signature: Signature, rows: list[Arrays]) -> Iterator[Arrays]:
    """Yield neighbours unlike any row: very large, zero, empty or NaN."""
    tensors = [tensor for entry in signature.inputs.values() for tensor in entry.tensors]
    for value in EXTREMES:
        yield {
            tensor.name: _extreme(tensor, rows[0][tensor.name].shape, value) for tensor in tensors
        }


def _extreme(tensor: Tensor, shape: tuple[int, ...], value: float) -> NDArray[Any]:
    if tensor.dtype == "string":
        return np.full(shape, "x" * 100 if value else "", object)
    if tensor.dtype.startswith("float"):
        # The values differ, since some normalizations make zeros of equal ones.
        ramp = np.linspace(1.0, 2.0, int(np.prod(shape))).reshape(shape)
        with np.errstate(over="ignore"):
            return (ramp * value).astype(tensor.dtype)
    if tensor.dtype == "bool":
        return np.full(shape, bool(value))
    limits = np.iinfo(tensor.dtype)
    number = 0 if value != value else int(np.clip(value, limits.min, limits.max))  # noqa: PLR0124  NaN
    return np.full(shape, number, tensor.dtype)
