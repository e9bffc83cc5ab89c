"""The signature of a trained file."""

import json
import sys

import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.model import Model  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, fit_spec  # noqa: E402  (after the check above)
from training import export  # noqa: E402  (after the check above)
from training import spec as specs  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


def test_the_signature_describes_the_model(everything):
    """The file has inputs, features, labels, thresholds, defaults, views and golden rows."""
    _, models, _ = everything
    signature = Model.load(models / "everything/1/model.onnx").signature

    assert list(signature.inputs) == ["people", "fruit", "picture"]
    assert {t.name for t in signature.inputs["people"].tensors} == {"people", "people.smoker"}
    smoker = next(f for f in signature.inputs["people"].features if f.name == "smoker")
    assert (smoker.vocabulary, smoker.default) == (("no", "yes"), "yes")
    assert signature.inputs["picture"].size == (4, 4)
    assert [(h.name, h.kind, h.labels, h.threshold) for h in signature.heads.values()] == [
        ("bought", "binary", ("no", "yes"), 0.4),
        ("which", "multiclass", ("apple", "banana", "cherry"), None),
        ("side", "multiclass", ("0", "1"), None),
        ("size", "regression", None, None),
        ("marks", "multilabel", ("ripe", "big"), 0.5),
    ]
    assert signature.models == {"tables": ("bought", "which")}
    assert signature.batch is None
    assert {len(rows) for rows in signature.golden.inputs.values()} == {5}
    assert list(signature.golden.outputs) == list(signature.heads)


def test_the_signature_has_the_provenance(everything):
    """The provenance has spec, seed, libraries, rows, epochs and scores, but no time or path."""
    path, models, done = everything
    provenance = Model.load(models / "everything/1/model.onnx").signature.provenance

    assert provenance["spec"] == "everything"
    assert provenance["spec_sha256"] == specs.load(path).digest
    assert (provenance["seed"], provenance["epochs"]) == (3, 2)
    assert provenance["rows"] == {"people.csv": 18, "fruits.csv": 14, "pictures.csv": 15}
    assert set(provenance["libraries"]) == {"keras", "numpy", "onnx", "tensorflow", "tf2onnx"}
    assert provenance["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    scores = provenance["scores"]
    assert list(scores) == ["bought", "which", "side", "size", "marks"]
    assert (scores["size"]["rows"], scores["size"]["held_out_rows"]) == (14, 4)
    assert set(scores["size"]) >= {"metric", "train", "held_out", "baseline"}
    assert f"{scores['size']['held_out']:.4f}" in done.stdout
    assert str(path.parent) not in json.dumps(provenance)


def test_no_path_of_this_machine_is_in_the_file(tmp_path):
    """The provenance has only the name of a CSV file with an absolute path."""
    text = SMALL.replace('"people.csv"', f'"{tmp_path}/people.csv"')
    loaded, seen, fitted = fit_spec(tmp_path, text)

    content = export.export(loaded, fitted, seen).content

    assert Model.load(content).signature.provenance["rows"] == {"people.csv": 24}
    assert str(tmp_path).encode() not in content
