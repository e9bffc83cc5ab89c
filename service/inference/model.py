"""Loading of a model: read the file, start a session, judge row independence, prove the answers.

    model.onnx ─ read ─▶ graph ─ start ─▶ session ─ parse ─▶ signature ─ judge, prove ─▶ Model

Requests run through `Runner.predict`, which a `Model` inherits.  The file is long with what is
established before a model serves, in order, and is one idea.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service import metadata
from service.errors import ModelRefused, UndeclaredAnswer
from service.host import processors
from service.inference import prepared as prepared_files
from service.inference import provider_proof
from service.inference.arrays import as_array, difference, zeros_of
from service.inference.batching import Batching
from service.inference.declared import Declared, unranked, why_no_rows, why_tensors
from service.inference.execution import PLAIN, Execution
from service.inference.extraction import cuttable, needs, reachable, weight
from service.inference.independence import verdict
from service.inference.independence.nodes import every_node
from service.inference.runnable import Cuttable, open_file, read_again
from service.inference.runner import Runner
from service.inference.runtime import NO_MEMORY, NO_ROOM
from service.inference.session import DTYPES, first_line, start, tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx
    import onnxruntime
    from numpy.typing import NDArray

    from service.inference.batching import Evidence
    from service.inference.prepared import Hold
    from service.inference.runnable import Runnable
    from service.inference.session import Started

# The largest difference from its golden rows with which a model still serves.  Processors differ
# slightly in how they add up float32, but never by this much.
SERVING_TOLERANCE = 1e-4

# The maximum number of characters of a string that a message quotes.
_LONGEST_TEXT = 40

# The verdict on a graph that has not been judged yet.
UNKNOWN = Batching("joint", "trial", "it has not been looked at yet")
SET = Batching("alone", "setting", "alone = true in the model's settings.toml")


class NotByRowError(ModelRefused):
    """A head does not answer row by row, so its graph can only be served as whole tensors."""


class Model(Runner):
    """A model that is ready to serve: a runner whose file has been read, judged and proven."""

    hold: Hold | None = None
    """The hold on the prepared model whose weights are mapped, if they are."""

    @classmethod
    def load(
        cls, source: Path | bytes, execution: Execution = PLAIN, prepared: Path | None = None
    ) -> Model:
        """Load a model and compare its answers with its golden rows.

        Args:
            source: the path of a `model.onnx`, or its bytes.
            execution: the threads of one run, and the execution provider.
            prepared: the folder in which `prepared.write` has prepared this file, if it has; its
                weights are then mapped.

        Raises:
            ModelRefused: the file is not an ONNX file, cannot run here, has inputs or outputs that
                cannot be served, or does not answer its golden rows as it did when it was made.
        """
        try:
            return cls._open_and_compare(source, execution, prepared)
        except UnicodeDecodeError as error:
            # Neither protobuf nor ONNX Runtime checks names; both pass the bytes on.
            message = f"a name in it is not UTF-8: {error.object!r}"
            raise ModelRefused(message) from error
        except MemoryError as error:
            raise ModelRefused(NO_MEMORY) from error

    @classmethod
    def _open_and_compare(
        cls, source: Path | bytes, execution: Execution, prepared: Path | None
    ) -> Model:
        model = cls._open(source, execution, prepared)
        if not execution.is_cpu:
            model.difference = provider_proof.compare(model, cls._open(source, PLAIN, None))
        elif execution.auto and (threads := processors.available()) > 1:
            wide = cls._open(source, Execution(threads), prepared)
            # Cuts are made for one thread; with a cache of its own, it would hold the graph again.
            wide.subgraphs = model.subgraphs
            if wide.batching == model.batching:
                model.wide = wide
        return model

    @classmethod
    def _open(cls, source: Path | bytes, execution: Execution, prepared: Path | None) -> Model:
        runnable = open_file(source)
        graph = runnable.graph
        if prepared is None:
            session = start(runnable.source, graph, execution)
        else:
            session = prepared_files.start(prepared, graph, execution)
        text = {entry.key: entry.value for entry in graph.metadata_props}.get(metadata.METADATA_KEY)
        evidence: Evidence = "operators"
        why = _why_tensors(session, graph)
        if not why:
            try:
                return cls._make((session, execution), runnable, text, "", prepared)
            except NotByRowError as error:
                if text is not None:
                    raise
                evidence, why = "trial", str(error)
        if text is not None:
            message = f"its signature is for rows, and its graph takes none: {why}"
            raise ModelRefused(message)
        model = cls._make((session, execution), runnable, None, why, prepared)
        model.batching = model.established = Batching("tensor", evidence, why)
        return model

    @classmethod
    def _make(
        cls,
        started: Started,
        runnable: Runnable,
        text: str | None,
        tensor: str,
        prepared: Path | None,
    ) -> Model:
        """Make the model of a session and prove it.

        Args:
            started: the session of the whole graph, and its execution.
            runnable: the graph, which is kept only if sub-graphs are cut out of it.
            text: the signature in the file's metadata, if there is one.
            tensor: the reason to serve whole tensors, as in `Signature.tensor`; "" for rows.
            prepared: the folder of the prepared model that the session is of, if it is of one.
        """
        session, _ = started
        graph = runnable.graph
        inputs = [tensor_of("input", value, whole=bool(tensor)) for value in session.get_inputs()]
        outputs = [tensor_of("head", value, whole=bool(tensor)) for value in session.get_outputs()]
        is_cuttable = cuttable(graph)
        every = {tensor.name for tensor in inputs}
        read = needs(graph, every, outputs, cuttable=is_cuttable)
        batch = None if tensor or session.get_inputs()[0].shape[0] != 1 else 1
        signature = metadata.parse(text, inputs, outputs, read, batch)
        if tensor:
            signature = replace(signature, tensor=tensor)
        # ONNX Runtime demands a value even for an input that no node reads, unless it is cut away.
        idle = every - set().union(*read.values())
        cut = is_cuttable and (len(outputs) > 1 or bool(idle))
        model = cls(
            started,
            signature,
            _cuttable(runnable, prepared) if cut else None,
            Declared.of(session, graph, tensors=bool(tensor)),
            whole=not idle,
        )
        if prepared is not None:
            model.hold = prepared_files.Hold(prepared)
        model.loops = any(node.op_type == "Loop" for node in every_node(graph))
        if not tensor and batch is None:
            # The runs that judge the model must not be cut into pieces themselves.
            model.batching = UNKNOWN
            model.batching, tried = verdict.judge(
                graph,
                signature,
                lambda arrays: model._run(model._whole, arrays, list(signature.heads)),
                model.golden_arrays,
                model.execution,
            )
            model._tried.extend(tried)
        model.established = model.batching
        model._prove()
        return model

    def set_up(self, *, alone: bool, rows: int) -> Model:
        """Return the same model with those settings applied that need no other session.

        Runs in progress must end as they began, so a model whose settings change is copied.

        Args:
            alone: whether each request runs by itself, whatever was established.
            rows: the most rows of a run; 0 for as many as usual.
        """
        established = self.established
        # In every other mode, a request already runs by itself.
        wanted = SET if alone and established.mode == "rows" else established
        if (wanted, rows) == (self.batching, self.rows):
            return self
        model = copy.copy(self)
        model.batching, model.rows = wanted, rows
        if self.wide is not None:
            model.wide = self.wide.set_up(alone=alone, rows=rows)
        return model

    def golden_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the golden rows as arrays, [rows, …] by tensor; empty if there are none."""
        golden = self.signature.golden
        if golden is None:
            return {}
        tensors = {t.name: t for entry in self.signature.inputs.values() for t in entry.tensors}
        return {name: as_array(rows, tensors[name]) for name, rows in golden.inputs.items()}

    def check_golden(self, tolerance: float) -> float:
        """Compare every head's answers to the golden rows with the recorded answers.

        Args:
            tolerance: the largest allowed difference: absolute for answers up to 1, relative to
                the answer above that.  Where the signature states a larger one for a head, that.

        Returns:
            The largest difference; 0 if there are no golden rows.

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
            distance = difference(answers[head], expected)
            allowed = max(tolerance, golden.tolerances.get(head, 0.0))
            if not distance <= allowed:
                message = (
                    f"head {head!r} does not answer its golden rows as it did when it was made: "
                    f"expected a difference of at most {allowed:g}, found {distance:.2g}"
                )
                raise ModelRefused(message)
            worst = max(worst, distance)
        return worst

    def _prove(self) -> None:
        """Run the model before it serves, and check that its answers have a row for each row."""
        try:
            self.check_golden(max(SERVING_TOLERANCE, self.execution.tolerance))
        except (KeyError, TypeError, ValueError) as error:
            message = f"its golden rows do not fit its graph: {error}"
            raise ModelRefused(message) from error
        except ModelRefused:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no parent but Exception
            message = f"it fails on its own golden rows: {first_line(error)}"
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
        """Return zeros, or empty strings, for every input, by tensor.

        Args:
            shapes: by tensor, the shape without the batch axis.
            rows: the axes in front of each shape: a number of rows, or none for whole tensors.
        """
        return {
            tensor.name: zeros_of(tensor, (*rows, *shapes[tensor.name]))
            for entry in self.signature.inputs.values()
            for tensor in entry.tensors
        }

    def _try_shapes(self) -> None:
        """Run zeros of several shapes, and keep the first shapes that the graph answers."""
        for shapes in self.declared.shapes():
            # Two numbers of rows: a head that always has three values seems right for three rows.
            if self.signature.tensor:
                answered = self._try_zeros(shapes, ())
            else:
                answered = self._try_zeros(shapes, (1,))
                self._try_zeros(shapes, (3,))
            if answered:
                self.tried = shapes
                return

    def _try_zeros(self, shapes: Mapping[str, tuple[int, ...]], rows: tuple[int, ...]) -> bool:
        """Return whether the model answers zeros, with a row for each row.

        For a file without golden rows, this is the only proof.

        Raises:
            NotByRowError: a head answers with another number of rows.
            ModelRefused: a head answers text that is not UTF-8, or memory does not suffice.
        """
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
        except Exception as error:  # a graph need not take zeros, so this proves nothing
            if NO_ROOM.search(str(error)):
                raise ModelRefused(NO_MEMORY) from error
            self.fails = first_line(error)
            return False
        return True


def _cuttable(runnable: Runnable, prepared: Path | None) -> Cuttable:
    """Return the graph for cuts; if the weights are mapped, it does not hold another copy of them.

    Raises:
        OSError: the files of the graph cannot be looked at.
    """
    size = weight(runnable.graph)
    if prepared is not None:
        return Cuttable(read_again(runnable), size)
    graph = runnable.whole()
    return Cuttable(lambda: graph, size)


def _why_tensors(session: onnxruntime.InferenceSession, graph: onnx.ModelProto) -> str:
    """Return why a graph cannot be served by rows; "" if it can, as far as it declares.

    Raises:
        ModelRefused: the graph cannot be served at all.
    """
    values = [value for value in session.get_inputs() if value.type in DTYPES]
    if not session.get_inputs():
        message = "it has no inputs"
        raise ModelRefused(message)
    rankless = unranked(graph.graph.input) & {value.name for value in values if not value.shape}
    if rankless:
        message = f"input {min(rankless)!r} does not say how many axes it has"
        raise ModelRefused(message)
    every = {value.name for value in values}
    for output in session.get_outputs():
        if cuttable(graph) and not every & reachable(graph, output.name):
            return f"head {output.name!r} needs no input"
    return why_tensors(session)
