"""Verification: a file answers as Keras does, or is not published."""

import numpy as np
import onnx
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.errors import CannotRun  # noqa: E402  (after the check above)
from service.inference.model import Model  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, fit_spec, run  # noqa: E402  (after the check above)
from training import export  # noqa: E402  (after the check above)
from training.errors import ExportError  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


def test_the_graph_takes_any_number_of_rows(everything):
    """All inputs and outputs share one batch axis, and unseen strings are answered."""
    _, models, _ = everything
    model = Model.load(models / "everything/1/model.onnx")
    arrays = {
        "people": np.array([[30.0]], np.float32),
        "people.smoker": np.array([["never heard of"]], object),
        "fruit": np.array([[1.0, 2.0]], np.float32),
        "picture": np.full((1, 16), 9, np.float32),
    }

    one = model.predict(arrays, list(model.signature.heads))
    three = model.predict(
        {name: np.repeat(array, 3, axis=0) for name, array in arrays.items()},
        list(model.signature.heads),
    )

    for head, answer in one.items():
        assert np.allclose(three[head], np.repeat(answer, 3, axis=0), atol=1e-6)
    graph = onnx.load(models / "everything/1/model.onnx").graph
    axes = {
        axis.dim_param
        for value in (*graph.input, *graph.output)
        for axis in value.type.tensor_type.shape.dim[:1]
    }
    assert axes == {"batch"}


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        pytest.param(1.01, "head 'bought' does not answer its golden rows", id="other answers"),
        pytest.param(np.nan, "what is no finite number", id="no answers"),
    ],
)
def test_a_file_that_answers_otherwise_than_keras_is_not_published(
    tmp_path, monkeypatch, factor, expected
):
    """The finished bytes are compared with Keras, and the message names the head."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    predict = export.predict
    monkeypatch.setattr(
        export,
        "predict",
        lambda *arguments: {h: a * factor for h, a in predict(*arguments).items()},
    )

    done = run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, ExportError)
    assert expected in str(done.exception)
    assert str(done.exception).endswith("; nothing was published")
    assert not (tmp_path / "models").exists()


def test_a_difference_in_random_rows_alone_is_refused_too(tmp_path, monkeypatch):
    """Equal golden rows do not suffice; the message has head, rows and largest difference."""
    loaded, seen, fitted = fit_spec(tmp_path)
    predict = export.predict

    def wrong(built, arrays):
        answers = predict(built, arrays)
        rows = len(next(iter(arrays.values())))
        return {h: a + (0.001 if rows == 33 else 0) for h, a in answers.items()}

    monkeypatch.setattr(export, "predict", wrong)

    with pytest.raises(ExportError) as raised:
        export.export(loaded, fitted, seen)

    assert str(raised.value) == (
        "head 'bought' does not answer as Keras does: random rows in a batch of 1 differ by 0.001,"
        " expected at most 0.0001; nothing was published"
    )


def test_rows_that_the_finished_file_has_no_answer_for_are_refused(tmp_path, monkeypatch):
    """An error that the check before the fit missed prevents publication."""
    loaded, seen, fitted = fit_spec(tmp_path)

    def fail(*_):
        raise CannotRun("no answer for these values")

    monkeypatch.setattr(Model, "predict", fail)

    with pytest.raises(ExportError, match=r"no answer.*; nothing was published"):
        export.export(loaded, fitted, seen)
