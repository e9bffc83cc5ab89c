"""The model that a command names, and its report: in a repository by name, or by path."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service import settings as all_settings
from service.errors import NotFound, NotReady, TricepsError, nearest
from service.names import NAME
from service.repository import reports
from service.repository.aliases import is_alias
from service.repository.assembly import open_repository
from service.repository.budget import Budget
from service.repository.catalog import EMPTY
from service.repository.declarations import declare
from service.repository.model_settings import DEFAULTS
from service.repository.publish import FILE, versions
from service.repository.reloader import Library
from service.repository.repository import known_names
from service.repository.scan import ALIASES, UNLOADED, is_one_file, look
from service.wire.body import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.repository.loader import Servable
    from service.repository.model_settings import ModelSettings
    from service.repository.repository import Repository
    from service.repository.scan import Refused, Scan, Version
    from service.settings import Settings


class Located(NamedTuple):
    """A version that a command names, with the settings of its model; nothing of it is loaded."""

    found: Version
    own: ModelSettings
    notes: tuple[str, ...] = ()
    """Messages about files beside it, such as settings that cannot be read."""


_NOWHERE = logging.NullHandler()


class NoSuchModel(TricepsError):
    """The command names a model that does not exist, or that cannot serve."""


def open_model(
    name: str, models: Path | None, environ: Mapping[str, str] | None = None
) -> Servable:
    """Load a model by its name (`triceps`, `triceps@2`, `triceps/stable`) or by a path.

    Args:
        name: the name of a model in the repository, optionally with a version or an alias behind
            an at sign or a slash; or the path of a file, of a folder that holds a model.onnx, or
            of a version's folder.
        models: the repository; by default, that of the settings.
        environ: the variables that the settings are from; by default, those of this process.

    Raises:
        NoSuchModel: there is no such model, or it is refused; the message lists the models.
        SettingsError: the repository is missing or unreadable.
    """
    _, servable, path = _opened(name, models, environ)
    return servable if path is None else _named(path, servable)


def locate(name: str, settings: Settings) -> Located:
    """Find the version that a name or a path names, as `open_model` does, without loading it.

    A name alone names the newest version, whether it can serve or not.

    Raises:
        NoSuchModel: there is no such version; the message lists those that there are.
        SettingsError: there is nothing at the path, or in place of the repository.
    """
    if not is_named(name, settings.models):
        return Located(_only(Path(name)), DEFAULTS)
    _check_is_name(name, settings.models)
    scan = look(settings.models, settings.model_name)
    declared = declare(scan, EMPTY)
    wanted, version, alias = _parts(name)
    there = scan.by_name.get(wanted)
    if there is None:
        raise NoSuchModel(f"{name}: {_why_not(wanted, scan)}")
    if alias is not None:
        named = declared.aliases.get(wanted, {})
        if alias not in named:
            _check_aliases(name, wanted, declared.damaged)
            known = ", ".join(sorted(named)) or "none"
            message = f"model {wanted!r} has no alias {alias!r}{nearest(alias, named)}"
            raise NoSuchModel(f"{name}: {message}. Available: {known}")
        version = named[alias]
    version = version or next(reversed(there))
    if version not in there:
        message = f"model {wanted!r} has no version {version!r}. Available: {', '.join(there)}"
        raise NoSuchModel(f"{name}: {message}")
    notes = [entry.reason for entry in declared.damaged if entry.name == wanted]
    if wanted in scan.unloaded:
        notes.append(f"it is out of service: the file {wanted}/{UNLOADED} says so")
    return Located(there[version], declared.settings.get(wanted, DEFAULTS), tuple(notes))


def _only(path: Path) -> Version:
    """Return the version at a path that is no repository, named after its folders if they do."""
    scan = look(path)
    if (there := versions(path)) and not is_one_file(path):
        raise NoSuchModel(
            f"{path}: expected a version of the model, received the folder of all its versions: "
            f"name {path / str(there[-1])}"
        )
    if not is_one_file(path):
        names = listing(scan.by_name) or "none"
        raise NoSuchModel(
            f"{path}: expected a model, received a folder of models: name one of them, "
            f"with --models {path}. Available: {names}"
        )
    [found] = scan.versions
    model, version = _of_folders(path) or found.key
    return replace(found, name=model, version=version)


def _why_not(wanted: str, scan: Scan) -> str:
    for entry in scan.refused:
        if entry.name == wanted:
            return f"model {wanted!r}: refused, {entry.reason}"
    known = listing(scan.by_name) or "none yet"
    near = nearest(wanted, scan.by_name)
    return f"model {wanted!r}: there is none of that name{near}. Available: {known}"


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
    wanted, version, alias = _parts(name)
    path = Path(name)
    try:
        if is_named(name, repository):
            _check_is_name(name, repository)
            # Of a thousand models, only the one that is named is loaded.
            budget = Budget(first=0)
            choice = ("", settings.policy, budget, settings.provider)
            library = Library(repository, *choice, name=settings.model_name)
            _check_form(name, library.current.available())
            # A name that is not known may be that of a view.
            while wanted not in known_names(library.current) and library.load_more():
                pass
            if alias is not None:
                _check_aliases(name, wanted, library.current.catalog.damaged)
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
    named = _of_folders(path)
    return servable if named is None else replace(servable, name=named[0], version=named[1])


def _of_folders(path: Path) -> tuple[str, str] | None:
    """Return the model and the version that the folders of a path name; `None` if they do not."""
    folder = path.resolve()
    folder = folder.parent if folder.name == FILE else folder
    if not (folder.name.isdecimal() and NAME.fullmatch(folder.parent.name)):
        return None
    return folder.parent.name, folder.name


def _parts(name: str) -> tuple[str, str | None, str | None]:
    """Return the model that a name names, and its version or alias, if the name has one."""
    model, *rest = re.split("[@/]", name, maxsplit=1)
    which = "".join(rest)
    return (model, None, which) if is_alias(which) else (model, which or None, None)


def is_named(name: str, repository: Path) -> bool:
    """Return whether a name is that of a model in the repository, and not a path.

    A model of the repository takes precedence over a file of the same name.
    """
    return _is_known(_parts(name)[0], repository) or not Path(name).exists()


def _is_known(model: str, repository: Path) -> bool:
    return NAME.fullmatch(model) is not None and (repository / model).is_dir()


def _check_is_name(name: str, repository: Path) -> None:
    """Check that a name can be that of a model, and is not a path at which nothing is.

    Raises:
        NoSuchModel: it is such a path; no model has to be loaded to look for a view of that name.
    """
    wanted, version, _ = _parts(name)
    path = Path(name)
    is_deep = "/" in name and (not NAME.fullmatch(wanted) or "/" in (version or ""))
    is_in_folder = "/" in name and path.parent.is_dir()
    if (is_deep or is_in_folder or name.endswith(".onnx")) and not _is_known(wanted, repository):
        there = [other.name for other in path.parent.glob("*") if other.exists()]
        near = nearest(path.name, there)
        raise NoSuchModel(f"{name}: there is no file or folder at that path{near}")


def _check_aliases(name: str, model: str, damaged: Iterable[Refused]) -> None:
    """Check that the file of a model's aliases could be read.

    Raises:
        NoSuchModel: it is damaged, so that an alias in it is not known.
    """
    for entry in damaged:
        if entry.name == model and entry.reason.startswith(ALIASES):
            raise NoSuchModel(f"{name}: model {model!r}: {entry.reason}")


def _check_form(name: str, known: Sequence[str]) -> None:
    """Check that a name does not have a version in another form than ours.

    Raises:
        NotFound: it has one, such as `triceps:2`.
    """
    model, _, version = name.partition(":")
    if model in known and version:
        meant, available = f"{model}@{version}", ", ".join(known)
        message = f"model {name!r}: there is none of that name (did you mean {meant!r}?)"
        raise NotFound(f"{message}. Available: {available}")
