"""The answer to an inference request ($inference_response of inference_rest.md).

NaN and Infinity are not JSON.  An answer spells them out as NaN, Infinity and -Infinity, as Triton
does; Triton's client and Python's `json` read that.  `null` would be JSON, but would silently turn
every infinity into a NaN.  A strict parser refuses the answer; its client can request binary data.

Texts that training never saw are listed in the parameter `unseen`.  A parameter is a text, a number
or a boolean ($parameter), so it is the JSON of the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import unseen
from service.wire.body import count, wrong
from service.wire.dialect import Reply
from service.wire.labels import labels_of
from service.wire.oip import binary
from service.wire.oip.request import DATATYPES
from service.wire.written import VALUES_AT_ONCE, as_text, plain, spelled, whole, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Head, Signature
    from service.wire.oip.request import Query, Wanted

# Each class is a string of its own, which takes some hundred bytes while the answer is written.
_MOST_CLASSES = 2**18


def encode(
    query: Query, name: str, version: str, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> Reply:
    """Return the answer: JSON, and the outputs that follow as bytes (extension_binary_data.md)."""
    parts: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for wanted in query.wanted:
        head = signature.heads[wanted.head]
        array, datatype = outputs[wanted.head], DATATYPES[head.tensor.dtype]
        if wanted.classes:
            check_classes(array, wanted)
            array, datatype = classify(array, head, wanted.classes), "BYTES"
        part: dict[str, Any] = {"name": wanted.head, "datatype": datatype, "shape": array.shape}
        if wanted.binary:
            tail.append(binary.write(array))
            part["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            flat = array.reshape(-1)
            part["data"] = plain(flat) if flat.size <= VALUES_AT_ONCE else whole(flat)
        parts.append(part)
    answer: dict[str, Any] = {"model_name": name, "model_version": version}
    if query.id is not None:
        answer["id"] = query.id
    if query.unseen:
        answer["parameters"] = {"unseen": as_text(unseen.listed(query.unseen))}
    answer["outputs"] = parts
    content = write(answer)
    if b"null" in content:
        for part in parts:
            if isinstance(part.get("data"), np.ndarray) and part["data"].dtype.kind == "f":
                part["data"] = spelled(part["data"])
        content = write(answer)
    if not any(wanted.binary for wanted in query.wanted):
        return Reply(content)
    headers = ((binary.LENGTH, str(len(content))),)
    return Reply(b"".join((content, *tail)), binary.CONTENT_TYPE, headers)


def check_classes(array: NDArray[Any], wanted: Wanted) -> None:
    """Refuse more classes than can quickly be written as text.

    Raises:
        BadRequest: the answer would have more than `_MOST_CLASSES` classes.
    """
    rows = max(1, len(array))
    classes = rows * min(wanted.classes, array.size // rows)
    if classes > _MOST_CLASSES:
        expected = f"at most {_MOST_CLASSES} classes in one answer, of {count(rows, 'row')}"
        raise wrong(f"outputs, {wanted.head}, classification", expected, str(classes))


def classify(array: NDArray[Any], head: Head, classes: int) -> NDArray[Any]:
    """Return each row's highest values as strings, value:index[:label], highest first, NaN last.

    The result is [rows, classes], as in Triton's extension_classification.md.  The single value of
    a binary head gets the label of its row: it is the score of one label, and the score of the
    other is unknown.
    """
    rows = array.reshape(len(array), -1)
    # For integers and booleans, the complement reverses the order, and cannot overflow.
    order = np.argsort(-rows if rows.dtype.kind == "f" else ~rows, axis=1, kind="stable")
    order = order[:, :classes]
    best = np.take_along_axis(rows, order, axis=1)
    # numpy writes a float with as many digits as its dtype needs.
    values = (best.view(np.uint8) if best.dtype == np.bool_ else best).astype(str).tolist()
    texts = np.empty(order.shape, object)
    by_row = labels_of(head, array) if head.kind == "binary" and head.labels else None
    for i, places in enumerate(order.tolist()):
        for j, place in enumerate(places):
            label = by_row[i] if by_row is not None else head.labels and head.labels[place]
            texts[i, j] = f"{values[i][j]}:{place}" + (f":{label}" if label is not None else "")
    return texts
