"""What the documents show in Python runs with the clients it is for, and prints what is said."""

import os
import warnings

import pytest

from tests.harness import documents
from tests.harness.serving import Server

# Before it is imported: mlflow would tell its makers that it was.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

SHOWN = [
    pytest.param(code, id=f"protocols-{i}")
    for i, code in enumerate(documents.blocks(documents.PAGES["docs/protocols.md"], "python"))
]


@pytest.fixture(scope="module", name="port")
def _port(tmp_path_factory):
    """Where the models that come with it are served; the service ends as it is told to."""
    folder = tmp_path_factory.mktemp("served")
    with Server("--models", documents.ROOT / "models", folder=folder) as server:
        server.until_alive()
        yield server.port
        assert server.end()[0] == 0


@pytest.mark.parametrize("code", SHOWN)
def test_what_is_shown_prints_what_is_said(code, port, capsys):
    """Its last line is a comment that has it."""
    said = code.rstrip().rpartition("\n# ")[2]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow warns of itself
        exec(code.replace("8080", f"{port}"), {})  # noqa: S102 - it is our own

    documents.check_same(capsys.readouterr().out.strip(), said)


def test_every_client_is_shown():
    """Those that nobody here wrote, and which are tested here."""
    text = "\n".join(parameter.values[0] for parameter in SHOWN)

    assert all(f"from {client}" in text for client in ("tritonclient", "kserve", "mlflow"))
