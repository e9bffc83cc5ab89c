"""The conversion to ONNX, which is tried before the fit."""

import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.model import Model  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, fit_spec, run  # noqa: E402  (after the check above)
from training import build, export, quiet  # noqa: E402  (after the check above)
from training.errors import SpecError  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


def test_a_layer_that_does_not_convert_is_refused_before_the_fit(tmp_path):
    """A layer without an ONNX counterpart is named at once, and not after an hour of training."""
    text = SMALL.replace(
        '[heads.bought]\nafter = "h"',
        '[layers.words]\nafter = "people.smoker"\n'
        'TextVectorization = { output_mode = "multi_hot" }\n'
        '[layers.flat]\nafter = "words"\nFlatten = {}\n'
        '[heads.bought]\nafter = ["h", "flat"]',
    )
    path = tiny.write(tmp_path, text, people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError)
    message = str(done.exception)
    assert message.startswith(
        f"{path}: cannot be exported: layer 'words': ONNX has no counterpart of"
    )
    assert "epoch" not in done.stderr


def test_an_error_of_tf2onnx_is_reported_before_the_fit(tmp_path, monkeypatch):
    """An exception of tf2onnx is reported in one line, without stack frames."""

    def fail(*_, **__):
        raise ValueError(
            'in user code:\n\n    File "/somewhere/inside.py", line 1, in call\n\n'
            "    ValueError: Negative dimension [[{{node somewhere}}]]\n"
        )

    loaded, rows = tiny.load(tmp_path, SMALL, people=tiny.people())
    built = build.build(loaded, rows)
    monkeypatch.setattr(quiet.tf2onnx.convert, "from_keras", fail)

    with pytest.raises(SpecError) as raised:
        export.check(loaded, built, rows)

    assert str(raised.value) == (
        f"{loaded.path}: cannot be exported: tf2onnx cannot convert it:"
        " ValueError: Negative dimension; replace the layer that needs it by others of Keras"
    )


def test_layers_that_tf2onnx_alone_does_not_convert_are_exported(tmp_path):
    """Discretization and gelu are translated to ONNX here.

    Half precision has a larger tolerance.
    """
    layers = (
        '[layers.bins]\nafter = "people"\nDiscretization = { num_bins = 3 }\n'
        '[layers.bent]\nafter = "bins"\n'
        'Dense = { units = 3, activation = "gelu", dtype = "mixed_float16" }\n'
        '[heads.bought]\nafter = ["h", "bent"]'
    )
    text = SMALL.replace('[heads.bought]\nafter = "h"', layers)
    loaded, seen, fitted = fit_spec(tmp_path, text)

    verified = export.export(loaded, fitted, seen)

    assert 0 < verified.differences["bought"] < 0.01
    assert Model.load(verified.content).check_golden(0) == 0
