"""Whether a row's answer stays the same whatever lies beside it, tried with rows that vary.

each row alone ─▶ the same rows together, in other orders, beside extreme neighbours, in many
counts ─▶ the same answers, but for what float kernels differ by with the number of rows

For a graph whose operators prove nothing.  A trial may only find a difference, or none; whenever
it could not have found one, as where all rows have one answer, it says so and proves nothing.
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

# How far an answer may be from the one alone, in parts of the row's largest value.  Where it was
# measured (x86-64 with AVX-512, layers of up to 4,096 values) ONNX Runtime's float32 kernels gave
# the same bits for 1 to 300 rows; other processors take other kernels for a few rows, which add up
# in another order: some units of 1e-7.  Rows that meet differ by far more beside a thousand or a
# million.
TOLERANCES = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-5}
# Below this part of the largest answer of all rows, a value is what is left of a difference.
NOTHING = 1e-6
SEED = 0
ROWS = 8
# Free axes are tried at these lengths, until rows of one are answered.
LENGTHS = (8, 1, 32, 224)
# Whole numbers that are looked up somewhere are small ones.
WHOLE_NUMBERS = 10
SCALES = (1.0, 0.1, 30.0)
EXTREMES = (0.0, 1e3, -1e3, 1e6, 255.0, -1.0, float("nan"))
TEXTS = ("", "one", "another text", "1", "0.5")
# More rows than a run of ours is cut at, too.
COUNTS = (2, 3, 5, 16, 33, 64, 129, 257, 300)
FEW = 33
# A trial that takes longer than this leaves out the larger counts; one that takes much longer
# before it has come to them proves nothing.
SECONDS = 0.5
MOST_SECONDS = 5.0


@dataclass(frozen=True)
class Tried:
    """Rows of a trial that found no difference, all together, and their answers by head."""

    arrays: Arrays
    answers: Arrays


class Differs(Exception):
    """Rows had other answers together than alone, or a trial could not have told."""


def attempt(run: Predict, signature: Signature, golden: Arrays) -> Tried:
    """Hold rows together against the same rows alone.

    Args:
        run: the graph, whole and in one run, for all heads.
        signature: what the inputs are like.
        golden: rows that are known to be answered; may be empty.

    Raises:
        Differs: a row's answer depends on others, or that cannot be told; with the reason.
    """
    began = time.monotonic()
    rows, answers = _answered(run, signature, golden)
    extremes = _each(run, _extremes(signature, rows))[0]
    for batch, base in _batches(rows, extremes):
        spent = time.monotonic() - began
        if spent > SECONDS and base.is_optional:
            break
        if spent > MOST_SECONDS:
            raise Differs("a trial of its rows takes too long")
        _compare(run, batch, base.places, answers, base.how)
    together = _stack([*rows, *extremes])
    try:
        return Tried(together, {head: a[: len(rows)] for head, a in run(together).items()})
    except Exception as error:
        raise Differs("rows that it answers alone fail together") from error


@dataclass(frozen=True)
class _Base:
    """Where the rows stand in a batch: (place, row), and what is special about it."""

    places: list[tuple[int, int]]
    how: str
    is_optional: bool = False


def differs(answers: Arrays, expected: Arrays) -> str | None:
    """The first head whose rows differ by more than kernels do; `None` where none does."""
    for head, rows in expected.items():
        if not _same(answers[head][: len(rows)], rows, _scale(rows)):
            return head
    return None


def _answered(
    run: Predict, signature: Signature, golden: Arrays
) -> tuple[list[Arrays], list[Arrays]]:
    """Rows that the graph answers alone, and their answers."""
    for length in LENGTHS:
        rows, answers = _each(run, _candidates(signature, golden, length))
        if len(rows) > 2:  # noqa: PLR2004  two rows can be told apart, and a third moved
            break
    else:
        raise Differs("no rows are known that it answers, so they cannot be tried together")
    for row, answer in zip(rows, answers, strict=True):
        again = run(row)
        if any(not _equal(again[head], answer[head]) for head in answer):
            raise Differs("the same row has another answer each time")
    for head, first in answers[0].items():
        if any(len(answer[head]) != 1 for answer in answers):
            raise Differs(f"head {head!r} does not have one answer for one row")
        if all(_equal(answer[head], first) for answer in answers[1:]):
            raise Differs(f"head {head!r} has the same answer to all rows that were tried")
    return rows, answers


def _each(run: Predict, candidates: Iterable[Arrays]) -> tuple[list[Arrays], list[Arrays]]:
    """Those of some rows that are answered alone, and their answers."""
    rows, answers = [], []
    for row in candidates:
        try:
            answer = run(row)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001, S112  no row of this graph; ONNX Runtime has no common error
            continue
        rows.append(row)
        answers.append(answer)
    return rows, answers


def _stack(rows: list[Arrays]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _batches(rows: list[Arrays], extremes: list[Arrays]) -> Iterator[tuple[list[Arrays], _Base]]:
    """Batches of the rows, and where they stand."""
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
    try:
        came = run(_stack(batch))
    except MemoryError:
        raise
    except Exception as error:
        raise Differs(f"rows that it answers alone fail {how}") from error
    for head, array in came.items():
        if array.ndim == 0 or len(array) != len(batch):
            raise Differs(f"head {head!r} does not have a row for each row {how}")
        scale = _scale(np.concatenate([answer[head] for answer in answers]))
        for place, row in places:
            if not _same(array[place : place + 1], answers[row][head], scale):
                raise Differs(f"head {head!r} answers a row otherwise {how} than alone")


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    nan = one.dtype.kind == "f"
    return one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=nan))


def _scale(rows: NDArray[Any]) -> float:
    """The largest of all answers that are numbers."""
    if rows.dtype.kind != "f":
        return 0.0
    finite = np.abs(rows[np.isfinite(rows)]).astype(np.float64)
    return float(finite.max(initial=0.0))


def _same(answers: NDArray[Any], expected: NDArray[Any], scale: float) -> bool:
    """Whether rows are equal, but for what kernels differ by."""
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


def _candidates(signature: Signature, golden: Arrays, length: int) -> Iterator[Arrays]:
    """Golden rows, and rows drawn at random in the range that the inputs are known to have."""
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
        made = random.normal(size=shape) * scale
    else:
        made = random.integers(0, WHOLE_NUMBERS, shape).astype(np.float64)
    if entry.statistics is not None:
        made = _within(entry.statistics, shape, random)
    for feature in features:
        if feature.statistics is not None:
            made[:, feature.column] = _within(feature.statistics, (1,), random)
    if not tensor.dtype.startswith("float"):
        made = np.round(made)
    return made.astype(tensor.dtype)


def _within(
    statistics: Statistics, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[Any]:
    drawn = random.normal(statistics.mean, statistics.std, shape)
    return np.clip(drawn, statistics.min, statistics.max)


def _extremes(signature: Signature, rows: list[Arrays]) -> Iterator[Arrays]:
    """Neighbours unlike any row: very large, empty, or no numbers at all."""
    tensors = [tensor for entry in signature.inputs.values() for tensor in entry.tensors]
    for value in EXTREMES:
        yield {
            tensor.name: _extreme(tensor, rows[0][tensor.name].shape, value) for tensor in tensors
        }


def _extreme(tensor: Tensor, shape: tuple[int, ...], value: float) -> NDArray[Any]:
    if tensor.dtype == "string":
        return np.full(shape, "x" * 100 if value else "", object)
    if tensor.dtype.startswith("float"):
        # Not all the same: that would be nothing to some normalizations.
        ramp = np.linspace(1.0, 2.0, int(np.prod(shape))).reshape(shape)
        with np.errstate(over="ignore"):
            return (ramp * value).astype(tensor.dtype)
    if tensor.dtype == "bool":
        return np.full(shape, bool(value))
    limits = np.iinfo(tensor.dtype)
    number = 0 if value != value else int(np.clip(value, limits.min, limits.max))  # noqa: PLR0124  NaN
    return np.full(shape, number, tensor.dtype)
