"""The place of the model that `service.load` is to load: a name in a repository, or a path.

    models/triceps                the newest version in the folder of a model that can serve
    models/triceps/stable         the version that an alias names, or of that number
    my_model.onnx                 a file
    triceps/2, models             a name in a repository, as `triceps predict` takes it

No variable of the environment counts, so that a notebook finds the same model on every machine.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from service.names import NAME
from service.repository.named_model import NoSuchModel
from service.repository.publish import FILE
from service.repository.scan import is_one_file, look

if TYPE_CHECKING:
    from os import PathLike

REPOSITORY = Path("models")


def place_of(
    model: str | PathLike[str], models: str | PathLike[str] | None = None
) -> tuple[str, Path]:
    """Return a name or a path for `open_model`, and the repository.

    Args:
        model: a name or a path.
        models: the repository of a name; by default, the folder `models`.

    Raises:
        NoSuchModel: there is neither the path nor the repository, or the path is that of a
            repository with several models.
    """
    text = os.fspath(model)
    repository = REPOSITORY if models is None else Path(models)
    wanted = text.partition("/")[0]
    if models is not None or (NAME.fullmatch(wanted) and (repository / wanted).is_dir()):
        if not repository.exists():
            raise NoSuchModel(_nothing(text, repository))
        return text, repository
    # Links are followed, since a repository is not served through links that lead out of it.
    path = Path(text).resolve()
    if _is_of_model(path):
        return path.name, path.parent
    if not path.exists() and _is_of_model(path.parent):
        return f"{path.parent.name}/{path.name}", path.parent.parent
    if path.is_dir() and not is_one_file(path):
        return _only(path), path
    if not path.exists() and not repository.exists():
        raise NoSuchModel(_nothing(text, repository))
    return text, repository


def _nothing(text: str, repository: Path) -> str:
    return (
        f"{text}: there is no such file or folder here, and no repository {repository}: expected "
        "the path of a model, or a name and the path of its repository"
    )


def _is_of_model(path: Path) -> bool:
    """Return whether a folder is that of a model: its folders are versions."""
    if not NAME.fullmatch(path.name) or not path.is_dir() or is_one_file(path):
        return False
    return any(version.name.isdecimal() and (version / FILE).exists() for version in path.iterdir())


def _only(path: Path) -> str:
    """Return the name of the only model in a repository.

    Raises:
        NoSuchModel: it has none, or several.
    """
    names = sorted(look(path).by_name)
    if len(names) != 1:
        received = f"a repository of {len(names)}: {', '.join(names)}" if names else "none in it"
        raise NoSuchModel(f"{path}: expected one model, or its name in front, received {received}")
    return names[0]
