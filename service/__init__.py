"""The service, which serves the heads of a model over HTTP from its `model.onnx` alone.

In a notebook or a script, `load` gives the same answers without HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from flask import Flask

    from service.loaded.model import LoadedModel
    from service.settings import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """Return the Flask app; `flask --app service run` and WSGI servers look for it here.

    `service.app` is imported only now, since training imports this package and does without Flask.
    """
    from service.app import create_app as create

    return create(settings)


def load(model: str | PathLike[str], models: str | PathLike[str] | None = None) -> LoadedModel:
    """Load a model into this process, and return it: `load("models/triceps").predict(rows)`.

    No variable of the environment counts: neither the settings of a service nor its tokens.

    Args:
        model: the path of a model's folder, of a version's folder or of a file; a name in the
            repository, with a version or an alias behind a slash or without: `triceps`,
            `triceps/2`, `triceps/stable`; or the name of a view.
        models: the repository of a name; by default, the folder `models`.

    Raises:
        NoSuchModel: there is no such model, or it is refused; the message has the reason, and
            lists the models.
        SettingsError: the repository cannot be read.
    """
    from service.loaded.model import load as load_model

    return load_model(model, models)
