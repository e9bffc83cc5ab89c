"""Explanations of the rows of a file: the option, the runs and the columns of a CSV.

Each row is run with its features at their reference, as for a request with `explain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import numpy as np

from service.errors import BadRequest
from service.inference.lane import ROWS_A_RUN
from service.insight import explanations
from service.wire import explanations as wire
from service.wire.body import Notes, listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from service.inference.model import Model
    from service.insight.explanations import Plan
    from service.repository.loader import Servable
    from service.signature import Head, Signature
    from service.wire.explanations import Explain, Explanations
    from service.wire.native import Query

    # The outputs of some rows by head, and their explanations.
    Answered = tuple[Mapping[str, NDArray[Any]], Explanations | None]

FLAG = "--explain"


class _Method(click.Choice[str]):
    """A method; the value of the option may be left out, so a file must not come after it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not isinstance(value, str) or value not in self.choices:
            message = (
                f"expected one of {listing(self.choices)}, received {value!r}: write "
                f"{FLAG}={self.choices[0]}, or {FLAG} as the last word"
            )
            self.fail(message, param, ctx)
        return value


option = click.option(
    FLAG,
    "method",
    type=_Method(wire.METHODS),
    is_flag=False,
    flag_value=wire.METHODS[0],
    metavar=f"[{'|'.join(wire.METHODS)}]",
    help="How much each feature moves each answer away from a reference, by occlusion if no method "
    "is given; columns as o1.parts.insurance.age.",
)


def read_option(
    method: str | None, heads: tuple[str, ...], servable: Servable, *, as_csv: bool
) -> Explain | None:
    """Return what the option asks for; `None` if it is not given.

    Args:
        method: the value of the option.
        heads: the heads that are computed.
        servable: the model.
        as_csv: whether the answers are columns, and so have to be the same for all rows.

    Raises:
        click.BadParameter: no head can be explained, or not as a CSV.
    """
    if method is None:
        return None
    notes = Notes()
    signature = servable.signature
    explain = wire.read({"method": method}, heads, signature, notes)
    try:
        notes.stop()
        explanations.check(servable.model)
    except BadRequest as error:
        message = f"{error}".removeprefix(f"{wire.KEY}: ")
        raise click.BadParameter(message, param_hint=FLAG) from error
    if explain is not None and wire.ANSWER_KEY in heads:
        message = f"expected no head of the name {wire.ANSWER_KEY!r}: leave it out by --heads"
        raise click.BadParameter(message, param_hint=FLAG)
    if as_csv and explain is not None:
        for name in signature.needed(explain.heads):
            if any(tensor.size is None for tensor in signature.inputs[name].tensors):
                message = (
                    f"expected answers in .json, since {name} has rows of any length, and so no "
                    "columns that are the same for all"
                )
                raise click.BadParameter(message, param_hint=FLAG)
    return explain


def answers(servable: Servable, query: Query[Any], explain: Explain | None) -> Iterator[Answered]:
    """Yield the outputs of the rows of a request, and their explanations, some rows at a time.

    Raises:
        TooLarge: the explanation of a single row takes too many runs.
        CannotRun: the model has no answer.
    """
    signature, model = servable.signature, servable.model
    if explain is None:
        yield model.predict(query.arrays, query.heads), None
        return
    for piece in explanations.split(signature, query._replace(explain=explain), model):
        plan = explanations.Plan.of(signature, piece, model)
        yield plan.fold(_run(plan, model, piece.heads))


def _run(plan: Plan, model: Model, heads: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Run the rows of an explanation, and return the outputs that are of use."""
    expanded = plan.expand()
    step = plan.total if model.runs_whole else ROWS_A_RUN
    pieces = []
    for start in range(0, plan.total, step):
        some = {name: array[start : start + step] for name, array in expanded.items()}
        pieces.append(plan.of_use(model.predict(some, heads), start))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in heads}


def columns(signature: Signature, head: Head, explain: Explain | None) -> Iterator[str]:
    """Yield the columns of a head's explanation."""
    if explain is not None and head.name in explain.heads:
        yield f"{head.name}.reference"
        for feature in explanations.feature_names(signature, head.name):
            yield f"{head.name}.parts.{feature}"


def cells(head: Head, answer: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the values of these columns for one row."""
    explained = answer.get(wire.ANSWER_KEY, {}).get(head.name)
    if explained is not None:
        yield explained["reference"]
        yield from explained["parts"].values()
