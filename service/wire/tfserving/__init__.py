"""TensorFlow Serving's REST API; KServe v1 and Vertex AI use the same format for predictions.

    :predict   {"instances": [{"x": [1, 2]}, …]}  ─▶  {"predictions": [{"y": [3], "z": [4]}, …]}
               {"inputs": {"x": [[1, 2], …]}}     ─▶  {"outputs": {"y": [[3], …], "z": [[4], …]}}
    :classify  {"examples": [{"x": [1, 2]}, …]}   ─▶  {"results": [[["no", 0.1], ["yes", 0.9]], …]}
    :regress   {"examples": [{"x": [1, 2]}, …]}   ─▶  {"results": [3, …]}
    :explain   as :predict                        ─▶  {"predictions": […], "explanations": […]}

Inputs and outputs are the tensors of the graph, in its shapes: a [batch, 1] output is [0.93] for
each row.  The name of the only input may be left out; the name of the only output is left out.  NaN
and infinities of floats are read and written as NaN, Infinity and -Infinity, as TensorFlow Serving
does, although that is not JSON.

Source: tensorflow_serving/g3doc/api_rest.md, and util/json_tensor.cc where that says otherwise.
The verb :explain is KServe's (docs/concepts/architecture/data-plane/v1-protocol), which leaves the
form of an explanation to the server.
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

__all__ = ["CLASSIFY", "EXPLAIN", "PREDICT", "REGRESS", "SIGNATURE", "Query", "signature_def"]


def _encoder(say: Say) -> Encode:
    """Return an encoder whose replies are the objects that `say` returns."""

    def encode(
        query: Query,
        name: str,
        version: str,
        signature: Signature,
        outputs: Mapping[str, NDArray[Any]],
    ) -> Reply:
        del name, version  # no answer has them
        return Reply(write(say(query, signature, outputs)))

    return encode


def _refusal(error: RequestError) -> Reply:
    return Reply(write({"error": str(error)}))


PREDICT = Dialect(
    "tfserving", (), predict.reader, _encoder(predict.say), _refusal, example=predict.example
)
"""`:predict`.  It ignores the content type of a body, since curl's default is that of a form."""

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
"""`:regress`: the number of a head."""

EXPLAIN = replace(
    PREDICT,
    reader=partial(predict.reader, explains=True),
    encode=_encoder(predict.say_explanations),
)
"""KServe's `:explain`: predictions, and how much each feature moves them."""
