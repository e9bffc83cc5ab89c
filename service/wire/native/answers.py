"""The fast writer of native answers by row, for heads of numbers: it writes a head at a time.

    [rows, k] ── orjson ──▶ "[[…],[…]]" ── split ──▶ a text for each row ──▶ its place among pieces

`native.encode` creates a Python value for each row and head, which for many rows is most of the
work.  This module creates a few texts for each head instead, and joins them once.  It decides
nothing: it writes the same bytes as `native.encode`.
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
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from service.run import Part
    from service.signature import Head, Signature

# Selections of heads for which the form of an answer is kept.
_MOST_FORMS = 64


class _Form(NamedTuple):
    """The form of the answers for some heads.

    A row has two pieces for each head, the text of its value and what follows that, and one piece
    more between this row and the next.
    """

    heads: list[_HeadForm]
    first: bytes
    """The text before the first row's first value."""
    between: bytes
    """The text between two rows, up to the value there."""

    @property
    def width(self) -> int:
        """The pieces of a row."""
        return 2 * len(self.heads) + 1


class _HeadForm(NamedTuple):
    """The text that follows a head's value, up to the value of the next head."""

    head: Head
    before: bytes
    """The text before the label, if the head has labels."""
    after: bytes
    # The JSON of each label, and of `None` for a row without one; empty for a head without labels.
    labels: dict[str | None, bytes]
    # The whole text for each of them, unless a row may have several labels.
    whole: dict[str | None, bytes]


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
        if run.pieces is None:
            # Write the rows of all requests of the run: a call costs more than a few more rows.
            try:
                run.pieces = _pieces(form, run.outputs)
            except Exception:
                if end - start == run.rows:
                    raise
                # The rows that cannot be written may be those of another request.
                return Reply(reference.encode(query, *self._who, part.outputs()))
        noted = b""
        if query.imputed or query.unseen:
            noted = b"," + write(reference.noted(query))[1:-1]
        width = form.width
        pieces = run.pieces[width * start : width * end - 1]
        return Reply(b"".join((self._begin, form.first, *pieces, b"]", noted, b"}")))


def _pieces(form: _Form, outputs: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """Return the pieces of all rows."""
    width, heads = form.width, form.heads
    pieces = [form.between] * (width * len(outputs[heads[0].head.name]))
    for i, (head, before, after, labels, whole) in enumerate(heads):
        output = outputs[head.name]
        pieces[2 * i :: width] = _texts(output)
        following: Iterable[bytes]
        if not labels:
            following = [before + after] * len(output)
        elif head.kind == "multilabel":
            following = [
                # A row with a NaN has no list.
                b"%b[%b]%b" % (before, b",".join([labels[one] for one in row]), after)
                if row is not None
                else whole[None]
                for row in labels_of(head, output)
            ]
        else:
            following = map(whole.__getitem__, labels_of(head, output))
        pieces[2 * i + 1 :: width] = following
    return pieces


def _form(signature: Signature, names: tuple[str, ...]) -> _Form | None:
    """Return the form of an answer for some heads; `None` if one is not a list of numbers."""
    heads = [signature.heads[name] for name in names]
    if any(len(h.tensor.shape) != 1 or h.tensor.dtype == "string" for h in heads):
        return None
    first, *others = [_opening(head) for head in heads]
    ends = [b"}," + opening for opening in others] + [b"}}"]
    forms = [_head_form(head, end) for head, end in zip(heads, ends, strict=True)]
    return _Form(forms, b"{" + first, b",{" + first)


def _opening(head: Head) -> bytes:
    """Return the text of a row from the name of a head up to its value."""
    return orjson.dumps(head.name) + (b':{"value":' if _is_single(head) else b':{"value":[')


def _head_form(head: Head, after: bytes) -> _HeadForm:
    close = b"" if _is_single(head) else b"]"
    if head.labels is None:
        return _HeadForm(head, close, after, {}, {})
    before = close + b',"label":'
    labels = {label: orjson.dumps(label) for label in (*head.labels, None)}
    whole = {label: before + text + after for label, text in labels.items()}
    return _HeadForm(head, before, after, labels, whole)


def _is_single(head: Head) -> bool:
    """Return whether a head's value is one number, without brackets."""
    return head.tensor.shape == (1,)


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
