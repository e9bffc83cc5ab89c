"""Plans of explanations: the rows that are run, and what follows from their answers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import TooLarge
from service.inference.batching import MOST_ROWS_WHOLE
from service.inference.lane import LEAST_WAITING
from service.inference.model import Model
from service.insight.explanations import Plan, features, plan, shapley
from service.wire import explanations, native
from tests.harness import small

ROOT = Path(__file__).parents[4]
THREE = Model.load(small.three())
ROW = {"insurance": [47, "yes", 20], "fruit": [1, 2.5], "digit": [0, 3, 2, 3]}


def planned(model, rows, explain, **more):
    """Return the plan of a native request, and the request."""
    query = native.interpret({"instances": rows, "explain": explain, **more}, model.signature)
    return Plan.of(model.signature, query, model), query


def explained(model, rows, explain, **more):
    """Return the outputs of rows, and their explanations by head."""
    made, query = planned(model, rows, explain, **more)
    outputs, found = made.fold(model.predict(made.expand(), query.heads))
    return outputs, found.heads


def test_each_run_has_some_features_at_their_reference():
    """The first run is the row itself, and the last of all is the reference, for all rows."""
    other = {**ROW, "fruit": [5, 6]}
    made, _ = planned(THREE, [ROW, other], {"heads": ["size"]})

    assert made.expand()["fruit"].tolist() == [
        *([1, 2.5], [1.5, 2.5], [1, 2]),
        *([5, 6], [1.5, 6], [5, 2]),
        [1.5, 2],
    ]
    # What no explained head needs is as it is in the row.
    assert made.expand()["digit"].tolist() == [ROW["digit"]] * 7
    assert made.expand()["insurance.smoker"].dtype == object


def test_texts_take_their_reference_too():
    """A categorical feature is one feature."""
    made, _ = planned(THREE, [ROW], {"heads": ["risk"]})

    assert made.features.names == ("insurance.age", "insurance.smoker", "insurance.bmi")
    assert made.expand()["insurance.smoker"].ravel().tolist() == ["yes", "yes", "no", "yes", "no"]


@given(
    st.lists(st.tuples(*[st.floats(-5, 5, width=32)] * 2), min_size=1, max_size=9),
    st.sampled_from(explanations.METHODS),
)
def test_the_outputs_of_the_rows_are_those_of_a_request_without_explanations(fruits, method):
    """The perturbed rows leave no trace in them, whatever rows they are among."""
    rows = [{**ROW, "fruit": list(fruit)} for fruit in fruits]
    outputs, found = explained(THREE, rows, {"method": method})
    plain = native.interpret({"instances": rows}, THREE.signature)

    for head, output in THREE.predict(plain.arrays, plain.heads).items():
        assert outputs[head].tolist() == output.tolist()
    size = found["size"]
    assert size.answers.tolist() == outputs["size"].ravel().tolist()
    assert np.allclose(size.parts, np.array(fruits) - [1.5, 2], atol=1e-5)


def test_the_answered_label_of_each_row_is_explained():
    """Rows of one request may have different ones; each has its own reference."""
    rows = [{"digit": [1, 2, 7, 0]}, {"digit": [9, 2, 7, 0]}]
    _, found = explained(THREE, rows, True, heads=["digits"])

    assert found["digits"].labels == ["two", "zero"]
    assert found["digits"].answers.tolist() == [7, 9]
    assert found["digits"].parts.tolist() == [[7], [9]]


def test_an_answer_that_is_no_number_has_no_label_and_no_parts():
    """They are null, and there is no warning."""
    logs = Model.load(small.logs())
    _, found = explained(logs, [[-1, -1], [1, 1]], {"method": "shapley"}, heads=["first", "best"])

    assert found["first"].labels == [None, "yes"]
    assert found["best"].labels[0] is None
    assert np.isnan(found["first"].parts[0]).any()


def test_the_parts_of_an_answer_are_counted(monkeypatch):
    """They are numbers of the answer, of which it may have so many."""
    monkeypatch.setattr(plan, "MOST_NUMBERS", 20)

    planned(THREE, [ROW], True)
    with pytest.raises(TooLarge, match="expected at most 20 parts in one answer, received 2 rows"):
        planned(THREE, [ROW] * 2, True)


@pytest.mark.parametrize(
    "figure",
    [
        f"One request may take up to {plan.MOST_RUNS:,} runs",
        f"whose rows and answers may have up to {plan.MOST_BYTES >> 20} MiB",
        f"A model that runs each request whole takes up to {MOST_ROWS_WHOLE} runs.",
        f"at most {LEAST_WAITING} explanations run at the same time",
        f"{explanations.SAMPLES} by default, 1 to {explanations.MOST_SAMPLES}",
        f"is {features.PATCH} \N{MULTIPLICATION SIGN} {features.PATCH} pixels",
        f"there are at most {features.MOST_PATCHES}",
        f"a row has at most {features.MOST_BLOCKS} of them",
    ],
)
def test_the_page_has_the_bounds_of_the_code(figure):
    """A bound that changes here changes there."""
    assert figure in (ROOT / "docs/explanations.md").read_text(encoding="utf-8")


def test_the_page_has_the_runs_of_the_model_that_comes_with_the_repository():
    """It says how many features a row has, and what they cost."""
    model = Model.load(ROOT / "models/triceps/1/model.onnx")
    row = {"insurance": [47], "fruit": [150, 7.1, 0.3], "digit": [0] * 784}
    occlusion, _ = planned(model, [row], True)
    sampled, _ = planned(model, [row], {"method": "shapley"})

    number = len(occlusion.features.names)
    expected = (
        f"A row of the model `triceps` in `models/` has {number} features, 49 of which are "
        f"patches: occlusion takes {occlusion.total} runs, and Shapley values take {sampled.total}."
    )
    page = (ROOT / "docs/explanations.md").read_text(encoding="utf-8")
    assert expected in page
    exact = max(n for n in range(20) if shapley.is_exact(n, explanations.SAMPLES))
    assert f"up to {exact} features, with the default `samples`" in page
