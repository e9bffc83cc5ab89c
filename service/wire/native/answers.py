"""The fast writer of native answers by row, for heads of numbers: it writes a head at a time.

    [rows, k] ── orjson ──▶ "[[…],[…]]" ── split ──▶ a text for each row ──▶ its place in the answer

`native.encode` creates a Python value for each row and head, which for many rows is most of the
work.  This module creates one text for each head instead.  It decides nothing: it writes the same
bytes as `native.encode`.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from service.wire.dialect import Reply
from service.wire.labels import labels_of
from service.wire.native import reference
from service.wire.written import VALUES_AT_ONCE, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.run import Part
    from service.signature import Head, Signature

# Selections of heads for which the form of an answer is kept.
_MOST_FORMS = 64


class _Form(NamedTuple):
    """The form of a row's answer for some heads."""

    template: bytes
    heads: list[Head]
    # For each head with labels, the JSON of each label, and of `None` for a row without a label.
    labels: dict[str, dict[str | None, bytes]]


class Writer:
    """The fast form of `native.encode` for one version, which prepares what all answers share."""

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        """Prepare for answers of `signature`, by a model or view of that name and version."""
        self._who = name, version, signature
        known = orjson.dumps(name), orjson.dumps(version)
        self._begin = b'{"model":%b,"version":%b,"predictions":[' % known
        self._form = lru_cache(_MOST_FORMS)(partial(_form, signature))

    def write(self, query: reference.Query[Any], part: Part) -> Reply:
        """Return the same reply as `native.encode`."""
        form = self._form(query.heads) if query.by_row else None
        if form is None:
            return Reply(reference.encode(query, *self._who, part.outputs()))
        run, start, end = part
        if run.texts is None:
            # Write the rows of all requests of the run: a call costs more than a few more rows.
            try:
                run.texts = _rows(form, run.outputs)
            except Exception:
                if end - start == run.rows:
                    raise
                # The rows that cannot be written may be those of another request.
                return Reply(reference.encode(query, *self._who, part.outputs()))
        noted = b""
        if query.imputed or query.unseen:
            noted = b"," + write(reference.noted(query))[1:-1]
        return Reply(b"%b%b]%b}" % (self._begin, b",".join(run.texts[start:end]), noted))


def _rows(form: _Form, outputs: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """Return the answer to each row."""
    columns: list[list[bytes]] = []
    for head in form.heads:
        output = outputs[head.name]
        columns.append(_texts(output))
        known = form.labels.get(head.name)
        if known is not None:
            columns.append([_label(label, known) for label in labels_of(head, output)])
    return [form.template % row for row in zip(*columns, strict=True)]


def _form(signature: Signature, names: tuple[str, ...]) -> _Form | None:
    """Return the form of an answer for some heads; `None` if one is not a list of numbers."""
    heads = [signature.heads[name] for name in names]
    if any(len(h.tensor.shape) != 1 or h.tensor.dtype == "string" for h in heads):
        return None
    labels = {h.name: _labels(h.labels) for h in heads if h.labels is not None}
    template = b",".join(_place(head) for head in heads)
    return _Form(b"{%b}" % template, heads, labels)


def _place(head: Head) -> bytes:
    """Return the template for a head's value and label; percent signs in its name are doubled."""
    name = orjson.dumps(head.name).replace(b"%", b"%%")
    value = b"%b" if head.tensor.shape == (1,) else b"[%b]"
    label = b',"label":%b' if head.labels is not None else b""
    return name + b':{"value":' + value + label + b"}"


def _labels(labels: tuple[str, ...]) -> dict[str | None, bytes]:
    return {label: orjson.dumps(label) for label in (*labels, None)}


def _texts(output: NDArray[Any]) -> list[bytes]:
    """Return the numbers of each row as text, separated by commas."""
    if output.shape[1] == 1:
        output = output[:, 0]
        between, outside = b",", 1
    else:
        between, outside = b"],[", 2
    if not output.flags.c_contiguous:
        output = output.copy()
    if output.size <= VALUES_AT_ONCE:
        return write(output)[outside:-outside].split(between)
    # Write some rows at a time, since no other thread runs while orjson writes.
    step = max(1, VALUES_AT_ONCE * len(output) // output.size)
    texts: list[bytes] = []
    for start in range(0, len(output), step):
        texts += write(output[start : start + step])[outside:-outside].split(between)
    return texts


def _label(label: Any, known: dict[str | None, bytes]) -> bytes:
    """Return a row's label as JSON; for a multilabel head, the list of its labels."""
    if isinstance(label, list):
        return b"[%b]" % b",".join([known[one] for one in label])
    return known[label]
