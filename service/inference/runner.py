"""The runner of one graph: named arrays in, named arrays out.

    {tensor: [rows, …]}  ── predict(arrays, heads) ──▶  {head: [rows, …]}

A request for some heads runs the sub-graph that they need.  ONNX Runtime alone would compute the
whole graph, whichever outputs are requested.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from service.errors import CannotRun, TooLarge, UndeclaredAnswer
from service.inference.arrays import numpy_dtype, zeros_of
from service.inference.batching import MOST_ROWS_WHOLE, Batching
from service.inference.declared import matches
from service.inference.extraction import cut, proven_cut
from service.inference.runtime import FAILURES, is_callers, reason
from service.inference.session import ready
from service.inference.subgraphs import SubgraphCache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnxruntime
    from numpy.typing import NDArray

    from service.inference.declared import Declared
    from service.inference.independence import trial
    from service.inference.runnable import Cuttable
    from service.inference.session import Ready, Started
    from service.signature import Signature

    Arrays = Mapping[str, NDArray[Any]]

# The verdict on a graph that takes one row per run, and on every graph until it is judged.
ONE_BY_ONE = Batching("alone", "operators", "its graph takes one row in a run")

# The most rows of a run.  ONNX Runtime keeps the memory that the largest run took.
MOST_ROWS = 256


class Runner:
    """The session and the signature of a file, with the sub-graphs that requests have needed.

    It holds the graph itself only if there is something to cut, and its weights are not in files
    that can be read again.  It may be shared by threads, but not across a fork.
    """

    def __init__(
        self,
        started: Started,
        signature: Signature,
        graph: Cuttable | None,
        declared: Declared,
        *,
        whole: bool,
    ) -> None:
        """Prepare the runs of a graph.

        Args:
            started: the session of the whole graph, and its execution, which is that of the
                sub-graphs, too.
            signature: the signature of the graph.
            graph: the graph, if sub-graphs can be cut out of it.
            declared: the axes that the graph declares.
            whole: whether some head needs each input; if not, the graph is cut down to its heads.
        """
        session, execution = started
        self.signature = signature
        self.declared = declared
        self.execution = execution
        # The largest difference from the answers of the CPU, if another provider runs the graph.
        self.difference = 0.0
        # The same model with a thread for each processor, for a long run that is alone.
        self.wide: Self | None = None
        # The most rows of a run, if the settings of the model say so; else 0.
        self.rows = 0
        # By tensor, a shape of zeros that the graph has answered; if there is none, why not.
        self.tried: dict[str, tuple[int, ...]] | None = None
        self.fails = ""
        # The time of the last request, by `perf_counter`.
        self.asked = 0.0
        # The name in the errors of its runs, set when the repository has named the model.
        self.name = ""
        # Whether clients choose something that a run may fail for: the length of an axis; or an
        # index, a shape or a string, none of which is a float.
        self._has_choice = any(
            tensor.size is None or not tensor.dtype.startswith("float")
            for entry in signature.inputs.values()
            for tensor in entry.tensors
        )
        # By head, the dtype and the axes that each run's answer is checked against.
        self._heads = {
            head.name: (numpy_dtype(head.tensor.dtype), declared.heads[head.name])
            for head in signature.heads.values()
        }
        # Whether the time of a run depends on the values of a request, and not on shapes alone.
        self.loops = False
        self.batching = self.established = ONE_BY_ONE
        self._whole = ready(session)
        self.subgraphs: SubgraphCache[Ready] | None = None
        # The rows of the trial, if one was needed: each sub-graph has to answer them equally.
        tried: list[trial.Tried] = []
        self._tried = tried
        if graph is not None:
            # The cache must not hold `self`: without a reference cycle, the memory of a model is
            # freed as soon as its last user lets go of it.
            self.subgraphs = SubgraphCache(
                partial(proven_cut, graph, signature, tried, execution), graph.size
            )
            content = None if whole else graph.read()
            if content is not None:
                # Requests have no arrays for inputs that no node reads.
                self._whole, _ = cut(content, signature, frozenset(signature.heads), execution)

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session of the whole graph."""
        return self._whole[0]

    @property
    def runs_alone(self) -> bool:
        """True if each request needs a run of its own."""
        return self.batching.mode != "rows"

    @property
    def runs_whole(self) -> bool:
        """True if all rows of a request are one run, and so may be at most `MOST_ROWS_WHOLE`."""
        return self.signature.batch is None and self.batching.mode in ("joint", "alone")

    def predict(self, arrays: Arrays, heads: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Compute `heads`, and nothing that they do not need.

        Args:
            arrays: by tensor, [rows, …] in the graph's dtype; a tensor that none of `heads` needs
                may be absent.  In the mode `tensor`, whole tensors instead of rows.
            heads: the names of heads, each once.

        Returns:
            By head in the order of `heads`, [rows, …] in the graph's dtype.

        Raises:
            CannotRun: the graph has no answer for these shapes or values, such as an index past
                the end of a list, or a picture that is too small.
            TooLarge: the rows must be one run, and are more than `MOST_ROWS_WHOLE`.
            UndeclaredAnswer: a head answers with another shape or dtype than the graph declares.
        """
        cuts, chosen = self.subgraphs, self._whole
        try:
            if cuts is not None and len(heads) < len(self.signature.heads):
                wanted = frozenset(heads)
                subgraph = cuts.find(wanted)
                if subgraph is None and self.signature.tensor:
                    # The whole graph would need zeros for the other inputs, in shapes that fit
                    # those of the request; these are not known.
                    subgraph = cuts.insist(wanted)
                if subgraph is None:
                    return self._run_whole(cuts, arrays, heads)
                chosen = subgraph
            return self._run(chosen, arrays, heads)
        except FAILURES as error:
            # If a graph of fixed shapes has never answered, no client can fix that.
            known = self.tried is not None or isinstance(error, InvalidArgument)
            if not ((known or self._has_choice) and is_callers(error)):
                raise
            message = f"the model has no answer for these values: {reason(error, arrays)}"
            raise CannotRun(message) from error

    def _run(self, chosen: Ready, arrays: Arrays, heads: Sequence[str]) -> dict[str, NDArray[Any]]:
        session, names = chosen
        feeds = {name: arrays[name] for name in names}
        if self.signature.tensor:
            return self._checked(heads, session.run(heads, feeds), ())
        rows = len(next(iter(feeds.values())))
        most = self.signature.batch or self.rows or MOST_ROWS
        if rows <= most and self.signature.batch is None:
            return self._checked(heads, session.run(heads, feeds), (rows,))
        if self.runs_whole:
            if rows > MOST_ROWS_WHOLE:
                message = (
                    f"body: expected at most {MOST_ROWS_WHOLE} rows in one request, received "
                    f"{rows}: this model runs each request whole ({self.batching.mode}), since "
                    f"{self.batching.reason}"
                )
                raise TooLarge(message)
            return self._checked(heads, session.run(heads, feeds), (rows,))
        runs = [
            session.run(heads, {name: array[i : i + most] for name, array in feeds.items()})
            for i in range(0, rows, most)
        ]
        # A graph that takes one row may answer with a scalar.
        joined = [
            np.concatenate([np.atleast_1d(part) for part in parts])
            for parts in zip(*runs, strict=True)
        ]
        return self._checked(heads, joined, (rows,))

    def _checked(
        self, heads: Sequence[str], outputs: Sequence[NDArray[Any]], rows: tuple[int, ...]
    ) -> dict[str, NDArray[Any]]:
        """Return a run's outputs by head, with the dtypes and shapes that the graph declares.

        Encoders, metrics and the batcher rely on both, and ONNX Runtime does not enforce them.

        Args:
            heads: the names of the outputs.
            outputs: the outputs of the run.
            rows: the number of rows; empty for whole tensors.

        Raises:
            UndeclaredAnswer: an output has another dtype or shape.
        """
        answers = {}
        for head, output in zip(heads, outputs, strict=True):
            dtype, axes = self._heads[head]
            # Identity is the fast check: the dtype is almost always this very object.
            if output.dtype is not dtype:
                output = self._as_declared(head, output, dtype)  # noqa: PLW2901  the same values
            wanted = rows + ((None,) * (output.ndim - len(rows)) if axes is None else axes)
            if output.shape != wanted and not matches(output.shape, wanted):
                declared = ", ".join("any" if axis is None else str(axis) for axis in wanted)
                expected, received = f"the shape [{declared}]", f"the shape {list(output.shape)}"
                raise UndeclaredAnswer(self.name, head, expected, received, output.shape)
            answers[head] = output
        return answers

    def _as_declared(self, head: str, output: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a view of an output with the very dtype object that its head declares.

        ONNX Runtime returns int64 as C's `long long`.  For numpy that dtype is equal to int64, but
        orjson does not know it and encodes such an array value by value.
        """
        if output.dtype != dtype:
            raise UndeclaredAnswer(self.name, head, str(dtype), str(output.dtype), output.shape)
        return output.view(dtype)

    def _run_whole(
        self, cuts: SubgraphCache[Ready], arrays: Arrays, heads: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Run the whole graph for some heads, with zeros for the inputs that none of them needs."""
        needed = set(self.signature.needed(tuple(heads)))
        rows = len(next(iter(arrays.values())))
        zeros = {
            tensor.name: zeros_of(tensor, (rows, *(axis or 1 for axis in tensor.shape)))
            for entry in self.signature.inputs.values()
            for tensor in entry.tensors
            if entry.name not in needed
        }
        try:
            return self._run(self._whole, {**zeros, **arrays}, heads)
        except Exception:  # noqa: BLE001  an error of `heads` themselves comes again
            # The rest of the graph may have failed at the zeros.
            return self._run(cuts.insist(frozenset(heads)), arrays, heads)
