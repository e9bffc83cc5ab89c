"""The commands of the `train` extra: `triceps train` and `triceps export`.

The module imports nothing heavy, so that help and the errors in a spec take no time and need no
TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service import __version__
from service.errors import INTERRUPTED, TricepsError, printable
from service.host import progress
from service.repository.publish import FILE, check_name, versions
from training import gate, report, repositories, summary
from training import spec as specs
from training.errors import RejectedError, SpecError
from training.publish import publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from training.fit import Fitted
    from training.publish import Exported
    from training.rows import Data
    from training.run_warnings import RunWarning
    from training.spec import Spec
    from training.verify import Verified

EXTRA = ("keras", "pandas", "tensorflow", "tf2onnx")


@click.command(
    short_help="Train a spec and publish its model.",
    epilog="Example: triceps train training/specs/three_heads.toml --epochs 3",
)
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    help="Look for the CSV files here instead of where the spec says.",
)
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="[INPUT=]FILE.csv",
    help=(
        "Score the model on the rows of this file, which the fit never sees.  If the spec has "
        "several files, once for each, with the name of an input."
    ),
)
@repositories.models
@click.option(
    "--seed", type=click.IntRange(0, specs.SEEDS - 1), help="Instead of the spec's fit.seed."
)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the spec's fit.epochs.")
@click.option(
    "--min-score",
    "least",
    multiple=True,
    metavar="HEAD=SCORE",
    help=(
        "Publish only if the head's score on test rows (or else on held-out rows, or else on "
        "training rows) is at least this; at most, if its metric is an error.  Repeatable."
    ),
)
@click.option("--strict", is_flag=True, help="Publish only if there are no warnings.")
@click.option(
    "--no-publish", "dry", is_flag=True, help="Train, verify and print, but publish nothing."
)
@click.option(
    "--no-report", "plain", is_flag=True, help="Publish the model without a page about its run."
)
def train(  # noqa: PLR0913  (click passes each option by its name)
    spec: Path,
    *,
    folder: Path | None,
    tests: tuple[str, ...],
    models: Path | None,
    seed: int | None,
    epochs: int | None,
    least: tuple[str, ...],
    strict: bool,
    dry: bool,
    plain: bool,
) -> None:
    """Train what SPEC describes and publish it as the next version of its model.

    Nothing is published unless the finished file answers as Keras does.
    """
    with _interruptible() as watched:
        repository = repositories.folder(models)
        wanted = _override(specs.load(spec), seed, epochs)
        demanded = gate.demands(least, wanted)
        apart = _test_files(tests, wanted)
        if not dry:
            watched[repository / wanted.name] = versions(repository / wanted.name)
            _check_models(wanted, repository)
        fitted, verified, warnings, sides = _run(wanted, folder, apart)
        summary.show_scores(wanted, fitted, verified)
        summary.show_warnings(warnings)
        click.echo(printable(f"batching: {verified.batching}"))
        _reject(gate.unmet(demanded, fitted.scores))
        if strict and warnings:
            _reject([f"--strict allows for no warnings, received {len(warnings)}"])
        if dry:
            click.echo(printable(f"trained {wanted.name}; nothing was published (--no-publish)"))
            return
        page = None if plain else report.page(wanted, fitted, verified, warnings, sides)
        _tell_where(wanted.name, publish(verified, wanted.name, repository, page))


@click.command(
    short_help="Publish a Keras model that was saved.",
    epilog="Example: triceps export my_model.keras --name mine",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What the model is to be called.")
@repositories.models
def export(file: Path, name: str, models: Path | None) -> None:
    """Turn the Keras model saved in FILE into the next version of model NAME.

    The model must be functional or sequential.  Its inputs keep their names; its heads get those
    of its output layers.
    """
    with _interruptible() as watched:
        repository = repositories.folder(models)
        check_name(name)
        watched[repository / name] = versions(repository / name)
        _check_free("--name", name, name, repository)
        with _needs_extra("export"):
            from training.foreign import export_keras
        with progress.shown("converting the model, and comparing the file with Keras"):
            exported = export_keras(file, name, repository)
        table = summary.table_of("head", "Keras ↔ ONNX")
        for head, difference in exported.verified.differences.items():
            table.add_row(head, f"{difference:.1e}")
        summary.show(table)
        click.echo(printable(f"batching: {exported.verified.batching}"))
        _tell_where(name, exported)


def _reject(messages: list[str]) -> None:
    """Stop before the publication if there are messages against it."""
    if messages:
        raise RejectedError("; ".join([*messages, "nothing was published"]))


def _run(
    spec: Spec, folder: Path | None, apart: Mapping[str, Path]
) -> tuple[Fitted, Verified, list[RunWarning], dict[str, Data]]:
    """Return the fitted model, its file, the warnings of the run, and its rows by side."""
    with _needs_extra("train"):
        from training import data, tested
    with progress.shown("reading the tables"):
        loaded = data.load(spec, folder)
        test = tested.load(spec, loaded, apart) if apart else None
    notes = loaded.notes + (test.notes if test else ())
    for note in notes:
        click.echo(printable(f"note: {note}"), err=True)
    with _needs_extra("train"), progress.shown("starting TensorFlow"):
        from training import build, export, fit, rows, run_warnings
    fit.seed(spec.fit.seed)
    train_data, held_out, test = rows.divide(loaded, spec.fit, test)
    built = build.build(spec, train_data)
    with progress.shown("converting the model once, before the fit"):
        export.check(spec, built, train_data)
    fitted = fit.fit(spec, built, train_data, held_out, test)
    warnings = run_warnings.collect(spec, fitted, train_data, held_out, test)
    with progress.shown("converting the model, and comparing the file with Keras"):
        verified = export.export(spec, fitted, train_data, warnings)
    sides = {"training": train_data, "held-out": held_out, "test": test}
    there = {name: side for name, side in sides.items() if side is not None}
    return fitted, verified, warnings, there


def _test_files(texts: tuple[str, ...], spec: Spec) -> Mapping[str, Path]:
    """Return the paths that `--test` names, by file of the spec; none without it."""
    if not texts:
        return {}
    with _needs_extra("train"):
        from training import tested
    return tested.files(texts, spec)


def _override(spec: Spec, seed: int | None, epochs: int | None) -> Spec:
    fit = spec.fit
    if seed is not None:
        fit = replace(fit, seed=seed)
    if epochs is not None:
        fit = replace(fit, epochs=epochs)
    return replace(spec, fit=fit)


def _check_models(spec: Spec, models: Path) -> None:
    """Refuse, before the fit, a spec whose model could not be published."""
    _check_free(f"{spec.path}: name", spec.name, spec.name, models)
    for view in spec.models:
        # Views and folders of models share one namespace when they are served.
        if (models / view).exists():
            raise SpecError(
                f"{spec.path}: models.{view}: {models / view} is a model of its own already;"
                " rename one of them"
            )
        _check_free(f"{spec.path}: models.{view}", view, spec.name, models)
    there = next(folder for folder in (models, *models.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise TricepsError(f"{models}: cannot be written to: permission denied for {there}")


def _check_free(at: str, name: str, model: str, models: Path) -> None:
    """Refuse a `name` that is a view of a model other than `model`: both cannot be served."""
    for folder in sorted(models.iterdir()) if models.is_dir() else ():
        try:
            published = versions(folder)
        except OSError:
            continue  # a folder that cannot be read serves no view either
        if folder.name == model or not published:
            continue
        file = folder / str(published[-1]) / FILE
        if name in repositories.signature_of(file).get("models", ()):
            raise SpecError(f"{at}: {name!r} is a view in {file} already; rename one of them")


@contextlib.contextmanager
def _needs_extra(command: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        wheel = f"triceps-{__version__}-py3-none-any.whl"
        way_out = f"pip install '{wheel}[train]', or in a checkout: make install-train"
        message = f"{command} needs TensorFlow: {way_out}"
        raise TricepsError(message) from error


@contextlib.contextmanager
def _interruptible() -> Iterator[dict[Path, list[int]]]:
    """End an interrupted command with one line that says what was published, if anything was.

    The block enters the folder of its model with the versions that were there before.  The line
    compares them with those on the disk: an interrupt may come right after the rename.
    """
    before: dict[Path, list[int]] = {}
    try:
        yield before
    except KeyboardInterrupt:
        new = [
            f"{folder.name}, version {version}"
            for folder, there in before.items()
            for version in sorted({*versions(folder)} - {*there})
        ]
        outcome = f"{' and '.join(new)} had been published" if new else "nothing was published"
        click.echo(f"\ninterrupted; {outcome}", err=True)
        sys.exit(INTERRUPTED)


def _tell_where(name: str, exported: Exported) -> None:
    click.echo(printable(f"published {name}, version {exported.version}: {exported.path}"))
