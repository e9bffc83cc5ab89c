"""The native answer by row once more, for heads of numbers: written a head at a time.

    [rows, k] ── orjson ──▶ "[[…],[…]]" ── split ──▶ a text a row ──▶ the row's place in the answer

What `native.encode` makes of a value for each row and head, this makes of a text for each head,
which for many rows is most of the work.  It decides nothing either: it writes the same bytes.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from service.wire.dialect import Reply
from service.wire.labels import labels_of
from service.wire.native import reference
from service.wire.written import AT_ONCE, in_pieces, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.run import Part
    from service.signature import Head, Signature

_MOST_FORMS = 64


class _Form(NamedTuple):
    """How a row's answer for some heads is put together."""

    template: bytes
    heads: list[Head]
    # By head that has any, each label's JSON, and that of having none.
    labels: dict[str, dict[str | None, bytes]]


class Writer:
    """`native.encode` for one version, with what follows from it worked out once."""

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        """Prepare for answers of `signature`, by a model or view of that name and version."""
        self._who = name, version, signature
        known = orjson.dumps(name), orjson.dumps(version)
        self._begin = b'{"model":%b,"version":%b,"predictions":[' % known
        self._form = lru_cache(_MOST_FORMS)(partial(_form, signature))

    def write(self, asked: reference.Query, part: Part) -> Reply:
        """As `native.encode`: the same bytes."""
        form = self._form(asked.heads) if asked.by_row else None
        if form is None:
            return Reply(reference.encode(asked, *self._who, part.outputs()))
        run, start, end = part
        if run.texts is None:
            # At once for all who have a part of it: a call costs more than some rows more.
            try:
                run.texts = _rows(form, run.outputs)
            except Exception:
                if end - start == run.rows:
                    raise
                # Rows of another request cannot be written; these may be all right.
                return Reply(reference.encode(asked, *self._who, part.outputs()))
        imputed = b""
        if asked.imputed:
            listed = in_pieces(reference.listed(asked.imputed))
            imputed = b',"imputed":' + write(listed)
        return Reply(b"%b%b]%b}" % (self._begin, b",".join(run.texts[start:end]), imputed))


def _rows(form: _Form, outputs: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """A row's answer each."""
    columns: list[list[bytes]] = []
    for head in form.heads:
        output = outputs[head.name]
        columns.append(_texts(output))
        known = form.labels.get(head.name)
        if known is not None:
            columns.append([_label(label, known) for label in labels_of(head, output)])
    return [form.template % row for row in zip(*columns, strict=True)]


def _form(signature: Signature, names: tuple[str, ...]) -> _Form | None:
    """How to write `names`; `None` where one of them is no list of numbers."""
    heads = [signature.heads[name] for name in names]
    if any(len(h.tensor.shape) != 1 or h.tensor.dtype == "string" for h in heads):
        return None
    labels = {h.name: _labels(h.labels) for h in heads if h.labels is not None}
    template = b",".join(_place(head) for head in heads)
    return _Form(b"{%b}" % template, heads, labels)


def _place(head: Head) -> bytes:
    """Where a row's value goes, and its label; a percent sign of a name's own stands twice."""
    name = orjson.dumps(head.name).replace(b"%", b"%%")
    value = b"%b" if head.tensor.shape == (1,) else b"[%b]"
    label = b',"label":%b' if head.labels is not None else b""
    return name + b':{"value":' + value + label + b"}"


def _labels(labels: tuple[str, ...]) -> dict[str | None, bytes]:
    return {label: orjson.dumps(label) for label in (*labels, None)}


def _texts(output: NDArray[Any]) -> list[bytes]:
    """A row's numbers each, with commas between."""
    if output.shape[1] == 1:
        output = output[:, 0]
        between, outside = b",", 1
    else:
        between, outside = b"],[", 2
    if not output.flags.c_contiguous:
        output = output.copy()
    if output.size <= AT_ONCE:
        return write(output)[outside:-outside].split(between)
    # Some rows at a time, since nobody else runs while orjson writes.
    step = max(1, AT_ONCE * len(output) // output.size)
    texts: list[bytes] = []
    for start in range(0, len(output), step):
        texts += write(output[start : start + step])[outside:-outside].split(between)
    return texts


def _label(label: Any, known: dict[str | None, bytes]) -> bytes:
    """A label's JSON; that of all labels of a row, for a multilabel head."""
    if isinstance(label, list):
        return b"[%b]" % b",".join([known[one] for one in label])
    return known[label]
