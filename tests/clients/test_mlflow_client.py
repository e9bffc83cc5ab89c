"""MLflow's own scoring client against a running service."""

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests

from service import __version__
from tests.harness import small
from tests.harness.serving import Server

# Set before the import, which would otherwise report it to the makers of mlflow.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a warning of mlflow about itself
    from mlflow.pyfunc.scoring_server import client
    from mlflow.utils.proto_json_utils import dump_input_data

FRAME = pd.DataFrame(
    {
        "insurance.age": [30, np.nan],
        "insurance.smoker": ["no", None],
        "insurance.bmi": [30.0, 22.0],
        "fruit.weight": [1, 2],
        "fruit.length": [1, 0.5],
        "digit": [[0, 1, 0, 9], [3, 2, 1, 0]],
    },
    index=["first", "second"],
)
EXPECTED = [
    {"risk": [0.5], "size": [2.0], "digits": [0.0, 1.0, 0.0], "tags": [0.5, 0.5]},
    {"risk": [0.5], "size": [2.5], "digits": [3.0, 2.0, 1.0], "tags": [0.7310586, 0.3775407]},
]


@contextlib.contextmanager
def _served(folder: Path, content: bytes) -> Iterator[client.ScoringServerClient]:
    """Return MLflow's client of a `triceps serve` with one model."""
    small.put(folder / "models", "model", 1, content)
    with Server("--workers", 1, folder=folder) as server:
        asking = client.ScoringServerClient(server.host, server.port)
        asking.wait_server_ready(timeout=20, scoring_server_proc=server.process)
        yield asking


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Return a client of a model with three inputs and four heads."""
    with _served(tmp_path_factory.mktemp("three"), small.three()) as served:
        yield served


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Return a client of a model that returns its only input."""
    with _served(tmp_path_factory.mktemp("image"), small.same(small.F, (4,))) as served:
        yield served


def test_a_frame_is_scored(three):
    """Missing values of a frame arrive as NaN and take their defaults."""
    assert "NaN" in dump_input_data(FRAME)
    answer = three.invoke(FRAME)

    assert answer == {"predictions": EXPECTED}
    assert list(answer.get_predictions().columns) == ["risk", "size", "digits", "tags"]


def test_a_frame_may_come_with_empty_params(three):
    """Empty params are accepted, and others are refused by name."""
    assert three.invoke(FRAME, params={}) == {"predictions": EXPECTED}
    with pytest.raises(Exception, match=r"error code 400.*params\.temperature: expected no"):
        three.invoke(FRAME, params={"temperature": 1})


def test_a_list_of_records_is_scored(three):
    """The client sends records as `inputs`, and SageMaker as `instances`."""
    records = [
        {"insurance": {"bmi": 30, "age": 30}, "fruit": [1, 1], "digit": [[0, 1], [0, 9]]},
    ]

    assert three.invoke(records) == {"predictions": EXPECTED[:1]}
    body = dump_input_data(records, inputs_key="instances")
    assert three.invoke(body) == {"predictions": EXPECTED[:1]}


def test_the_records_of_a_frame_are_scored(three):
    """The client may send a frame as `dataframe_records`."""
    records = FRAME.to_dict(orient="records")

    assert three.invoke(json.dumps({"dataframe_records": records})) == {"predictions": EXPECTED}


def test_a_frame_may_come_as_csv(three):
    """A CSV from pandas, with lists in cells, is scored."""
    text = FRAME.to_csv(index=False)
    headers = {"Content-Type": "text/csv"}
    answer = requests.post(f"{three.url_prefix}/invocations", text, headers=headers, timeout=10)

    assert answer.json() == {"predictions": EXPECTED}


def test_an_array_is_scored(image):
    """An array may be sent as rows, or as a frame."""
    array = np.float32([[1, 2, 3, 4], [0.93, 6, 7, 8]])

    for data in (array, pd.DataFrame(array.astype(float))):
        answer = image.invoke(data)

        predictions = answer.get_predictions("ndarray", "float32")
        assert np.array_equal(predictions, array)
        assert answer.get_predictions("dataframe").shape == (2, 4)


def test_health_and_version_are_answered(three):
    """The client's requests for health and version are answered."""
    three.ping()

    assert three.get_version() == __version__


def test_the_client_shows_the_error(three):
    """The client shows the whole error answer."""
    with pytest.raises(Exception, match=r"error code 400.*BAD_REQUEST.*did you mean 'age'"):
        three.invoke(FRAME.rename(columns={"insurance.age": "agee"}))
