"""A head in a spec, `[heads.<name>]`: its place in the network, its targets and its scoring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.errors import nearest
from service.kinds import HEAD_KINDS, LABELLED, THRESHOLDED, label_count
from training.toml_file import is_number, show
from training.wiring import NODE

if TYPE_CHECKING:
    from training.input_spec import InputSpec
    from training.toml_file import TomlTable

KINDS = tuple(kind for kind in HEAD_KINDS if kind != "tensor")  # a tensor has no loss
# Losses of logarithms or of shares of the target, by Keras' names without underscores.
_OF_POSITIVE = frozenset(
    {
        *("mape", "meanabsolutepercentageerror", "msle", "meansquaredlogarithmicerror"),
        *("poisson", "kld", "kldivergence", "kullbackleiblerdivergence"),
    }
)
# Losses of a batch as a whole, which sample weights take no row from.
_OF_BATCHES = frozenset({"dice", "tversky"})


@dataclass(frozen=True)
class HeadSpec:
    """One head: a Dense layer by its kind, with the target it learns.

    `targets` are (input name, column) pairs; column `None` is the input's own `target`.
    Only multilabel heads and regressions of vectors have several.  With `missing` "skip", rows
    without a target are left to the other heads; else they are an error.
    """

    name: str
    after: tuple[str, ...]
    kind: str
    targets: tuple[tuple[str, str | int | None], ...]
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    loss: str | None = None
    loss_weight: float = 1.0
    metric: str | None = None
    class_weights: dict[str, float] | str | None = None  # by label, or "balanced"
    standardize: bool = False  # learn (target - mean) / deviation, answer in the column's unit
    missing: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)  # more arguments for its Dense


def read_head(table: TomlTable, inputs: dict[str, InputSpec]) -> HeadSpec:
    """Read the table of a head, whose targets are columns of `inputs`."""
    after = table.one_or_more("after", NODE)
    kind = _kind(table)
    places = table.one_or_more("target", "the name of an input (its target) or input.column")
    targets = _targets(table, kind, places, inputs)
    labels = _labels(table, kind, len(targets) if len(targets) == len(places) else None)
    threshold = table.number("threshold", "a number between 0 and 1", lambda value: 0 < value < 1)
    if threshold is not None and kind is not None and kind not in THRESHOLDED:
        table.problem("threshold", f"only binary and multilabel heads have one; this is {kind}")
    weight = table.number("loss_weight", "a number over 0", lambda value: value > 0)
    dense = table.table("Dense")
    for argument in ("name", "units"):
        if argument in dense.values:
            why = "the head's own" if argument == "name" else "set by the kind and its labels"
            dense.problem(argument, f"is {why}; remove it")
    head = HeadSpec(
        name=table.at_name,
        after=after,
        kind=kind or "binary",
        targets=targets,
        labels=labels,
        threshold=threshold,
        loss=table.text("loss", "the name of a Keras loss"),
        loss_weight=1.0 if weight is None else weight,
        metric=table.text("metric", "the name of a Keras metric"),
        class_weights=_class_weights(table, kind, labels),
        standardize=_standardize(table, kind, dense),
        missing=_missing(table),
        arguments=dense.values,
    )
    table.close()
    return head


def _kind(table: TomlTable) -> str | None:
    expected = f"one of {', '.join(KINDS)}"
    kind = table.text("kind", expected, required=True)
    if kind is not None and kind not in KINDS:
        table.wrong("kind", expected, kind, nearest(kind, KINDS))
        return None
    return kind


def _targets(
    table: TomlTable, kind: str | None, places: tuple[str, ...], inputs: dict[str, InputSpec]
) -> tuple[tuple[str, str | int | None], ...]:
    targets: list[tuple[str, str | int | None]] = []
    for text in places:
        name, dot, column = text.partition(".")
        if name not in inputs:
            tail = nearest(name, inputs) or f"; inputs: {', '.join(inputs)}"
            table.wrong("target", "the name of an input (or input.column)", text, tail)
        elif dot and not column:
            table.wrong("target", "input.column", text)
        elif not dot:
            targets.append((name, None))
        else:
            number = not inputs[name].header and column.isdecimal()
            targets.append((name, int(column) if number else column))
    if len(places) > 1 and kind in ("binary", "multiclass"):
        expected = f"one target, as the head is {kind}"
        table.problem("target", f"expected {expected}, received {len(places)}")
    files = sorted({inputs[name].csv for name, _ in targets})
    if len(files) > 1:
        table.problem("target", f"expected targets of one file, received {' and '.join(files)}")
    return tuple(targets)


def _labels(table: TomlTable, kind: str | None, targets: int | None) -> tuple[str, ...] | None:
    labels = table.texts("labels", 'an array of texts, as ["no", "yes"]')
    if labels is None:
        return None
    count = len(labels)
    if kind is not None and kind not in LABELLED:
        table.problem("labels", "a regression head has none")
    elif kind == "binary" and count != label_count(kind, 1):
        table.problem("labels", f"expected 2 labels, as the head is binary, received {count}")
    elif kind == "multiclass" and count == 1:
        table.problem("labels", "expected 2 labels or more, received 1")
    elif kind == "multilabel" and targets is not None and count != label_count(kind, targets):
        expected = f"one label for each of the {targets} targets"
        table.problem("labels", f"expected {expected}, received {count}")
    return labels


def _standardize(table: TomlTable, kind: str | None, dense: TomlTable) -> bool:
    value = table.take("standardize", "true or false", lambda value: isinstance(value, bool))
    if not value:
        return False
    if kind not in (None, "regression"):
        table.problem("standardize", f"only regression heads have it; this is {kind}")
    # Standardised values are below 0 as often as above, which neither of these two takes.
    loss = table.values.get("loss")
    if isinstance(loss, str) and loss.lower().replace("_", "") in _OF_POSITIVE:
        text = f"the loss {loss!r} is for values over 0, which standardised ones are not"
        table.problem("standardize", f"{text}; remove one of them")
    activation = dense.values.get("activation", "linear")
    if activation not in ("linear", None):
        text = f"the head's Dense has the activation {show(activation)}, which limits the answers"
        table.problem("standardize", f"{text} to a part of what they can be; remove one of them")
    return True


def _missing(table: TomlTable) -> str | None:
    missing = table.take("missing", '"skip", or no such key', lambda value: value == "skip")
    if missing and (loss := _loss_of_batches(table)) is not None:
        text = f"the loss {loss!r} is of a batch as a whole, from which no row can be left out"
        table.problem("missing", f"{text}; remove one of them")
    return None if missing is None else str(missing)


def _loss_of_batches(table: TomlTable) -> str | None:
    """Return the loss of a head as the spec has it, if it is of a batch as a whole."""
    loss = table.values.get("loss")
    return loss if isinstance(loss, str) and loss.lower() in _OF_BATCHES else None


def _class_weights(
    table: TomlTable, kind: str | None, labels: tuple[str, ...] | None
) -> dict[str, float] | str | None:
    value = table.take(
        "class_weights",
        '"balanced" or a table of numbers by label',
        lambda value: value == "balanced" or (isinstance(value, dict) and bool(value)),
    )
    if value is None:
        return None
    if kind in ("multilabel", "regression"):
        table.problem(
            "class_weights", f"only binary and multiclass heads have them; this is {kind}"
        )
    if (loss := _loss_of_batches(table)) is not None:
        text = f"the loss {loss!r} is of a batch as a whole, in which no class weighs more"
        table.problem("class_weights", f"{text}; remove one of them")
    if value == "balanced":
        return "balanced"
    for label, weight in value.items():
        at = f"class_weights.{label}"
        if not is_number(weight) or weight < 0:
            table.wrong(at, "a number, 0 or more", weight)
        if labels is not None and label not in labels:
            tail = nearest(label, labels) or f"; labels: {', '.join(labels)}"
            table.problem(at, f"no such label{tail}")
    return dict(value)
