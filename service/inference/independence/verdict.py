"""The verdict on whether rows may run together, by a graph's operators or else by a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import UndeclaredAnswer
from service.inference.batching import Batching
from service.inference.independence import proof, trial
from service.inference.independence.nodes import axis_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx
    from numpy.typing import NDArray

    from service.inference.execution import Execution
    from service.signature import Signature

    Arrays = Mapping[str, NDArray[Any]]


def judge(
    graph: onnx.ModelProto,
    signature: Signature,
    predict: Callable[[Arrays], Arrays],
    golden_arrays: Callable[[], Arrays],
    execution: Execution,
) -> tuple[Batching, list[trial.Tried]]:
    """Decide whether rows may run together, before any do.

    What operators prove holds for the kernels of the CPU provider; others have to be tried.

    Args:
        graph: a graph that takes any number of rows.
        signature: its signature.
        predict: runs the whole graph for all heads.
        golden_arrays: returns the golden rows, [rows, …] by tensor.
        execution: the execution of these runs.

    Returns:
        The verdict; and the rows of the trial, if a trial was needed and found no difference.
    """
    try:
        count = proof.prove(graph)
    except proof.NoProof as refusal:
        return _try_rows(graph, signature, predict, golden_arrays, refusal)
    if not execution.is_cpu:
        own = proof.NoProof(f"{execution.provider} has kernels of its own", mixes=False)
        return _try_rows(graph, signature, predict, golden_arrays, own)
    operators = "operator handles" if count == 1 else "operators handle"
    return Batching("rows", "operators", f"{count} {operators} each row by itself"), []


def _try_rows(
    graph: onnx.ModelProto,
    signature: Signature,
    predict: Callable[[Arrays], Arrays],
    golden_arrays: Callable[[], Arrays],
    refusal: proof.NoProof,
) -> tuple[Batching, list[trial.Tried]]:
    """Decide by a trial, unless the operators already show that rows mix."""
    if refusal.mixes:
        return Batching("joint", "operators", str(refusal)), []
    names = axis_names(graph)
    if len(names) > 1:
        called = ", ".join(map(repr, names))
        reason = f"its inputs' first axes have different names ({called}), and {refusal}"
        return Batching("joint", "operators", reason), []
    try:
        tried = trial.attempt(predict, signature, golden_arrays())
    except (KeyError, TypeError, ValueError, UndeclaredAnswer, trial.Differs) as error:
        return Batching("joint", "trial", f"{refusal}; in a trial, {error}"), []
    reason = f"rows had the same answers alone, together and beside extreme ones; {refusal}"
    return Batching("rows", "trial", reason), [tried]
