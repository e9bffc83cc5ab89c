"""The Flask app over every sort of model, called directly and through the front."""

import pytest
from werkzeug.test import Client, TestResponse

from tests.harness import small
from tests.harness.apps import LIMIT, app_of, over_http
from tests.harness.served import Served


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Return a repository of every sort of model; `three` has versions 1, 2 and a broken 3."""
    models = tmp_path_factory.mktemp("models")
    for name, content in small.every().items():
        small.put(models, name, 1, content)
    views = {"risky": ["risk"], "fruity": ["tags", "size"]}
    small.put(models, "three", 2, small.three(2.0, models=views))
    small.put(models, "three", 3, b"no model")
    return models


@pytest.fixture(name="app", scope="module")
def _flask(models):
    return app_of(models, default_model="three")


@pytest.fixture(name="front", scope="module")
def _front(models):
    served = Served(models, max_body=LIMIT, default_model="three")
    yield Client(over_http(served.port), TestResponse)
    served.stop()


@pytest.fixture(name="client", params=["flask", "front"])
def _client(request, app):
    """Return a client for each way in: the Flask app, and the front on a real socket."""
    return app.test_client() if request.param == "flask" else request.getfixturevalue("front")
