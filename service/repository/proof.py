"""A model tried as callers will: by an example that it answers, said in every dialect.

    signature ─ example ─▶ arrays ─ model.predict ─▶ answers ─▶ each dialect's encode

What a graph demands of free axes it does not declare, so an example is one only once it has been
answered.  And a head whose answers some dialect cannot say is refused by name, before anybody asks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from service.errors import ModelRefused
from service.inference.model import TRIED_SECONDS
from service.inference.runtime import NO_MEMORY, NO_ROOM
from service.run import Part, Run
from service.wire import mlflow, native, oip, tfserving
from service.wire.native.answers import Writer
from service.wire.native.examples import example
from service.wire.tfserving import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from service.inference.model import Model
    from service.signature import Head, Signature
    from service.wire.dialect import Dialect

    Arrays = Mapping[str, NDArray[Any]]
    Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Proof:
    """The shapes of an example that a model answers, by tensor; or why none is known."""

    shapes: Shapes = field(default_factory=dict)
    no_example: str = ""


def prove(model: Model) -> tuple[Proof, dict[str, tuple[Signature, Proof]]]:
    """Find an example that a model answers, and say the answers in every dialect.

    Args:
        model: loaded, and held against its golden rows.

    Returns:
        That of the model; and by view, its signature and the same.

    Raises:
        ModelRefused: some dialect cannot say them.
    """
    signature = model.signature
    whole = _prove(model, signature)
    views = {view: signature.restrict(heads) for view, heads in signature.models.items()}
    # What answers all heads answers some; a view may do without what the others fail for.
    return whole, {
        name: (view, _prove(model, view) if whole.no_example else whole)
        for name, view in views.items()
    }


def _prove(model: Model, signature: Signature) -> Proof:
    until = time.monotonic() + TRIED_SECONDS
    reason = model.fails
    shapes_to_try = [model.tried] if model.tried is not None else model.declared.shapes()
    for shapes in shapes_to_try:
        try:
            arrays = _arrays(model, signature, shapes)
            outputs = model.predict(arrays, signature.head_names)
        except MemoryError as error:
            raise ModelRefused(NO_MEMORY) from error
        except Exception as error:
            if NO_ROOM.search(str(error)):
                raise ModelRefused(NO_MEMORY) from error
            reason = f"{error}"
        else:
            _say(signature, arrays, outputs)
            return Proof(shapes)
        if time.monotonic() > until:
            break
    return Proof(no_example=reason or "none was answered")


def _arrays(model: Model, signature: Signature, shapes: Shapes) -> Arrays:
    """The example as arrays; zeros need not be written and read for that."""
    needed = {t.name for entry in signature.inputs.values() for t in entry.tensors}
    if signature.golden is None and not any(entry.features for entry in signature.inputs.values()):
        zeros = model.zeros(shapes, () if signature.tensor else (1,))
        return {name: array for name, array in zeros.items() if name in needed}
    return native.interpret(example(signature, shapes), signature).arrays


class _Way(NamedTuple):
    """One way to say answers: of which protocol, the heads that have it, and how."""

    protocol: str
    has: Callable[[Head], bool]
    say: Callable[[tuple[str, ...]], object]


def _say(signature: Signature, arrays: Arrays, outputs: Arrays) -> None:
    """Say a run's answers in every way that there is.

    Raises:
        ModelRefused: there is one in which a head's cannot be said.
    """
    for way in _ways(signature, arrays, outputs):
        heads = tuple(name for name, head in signature.heads.items() if way.has(head))
        try:
            if heads:
                way.say(heads)
        except Exception:
            # It comes again for the head that it is about.
            for head in heads:
                _say_head(way, head)
            raise


def _say_head(way: _Way, head: str) -> None:
    try:
        way.say((head,))
    except Exception as error:
        message = f"head {head!r}: its answers cannot be said by {way.protocol}: {error!r}"
        raise ModelRefused(message) from error


def _ways(signature: Signature, arrays: Arrays, outputs: Arrays) -> list[_Way]:
    who = "m", "1", signature

    def by_column(heads: tuple[str, ...]) -> object:
        return native.encode(native.Query(arrays, heads, by_row=False, imputed=()), *who, outputs)

    def by_row(heads: tuple[str, ...]) -> object:
        asked = native.Query(arrays, heads, by_row=True, imputed=())
        run = Run(len(outputs[heads[0]]), 0.0, 0.0, outputs)
        # The front's own writer, and the Flask app's.
        return Writer(*who).write(asked, Part(run, 0, run.rows)), native.encode(
            asked, *who, outputs
        )

    def in_oip(heads: tuple[str, ...], *, binary: bool = False, classes: int = 0) -> object:
        wanted = tuple(oip.Wanted(head, binary, classes) for head in heads)
        return oip.DIALECT.encode(oip.Query(arrays, heads, wanted), *who, outputs)

    def in_tfserving(heads: tuple[str, ...]) -> object:
        forms = [tfserving.Query(arrays, heads, by_row=by_row) for by_row in (True, False)]
        return [tfserving.PREDICT.encode(form, *who, outputs) for form in forms]

    def by_verb(dialect: Dialect, heads: tuple[str, ...]) -> object:
        one_each = [tfserving.Query(arrays, (head,)) for head in heads]
        return [dialect.encode(asked, *who, outputs) for asked in one_each]

    def in_mlflow(heads: tuple[str, ...]) -> object:
        return mlflow.DIALECT.encode(mlflow.Query(arrays, heads, ()), *who, outputs)

    whole = [
        _Way("the native form", _any, by_column),
        _Way("Open Inference Protocol", _is_json, in_oip),
        _Way("Open Inference Protocol", _any, partial(in_oip, binary=True)),
    ]
    if signature.tensor:
        return whole
    return [
        *whole,
        _Way("the native form", _any, by_row),
        _Way("Open Inference Protocol", _is_number, partial(in_oip, classes=1)),
        _Way("TensorFlow Serving", _any, in_tfserving),
        _Way("TensorFlow Serving", examples.has_scores, partial(by_verb, tfserving.CLASSIFY)),
        _Way("TensorFlow Serving", examples.has_one_number, partial(by_verb, tfserving.REGRESS)),
        _Way("MLflow", _any, in_mlflow),
    ]


def _any(_: Head) -> bool:
    return True


def _is_json(head: Head) -> bool:
    """Whether the Open Inference Protocol has a form for a head in JSON."""
    return head.tensor.dtype != "float16"


def _is_number(head: Head) -> bool:
    return head.tensor.dtype != "string"
