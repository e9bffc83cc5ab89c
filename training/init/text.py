"""The text of a spec, with its reasons as comments: TOML that `training.spec` reads back."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from service.errors import printable
from training.init.features import EMBEDDING, LOG
from training.init.network import embedding
from training.init.node_names import node_names
from training.targets import MANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from training.init.features import Choice
    from training.init.heads import Head
    from training.init.plan import Group, Input, Plan

WIDTH = 100
# An input with more columns than this has them side by side, without a reason for each.
_SINGLY = 40


def quote(text: str) -> str:
    """Return a text as a TOML string on one line."""
    # JSON's escapes are TOML's, but for one character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def spec_text(plan: Plan, wanted: Sequence[str]) -> str:
    """Return the text of the spec; `wanted` are the heads as the command line has them."""
    inputs = [entry for group in plan.groups for entry in group.inputs]
    learned = [head for group in plan.groups for head in group.heads]
    writer = _Layers([entry.name for entry in inputs] + [head.name for head in learned])
    parts = [_top(plan, inputs, wanted), *(_input(entry, plan.key) for entry in inputs)]
    for group in plan.groups:
        parts += writer.group(group, alone=len(inputs) == 1)
    return "\n\n".join([*parts, _fit(plan)]) + "\n"


def _top(plan: Plan, inputs: Sequence[Input], wanted: Sequence[str]) -> str:
    command = ["triceps", "init", *(entry.csv for entry in inputs)]
    command += [word for text in wanted for word in ("--head", text)]
    lines = [
        f"# Written by: {_comment(shlex.join(command))}",
        "# Each choice has its reason beside it; change what you know better.",
        f"name = {quote(plan.name)}",
    ]
    if len(inputs) > 1:
        lines.append(f"align = {quote(plan.align)}  # {_comment(plan.aligned)}")
    return "\n".join(lines)


def _input(entry: Input, key: str | None) -> str:
    lines = [f"[inputs.{entry.name}]", f"csv = {quote(entry.csv)}  # {entry.rows:,} rows"]
    if key is not None:
        lines.append(f"key = {quote(key)}")
    lines += _columns(entry.features)
    if named := [choice.column for choice in entry.features if choice.named]:
        lines.append(_array("categorical", named))
    if entry.left_out:
        lines.append("# Left out:")
        lines += [_reason(choice) for choice in entry.left_out]
    return "\n".join(lines)


def _reason(choice: Choice) -> str:
    return f"#   {quote(choice.column)}: {_comment(choice.reason)}"


def _columns(features: Sequence[Choice]) -> list[str]:
    names = [f"{quote(choice.column)}," for choice in features]
    if len(names) > _SINGLY:
        return ["columns = [", *_wrapped(names), "]"]
    width = min(max(map(len, names)), WIDTH // 2)
    return [
        "columns = [",
        *(
            f"    {name.ljust(width)}  # {_comment(choice.reason)}"
            for name, choice in zip(names, features, strict=True)
        ),
        "]",
    ]


def _wrapped(words: Iterable[str]) -> list[str]:
    lines = ["   "]
    for word in words:
        if len(lines[-1]) + len(word) >= WIDTH and lines[-1].strip():
            lines.append("   ")
        lines[-1] += f" {word}"
    return lines


class _Layers:
    """The layers and heads of each group, with names that nothing else has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = list(taken)
        self._parts: list[str] = []

    def group(self, group: Group, *, alone: bool) -> list[str]:
        """Return the tables of a group; with `alone` its layers need no name of an input."""
        self._parts = []
        flat: list[str] = []
        for entry in group.inputs:
            flat += self._encoded(entry, group.trunk.pieces, "" if alone else f"_{entry.name}")
        trunk = group.trunk
        suffix = "" if alone or len(group.inputs) > 1 else f"_{group.inputs[0].name}"
        after = flat
        for depth in (1, 2):
            dense = {"units": trunk.units, "activation": "relu"}
            hidden = self._layer(f"hidden{depth}{suffix}", after, "Dense", dense)
            drop = self._layer(
                f"dropout{depth}{suffix}",
                [hidden],
                "Dropout",
                {"rate": trunk.dropout},
                "Against learning the rows by heart; only during the fit." if depth == 1 else "",
            )
            after = [drop]
        # The features go to the heads directly too: what is linear needs no trunk.
        return [*self._parts, *(_head(head, [*after, *flat]) for head in group.heads)]

    def _encoded(self, entry: Input, pieces: int, suffix: str) -> list[str]:
        """Write the layers of one input, and return the nodes that hold its features."""
        logs = [f"{entry.name}.{c.column}" for c in entry.features if c.use == LOG]
        embedded = [choice for choice in entry.features if choice.use == EMBEDDING]
        sources = [entry.name] if len(logs) + len(embedded) < len(entry.features) else []
        nodes = []
        if logs:
            why = "Heavily skewed numbers on a log scale."
            sources.append(self._layer(f"log{suffix}", logs, "Log", {}, why))
        if sources:
            why = "Every number with mean 0 and deviation 1."
            nodes.append(self._layer(f"scaled{suffix}", sources, "Normalization", {}, why))
        if pieces:
            why = "Every number by its place between quantiles, for steps and bends."
            inside = {"pieces": pieces}
            nodes.append(self._layer(f"pieces{suffix}", sources, "PiecewiseLinear", inside, why))
        return nodes + [self._embedded(entry, choice) for choice in embedded]

    def _embedded(self, entry: Input, choice: Choice) -> str:
        [base] = node_names([choice.column], self._taken, "column")
        size = embedding(choice.values)
        why = f"{choice.values} values of {quote(choice.column)} as {size} numbers each."
        source = [f"{entry.name}.{choice.column}"]
        index = self._layer(f"{base}_index", source, "StringLookup", {}, why)
        # One place more, for texts that are not in the table.
        inside = {"input_dim": choice.values + 1, "output_dim": size}
        vector = self._layer(f"{base}_vector", [index], "Embedding", inside)
        return self._layer(f"{base}_flat", [vector], "Flatten", {})

    def _layer(
        self,
        name: str,
        after: Sequence[str],
        kind: str,
        arguments: Mapping[str, object],
        why: str = "",
    ) -> str:
        """Write a layer under a name like `name`, and return that name."""
        [name] = node_names([name], self._taken, "layer")
        self._taken.append(name)
        inside = ", ".join(
            f"{key} = {quote(value) if isinstance(value, str) else value}"
            for key, value in arguments.items()
        )
        lines = [f"[layers.{name}]", *([f"# {why}"] if why else []), _one_or_more("after", after)]
        self._parts.append(
            "\n".join([*lines, f"{kind} = {{ {inside} }}" if inside else f"{kind} = {{}}"])
        )
        return name


def _head(head: Head, after: Sequence[str]) -> str:
    lines = [
        f"[heads.{head.name}]",
        _one_or_more("after", after),
        f"kind = {quote(head.kind)}  # {_comment(head.reason)}",
        _one_or_more("target", [f"{head.owner}.{column}" for column in head.columns]),
    ]
    if head.labels and len(head.labels) <= MANY:
        lines.append(_array("labels", head.labels))
    if head.weights:
        weights = (f"{quote(label)} = {weight:g}" for label, weight in head.weights.items())
        lines.append("# The classes are far from even: a rare one weighs more.")
        lines.append(f"class_weights = {{ {', '.join(weights)} }}")
    if head.kind == "regression":
        lines.append("standardize = true  # learns without a unit, answers in that of the column")
    lines.append(
        'Dense = { kernel_initializer = "zeros" }  # begins at the same answer for all rows'
    )
    if head.missing:
        rows = "1 row has" if head.missing == 1 else f"{head.missing} rows have"
        lines.append(f'missing = "skip"  # {rows} no value')
    return "\n".join(lines)


def _fit(plan: Plan) -> str:
    fit = plan.fit
    schedule = f"{{ initial_learning_rate = {fit.learning_rate}, decay_steps = {fit.decay_steps} }}"
    lines = [
        "[fit]",
        "# The steps become smaller until the last epoch; change decay_steps with epochs.",
        f"optimizer.AdamW.weight_decay = {fit.weight_decay}",
        f"optimizer.AdamW.learning_rate.CosineDecay = {schedule}",
        f"epochs = {fit.epochs}",
        f"batch_size = {fit.batch_size}",
    ]
    if fit.validation:
        why = "watched during the fit" if fit.test else "to score the model"
        lines.append(f"validation_split = {fit.validation}  # held out, {why}")
    if fit.test:
        lines.append(f"test_split = {fit.test}  # held out, to score the model")
    if fit.validation and plan.stratify:
        lines.append(f"stratify = {quote(plan.stratify)}  # the same part of each of its classes")
    if fit.patience:
        lines.append(
            f"patience = {fit.patience}  # epochs without a better held-out loss, then stop"
        )
    return "\n".join(lines)


def _one_or_more(key: str, items: Sequence[str]) -> str:
    return _array(key, items) if len(items) > 1 else f"{key} = {quote(items[0])}"


def _array(key: str, items: Sequence[str]) -> str:
    """Return `key = [ … ]` on one line or, if that is too long, on several."""
    line = f"{key} = [{', '.join(map(quote, items))}]"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{key} = [", *_wrapped(f"{quote(item)}," for item in items), "]"])


def _comment(text: str) -> str:
    """Return a text for the end of a line."""
    return printable(text).replace("\n", "\\n")
