"""The service: serves a model's heads over HTTP, from its `model.onnx` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from service.settings import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> Flask:
    """The Flask app, where `flask --app service run` and WSGI servers look for it.

    See `service.app.create_app`, which is imported only now: training needs this package too, and
    no Flask.
    """
    from service import settings as all_settings
    from service.app import create_app as create
    from service.repository.assembly import check_default

    settings = all_settings.load() if settings is None else settings
    app = create(settings)
    library, seconds = app.extensions["triceps"], settings.watch
    check_default(library.current, settings.default_model)
    # From the first request on: a server may load the app and fork, and a thread stays behind.
    app.before_request(lambda: library.watch(seconds))
    return app
