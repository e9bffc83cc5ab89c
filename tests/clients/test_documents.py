"""The Python code of the documents, run with the clients for which it is written."""

import os
import subprocess
import sys

import pytest

from tests.harness import documents
from tests.harness.serving import Server

SHOWN = [
    pytest.param(code, id=f"protocols-{i}")
    for i, code in enumerate(documents.blocks(documents.PAGES["docs/protocols.md"], "python"))
]


@pytest.fixture(scope="module", name="port")
def _port(tmp_path_factory):
    """Yield the port of a service with the shipped models; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    with Server("--models", documents.ROOT / "models", folder=folder) as server:
        server.until_alive()
        yield server.port
        assert server.end()[0] == 0


@pytest.mark.parametrize("code", SHOWN)
def test_code_of_the_documents_prints_what_they_show(code, port):
    """The code prints what its last line, a comment, says."""
    expected = code.rstrip().rpartition("\n# ")[2]

    # Each in a process of its own, since two clients declare messages of the same names.
    done = subprocess.run(
        # A warning of mlflow is about itself.
        [sys.executable, "-W", "ignore", "-c", code.replace("8080", f"{port}")],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    documents.check_same(done.stdout.strip(), expected)


def test_every_client_is_shown():
    """The documents show every client that is tested here."""
    text = "\n".join(parameter.values[0] for parameter in SHOWN)

    assert all(f"from {client}" in text for client in ("tritonclient", "kserve", "mlflow"))
