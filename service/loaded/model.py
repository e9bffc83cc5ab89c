"""A model in the caller's program.

service.load ─▶ LoadedModel ─ predict(values) ─▶ Answers
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from service.errors import NotReady
from service.loaded.answers import Answer, Answers
from service.loaded.arguments import known_heads, take
from service.loaded.explanations import Explanations
from service.loaded.frames import is_frame
from service.loaded.in_process import InProcess
from service.loaded.json_values import plain
from service.loaded.location import place_of
from service.loaded.reading import read
from service.loaded.signature_tables import PrintedSignature, as_text
from service.repository.named_model import open_model
from service.wire.explanations import METHODS, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from service.repository.loader import Servable
    from service.signature import Signature


def load(model: str | PathLike[str], models: str | PathLike[str] | None = None) -> LoadedModel:
    """Load a model, as `service.load` does."""
    name, repository = place_of(model, models)
    return LoadedModel(open_model(name, repository, {}))


class LoadedModel:
    """A version of a model, or a view of some of its heads, that this process has loaded.

    Threads may share it; a process may not inherit it by a fork, nor get it by pickle, and loads
    the model itself.  It starts no thread, and its memory is free once it is no longer referenced.
    It answers by the file that it has loaded, whatever becomes of that.
    """

    def __init__(self, servable: Servable) -> None:
        """Use `service.load`."""
        self._servable = servable
        self._signature = PrintedSignature.of(servable.signature, partial(as_text, servable))
        self._pipeline = InProcess()
        self._route = self._pipeline.open(servable)
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """The name of the model or view."""
        return self._servable.name

    @property
    def version(self) -> str:
        """The version, as its folder is named."""
        return self._servable.version

    @property
    def signature(self) -> Signature:
        """The inputs with their features, and the heads with their labels.

        Printed, it is the text of `triceps show`.
        """
        return self._signature

    def predict(
        self,
        instances: Any = None,
        heads: str | Sequence[str] | None = None,
        *,
        inputs: Any = None,
    ) -> Answers:
        """Answer rows, as the service answers the same rows by HTTP.

        Args:
            instances: the rows: a list of dicts by input, as in the field `instances` of a request;
                one such dict, which is one row; a DataFrame, whose columns are named as in a CSV
                (`age`, `insurance.age`, `digit.0`) and may be others, too; or, for a model with one
                input, an array, [rows, …].  Numbers may have any dtype that holds whole numbers or
                floats of up to 64 bits.  A missing value in a table is `None`, NaN or pandas' NA,
                and takes its default.
            heads: the names of the heads to compute, or one name; by default, all.
            inputs: in place of `instances`, a dict by input: of arrays or lists, [rows, …]; for a
                table also of a DataFrame, or of a dict with a list or array, [rows], by feature.
                A model of whole tensors takes these alone, in the shapes of its graph.

        Returns:
            By head, values and labels in the order of the rows.

        Raises:
            BadRequest: the values do not fit the model; `problems` has the mistakes, each with its
                place, what is expected and what was received.
            CannotRun: the graph has no answer for these values.
            NotReady: this process has inherited the model by a fork.
            TooLarge: the rows must be one run, and are more than that takes.
            TypeError: there are neither `instances` nor `inputs`, or both.
            UndeclaredAnswer: a head answers with another shape or dtype than its graph declares.
        """
        self._check_process()
        signature = self._servable.signature
        query, imputed, unseen = read(take(instances, inputs, heads, signature), signature)
        outputs = self._pipeline.run(self._route, query).outputs
        whole = bool(signature.tensor)
        answers = {
            name: Answer.of(signature.heads[name], outputs[name], whole=whole)
            for name in query.heads
        }
        index = _index(instances if inputs is None else inputs)
        return Answers(signature, answers, imputed, unseen, index)

    def explain(
        self,
        instances: Any = None,
        heads: str | Sequence[str] | None = None,
        *,
        inputs: Any = None,
        method: str = METHODS[0],
        samples: int = SAMPLES,
    ) -> Explanations:
        """Explain the answers to rows: how much each feature moves them away from a reference.

        Args:
            instances: the rows, as for `predict`.
            heads: the names of the heads to explain, or one name; by default, all that can be.
            inputs: in place of `instances`, the inputs by name, as for `predict`.
            method: "occlusion", the answer without one feature at a time; or "shapley", its share
                in the answer over all orders of features.
            samples: the orders of features that Shapley values are estimated from, 1 to 1024.

        Raises:
            BadRequest: as for `predict`; or a head cannot be explained, or the rows depend on each
                other.
            CannotRun, NotReady, TypeError, UndeclaredAnswer: as for `predict`.
            TooLarge: one row takes too many runs, or the rows must be one run.
        """
        self._check_process()
        signature = self._servable.signature
        explain: dict[str, Any] = {"method": plain(method), "samples": plain(samples)}
        arguments = take(instances, inputs, heads, signature)
        if arguments.heads is not None and known_heads(arguments.heads, signature):
            # Each of them has to be explained, and not only those that can be.
            explain["heads"] = arguments.heads
        query = read(arguments._replace(explain=explain), signature).query
        parts = self._pipeline.explain(self._route, query)
        return Explanations.of(parts, _index(instances if inputs is None else inputs))

    def _check_process(self) -> None:
        if self._process != os.getpid():
            message = (
                f"{self!r} was loaded in another process, of which this one is a fork: load it here"
            )
            raise NotReady(message)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: load it in the process that uses it")

    def __repr__(self) -> str:
        inputs, heads = ", ".join(self.signature.inputs), ", ".join(self.signature.heads)
        return f"<model {self.name}, version {self.version}: {inputs} -> {heads}>"


def _index(rows: Any) -> Any:
    """Return the index of a DataFrame; `None` for other rows."""
    return rows.index if is_frame(rows) else None
