"""The service: serves a model's heads over HTTP, from its `model.onnx` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from service.settings import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """Make the Flask app, where `flask --app service run` and WSGI servers look for it.

    `service.app.create_app` makes it, and is imported only now: training needs this package too,
    and no Flask.
    """
    from service.app import create_app as create

    return create(settings)
