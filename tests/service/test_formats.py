"""Signatures of every past format, which are still served as when they were written.

`tests/fixtures/format-N.onnx` was written by the first commit whose `FORMAT` was N, with every key
of that format. The files are never rewritten: a new format adds a file.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from service.app import create_app
from service.inference.model import Model
from service.metadata import FORMAT
from service.settings import Settings

FIXTURES = Path(__file__).parents[1] / "fixtures"
# The SHA-256 of each format's file.
DIGESTS = {1: "917a5190ce6ff2153af8b40f97a36837c482703887f6459599913872a10b16eb"}
ROW = {"insurance": {"smoker": "yes", "bmi": 12}, "fruit": {"length": 2.5}, "digit": [0, 1, 0, 9]}
FORMATS = pytest.mark.parametrize("number", DIGESTS, ids="format-{}".format)


def _content(number):
    """Return the bytes of a format's file."""
    return (FIXTURES / f"format-{number}.onnx").read_bytes()


def test_every_format_has_a_file():
    """Every format has a file, including the newest."""
    assert sorted(DIGESTS) == list(range(1, FORMAT + 1))
    assert {path.name for path in FIXTURES.iterdir()} == {f"format-{n}.onnx" for n in DIGESTS}


@FORMATS
def test_a_file_is_the_one_that_was_written_then(number):
    """The file is unchanged; a file of the present code would not test the old format."""
    assert sha256(_content(number)).hexdigest() == DIGESTS[number]


@FORMATS
def test_a_file_loads_and_predicts_its_golden_rows(number):
    """The outputs are equal bit for bit, since the arithmetic of the model is exact."""
    model = Model.load(_content(number))

    golden = model.signature.golden
    dtypes = {t.name: t.dtype for entry in model.signature.inputs.values() for t in entry.tensors}
    arrays = {
        name: np.array(rows, dtypes[name] if dtypes[name] != "string" else object)
        for name, rows in golden.inputs.items()
    }
    answers = model.predict(arrays, tuple(golden.outputs))
    assert {name: array.tolist() for name, array in answers.items()} == golden.outputs


@FORMATS
def test_a_file_is_served_with_its_whole_signature(number, tmp_path):
    """The service uses its features, defaults, labels, threshold, views and provenance."""
    version = tmp_path / "old" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(_content(number))
    client = create_app(Settings(models=tmp_path)).test_client()

    answer = client.post("/predict", json={"instances": [ROW]})
    about = client.get("/models/old").json
    view = client.post("/models/fruity/predict", json={"instances": [{"fruit": [1, 2]}]})

    # risk = sigmoid(age 38 + bmi 12 - 60 + 10 for a smoker); size = weight 1.5 + length 2.5.
    assert answer.status_code == 200, answer.text
    [row] = answer.json["predictions"]
    assert row["risk"] == {"value": 0.5, "label": "low"}
    assert row["size"] == {"value": 4.0}
    assert row["digits"] == {"value": [0.0, 1.0, 0.0], "label": "one"}
    assert row["tags"]["label"] == ["heavy", "long"]
    assert [view.status_code, [*view.json["predictions"][0]]] == [200, ["tags", "size"]]
    features = {f["name"]: f for f in about["inputs"]["insurance"]["features"]}
    assert (features["age"]["default"], features["smoker"]["vocabulary"]) == (38, ["no", "yes"])
    assert about["inputs"]["digit"]["size"] == [2, 2]
    assert about["inputs"]["digit"]["mean"] == 1.5
    assert about["heads"]["risk"]["threshold"] == 0.5
    assert about["provenance"]["scores"] == {"risk": {"accuracy": 1.0}}
