"""One loaded model: named arrays in, named arrays out.

    {tensor: [rows, …]}  ── predict(arrays, heads) ──▶  {head: [rows, …]}

A request for some heads runs a graph cut down to them; ONNX Runtime alone would compute
the whole graph whatever it is asked for.
"""

from __future__ import annotations

import copy
import errno
import math
import os
import re
import stat
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

# ONNX Runtime reads this when it is imported: left alone, it writes a device id under $HOME.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message
from onnx.utils import Extractor
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from service import metadata
from service import signature as signatures
from service.errors import CannotRun, ModelRefused, TooLarge, UndeclaredAnswer
from service.inference import integer_division, training_mode
from service.inference.batching import Batching
from service.inference.declared import Declared, free, matches, unranked, why_no_rows, why_tensors
from service.inference.independence import proof, trial
from service.inference.runtime import FAILURES, NO_ROOM, is_callers, reason
from service.inference.subgraphs import Distrusted, SubgraphCache
from service.signature import Signature, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.inference.batching import Evidence

    Arrays = Mapping[str, NDArray[Any]]
    # A tensor, and the file, offset and length of its values.
    _Weights = tuple[onnx.TensorProto, Path, int, int]
    _Ready = tuple[onnxruntime.InferenceSession, tuple[str, ...]]

# What a model must reproduce of its golden rows to serve: processors differ a little in how they
# add up float32, and never this much.
SERVING_TOLERANCE = 1e-4

# ONNX Runtime's names for the types that have a numpy equivalent; `signature.DTYPES` in its words.
DTYPES = {
    f"tensor({theirs})": ours
    for ours in signatures.DTYPES
    for theirs in [{"float32": "float", "float64": "double"}.get(ours, ours)]
}


# What protobuf can hold; a graph with more weights than that has them beside it.
MAX_FILE = 2**31 - 1
NO_MEMORY = "it needs more memory than there is"
NOT_WHOLE = "it is not an ONNX file, or not the whole of one"

# Of a text, in a message.
_LONGEST_TEXT = 40
# What ONNX Runtime says before it says what is wrong.
_IN_FRONT = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"(Load model from .*? failed:)?(Exception during initialization: )?"
    r"(/\S+:\d+ .*?\) (?=[A-Z]))?"
)

# Of a graph that takes one row a run; and of any other, until it is looked at.
ONE_BY_ONE = Batching("alone", "operators", "its graph takes one row in a run")
UNKNOWN = Batching("joint", "trial", "it has not been looked at yet")
SET = Batching("alone", "setting", "alone = true in the model's settings.toml")

# The fields of an ONNX file, by name, below which there may be a tensor.
_HOLDERS = frozenset(
    {
        *("graph", "functions", "training_info", "initialization", "algorithm"),
        *("node", "initializer", "sparse_initializer", "values", "indices", "attribute"),
        *("attribute_proto", "t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"),
    }
)

# What is run at once: ONNX Runtime keeps the memory that the largest run took.
MOST_ROWS = 256
# And what is run at once where it must not be cut, since rows depend on each other.
MOST_ROWS_WHOLE = 4096

# How long trials of a graph may go on, in seconds, until the last of them begins.
TRIED_SECONDS = 2.0


class NotByRowError(ModelRefused):
    """A head does not answer row by row: its graph can be served as whole tensors alone."""


class Model:
    """A file's session and signature, and the cuts of it that were asked for.

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
        """Use `Model.load`."""
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
            head.name: (_numpy(head.tensor.dtype), declared.heads[head.name])
            for head in signature.heads.values()
        }
        # Whether what a run takes hangs on the values of a request, and not on its shapes alone.
        self.loops = False
        self.batching = self.established = ONE_BY_ONE
        self._whole = _ready(session)
        self._subgraphs: SubgraphCache[_Ready] | None = None
        # What a trial has run, if one was needed: each cut is held against it.
        tried: list[trial.Tried] = []
        self._tried = tried
        if graph is not None:
            # Of the graph, and not of `self`, which would then hold itself: whoever lets go of a
            # model frees its memory at once.
            self._subgraphs = SubgraphCache(
                partial(_proven_cut, graph, signature, tried), _weight(graph)
            )
            if not whole:
                # There are inputs that nothing reads, and so no arrays of them.
                self._whole, _ = _cut(graph, signature, frozenset(signature.heads))

    @classmethod
    def load(cls, source: Path | bytes) -> Model:
        """Load a `model.onnx` by its path, or from its bytes, and hold it against its golden rows.

        Raises:
            ModelRefused: it is no ONNX file, cannot run here, has inputs or outputs that cannot be
                served, or does not answer its own golden rows as it did when it was made.
        """
        try:
            return cls._open(source)
        except UnicodeDecodeError as error:
            # Neither protobuf nor ONNX Runtime looks, and both hand on what they have.
            message = f"a name in it is not UTF-8: {error.object!r}"
            raise ModelRefused(message) from error
        except MemoryError as error:
            raise ModelRefused(NO_MEMORY) from error

    @classmethod
    def _open(cls, source: Path | bytes) -> Model:
        graph = _read(source)
        weights = [] if isinstance(source, bytes) else _weights_beside(graph, source.parent)
        # Both rewrite the graph where they must.
        if training_mode.separate(graph) | integer_division.make_safe(graph):
            _fetch(weights)
            source, weights = graph.SerializeToString(), []
        session = _start(source if isinstance(source, bytes) else str(source), graph)
        text = {entry.key: entry.value for entry in graph.metadata_props}.get(metadata.METADATA_KEY)
        evidence: Evidence = "operators"
        why = _why_tensors(session, graph)
        if not why:
            try:
                return cls._make(session, graph, weights, text, "")
            except NotByRowError as error:
                if text is not None:
                    raise
                evidence, why = "trial", str(error)
        if text is not None:
            message = f"its signature is of rows, and its graph takes none: {why}"
            raise ModelRefused(message)
        model = cls._make(session, graph, weights, None, why)
        model.batching = model.established = Batching("tensor", evidence, why)
        return model

    @classmethod
    def _make(
        cls,
        session: onnxruntime.InferenceSession,
        graph: onnx.ModelProto,
        weights: list[_Weights],
        text: str | None,
        tensor: str,
    ) -> Model:
        """Make the model of a session and prove it; `tensor` is as the signature has it."""
        inputs = [_tensor("input", value, whole=bool(tensor)) for value in session.get_inputs()]
        outputs = [_tensor("head", value, whole=bool(tensor)) for value in session.get_outputs()]
        cuttable = _cuttable(graph)
        every = {tensor.name for tensor in inputs}
        needs = _needs(graph, every, outputs, cuttable=cuttable)
        batch = None if tensor or session.get_inputs()[0].shape[0] != 1 else 1
        signature = metadata.parse(text, inputs, outputs, needs, batch)
        if tensor:
            signature = replace(signature, tensor=tensor)
        # An input that nothing reads has to be fed all the same, unless it is cut away.
        idle = every - set().union(*needs.values())
        cut = cuttable and (len(outputs) > 1 or bool(idle))
        if cut:
            _fetch(weights)
        model = cls(
            session,
            signature,
            graph if cut else None,
            Declared.of(session, graph, tensors=bool(tensor)),
            whole=not idle,
        )
        model.loops = any(node.op_type == "Loop" for node in proof.every_node(graph))
        if not tensor:
            model._judge(graph)
        model.established = model.batching
        model._prove()
        return model

    @property
    def runs_alone(self) -> bool:
        """Whether no other request may be in a run with one of this model."""
        return self.batching.mode != "rows"

    @property
    def runs_whole(self) -> bool:
        """Whether a request's rows are one run, however many, and so at most `MOST_ROWS_WHOLE`."""
        return self.signature.batch is None and self.batching.mode in ("joint", "alone")

    def set_up(self, *, alone: bool) -> Model:
        """Give the same model as a person wants it: each request by itself, or as was established.

        What runs already goes on as it began; so this is another object where there is a change.
        """
        established = self.established
        # Rows that depend on each other are alone with their request as it is.
        wanted = SET if alone and established.mode == "rows" else established
        if wanted == self.batching:
            return self
        model = copy.copy(self)
        model.batching = wanted
        return model

    def _judge(self, graph: onnx.ModelProto) -> None:
        """Establish whether rows may run together, before any do."""
        if self.signature.batch is not None:
            return
        # Until it is known: whole, and in one run.
        self.batching = UNKNOWN
        try:
            count = proof.prove(graph)
        except proof.NoProof as refusal:
            self.batching = self._try_rows(graph, refusal)
        else:
            operators = "operator handles" if count == 1 else "operators handle"
            reason = f"{count} {operators} each row by itself"
            self.batching = Batching("rows", "operators", reason)

    def _try_rows(self, graph: onnx.ModelProto, refusal: proof.NoProof) -> Batching:
        """Give the verdict on a graph whose operators do not prove it."""
        if refusal.mixes:
            return Batching("joint", "operators", str(refusal))
        names = proof.axis_names(graph)
        if len(names) > 1:
            called = ", ".join(map(repr, names))
            reason = f"its inputs' first axes have different names ({called}), and {refusal}"
            return Batching("joint", "operators", reason)
        heads = list(self.signature.heads)
        try:
            golden = self.golden_arrays()
            tried = trial.attempt(
                lambda arrays: self._run(self._whole, arrays, heads), self.signature, golden
            )
        except (KeyError, TypeError, ValueError, UndeclaredAnswer, trial.Differs) as error:
            return Batching("joint", "trial", f"{refusal}; tried, {error}")
        self._tried.append(tried)
        reason = f"rows had the same answers alone, together and beside extreme ones; {refusal}"
        return Batching("rows", "trial", reason)

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
        cuts, ready = self._subgraphs, self._whole
        try:
            if cuts is not None and len(heads) < len(self.signature.heads):
                asked = frozenset(heads)
                cut = cuts.find(asked)
                if cut is None and self.signature.tensor:
                    # Zeros for the other inputs would have to fit the shapes of these.
                    cut = cuts.insist(asked)
                if cut is None:
                    return self._run_whole(cuts, arrays, heads)
                ready = cut
            return self._run(ready, arrays, heads)
        except FAILURES as error:
            # What a graph of fixed shapes has never answered is not the caller's to mend.
            known = self.tried is not None or isinstance(error, InvalidArgument)
            if not ((known or self._has_choice) and is_callers(error)):
                raise
            message = f"the model has no answer for these values: {reason(error, arrays)}"
            raise CannotRun(message) from error

    def _run(self, ready: _Ready, arrays: Arrays, heads: Sequence[str]) -> dict[str, NDArray[Any]]:
        session, names = ready
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
        self, cuts: SubgraphCache[_Ready], arrays: Arrays, heads: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Run the whole graph for some heads, with zeros for what none of them depends on."""
        needed = set(self.signature.needed(tuple(heads)))
        rows = len(next(iter(arrays.values())))
        zeros = {
            tensor.name: _zeros(tensor, (rows, *(axis or 1 for axis in tensor.shape)))
            for entry in self.signature.inputs.values()
            for tensor in entry.tensors
            if entry.name not in needed
        }
        try:
            return self._run(self._whole, {**zeros, **arrays}, heads)
        except Exception:  # noqa: BLE001  if it is the asked heads' own, it comes again
            # The rest of the graph may have no answer to zeros.
            return self._run(cuts.insist(frozenset(heads)), arrays, heads)

    def golden_arrays(self) -> dict[str, NDArray[Any]]:
        """The golden rows as arrays, by tensor; empty without golden rows."""
        golden = self.signature.golden
        if golden is None:
            return {}
        tensors = {t.name: t for entry in self.signature.inputs.values() for t in entry.tensors}
        return {name: as_array(rows, tensors[name]) for name, rows in golden.inputs.items()}

    def check_golden(self, tolerance: float) -> float:
        """Hold every head's answers to the golden rows against the recorded ones.

        Args:
            tolerance: how far they may differ, relative to the answer where that is above 1.

        Returns:
            The largest such difference; 0 where there are no golden rows.

        Raises:
            ModelRefused: a head differs by more, or its answers have another shape.
        """
        golden = self.signature.golden
        if golden is None:
            return 0.0
        answers = self.predict(self.golden_arrays(), list(golden.outputs))
        worst = 0.0
        for head, rows in golden.outputs.items():
            expected = as_array(rows, self.signature.heads[head].tensor)
            if answers[head].shape != expected.shape:
                message = (
                    f"head {head!r} does not answer its golden rows as it did when it was made: "
                    f"expected the shape {list(expected.shape)}, found {list(answers[head].shape)}"
                )
                raise ModelRefused(message)
            found = difference(answers[head], expected)
            if not found <= tolerance:
                message = (
                    f"head {head!r} does not answer its golden rows as it did when it was made: "
                    f"expected a difference of at most {tolerance:g}, found {found:.2g}"
                )
                raise ModelRefused(message)
            worst = max(worst, found)
        return worst

    def _prove(self) -> None:
        """Run the model once before anybody waits for it, and see that rows come out as rows."""
        try:
            self.check_golden(SERVING_TOLERANCE)
        except (KeyError, TypeError, ValueError) as error:
            message = f"its golden rows do not fit its graph: {error}"
            raise ModelRefused(message) from error
        except ModelRefused:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no parent but Exception
            message = f"it fails on its own golden rows: {_first_line(error)}"
            raise ModelRefused(message) from error
        self._try_shapes()
        if self.tried is None and not self.signature.tensor and self.signature.golden is None:
            one_row = self.signature.batch is not None
            why = why_no_rows(self._whole[0], self.declared, one_row=one_row)
            if why:
                raise NotByRowError(why)

    def zeros(
        self, shapes: Mapping[str, tuple[int, ...]], rows: tuple[int, ...]
    ) -> dict[str, NDArray[Any]]:
        """Zeros for every input, by tensor, in some shapes with `rows` in front of each."""
        return {
            tensor.name: _zeros(tensor, (*rows, *shapes[tensor.name]))
            for entry in self.signature.inputs.values()
            for tensor in entry.tensors
        }

    def _try_shapes(self) -> None:
        """Run zeros before anybody waits for it, of the first shapes that the graph answers."""
        until = time.monotonic() + TRIED_SECONDS
        for shapes in self.declared.shapes():
            # Two numbers of rows, since a head that always answers three values passes for rows.
            if self.signature.tensor:
                answered = self._try_zeros(shapes, ())
            else:
                answered = self._try_zeros(shapes, (1,))
                self._try_zeros(shapes, (3,))
            if answered:
                self.tried = shapes
            if answered or time.monotonic() > until:
                return

    def _try_zeros(self, shapes: Mapping[str, tuple[int, ...]], rows: tuple[int, ...]) -> bool:
        """See whether zeros are answered, and by as many rows; for a foreign file that is all."""
        zeros = self.zeros(shapes, rows)
        try:
            self.predict(zeros, list(self.signature.heads))
        except MemoryError:
            raise
        except UnicodeDecodeError as error:
            message = f"a head answers text that is not UTF-8: {error.object[:_LONGEST_TEXT]!r}"
            raise ModelRefused(message) from error
        except UndeclaredAnswer as error:
            if error.shape[:1] != rows and rows:
                message = (
                    f"head {error.head!r} does not answer row by row: expected {rows[0]} rows for "
                    f"{rows[0]}, received the shape {list(error.shape)}"
                )
                raise NotByRowError(message) from error
            self.fails = str(error)
            return False
        except Exception as error:  # zeros may be no valid input of this graph: that proves nothing
            if NO_ROOM.search(str(error)):
                raise ModelRefused(NO_MEMORY) from error
            self.fails = _first_line(error)
            return False
        return True


def _proven_cut(
    graph: onnx.ModelProto,
    signature: Signature,
    tried: Sequence[trial.Tried],
    heads: frozenset[str],
) -> tuple[_Ready, int]:
    """Make a cut, and hold it against what a trial of the whole graph has run.

    Raises:
        Distrusted: rows have other answers in it.
    """
    (session, names), size = _cut(graph, signature, heads)
    for entry in tried:
        asked = sorted(heads)
        came = session.run(asked, {name: entry.arrays[name] for name in names})
        expected = {head: entry.answers[head] for head in asked}
        if trial.differs(dict(zip(asked, came, strict=True)), expected) is not None:
            raise Distrusted
    return (session, names), size


def _cut(graph: onnx.ModelProto, signature: Signature, heads: frozenset[str]) -> tuple[_Ready, int]:
    """The session of what some heads need of a graph, and its bytes."""
    needed = signature.restrict(heads).inputs.values()
    cut = Extractor(graph).extract_model(
        [tensor.name for entry in needed for tensor in entry.tensors], sorted(heads)
    )
    content = cut.SerializeToString()
    return _ready(_start(content, cut)), len(content)


def _weight(graph: onnx.ModelProto) -> int:
    """The bytes of all weights, about: as if each were a float32.

    To ask protobuf would be to have it write them all.
    """
    return 4 * sum(math.prod(tensor.dims) for tensor in graph.graph.initializer)


def _ready(session: onnxruntime.InferenceSession) -> _Ready:
    """A session and its inputs' names, which it would look up anew for every run."""
    return session, tuple(value.name for value in session.get_inputs())


def difference(answer: NDArray[Any], expected: NDArray[Any]) -> float:
    """How far two arrays are apart: absolute below 1, relative above; infinite where shapes differ.

    NaN is equal to NaN, and texts are equal or infinitely far apart.
    """
    if answer.shape != expected.shape:
        return float("inf")
    if answer.dtype == object:
        return 0.0 if bool((answer == expected).all()) else float("inf")
    got, want = answer.astype(np.float64), expected.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):  # infinities are no nearer to each other than to a number
        apart = np.where(same, 0.0, np.abs(got - want) / np.maximum(1.0, np.abs(want)))
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))


def as_array(rows: list[Any], tensor: Tensor) -> NDArray[Any]:
    """Lists that are known to be right as an array of the tensor's dtype."""
    with np.errstate(over="ignore"):  # what is more than float32 holds is infinite, and differs
        return np.array(rows, dtype=object if tensor.dtype == "string" else tensor.dtype)


def _numpy(dtype: str) -> np.dtype[Any]:
    return np.dtype(object if dtype == "string" else dtype)


def _zeros(tensor: Tensor, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        if tensor.dtype == "string":
            return np.full(shape, "", object)
        return np.zeros(shape, tensor.dtype)
    except (MemoryError, ValueError) as error:
        rows = len(shape) > len(tensor.shape)
        what = f"a row: {shape[0]} of them are" if rows else "whole: that is"
        message = f"input {tensor.name!r} is {tensor} {what} more than memory"
        raise ModelRefused(message) from error


def _read(source: Path | bytes) -> onnx.ModelProto:
    try:
        content = source if isinstance(source, bytes) else _content(source)
        graph = onnx.load_from_string(content)
    except DecodeError as error:
        raise ModelRefused(NO_MEMORY if NO_ROOM.search(str(error)) else NOT_WHOLE) from error
    except OSError as error:
        message = f"it cannot be read: {error.strerror}"
        raise ModelRefused(message) from error
    if not graph.graph.output:
        message = "it is not an ONNX model: it has no outputs"
        raise ModelRefused(message)
    return graph


def _content(path: Path) -> bytes:
    """The bytes of a file, of a size that it says before they are read.

    Raises:
        OSError: it cannot be read.
        ModelRefused: it is no file, or none that protobuf could read.
    """
    # A pipe with nobody at its other end would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  it is open already
        seen = os.fstat(descriptor)
        if stat.S_ISDIR(seen.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(seen.st_mode):
            raise ModelRefused("it is no file: expected one, received a pipe or a device")
        if seen.st_size > MAX_FILE:
            message = (
                f"it has {seen.st_size} bytes, and an ONNX file at most {MAX_FILE}: "
                "larger weights lie beside it, as external data"
            )
            raise ModelRefused(message)
        return file.read(seen.st_size)


def _start(source: str | bytes, graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    more = {"disabled_optimizers": training_mode.OPTIMIZERS} if training_mode.find(graph) else {}
    try:
        # The fallback would be the same provider once more, and prints to standard output.
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], enable_fallback=0, **more
        )
    except Exception as error:  # ONNX Runtime's exceptions have no parent but Exception
        reason = _first_line(error)
        if NO_ROOM.search(reason):
            raise ModelRefused(NO_MEMORY) from error
        message = f"ONNX Runtime {onnxruntime.__version__} cannot run it: {reason}"
        raise ModelRefused(message) from error


def _first_line(error: Exception) -> str:
    """What ONNX Runtime says, without its code and its C++ signature in front."""
    return _IN_FRONT.sub("", str(error).strip().split("\n", 1)[0])


def _tensor(what: str, value: onnxruntime.NodeArg, *, whole: bool) -> Tensor:
    dtype = DTYPES.get(value.type)
    if dtype is None:
        message = (
            f"{what} {value.name!r} is a {value.type}: expected a tensor of one of "
            f"{', '.join(signatures.DTYPES)}"
        )
        if value.type.startswith("seq(map("):
            message += " (skl2onnx makes tensors of it with options={'zipmap': False})"
        raise ModelRefused(message)
    axes = value.shape if whole else value.shape[1:]
    return Tensor(value.name, dtype, free(axes))


def _why_tensors(session: onnxruntime.InferenceSession, graph: onnx.ModelProto) -> str:
    """Say why a graph cannot be asked for rows; nothing where it may be.

    Raises:
        ModelRefused: it cannot be asked for anything.
    """
    values = [value for value in session.get_inputs() if value.type in DTYPES]
    if not session.get_inputs():
        message = "it has no inputs"
        raise ModelRefused(message)
    unsaid = unranked(graph.graph.input) & {value.name for value in values if not value.shape}
    if unsaid:
        message = f"input {min(unsaid)!r} does not say how many axes it has"
        raise ModelRefused(message)
    every = {value.name for value in values}
    for output in session.get_outputs():
        if _cuttable(graph) and not every & _reachable(graph, output.name):
            return f"head {output.name!r} needs no input"
    return why_tensors(session)


def _needs(
    graph: onnx.ModelProto, every: set[str], outputs: Sequence[Tensor], *, cuttable: bool
) -> dict[str, set[str]]:
    """By output, the inputs that it depends on: all of them, where nobody can tell."""
    return {
        tensor.name: every & _reachable(graph, tensor.name) if cuttable else every
        for tensor in outputs
    }


def _cuttable(graph: onnx.ModelProto) -> bool:
    """Whether `Extractor` can cut the graph: it does not look into the branches of an If."""
    beyond_it = (
        graph.graph.sparse_initializer,
        graph.graph.quantization_annotation,
        [function for function in graph.functions if function.overload],
    )
    return not any(beyond_it) and not any(
        attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        for node in graph.graph.node
        for attribute in node.attribute
    )


def _reachable(graph: onnx.ModelProto, output: str) -> set[str]:
    """The values of the graph that one of its outputs depends on, inputs among them."""
    # An input or output that is left out has the empty name, which joins nothing.
    makers = {name: node for node in graph.graph.node for name in node.output if name}
    seen: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(makers[name].input if name in makers else ())
    return seen


def _weights_beside(graph: onnx.ModelProto, folder: Path) -> list[_Weights]:
    """The weights that lie in other files of the model's folder, none of which is read yet.

    Raises:
        ModelRefused: there are none where the graph says, or they are not in the folder.
    """
    home = folder.resolve()
    return [
        _weights(tensor, home)
        for tensor in _tensors(graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph, wherever it stands: in a node, a branch or a function."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        # Only these have tensors somewhere inside; to look at every node's names takes long.
        if field.name not in _HOLDERS:
            continue
        for part in (value,) if isinstance(value, Message) else value:
            yield from _tensors(part)


def _weights(tensor: onnx.TensorProto, home: Path) -> _Weights:
    said = {entry.key: entry.value for entry in tensor.external_data}
    where = f"its weights {tensor.name!r} are in {said.get('location', '')!r}"
    try:
        path = (home / said["location"]).resolve(strict=True)
        if not path.is_relative_to(home):
            raise ModelRefused(f"{where}, which is outside of its folder")
        size = path.stat().st_size if path.is_file() else -1
        offset = int(said.get("offset", "0"))
        length = int(said.get("length", size - offset))
    except OSError as error:
        raise ModelRefused(f"{where}, which cannot be read: {error.strerror}") from error
    except (KeyError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError
        raise ModelRefused(f"{where}, which says no place in a file: {error!r}") from error
    if size < 0:
        raise ModelRefused(f"{where}, which is no file")
    if min(offset, length) < 0 or offset + length > size:
        raise ModelRefused(f"{where}, bytes {offset} to {offset + length}, and that has {size}")
    return tensor, path, offset, length


def _fetch(weights: list[_Weights]) -> None:
    """Read the weights into their graph: a cut is made in memory, so they have to be there too."""
    for tensor, path, offset, length in weights:
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
