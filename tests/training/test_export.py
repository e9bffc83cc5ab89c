"""The export: problems that are found before the fit."""

import re

import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, run  # noqa: E402  (after the check above)
from training.errors import SpecError  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


# An embedding of 5 values, whereas ages go up to 59.
EMBEDDED = """[layers.vectors]
after = "people"
Embedding = { input_dim = 5, output_dim = 2 }
[layers.flat]
after = "vectors"
Flatten = {}
[heads"""


def test_a_model_that_cannot_answer_new_rows_is_refused_before_the_fit(tmp_path):
    """A look-up without a place for unseen strings would fail on the first of them."""
    text = SMALL.replace(
        '[heads.bought]\nafter = "h"',
        '[layers.words]\nafter = "people.smoker"\n'
        'StringLookup = { output_mode = "one_hot", num_oov_indices = 0 }\n'
        '[heads.bought]\nafter = ["h", "words"]',
    )
    path = tiny.write(tmp_path, text, people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError)
    message = str(done.exception)
    assert message.startswith(f"{path}: cannot be exported: Keras does not answer new rows: ")
    assert "num_oov_indices" in message


def test_rows_that_the_graph_cannot_answer_are_refused_before_the_fit(tmp_path):
    """An Embedding too small for its column is refused with the spec and ONNX Runtime's message."""
    text = re.sub(r"(?s)\[layers\.n\].*\[heads", EMBEDDED, SMALL)
    path = tiny.write(tmp_path, text.replace('after = "h"', 'after = "flat"'), people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError), (done.output, done.exception)
    message = str(done.exception)
    assert message.startswith(f"{path}: layers: one of them (which one, ONNX Runtime does not say)")
    assert "the model has no answer for these values: " in message
    assert "epoch" not in done.stderr
