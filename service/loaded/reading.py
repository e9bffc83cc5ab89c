"""The reader of a call: some thousand rows at a time, by the rules of the native format.

    Arguments ─ cut ─▶ pieces ─ regular.read, else native.interpret ─▶ arrays by tensor, [rows, …]

Only the values of one piece are Python objects at a time, and the bounds of one request of HTTP
apply to a piece.  Mistakes are reported with their places in the whole.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.errors import BadRequest
from service.loaded import regular
from service.loaded.arguments import by_column, cut, height, known_heads
from service.wire import native
from service.wire.body import MOST_IMPUTED, Notes, wrong
from service.wire.paths import STEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.errors import Problem
    from service.loaded.arguments import Arguments
    from service.signature import Signature
    from service.wire.body import Imputed, Unseen
    from service.wire.numbers import Arrays

    Places = Mapping[str, NDArray[np.intp]]

# The rows of a piece, and their values, most of which become Python objects.
ROWS_AT_ONCE = 2**15
VALUES_AT_ONCE = 2**21

# The path of a value in a row: the list of rows, the number of the row, and the rest.
_IN_ROW = re.compile(rf"((?:instances|inputs)(?:{STEP})*\[)(\d+)(\].*)", re.DOTALL)


class Read(NamedTuple):
    """The arrays of a call, [rows, …] by tensor, and the rows whose values are noted.

    `imputed` and `unseen` have the numbers of the rows by feature: those where it was missing and
    took its default, and those where it has a text that training never saw.
    """

    query: native.Query[Arrays]
    imputed: Places
    unseen: Places


def read(arguments: Arguments, signature: Signature) -> Read:
    """Read the arguments of a call.

    Raises:
        BadRequest: they have mistakes; the error counts all of them, and has the first.
    """
    rows = None if signature.tensor else height(arguments)
    if rows is None:
        query = _read(arguments, signature)
        return Read(query, _places([(0, query.imputed)]), _places([(0, query.unseen)]))
    step = _step(signature)
    pieces: list[native.Query[Arrays]] = []
    imputed: list[tuple[int, Sequence[Imputed]]] = []
    unseen: list[tuple[int, Sequence[Unseen]]] = []
    problems: list[Problem] = []
    count = 0
    for start in range(0, max(1, rows), step):
        try:
            query = _read(cut(arguments, start, start + step), signature)
        except BadRequest as error:
            own = [problem for problem in error.problems if not start or _is_in_row(problem)]
            problems += [_moved(problem, start) for problem in own]
            # A mistake in the whole call, such as the name of a head, is in each piece.
            count += error.count - len(error.problems) + len(own)
            continue
        if not problems:
            pieces.append(query._replace(imputed=(), unseen=()))
            imputed.append((start, query.imputed))
            unseen.append((start, query.unseen))
    if problems:
        raise BadRequest(problems, count)
    joined = pieces[0]._replace(arrays=_joined(pieces, arguments.form, step))
    return Read(joined, _places(imputed), _places(unseen))


def _read(arguments: Arguments, signature: Signature) -> native.Query[Arrays]:
    heads = known_heads(arguments.heads, signature)
    if heads and arguments.explain is None:
        columns = by_column(arguments, signature)
        query = None if columns is None else regular.read(columns, signature, heads)
        if query is not None:
            return query
    # A notebook may run in an event loop, where other requests do not wait for this one.
    return native.interpret(arguments.body(signature), signature, Notes(MOST_IMPUTED))


def _step(signature: Signature) -> int:
    """Return the rows of a piece, fewer if each has many values that all may be missing."""
    entries = signature.inputs.values()
    features = sum(len(entry.features) for entry in entries)
    size = features + sum(tensor.size or 1 for entry in entries for tensor in entry.tensors)
    # An input that a row misses is counted, and so is each of its features.
    missing = features + len(entries)
    return max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // size, MOST_IMPUTED // missing))


def _is_in_row(problem: Problem) -> bool:
    return _IN_ROW.fullmatch(problem.at) is not None


def _moved(problem: Problem, start: int) -> Problem:
    """Return a problem of the piece that begins at the row `start`, with its place in the whole."""
    match = _IN_ROW.fullmatch(problem.at)
    if not start or match is None:
        return problem
    return replace(problem, at=f"{match[1]}{int(match[2]) + start}{match[3]}")


def _places(noted: Sequence[tuple[int, Sequence[Imputed | Unseen]]]) -> Places:
    """Return the numbers of the rows whose values are noted, by feature.

    Args:
        noted: for each piece the number of its first row, and the notes.
    """
    rows: dict[str, list[int]] = {}
    for start, notes in noted:
        for note in notes:
            match = _IN_ROW.fullmatch(note.at)
            if match is not None:
                rows.setdefault(note.feature, []).append(start + int(match[2]))
    return {feature: np.array(places, dtype=np.intp) for feature, places in rows.items()}


def _joined(pieces: Sequence[native.Query[Arrays]], form: str, step: int) -> Arrays:
    """Return the arrays of all pieces, [rows, …] by tensor.

    Raises:
        BadRequest: an axis that may have any length has another one in a later piece.
    """
    first = pieces[0].arrays
    if len(pieces) == 1:
        return first
    for number, piece in enumerate(pieces):
        for name, array in piece.arrays.items():
            if array.shape[1:] != first[name].shape[1:]:
                expected = f"the shape of the first row in {name}, {list(first[name].shape[1:])}"
                received = str(list(array.shape[1:]))
                raise wrong(f"{form}[{number * step}]", expected, received)
    return {name: np.concatenate([piece.arrays[name] for piece in pieces]) for name in first}
