"""TensorFlow Serving's REST API, whose predictions KServe v1 and Vertex AI speak too.

    :predict   {"instances": [{"x": [1, 2]}, …]}  ─▶  {"predictions": [{"y": [3], "z": [4]}, …]}
               {"inputs": {"x": [[1, 2], …]}}     ─▶  {"outputs": {"y": [[3], …], "z": [[4], …]}}
    :classify  {"examples": [{"x": [1, 2]}, …]}   ─▶  {"results": [[["no", 0.1], ["yes", 0.9]], …]}
    :regress   {"examples": [{"x": [1, 2]}, …]}   ─▶  {"results": [3, …]}

Inputs are the tensors of the graph, in its shapes; so are outputs, whose [batch, 1] is [0.93] a
row.  Where there is only one of them, its name may be left out, and is.  NaN and infinities of
floats are read and written as TensorFlow Serving does, which is no JSON: NaN, Infinity, -Infinity.

Source: tensorflow_serving/g3doc/api_rest.md, and util/json_tensor.cc where that says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from service.wire.dialect import Dialect, Encode, Reply
from service.wire.tfserving import examples, predict
from service.wire.tfserving.metadata import signature_def
from service.wire.tfserving.request import SIGNATURE, Query
from service.wire.written import write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Signature

    Say = Callable[[Query, Signature, Mapping[str, NDArray[Any]]], dict[str, Any]]

__all__ = ["CLASSIFY", "PREDICT", "REGRESS", "SIGNATURE", "Query", "signature_def"]


def _encoder(say: Say) -> Encode:
    """What replies with what `say` makes of arrays."""

    def encode(
        asked: Query,
        name: str,
        version: str,
        signature: Signature,
        outputs: Mapping[str, NDArray[Any]],
    ) -> Reply:
        del name, version  # which no answer tells
        return Reply(write(say(asked, signature, outputs)))

    return encode


def _refusal(error: RequestError) -> Reply:
    return Reply(write({"error": str(error)}))


PREDICT = Dialect(
    "tfserving", (), predict.reader, _encoder(predict.say), _refusal, example=predict.example
)
"""`:predict`; a body's content type says nothing, since curl's own is that of a form."""

CLASSIFY = replace(
    PREDICT,
    reader=partial(examples.reader, "with labels and a score for each", examples.has_scores),
    encode=_encoder(examples.say_classes),
)
"""`:classify`: the labels of a head, each with its score."""

REGRESS = replace(
    PREDICT,
    reader=partial(examples.reader, "of one number a row", examples.has_one_number),
    encode=_encoder(examples.say_numbers),
)
"""`:regress`: a head's number."""
