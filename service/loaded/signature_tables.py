"""The signature of a model as tables for people, as `triceps show` prints them."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from service.errors import printable
from service.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from service.repository.loader import Servable

# The characters of a line where there is no terminal.
_WIDTH = 100


@dataclass(frozen=True, repr=False)
class PrintedSignature(Signature):
    """A signature that is printed as tables; `text` returns them."""

    text: Callable[[], str] = str

    @classmethod
    def of(cls, signature: Signature, text: Callable[[], str]) -> Self:
        """Return a signature with its text."""
        return cls(**{f.name: getattr(signature, f.name) for f in fields(signature)}, text=text)

    def __repr__(self) -> str:
        return self.text()


def as_text(servable: Servable) -> str:
    """Return what `triceps show` prints, for lines of 100 characters."""
    from rich.console import Console

    file = io.StringIO()
    write(
        servable,
        Console(
            file=file, width=_WIDTH, color_system=None, markup=False, emoji=False, highlight=False
        ),
    )
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def write(servable: Servable, console: Console) -> None:
    """Print the signature of a model on a console that takes brackets as plain text."""
    console.print(f"{servable.name}, version {servable.version}", style="bold")
    if servable.signature.tensor:
        console.print(printable(f"whole tensors, and no rows: {servable.signature.tensor}"))
    console.print(_inputs(servable), _heads(servable), sep="\n")
    for view, heads in servable.signature.models.items():
        text = f"{view}: the heads {', '.join(heads)}, served by that name too"
        console.print(printable(text))
    console.print(printable(f"batching: {servable.model.batching}"), soft_wrap=True)
    execution = servable.model.execution
    if not execution.is_cpu:
        apart = f"{servable.model.difference:.2g}"
        text = f"provider: {execution}, whose answers are up to {apart} from those of the CPU"
        console.print(printable(text), soft_wrap=True)
    reference = servable.signature.reference
    if reference is not None:
        of = {side: reference.rows.get(side, "unknown") for side in ("inputs", "heads")}
        text = f"reference: features of {of['inputs']} rows, and answers to {of['heads']} rows"
        console.print(printable(text), soft_wrap=True)
    for warning in servable.signature.warnings:
        text = f"warning: {warning['message']} ({warning['code']})"
        console.print(printable(text), soft_wrap=True)
    if servable.signature.provenance:
        console.print(_provenance(dict(servable.signature.provenance)))


def _table(title: str, *columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _add(table: Table, *cells: str) -> None:
    """Add a row of strings from a file, escaped so that they cannot control the terminal."""
    table.add_row(*map(printable, cells))


def _inputs(servable: Servable) -> Table:
    from service.wire.native.examples import dtype_of

    unit = _unit(servable)
    table = _table("Inputs", "input", "feature", "kind", unit, "default", "seen in training")
    for entry in servable.signature.inputs.values():
        for feature in entry.features:
            seen = ", ".join(feature.vocabulary or ()) or _seen(feature.statistics)
            kind = "number" if feature.vocabulary is None else "categorical"
            default = "" if feature.default is None else str(feature.default)
            dtype = dtype_of(feature, entry)
            _add(table, entry.name, feature.name, kind, dtype, default, seen)
        if not entry.features:
            tensor = entry.tensors[0]
            size = " x ".join(map(str, entry.size or ()))
            kind = f"{entry.kind} {size}".strip()
            _add(table, entry.name, "", kind, str(tensor), "", _seen(entry.statistics))
    return table


def _unit(servable: Servable) -> str:
    """Return the heading for shapes: those of a row, or of a whole tensor."""
    return "tensor" if servable.signature.tensor else "a row"


def _seen(statistics: Any) -> str:
    if statistics is None:
        return ""
    return ", ".join(f"{name} {value:.4g}" for name, value in vars(statistics).items())


def _heads(servable: Servable) -> Table:
    table = _table("Heads", "head", "kind", _unit(servable), "labels", "needs")
    for head in servable.signature.heads.values():
        labels = ", ".join(head.labels or ())
        _add(table, head.name, head.kind, str(head.tensor), labels, ", ".join(head.inputs))
    return table


def _provenance(provenance: dict[str, Any]) -> Table:
    table = _table("Made from", "what", "value")
    for name, value in provenance.items():
        _add(table, name, str(value))
    return table
