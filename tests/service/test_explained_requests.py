"""Explanations in native requests, under both executors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from service.signature import Feature, Head, Signature, Tensor, tabular
from tests.harness import graphs, small
from tests.harness.both_ways import BothWays
from tests.harness.small import F

ROW = {"insurance": [47, "yes", 20], "fruit": [1, 2.5], "digit": [0, 3, 2, 3]}
COLUMNS = {name: [value, value] for name, value in ROW.items()}
SHAPLEY = {"method": "shapley"}


def alone():
    """Return a model whose graph takes one row in a run: y = 2 a + 3 b + a b."""
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["line"]),
        helper.make_node("ReduceProd", ["x", "last"], ["product"], keepdims=1),
        helper.make_node("Add", ["line", "product"], ["y"]),
    ]
    constants = {"weights": np.float32([[2], [3]]), "last": np.array([1])}
    shapes = [("x", F, [1, 2])], [("y", F, [1, 1])]
    return small.model(nodes, *shapes, constants).SerializeToString()


def vague():
    """Return a model without a head that can be explained: pair = (a, b); total = a + b."""
    nodes = [
        helper.make_node("Identity", ["table"], ["pair"]),
        helper.make_node("ReduceSum", ["table", "last"], ["total"], keepdims=1),
    ]
    outputs = [("pair", F, ["n", 2]), ("total", F, ["n", 1])]
    made = small.model(nodes, [("table", F, ["n", 2])], outputs, {"last": np.array([1])})
    table = tabular("table", [Feature("a", ""), Feature("b", "", default=1)])
    heads = [
        Head("pair", "tensor", Tensor("pair", "float32", (2,))),
        Head("total", "regression", Tensor("total", "float32", (1,))),
    ]
    return small.signed(made, Signature({"table": table}, {head.name: head for head in heads}))


def bare():
    """Return a model whose table has no references: total = a + b; double = 2 fruit."""
    nodes = [
        helper.make_node("ReduceSum", ["table", "last"], ["total"], keepdims=1),
        helper.make_node("Add", ["fruit", "fruit"], ["double"]),
    ]
    inputs = [("table", F, ["n", 2]), ("fruit", F, ["n", 1])]
    outputs = [("total", F, ["n", 1]), ("double", F, ["n", 1])]
    made = small.model(nodes, inputs, outputs, {"last": np.array([1])})
    table = tabular("table", [Feature("a", ""), Feature("b", "", default=1)])
    heads = [
        Head(name, "regression", Tensor(name, "float32", (1,))) for name in ("total", "double")
    ]
    entries = {"table": table, "fruit": small.entry("fruit", (1,))}
    return small.signed(made, Signature(entries, {head.name: head for head in heads}))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Serve some models, whose answers are computed by hand here, both ways."""
    models = tmp_path_factory.mktemp("models")
    made = {
        "risky": small.three(models={"fruity": ["size", "tags"]}),
        "set": small.three(),
        "steps": small.steps(),
        "named": small.steps("explanations"),
        "plant": small.plant(),
        "alone": alone(),
        "joint": small.joint(),
        "fixed": graphs.fixed(),
        "large": small.same(F, (784,)),
        "bare": bare(),
        "vague": vague(),
    }
    for name, content in made.items():
        small.put(models, name, 1, content)
    (models / "set" / "settings.toml").write_text("alone = true\n")
    ways = BothWays(models)
    yield ways
    ways.stop()


def answer_to(both, body, model="risky"):
    """Return the answer to a body of a model."""
    asked = both.post(f"/models/{model}/predict", body)
    assert asked.status == 200, asked.content
    return asked.said


def error_of(both, body, model="risky"):
    """Return the status and the message of an error."""
    asked = both.post(f"/models/{model}/predict", body)
    return asked.status, asked.said["error"]


def test_a_row_is_answered_with_the_part_of_each_feature(both):
    """A head lists the features that it needs; a head with several numbers is left out."""
    answer = answer_to(both, {"instances": [ROW], "explain": True})
    [row] = answer["predictions"]

    assert row["size"] == {"value": 3.5}
    assert row["explanations"].keys() == {"risk", "size", "digits"}
    assert row["explanations"]["size"] == {
        "reference": 3.5,
        "answer": 3.5,
        "parts": {"fruit.weight": -0.5, "fruit.length": 0.5},
    }
    # The reference of a picture without statistics is black.
    assert row["explanations"]["digits"] == {
        "label": "one",
        "reference": 0.0,
        "answer": 3.0,
        "parts": {"digit[0:2,0:2]": 3.0},
    }
    # The reference: 38 years, no smoker, and the mean of the BMI, 30.
    risk = row["explanations"]["risk"]
    at = [1 / (1 + np.exp(-x)) for x in (17, 8, 8, 7, 27)]
    assert (risk["label"], risk["answer"]) == ("high", row["risk"]["value"])
    assert risk["reference"] == pytest.approx(at[1], abs=1e-6)
    names = ("insurance.age", "insurance.smoker", "insurance.bmi")
    expected = {name: at[0] - other for name, other in zip(names, at[2:], strict=True)}
    assert risk["parts"] == pytest.approx(expected, abs=1e-6)
    assert answer["explained"] == {"method": "occlusion", "runs": 8}


def test_columns_are_answered_with_a_list_of_explanations(both):
    """The answers themselves are those of a request without `explain`."""
    plain = answer_to(both, {"inputs": COLUMNS})
    answer = answer_to(both, {"inputs": COLUMNS, "explain": {"heads": ["size"]}})
    [row] = answer_to(both, {"instances": [ROW], "explain": {"heads": ["size"]}})["predictions"]

    assert answer.pop("explanations") == [row["explanations"]] * 2
    assert answer.pop("explained") == {"method": "occlusion", "runs": 7}
    assert answer == plain


def test_shapley_values_share_what_two_features_do_together(both):
    """The product of the two is shared equally, and the parts add up."""
    answer = answer_to(both, {"instances": [[5, 7]], "explain": SHAPLEY}, "alone")
    of_row = answer["predictions"][0]["explanations"]["y"]

    assert of_row == {
        "reference": 0.0,
        "answer": 66.0,
        "parts": {"x[0]": 10 + 17.5, "x[1]": 21 + 17.5},
    }
    assert answer["explained"] == {"method": "shapley", "exact": True, "runs": 4}


@given(st.lists(st.tuples(*[st.floats(-9, 9, width=32)] * 2), min_size=1, max_size=40))
def test_the_explanation_of_a_row_does_not_depend_on_other_rows(both, rows):
    """Nor on their number, which decides how they are run."""
    instances = [{"fruit": list(row)} for row in rows]
    body = {"heads": ["size"], "explain": SHAPLEY}
    together = answer_to(both, {"instances": instances, **body})["predictions"]
    last = answer_to(both, {"instances": instances[-1:], **body})["predictions"]

    assert together[-1:] == last
    for (weight, length), row in zip(rows, together, strict=True):
        expected = {"fruit.weight": weight - 1.5, "fruit.length": length - 2}
        assert row["explanations"]["size"]["parts"] == pytest.approx(expected, abs=1e-5)


def test_a_missing_value_has_no_part(both):
    """It is at its default anyway, and is listed as imputed as ever."""
    row = {"fruit": [None, 3]}
    answer = answer_to(both, {"instances": [row], "heads": ["size"], "explain": True})

    parts = answer["predictions"][0]["explanations"]["size"]["parts"]
    assert parts == {"fruit.weight": 0.0, "fruit.length": 1.0}
    assert [entry["at"] for entry in answer["imputed"]] == ["instances[0].fruit[0]"]


def test_false_is_no_request_for_explanations(both):
    """The answer is that of a body without the key."""
    assert answer_to(both, {"instances": [ROW], "explain": False}) == answer_to(
        both, {"instances": [ROW]}
    )


def test_a_head_that_needs_a_feature_without_a_reference_is_left_out(both):
    """If it is named, the message has the feature, and what records a reference."""
    row = {"table": [1, 2], "fruit": [3]}

    answer = answer_to(both, {"instances": [row], "explain": True}, "bare")
    error = error_of(both, {"instances": [row], "explain": {"heads": ["total"]}}, "bare")

    assert answer["predictions"][0]["explanations"].keys() == {"double"}
    assert error[0] == 400
    assert error[1] == (
        "explain.heads[0]: expected one of double, the requested heads that can be explained, "
        'received "total", which cannot be, since table.a has neither a default nor a mean; '
        "`triceps sign FILE --default table.a=VALUE` records one"
    )


@pytest.mark.parametrize(
    ("explain", "problems"),
    [
        pytest.param(None, [("explain", "null")], id="null"),
        pytest.param("yes", [("explain", '"yes"')], id="text"),
        pytest.param([], [("explain", "an empty list")], id="list"),
        pytest.param(
            {"head": ["size"], "method": "shapely", "samples": 0},
            [
                ("explain.head", 'the unknown key "head"'),
                ("explain.method", '"shapely"'),
                ("explain.samples", "0"),
            ],
            id="all at once",
        ),
        pytest.param({"samples": 1025}, [("explain.samples", "1025")], id="too many samples"),
        pytest.param({"samples": True}, [("explain.samples", "true")], id="no number"),
        pytest.param({"method": ["shapley"]}, [("explain.method", "a list of 1")], id="no text"),
        pytest.param({"heads": []}, [("explain.heads", "an empty list")], id="no heads"),
        pytest.param({"heads": "size"}, [("explain.heads", '"size"')], id="a head in no list"),
        pytest.param(
            {"heads": ["size", "size", "siez", 1, [2], "tags"]},
            [
                ("explain.heads[1]", '"size" again'),
                ("explain.heads[2]", '"siez"'),
                ("explain.heads[3]", "1"),
                ("explain.heads[4]", "a list of 1"),
                (
                    "explain.heads[5]",
                    '"tags", which cannot be, since it has several numbers',
                ),
            ],
            id="heads",
        ),
        pytest.param({"heads": ["size"] * 999}, [("explain.heads", "a list of 999")], id="many"),
        pytest.param(
            {"heads": ["x"] * 99}, [(f"explain.heads[{i}]", '"x"') for i in range(19)], id="full"
        ),
    ],
)
def test_all_that_is_wrong_with_a_request_for_explanations_is_said(both, explain, problems):
    """Each problem has its place, beside those of the rows."""
    asked = both.post("/models/risky/predict", {"instances": [{}], "explain": explain})

    assert asked.status == 400
    found = [(entry["at"], entry["received"]) for entry in asked.said["problems"]]
    assert found[: len(problems)] == problems
    assert len(found) > len(problems)  # the row has nothing without a default


def test_a_slip_of_the_hand_is_recognized(both):
    """The message has the right name."""
    body = {"instances": [ROW], "explain": {"method": "shapely", "heads": ["siez"], "hends": []}}
    asked = both.post("/models/risky/predict", body)

    expected = " ".join(entry["expected"] for entry in asked.said["problems"])
    for name in ("shapley", "size", "heads"):
        assert f"did you mean '{name}'?" in expected


def test_heads_that_are_not_requested_are_not_explained(both):
    """They are neither answered nor run."""
    body = {"instances": [{"fruit": [1, 2]}], "heads": ["size"], "explain": True}

    answer = answer_to(both, body)
    status, error = error_of(both, {**body, "heads": ["tags"]})

    assert answer["predictions"][0]["explanations"].keys() == {"size"}
    assert status == 400
    assert error.startswith("explain: expected a head that can be explained among tags, received")
    assert error_of(both, {**body, "explain": {"heads": ["risk"]}})[0] == 400


def test_the_reasons_are_those_of_the_named_heads(both):
    """If no head can be explained, the message is about those that were asked about."""
    body = {"instances": [{"table": [1, 2]}], "heads": ["pair", "total"]}

    status, error = error_of(both, {**body, "explain": {"heads": ["total"]}}, "vague")

    assert status == 400
    assert "received none: total cannot be, since table.a has neither" in error
    every = error_of(both, {**body, "explain": True}, "vague")[1]
    assert "received none: pair cannot be, since it has several numbers; total cannot be" in every


def test_models_whose_rows_cannot_be_changed_one_by_one_are_refused(both):
    """Rows of a joint model depend on each other; a whole tensor has no rows."""
    joint = error_of(both, {"instances": [[1, 2]], "explain": True}, "joint")
    whole = error_of(both, {"inputs": [1, 2], "explain": True}, "fixed")

    assert joint[0] == whole[0] == 400
    assert joint[1].startswith(
        "explain: expected a model whose rows do not depend on each other, received a joint one: "
    )
    assert "takes no rows" in whole[1]


@pytest.mark.parametrize("explain", [True, SHAPLEY], ids=["occlusion", "shapley"])
def test_a_model_that_runs_requests_whole_is_explained_as_any_other(both, explain):
    """All runs of a request are then one run, of which there may be fewer."""
    body = {"instances": [ROW] * 20, "explain": explain}
    as_usual, whole = answer_to(both, body), answer_to(both, body, "set")

    assert whole["predictions"] == as_usual["predictions"]
    status, error = error_of(both, {**body, "instances": [ROW] * 700}, "set")
    assert status == 413
    assert error.startswith("explain: expected at most 4096 runs of this model in one request")


def test_a_view_is_explained_by_its_own_heads(both):
    """It has the heads and the inputs of the view alone."""
    answer = answer_to(both, {"instances": [{"fruit": [1, 2.5]}], "explain": True}, "fruity")

    [row] = answer["predictions"]
    assert row["explanations"].keys() == {"size"}
    assert answer["explained"]["runs"] == 4


@pytest.mark.parametrize(
    ("length", "names"),
    [(3, ["x[0]", "x[1]", "x[2]"]), (128, [f"x[{i}:{i + 2}]" for i in range(0, 128, 2)])],
)
def test_rows_of_any_length_have_the_features_of_their_own_length(both, length, names):
    """Each value is one if they are few; otherwise each block."""
    answer = answer_to(both, {"instances": [list(range(length))], "explain": True}, "steps")
    parts = answer["predictions"][0]["explanations"]["y"]["parts"]

    assert list(parts) == names
    assert sum(parts.values()) == sum(range(length))


def test_a_head_of_the_name_of_explanations_is_explained_by_column(both):
    """By row, it would stand where they do."""
    row = [1, 2]

    refused = error_of(both, {"instances": [row], "explain": True}, "named")
    answer = answer_to(both, {"inputs": [row], "explain": True}, "named")

    assert refused[0] == 400
    assert refused[1].startswith(
        'instances: expected rows by column, as "inputs", since a head has'
    )
    assert answer["outputs"] == {"explanations": [3.0]}
    assert answer["explanations"][0]["explanations"]["answer"] == 3.0


def test_too_many_runs_are_refused_before_they_are_made(both):
    """The message says how many they would be, and the way out."""
    status, error = error_of(both, {"instances": [ROW] * 2000, "explain": SHAPLEY})

    assert status == 413
    assert error == (
        "explain: expected at most 65536 runs of this model in one request, received 2000 rows of "
        "63 runs, 126001 in all: ask in several requests, or for fewer heads"
    )
