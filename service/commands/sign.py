"""`triceps sign`: a signature for a foreign `model.onnx`, with names that its graph cannot hold.

It is one idea: each option is read, checked against the signature and written into it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from service.commands.options import allow_missing
from service.errors import MISUSED, ModelRefused, TricepsError, nearest, printable
from service.kinds import HEAD_KINDS, LABELLED, THRESHOLDED, label_count
from service.repository.publish import check_name
from service.wire.body import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import onnx

    from service.inference.batching import Batching
    from service.signature import Feature, Head, Input, Signature


class SignError(TricepsError):
    """The options do not fit the model."""

    exit_code = MISUSED


def _pair(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parse the values of an option NAME=VALUE; a name may contain anything but an equals sign."""
    pairs: dict[str, str] = {}
    for text in values:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # the command line has bytes that are not UTF-8
            raise click.BadParameter(f"expected UTF-8, received {text!r}") from error
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise click.BadParameter(f"expected NAME=VALUE, received {text!r}")
        if name in pairs:
            raise click.BadParameter(f"expected each name once, received {name!r} again")
        pairs[name] = value
    del option
    return pairs


def _pairs(flag: str, metavar: str, about: str) -> Callable[..., Any]:
    return click.option(flag, multiple=True, callback=_pair, metavar=metavar, help=about)


_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps sign churn.onnx --features customer=age,income --default customer.age=38 \\\n"
    "    --labels churn=stays,leaves --name churn\n"
)


@click.command(
    short_help="Give a foreign ONNX file its features, labels and defaults.", epilog=_EXAMPLE
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_pairs("--features", "INPUT=A,B,C", "The names of an input's columns, in order.")
@_pairs("--default", "INPUT.FEATURE=VALUE", "The value that replaces a missing value of a feature.")
@_pairs("--size", "INPUT=28x28", "The height, width (and channels) of an input that is an image.")
@_pairs("--labels", "HEAD=NO,YES", "The names of a head's classes, in order.")
@_pairs("--kind", "HEAD=KIND", "binary, multiclass, multilabel or regression; default: by labels.")
@_pairs("--threshold", "HEAD=0.5", "The score above which a binary or multilabel head says yes.")
@_pairs("--view", "NAME=HEAD,HEAD", "Some heads to serve under a name of their own, too.")
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rows like those of training, in a .csv or .json: the reference of triceps drift.",
)
@allow_missing
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, or - for standard output.",
)
@click.option("--name", help="Publish the file as the next version of this model instead.")
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    help="The repository to publish into [TRICEPS_MODELS].",
)
def sign(  # noqa: PLR0913  (click passes each option by its name)
    file: Path,
    out: Path | None,
    name: str | None,
    models: Path | None,
    *,
    reference: Path | None,
    allow: tuple[str, ...],
    **options: dict[str, str],
) -> None:
    """Write FILE again, with features, labels and defaults in its signature.

    What the signature of FILE has already is kept, unless an option replaces it. Options with an
    equals sign may be given several times, each time for another input, feature, head or view.
    """
    if (out is None) == (name is None):
        raise click.UsageError("expected one of --out FILE and --name MODEL")
    from service import settings as all_settings
    from service.host.files import stream, writing
    from service.repository.publish import FILE, publish

    repository = all_settings.load(models=models).models
    if name is not None:
        check_name(name)
    content, batching = signed(file, options, reference, allow)
    verdict = printable(f"batching: {batching}")
    if name is not None:
        version = publish(repository, name, content)
        click.echo(verdict)
        path = repository / name / version / FILE
        click.echo(printable(f"published {name}, version {version}: {path}"))
    elif out is not None:
        with writing(out) as target:
            target.write(content)
        # On standard error if the file itself goes to standard output.
        beside = stream(out) is not None
        click.echo(verdict, err=beside)
        click.echo(printable(f"wrote {out}"), err=beside)


def signed(
    file: Path,
    options: Mapping[str, Mapping[str, str]],
    rows: Path | None = None,
    allow: Sequence[str] = (),
) -> tuple[bytes, Batching]:
    """Return a copy of an ONNX file with an amended signature, after loading and trying the copy.

    Args:
        file: an ONNX file; weights in files beside it become part of the copy.
        options: the values of each option (`features`, `labels`, …), by name.
        rows: a file with the rows of the reference; without one, the reference is kept.
        allow: the features that these rows may miss.

    Returns:
        The bytes of the copy, and its batching mode with the evidence for it.

    Raises:
        SignError: the options do not fit the model.
        ModelRefused: the file cannot be served as it is.
        RowsError: the rows are not what the model takes.
    """
    import onnx

    from service.commands import reference_rows
    from service.inference.model import Model

    try:
        signature = Model.load(file).signature
    except ModelRefused as error:
        raise ModelRefused(f"{file}: {error}") from error
    if signature.tensor:
        message = (
            f"{file}: expected a model of rows, whose features, labels and defaults can be named; "
            f"received one of whole tensors, which serves as it is: {signature.tensor}"
        )
        raise SignError(message)
    signature = _amend(signature, options)
    graph = onnx.load(file, format="protobuf")
    try:
        model = Model.load(content := _written(graph, signature))
        if rows is not None:
            signature = replace(signature, reference=reference_rows.read(rows, model, allow))
            model = Model.load(content := _written(graph, signature))
    except ModelRefused as error:
        raise SignError(f"{file}: the options do not fit it: {error}") from error
    return content, model.batching


def _written(graph: onnx.ModelProto, signature: Signature) -> bytes:
    """Return the bytes of a graph with a signature in place of the one that it has."""
    from service import metadata

    kept = [entry for entry in graph.metadata_props if entry.key != metadata.METADATA_KEY]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    graph.metadata_props.add(key=metadata.METADATA_KEY, value=metadata.dump(signature))
    content: bytes = graph.SerializeToString()
    return content


def _amend(signature: Signature, options: Mapping[str, Mapping[str, str]]) -> Signature:
    inputs = dict(signature.inputs)
    for name, text in options["features"].items():
        inputs[name] = _with_features(_known(inputs, name, "--features", "input"), text)
    for name, text in options["size"].items():
        inputs[name] = _with_size(_known(inputs, name, "--size", "input"), text)
    for place, text in options["default"].items():
        entry = _owner(inputs, place)
        inputs[entry.name] = _with_default(entry, place, text)
    heads = dict(signature.heads)
    for name, text in options["labels"].items():
        head = _known(heads, name, "--labels", "head")
        heads[name] = _with_labels(head, text, options["kind"].get(name))
    for name, kind in options["kind"].items():
        head = _known(heads, name, "--kind", "head")
        heads[name] = replace(head, kind=_choice("--kind", kind))
        if name not in options["labels"] and kind not in LABELLED:
            heads[name] = replace(heads[name], labels=None, threshold=None)
    for name, text in options["threshold"].items():
        head = _known(heads, name, "--threshold", "head")
        if head.kind not in THRESHOLDED:
            _wrong("--threshold", f"a binary or multilabel head, and {name!r} is {head.kind}", text)
        heads[name] = replace(head, threshold=_number("--threshold", text))
    views = dict(signature.models)
    for view, text in options["view"].items():
        check_name(view)
        chosen = _names("--view", text)
        for name in chosen:
            _known(heads, name, "--view", "head")
        views[view] = chosen
    reference = signature.reference
    if reference is not None:
        # Inputs and heads whose features or labels have changed lose their reference.
        inputs_kept = set(inputs).difference(options["features"], options["size"])
        heads_kept = set(heads).difference(
            *(options[name] for name in ("labels", "kind", "threshold"))
        )
        reference = reference.restrict(inputs_kept, heads_kept)
    return replace(signature, inputs=inputs, heads=heads, models=views, reference=reference)


def _with_features(entry: Input, text: str) -> Input:
    from service.signature import Feature, tabular

    names = _names("--features", text)
    size = _length("--features", entry)
    if len(names) != size:
        _wrong("--features", f"{count(size, 'name')} for {entry.name!r}", text)
    dtype = entry.tensors[0].dtype
    return tabular(entry.name, [Feature(name, entry.name) for name in names], dtype)


def _length(flag: str, entry: Input) -> int:
    """Return the number of features that an input can have."""
    tensor = entry.tensors[0]
    if len(entry.tensors) > 1 or len(tensor.shape) != 1 or tensor.size is None:
        received = f"{entry.name!r}, {_shapes(entry)} a row"
        _wrong(flag, "an input that is one list of a fixed length", received)
    return tensor.size


def _with_size(entry: Input, text: str) -> Input:
    tensor = entry.tensors[0]
    if len(entry.tensors) > 1 or tensor.size is None or tensor.dtype == "string":
        received = f"{entry.name!r}, {_shapes(entry)} a row"
        _wrong("--size", "an input of numbers, of a fixed length", received)
    size = tuple(int(axis) for axis in text.split("x") if axis.isdecimal())
    if "x".join(map(str, size)) != text or math.prod(size) != tensor.size or "x" not in text:
        _wrong("--size", f"axes like 28x28, of {tensor.size} values in all", text)
    return replace(entry, kind="image", size=size, features=())


def _shapes(entry: Input) -> str:
    return " and ".join(map(str, entry.tensors))


def _owner(inputs: Mapping[str, Input], place: str) -> Input:
    """Return the input of a place `input.feature`; both names may contain dots."""
    places = {
        f"{entry.name}.{feature.name}": entry
        for entry in inputs.values()
        for feature in entry.features
    }
    if place not in places:
        nameless = [entry.name for entry in inputs.values() if not entry.features]
        within = [name for name in nameless if f"{place}.".startswith(f"{name}.")]
        if within:
            _unnamed(inputs[max(within, key=len)], place)
        if not places:
            _known(inputs, place, "--default", "input")
        _wrong("--default", f"one of {', '.join(places)}", place, places)
    return places[place]


def _unnamed(entry: Input, place: str) -> NoReturn:
    """Say how to name the features of an input, after the feature that a place has."""
    size = _length("--default", entry)
    feature = place.removeprefix(f"{entry.name}.") or entry.name
    way = f"--features {entry.name}={feature}"
    if size > 1:
        way += f",… ({count(size, 'name')})"
    expected = f"INPUT.FEATURE, and the features of {entry.name!r} have no names"
    raise SignError(f"--default: expected {expected}; received {place}; name them first: {way}")


def _with_default(entry: Input, place: str, text: str) -> Input:
    def changed(feature: Feature) -> Feature:
        if f"{entry.name}.{feature.name}" != place:
            return feature
        return replace(feature, default=_default_of(feature, entry, text))

    return replace(entry, features=tuple(map(changed, entry.features)))


def _default_of(feature: Feature, entry: Input, text: str) -> float | str:
    """Parse the default of a feature as a value of its tensor's dtype."""
    from service.signature import holds

    dtype = next(tensor.dtype for tensor in entry.tensors if tensor.name == feature.tensor)
    if feature.vocabulary is not None and text not in feature.vocabulary:
        expected = f"one of {', '.join(feature.vocabulary)} for {entry.name}.{feature.name}"
        _wrong("--default", expected, text, feature.vocabulary)
    if dtype == "string":
        return text
    if dtype == "bool" and text in ("true", "false"):
        return text == "true"
    if dtype == "bool":
        _wrong("--default", "true or false", text)
    value = _number("--default", text)
    if not holds(dtype, value):
        _wrong("--default", f"a number that {dtype} holds", text)
    return value


def _with_labels(head: Head, text: str, kind: str | None) -> Head:
    labels = _names("--labels", text)
    kind = kind or (head.kind if head.kind not in ("tensor", "regression") else None)
    kind = kind or ("binary" if head.tensor.size == 1 else "multiclass")
    wanted = label_count(kind, head.tensor.size)
    if wanted is None:
        _wrong("--labels", f"a head of a fixed length, and {head.name!r} is not", text)
    if len(labels) != wanted:
        _wrong("--labels", f"{count(wanted, 'label')} for the {kind} head {head.name!r}", text)
    return replace(head, kind=kind, labels=labels)


def _choice(flag: str, text: str) -> str:
    if text not in HEAD_KINDS:
        _wrong(flag, f"one of {', '.join(HEAD_KINDS)}", text, HEAD_KINDS)
    return text


def _number(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # Python reads 1_000 as a number; other languages do not.
    if not math.isfinite(value) or "_" in text:
        _wrong(flag, "a number", text)
    return int(text) if text.lstrip("+-").isdecimal() else value


def _names(flag: str, text: str) -> tuple[str, ...]:
    """Split a string at commas into names, without the blanks around them."""
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) != len(names):
        _wrong(flag, "different names between commas", text)
    return names


def _known(entries: Mapping[str, Any], name: str, flag: str, what: str) -> Any:
    if name not in entries:
        _wrong(flag, f"one of the {what}s {', '.join(entries)}", name, entries)
    return entries[name]


def _wrong(flag: str, expected: str, received: str, names: Iterable[str] = ()) -> NoReturn:
    raise SignError(f"{flag}: expected {expected}; received {received}{nearest(received, names)}")
