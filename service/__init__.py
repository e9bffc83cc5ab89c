"""The service, which serves the heads of a model over HTTP from its `model.onnx` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from service.settings import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """Return the Flask app; `flask --app service run` and WSGI servers look for it here.

    `service.app` is imported only now, since training imports this package and does without Flask.
    """
    from service.app import create_app as create

    return create(settings)
