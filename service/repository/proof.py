"""The proof of a model: it answers an example, and every dialect can encode the answers.

    signature ─ example ─▶ arrays ─ model.predict ─▶ answers ─▶ each dialect's encode

A graph does not declare what it demands of its free axes, so a body becomes an example only once
the model has answered it.  If some dialect cannot encode the answers of a head, the model is
refused before the first request, and the message names the head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from service.errors import ModelRefused
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
    """The shapes of an example that a model answers, by tensor; or the reason why none is known."""

    shapes: Shapes = field(default_factory=dict)
    no_example: str = ""


def prove(model: Model) -> tuple[Proof, dict[str, tuple[Signature, Proof]]]:
    """Find an example that a model answers, and encode the answers in every dialect.

    Args:
        model: the model, which has been loaded and has reproduced its golden rows.

    Returns:
        The proof of the model; and for each view, its signature and proof.

    Raises:
        ModelRefused: some dialect cannot encode the answers, or memory is short.
    """
    signature = model.signature
    whole = _prove(model, signature)
    views = {view: signature.restrict(heads) for view, heads in signature.models.items()}
    # An example of all heads is one of a view too.  Without one, a view may still have its own, as
    # the reason of the failure may lie in other heads.
    return whole, {
        name: (view, _prove(model, view) if whole.no_example else whole)
        for name, view in views.items()
    }


def _prove(model: Model, signature: Signature) -> Proof:
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
            _encode(signature, arrays, outputs)
            return Proof(shapes)
    return Proof(no_example=reason or "none was answered")


def _arrays(model: Model, signature: Signature, shapes: Shapes) -> Arrays:
    """Return the example as arrays; if it is all zeros, without writing and reading it as JSON."""
    needed = {t.name for entry in signature.inputs.values() for t in entry.tensors}
    if signature.golden is None and not any(entry.features for entry in signature.inputs.values()):
        zeros = model.zeros(shapes, () if signature.tensor else (1,))
        return {name: array for name, array in zeros.items() if name in needed}
    return native.interpret(example(signature, shapes), signature).arrays


class _Form(NamedTuple):
    """One form of answers: its protocol, the heads that have it, and a function that encodes."""

    protocol: str
    has: Callable[[Head], bool]
    encode: Callable[[tuple[str, ...]], object]


def _encode(signature: Signature, arrays: Arrays, outputs: Arrays) -> None:
    """Encode the answers of a run in every form.

    Raises:
        ModelRefused: the answers of a head cannot be encoded in one of the forms.
    """
    for form in _forms(signature, arrays, outputs):
        heads = tuple(name for name, head in signature.heads.items() if form.has(head))
        try:
            if heads:
                form.encode(heads)
        except Exception:
            # One head after the other, so that the message names the one that fails.
            for head in heads:
                _encode_head(form, head)
            raise


def _encode_head(form: _Form, head: str) -> None:
    try:
        form.encode((head,))
    except Exception as error:
        message = f"head {head!r}: its answers cannot be encoded in {form.protocol}: {error!r}"
        raise ModelRefused(message) from error


def _forms(signature: Signature, arrays: Arrays, outputs: Arrays) -> list[_Form]:
    about = "m", "1", signature

    def by_column(heads: tuple[str, ...]) -> object:
        return native.encode(native.Query(arrays, heads, by_row=False, imputed=()), *about, outputs)

    def by_row(heads: tuple[str, ...]) -> object:
        query = native.Query(arrays, heads, by_row=True, imputed=())
        run = Run(len(outputs[heads[0]]), 0.0, 0.0, outputs)
        # The two encoders of this form: the fast one, and the one for all other answers.
        return Writer(*about).write(query, Part(run, 0, run.rows)), native.encode(
            query, *about, outputs
        )

    def in_oip(heads: tuple[str, ...], *, binary: bool = False, classes: int = 0) -> object:
        wanted = tuple(oip.Wanted(head, binary, classes) for head in heads)
        return oip.DIALECT.encode(oip.Query(arrays, heads, wanted), *about, outputs)

    def in_tfserving(heads: tuple[str, ...]) -> object:
        queries = [tfserving.Query(arrays, heads, by_row=by_row) for by_row in (True, False)]
        return [tfserving.PREDICT.encode(query, *about, outputs) for query in queries]

    def by_verb(dialect: Dialect, heads: tuple[str, ...]) -> object:
        queries = [tfserving.Query(arrays, (head,)) for head in heads]
        return [dialect.encode(query, *about, outputs) for query in queries]

    def in_mlflow(heads: tuple[str, ...]) -> object:
        return mlflow.DIALECT.encode(mlflow.Query(arrays, heads, ()), *about, outputs)

    whole = [
        _Form("the native format", _any, by_column),
        _Form("Open Inference Protocol", _is_json, in_oip),
        _Form("Open Inference Protocol", _any, partial(in_oip, binary=True)),
    ]
    if signature.tensor:
        return whole
    return [
        *whole,
        _Form("the native format", _any, by_row),
        _Form("Open Inference Protocol", _is_number, partial(in_oip, classes=1)),
        _Form("TensorFlow Serving", _any, in_tfserving),
        _Form("TensorFlow Serving", examples.has_scores, partial(by_verb, tfserving.CLASSIFY)),
        _Form("TensorFlow Serving", examples.has_one_number, partial(by_verb, tfserving.REGRESS)),
        _Form("MLflow", _any, in_mlflow),
    ]


def _any(_: Head) -> bool:
    return True


def _is_json(head: Head) -> bool:
    """Return whether the Open Inference Protocol has a JSON form for a head's answers."""
    return head.tensor.dtype != "float16"


def _is_number(head: Head) -> bool:
    return head.tensor.dtype != "string"
