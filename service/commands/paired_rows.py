"""The answers of two models to the same rows, some hundred at a time.

            ┌─ rows as the first takes them ── row_runs ─▶ outputs ─┐
file, or ───┤                                                       ├─▶ Paired
golden rows └─ rows as the second takes them ─ row_runs ─▶ outputs ─┘
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from service.commands import missing_features, row_runs
from service.commands.opened_rows import opened, sizes_of
from service.commands.row_files import Row, RowsError
from service.host import progress
from service.wire import native
from service.wire.native.examples import golden_instances, instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.commands.row_runs import Run
    from service.repository.loader import Servable
    from service.signature import Signature

    Outputs = Mapping[str, NDArray[Any]]


class Answered(NamedTuple):
    """Some rows, and the outputs of one model by head, [rows, …]."""

    rows: Sequence[Row]
    outputs: Outputs


class Paired(NamedTuple):
    """Some rows, with the outputs of both models by head, [rows, …]."""

    rows: Sequence[Row]
    first: Outputs
    second: Outputs


@dataclass
class Pair:
    """Two models, the heads that are compared, and what is counted of the rows so far."""

    first: Servable
    second: Servable
    heads: tuple[str, ...]
    counts: tuple[row_runs.Counts, row_runs.Counts] = field(
        default_factory=lambda: (row_runs.Counts(), row_runs.Counts())
    )
    notes: list[str] = field(default_factory=list)
    """Messages about rows that could not be compared."""

    def of_file(self, file: Path, allow: Sequence[str]) -> Iterator[Paired]:
        """Run the rows of a file, which is read once for each model.

        Args:
            file: a CSV, JSON, or a folder of samples.
            allow: the features that the file may miss, as `--allow-missing` names them.

        Raises:
            RowsError: the file cannot be read, has changed meanwhile, or a row is not what one of
                the models takes.
        """
        if not (file.is_file() or file.is_dir()):
            raise RowsError(f"{file}: expected a regular file, which is read twice")
        both = self.first.signature, self.second.signature
        known = [missing_features.known(signature, allow) for signature in both]
        # A name that neither knows is refused as the first model refuses it.
        strange = [name for name in allow if not any(name in names for names in known)]
        needed = [
            missing_features.required(signature, self.heads, [*names, *strange])
            for signature, names in zip(both, known, strict=True)
        ]
        # A sample that one model cannot answer is left out of both readings.
        complete = {**needed[0], **needed[1]}
        # A service may go on writing samples, and both readings have to end at the same row.
        sizes = sizes_of(file)
        with (
            opened(file, both[0], needed[0], complete=complete, sizes=sizes) as first,
            opened(file, both[1], needed[1], complete=complete, sizes=sizes) as second,
            progress.shown(f"{file}", first.file),
        ):
            yield from self._in_step(
                _restricted_rows(first.rows, *both), _restricted_rows(second.rows, *both[::-1])
            )
        self.notes += first.notes

    def of_golden_rows(self) -> Iterator[Paired]:
        """Run the golden rows of both models, or their examples; those that both can answer."""
        both = self.first.signature, self.second.signature
        seen: list[Any] = []
        for side, servable in (("A", self.first), ("B", self.second)):
            for row in _known_rows(side, servable):
                if row.instance in seen:
                    continue
                seen.append(row.instance)
                sides = [
                    iter([replace(row, instance=_restricted(row.instance, signature, other))])
                    for signature, other in (both, both[::-1])
                ]
                try:
                    # All at once, so that a row that the second refuses is not counted.
                    answered = [*self._in_step(*sides)]
                except RowsError as error:
                    self.notes.append(f"not compared: {error}")
                else:
                    yield from answered

    def _in_step(self, first: Iterator[Row], second: Iterator[Row]) -> Iterator[Paired]:
        """Run both, and yield the rows that both have answered; each has runs of its own size."""
        of_first = _answered(row_runs.runs(first, self.first, self.heads, self.counts[0]))
        of_second = _answered(row_runs.runs(second, self.second, self.heads, self.counts[1]))
        one = two = None
        while True:
            one = one or next(of_first, None)
            two = two or next(of_second, None)
            if one is None or two is None:
                if rest := one or two:
                    raise RowsError(
                        f"{rest.rows[0].place}: one of two readings ended before this row: "
                        "the file has changed meanwhile"
                    )
                return
            number = min(len(one.rows), len(two.rows))
            yield Paired(one.rows[:number], _part(one, 0, number), _part(two, 0, number))
            one, two = _rest(one, number), _rest(two, number)


def _answered(runs: Iterator[Run]) -> Iterator[Answered]:
    return (Answered(run.rows, run.outputs) for run in runs if run.rows)


def _part(answered: Answered, start: int, end: int) -> Outputs:
    return {head: output[start:end] for head, output in answered.outputs.items()}


def _rest(answered: Answered, number: int) -> Answered | None:
    """Return the answers without those to the first rows; `None` if there are no others."""
    rows = answered.rows[number:]
    return Answered(rows, _part(answered, number, len(answered.rows))) if rows else None


def _restricted_rows(rows: Iterator[Row], signature: Signature, other: Signature) -> Iterator[Row]:
    return (replace(row, instance=_restricted(row.instance, signature, other)) for row in rows)


def _restricted(instance: Any, signature: Signature, other: Signature) -> Any:
    """Return an instance without the inputs and features that only the other model has.

    What neither has stays, so that a misspelt name is an error.
    """
    if not isinstance(instance, dict) or native.is_bare(signature, instance):
        return instance
    kept = {}
    for name, value in instance.items():
        if name in other.inputs and name not in signature.inputs:
            continue
        if isinstance(value, dict) and name in signature.inputs and name in other.inputs:
            own, others = signature.inputs[name].feature_names, other.inputs[name].feature_names
            value = {k: v for k, v in value.items() if k in own or k not in others}  # noqa: PLW2901
        kept[name] = value
    return kept


def _known_rows(side: str, servable: Servable) -> Iterator[Row]:
    """Yield the golden rows of a model, or else its example, if it has one."""
    golden = golden_instances(servable.signature)
    for number, row in enumerate(golden, 1):
        yield Row(f"golden row {number} of {side}", row)
    if not golden and not servable.proof.no_example:
        yield Row(f"example of {side}", instance(servable.signature, servable.proof.shapes))
