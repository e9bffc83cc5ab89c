"""A model that was signed in any format there has ever been is served, as it was on that day.

`tests/fixtures/format-N.onnx` is a file that was written by the first commit whose `FORMAT` was N,
with every key that the format has.  None is ever written anew: a new format brings a new one.
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
# By format, the SHA-256 of its file.
DIGESTS = {1: "917a5190ce6ff2153af8b40f97a36837c482703887f6459599913872a10b16eb"}
ROW = {"insurance": {"smoker": "yes", "bmi": 12}, "fruit": {"length": 2.5}, "digit": [0, 1, 0, 9]}
FORMATS = pytest.mark.parametrize("number", DIGESTS, ids="format-{}".format)


def _content(number):
    return (FIXTURES / f"format-{number}.onnx").read_bytes()


def test_every_format_has_a_file():
    """The newest one too: what is written today is read for ever."""
    assert sorted(DIGESTS) == list(range(1, FORMAT + 1))
    assert {path.name for path in FIXTURES.iterdir()} == {f"format-{n}.onnx" for n in DIGESTS}


@FORMATS
def test_a_file_is_the_one_that_was_written_then(number):
    """Byte for byte; a file that today's code wrote would tell nothing of the code of then."""
    assert sha256(_content(number)).hexdigest() == DIGESTS[number]


@FORMATS
def test_it_loads_and_predicts_its_golden_rows(number):
    """To the last bit: its arithmetic is exact."""
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
def test_it_is_served_with_all_that_its_signature_says(number, tmp_path):
    """Features, defaults, vocabulary, labels, threshold, statistics, views and provenance."""
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
