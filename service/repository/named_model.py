"""The model that a command names, and its report: in a repository by name, or by path."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from service import settings as all_settings
from service.errors import NotFound, NotReady, TricepsError
from service.names import NAME
from service.repository import reports
from service.repository.aliases import is_alias
from service.repository.assembly import open_repository
from service.repository.budget import Budget
from service.repository.publish import FILE
from service.repository.reloader import Library
from service.repository.repository import known_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.repository.loader import Servable
    from service.repository.repository import Repository


_NOWHERE = logging.NullHandler()


class NoSuchModel(TricepsError):
    """The command names a model that does not exist, or that cannot serve."""


def open_model(
    name: str, models: Path | None, environ: Mapping[str, str] | None = None
) -> Servable:
    """Load a model by its name (`triceps`, `triceps/2`, `triceps/stable`) or by a path.

    Args:
        name: the name of a model in the repository, optionally with a version or an alias; or the
            path of a file, of a folder that holds a model.onnx, or of a version's folder.
        models: the repository; by default, that of the settings.
        environ: the variables that the settings are from; by default, those of this process.

    Raises:
        NoSuchModel: there is no such model, or it is refused; the message lists the models.
        SettingsError: the repository is missing or unreadable.
    """
    _, servable, path = _opened(name, models, environ)
    return servable if path is None else _named(path, servable)


def read_report(name: str, models: Path | None) -> tuple[Servable, bytes]:
    """Return a model, named as for `open_model`, and the report that was published with it.

    Raises:
        NoSuchModel: as for `open_model`, or the version has no report.
        SettingsError: the repository is missing or unreadable.
    """
    repository, servable, path = _opened(name, models)
    named = servable if path is None else _named(path, servable)
    try:
        return named, reports.read(repository, servable.name, servable.version)
    except (NotFound, NotReady) as error:
        raise NoSuchModel(f"{name}: {error}") from error


def _opened(
    name: str, models: Path | None, environ: Mapping[str, str] | None = None
) -> tuple[Repository, Servable, Path | None]:
    """Return the repository of a model, the model, and its path if the name is one."""
    # Refused models are not logged: the error says so if the requested model is among them.
    logging.getLogger("service").addHandler(_NOWHERE)
    settings = all_settings.load(environ, models=models)
    repository = settings.models
    wanted, _, which = name.partition("/")
    version, alias = (None, which) if is_alias(which) else (which or None, None)
    path = Path(name)
    # A model of the repository takes precedence over a file of the same name.
    by_name = not path.exists() or (NAME.fullmatch(wanted) and (repository / wanted).is_dir())
    try:
        if by_name:
            # Of a thousand models, only the one that is named is loaded.
            budget = Budget(first=0)
            library = Library(repository, "", settings.policy, budget, settings.provider)
            _check_form(name, library.current.available())
            # A name that is not known may be that of a view.
            while wanted not in known_names(library.current) and library.load_more():
                pass
            opened = library.having(wanted, version, alias)
            return opened, opened.find(wanted, version, alias), None
        opened = open_repository(path, provider=settings.provider)
        return opened, opened.find(next(iter(opened.serving), None)), path
    except (NotFound, NotReady) as error:
        raise NoSuchModel(f"{name}: {error}") from error


def _named(path: Path, servable: Servable) -> Servable:
    """Return the servable of a path, with the name and the version of its folders, if it has any.

    Args:
        path: a model in a folder of its own, or that folder: <name>/<version>/model.onnx.
        servable: the servable, with the name of the file or the folder.
    """
    folder = path.resolve()
    folder = folder.parent if folder.name == FILE else folder
    if not (folder.name.isdecimal() and NAME.fullmatch(folder.parent.name)):
        return servable
    return replace(servable, name=folder.parent.name, version=folder.name)


def _check_form(name: str, known: Sequence[str]) -> None:
    """Check that a name does not have a version in another form than ours.

    Raises:
        NotFound: it has one, such as `triceps@2`.
    """
    for mark in "@:":
        model, _, version = name.partition(mark)
        if model in known and version:
            meant, available = f"{model}/{version}", ", ".join(known)
            message = f"model {name!r}: there is none of that name (did you mean {meant!r}?)"
            raise NotFound(f"{message}. Available: {available}")
