"""The runs of one graph: named arrays in, named arrays out.

    {tensor: [rows, …]}  ── predict(arrays, heads) ──▶  {head: [rows, …]}

A request for some heads runs a graph cut down to them; ONNX Runtime alone would compute
the whole graph whatever it is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from service.errors import CannotRun, TooLarge, UndeclaredAnswer
from service.inference.arrays import numpy_dtype, zeros_of
from service.inference.batching import Batching
from service.inference.declared import matches
from service.inference.extraction import cut, proven_cut, weight
from service.inference.runtime import FAILURES, is_callers, reason
from service.inference.session import ready
from service.inference.subgraphs import SubgraphCache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    import onnxruntime
    from numpy.typing import NDArray

    from service.inference.declared import Declared
    from service.inference.independence import trial
    from service.inference.session import Ready
    from service.signature import Signature

    Arrays = Mapping[str, NDArray[Any]]

# Of a graph that takes one row a run; and of any, until it is looked at.
ONE_BY_ONE = Batching("alone", "operators", "its graph takes one row in a run")

# What is run at once: ONNX Runtime keeps the memory that the largest run took.
MOST_ROWS = 256
# And what is run at once where it must not be cut, since rows depend on each other.
MOST_ROWS_WHOLE = 4096


class Runner:
    """A file's session and signature, and the sub-graphs of it that were asked for.

    Holds the graph itself only where there is something to cut.  Safe to share between
    threads, not across a fork.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        graph: onnx.ModelProto | None,
        declared: Declared,
        *,
        whole: bool,
    ) -> None:
        """Cut the graph down to what its heads need, unless they need the `whole` of it."""
        self.signature = signature
        self.declared = declared
        # By tensor, a shape of zeros that the graph has answered, and else why it has not.
        self.tried: dict[str, tuple[int, ...]] | None = None
        self.fails = ""
        # What an error of one of its runs calls it, once its repository has named it.
        self.name = ""
        # Whether callers choose what a run may fail for: a length; or a place, a shape or a text,
        # and floats are none of these.
        self._has_choice = any(
            tensor.size is None or not tensor.dtype.startswith("float")
            for entry in signature.inputs.values()
            for tensor in entry.tensors
        )
        # By head, what each run's answer is held against.
        self._heads = {
            head.name: (numpy_dtype(head.tensor.dtype), declared.heads[head.name])
            for head in signature.heads.values()
        }
        # Whether what a run takes hangs on the values of a request, and not on its shapes alone.
        self.loops = False
        self.batching = self.established = ONE_BY_ONE
        self._whole = ready(session)
        self._subgraphs: SubgraphCache[Ready] | None = None
        # What a trial has run, if one was needed: each cut is held against it.
        tried: list[trial.Tried] = []
        self._tried = tried
        if graph is not None:
            # Of the graph, and not of `self`, which would then hold itself: whoever lets go of a
            # model frees its memory at once.
            self._subgraphs = SubgraphCache(
                partial(proven_cut, graph, signature, tried), weight(graph)
            )
            if not whole:
                # There are inputs that nothing reads, and so no arrays of them.
                self._whole, _ = cut(graph, signature, frozenset(signature.heads))

    @property
    def runs_alone(self) -> bool:
        """Whether no other request may be in a run with one of this model."""
        return self.batching.mode != "rows"

    @property
    def runs_whole(self) -> bool:
        """Whether a request's rows are one run, however many, and so at most `MOST_ROWS_WHOLE`."""
        return self.signature.batch is None and self.batching.mode in ("joint", "alone")

    def predict(self, arrays: Arrays, heads: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Compute `heads`, and nothing that they do not need.

        Args:
            arrays: by tensor, [rows, …] in the graph's dtype; those that no asked head needs may be
                absent.
            heads: names of heads, each once.

        Returns:
            By head in the order asked, [rows, …] in the graph's dtype.

        Raises:
            CannotRun: the graph has no answer for these shapes or values, such as a place past a
                list's end, or a picture that is too small.
            UndeclaredAnswer: a head answers with another shape or dtype than the graph declares.
        """
        cuts, chosen = self._subgraphs, self._whole
        try:
            if cuts is not None and len(heads) < len(self.signature.heads):
                asked = frozenset(heads)
                subgraph = cuts.find(asked)
                if subgraph is None and self.signature.tensor:
                    # Zeros for the other inputs would have to fit the shapes of these.
                    subgraph = cuts.insist(asked)
                if subgraph is None:
                    return self._run_whole(cuts, arrays, heads)
                chosen = subgraph
            return self._run(chosen, arrays, heads)
        except FAILURES as error:
            # What a graph of fixed shapes has never answered is not the caller's to mend.
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
        rows, most = len(next(iter(feeds.values()))), self.signature.batch or MOST_ROWS
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
        # A graph of one row may answer with a bare value for it.
        joined = [
            np.concatenate([np.atleast_1d(part) for part in parts])
            for parts in zip(*runs, strict=True)
        ]
        return self._checked(heads, joined, (rows,))

    def _checked(
        self, heads: Sequence[str], outputs: Sequence[NDArray[Any]], rows: tuple[int, ...]
    ) -> dict[str, NDArray[Any]]:
        """Name a run's outputs by head, each of the dtype and the shape that the graph declares.

        Whatever encodes, counts or cuts them relies on it, and the runtime does not see to it.
        """
        answers = {}
        for head, output in zip(heads, outputs, strict=True):
            dtype, axes = self._heads[head]
            # Almost always it is this very object.
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
        """View an output as the dtype of its declaration.

        ONNX Runtime returns int64 as C's `long long`, which numpy takes for equal and orjson, value
        by value, for unknown.
        """
        if output.dtype != dtype:
            raise UndeclaredAnswer(self.name, head, str(dtype), str(output.dtype), output.shape)
        return output.view(dtype)

    def _run_whole(
        self, cuts: SubgraphCache[Ready], arrays: Arrays, heads: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Run the whole graph for some heads, with zeros for what none of them depends on."""
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
        except Exception:  # noqa: BLE001  if it is the asked heads' own, it comes again
            # The rest of the graph may have no answer to zeros.
            return self._run(cuts.insist(frozenset(heads)), arrays, heads)
