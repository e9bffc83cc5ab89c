"""One loaded model: its file read, its session started, its rows judged, its answers proven.

    model.onnx ─ read ─▶ graph ─ start ─▶ session ─ parse ─▶ signature ─ judge, prove ─▶ Model

What it does for requests is `Runner.predict`.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service import metadata
from service.errors import ModelRefused, UndeclaredAnswer
from service.inference import integer_division, model_file, training_mode
from service.inference.arrays import as_array, difference, zeros_of
from service.inference.batching import Batching
from service.inference.declared import Declared, unranked, why_no_rows, why_tensors
from service.inference.extraction import cuttable, needs, reachable
from service.inference.independence import verdict
from service.inference.independence.nodes import every_node
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
    from service.inference.model_file import Weights

# What a model must reproduce of its golden rows to serve: processors differ a little in how they
# add up float32, and never this much.
SERVING_TOLERANCE = 1e-4

# Of a text, in a message.
_LONGEST_TEXT = 40

# Of a graph until it is looked at.
UNKNOWN = Batching("joint", "trial", "it has not been looked at yet")
SET = Batching("alone", "setting", "alone = true in the model's settings.toml")

# How long trials of a graph may go on, in seconds, until the last of them begins.
TRIED_SECONDS = 2.0


class NotByRowError(ModelRefused):
    """A head does not answer row by row: its graph can be served as whole tensors alone."""


class Model(Runner):
    """A model that serves: what its file says, and what was established of it before it does."""

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
        graph = model_file.read(source)
        weights = (
            [] if isinstance(source, bytes) else model_file.weights_beside(graph, source.parent)
        )
        # Both rewrite the graph where they must.
        if training_mode.separate(graph) | integer_division.make_safe(graph):
            model_file.fetch(weights)
            source, weights = graph.SerializeToString(), []
        session = start(source if isinstance(source, bytes) else str(source), graph)
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
        weights: list[Weights],
        text: str | None,
        tensor: str,
    ) -> Model:
        """Make the model of a session and prove it; `tensor` is as the signature has it."""
        inputs = [tensor_of("input", value, whole=bool(tensor)) for value in session.get_inputs()]
        outputs = [tensor_of("head", value, whole=bool(tensor)) for value in session.get_outputs()]
        is_cuttable = cuttable(graph)
        every = {tensor.name for tensor in inputs}
        read = needs(graph, every, outputs, cuttable=is_cuttable)
        batch = None if tensor or session.get_inputs()[0].shape[0] != 1 else 1
        signature = metadata.parse(text, inputs, outputs, read, batch)
        if tensor:
            signature = replace(signature, tensor=tensor)
        # An input that nothing reads has to be fed all the same, unless it is cut away.
        idle = every - set().union(*read.values())
        cut = is_cuttable and (len(outputs) > 1 or bool(idle))
        if cut:
            model_file.fetch(weights)
        model = cls(
            session,
            signature,
            graph if cut else None,
            Declared.of(session, graph, tensors=bool(tensor)),
            whole=not idle,
        )
        model.loops = any(node.op_type == "Loop" for node in every_node(graph))
        if not tensor and batch is None:
            # Until it is known whether rows may run together: whole, and in one run.
            model.batching = UNKNOWN
            model.batching, tried = verdict.judge(
                graph,
                signature,
                lambda arrays: model._run(model._whole, arrays, list(signature.heads)),
                model.golden_arrays,
            )
            model._tried.extend(tried)
        model.established = model.batching
        model._prove()
        return model

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
        """Zeros for every input, by tensor, in some shapes with `rows` in front of each."""
        return {
            tensor.name: zeros_of(tensor, (*rows, *shapes[tensor.name]))
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
            self.fails = first_line(error)
            return False
        return True


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
        if cuttable(graph) and not every & reachable(graph, output.name):
            return f"head {output.name!r} needs no input"
    return why_tensors(session)
