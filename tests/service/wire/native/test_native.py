"""The native format: how bodies in both forms become arrays, and arrays become answers."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.inference.model import Model
from service.signature import Feature, Head, Signature, Tensor, tabular
from service.wire import native
from service.wire.body import Imputed
from service.wire.labels import labels_of
from service.wire.native import Query
from tests.harness import fast_way, small
from tests.harness.decoded import both, problems, same

THREE = Model.load(small.three()).signature
PER_COLUMN = Model.load(small.per_column()).signature
PLANT = Model.load(small.plant()).signature
ROW = {"insurance": [47, "yes", 20], "fruit": [1, 2], "digit": [0, 1, 2, 3]}
ARRAYS = {
    "insurance": np.float32([[47, 20]]),
    "insurance.smoker": np.array([["yes"]], object),
    "fruit": np.float32([[1, 2]]),
    "digit": np.float32([[0, 1, 2, 3]]),
}
FOUR = "4 numbers, flat or as 2 x 2"
THREE_VALUES = "3 values (age, smoker, bmi), as a list or an object"
EITHER = 'either "instances" (by row) or "inputs" (by column)'
A_TABLE = "a list of at least one row, or an object with a list for each feature"
NO_BMI = "a number for bmi, which has no default"


_PATHS = {"plain": native.decode, "fast": fast_way.decode}
_path = {}


@pytest.fixture(autouse=True, scope="module", params=_PATHS)
def _either_path(request):
    """Decode with the fast reader and with the reference reader."""
    _path["decode"] = _PATHS[request.param]


def _decode(body, signature=THREE):
    """Decode a body for a fixture's model."""
    return _path["decode"](json.dumps(body).encode(), signature)


def _problems(body, signature=THREE):
    """Return the problems of a body as (at, expected, received) tuples."""
    return problems(_decode, body, signature)


def _both(**parts):
    """Return the same rows as a body by row and as a body by column."""
    return both(ROW, **parts)


@pytest.mark.parametrize(("body", "at"), _both())
def test_both_forms_are_the_same_arrays(body, at):
    """Both forms fill all inputs and ask for all heads unless the body names some."""
    request = _decode(body)

    assert same(request.arrays, ARRAYS)
    assert request.heads == ("risk", "size", "digits", "tags")
    assert request.by_row == ("instances" in body)
    assert request.imputed == []


@pytest.mark.parametrize(("body", "at"), _both(insurance={"age": 47, "smoker": "yes", "bmi": 20}))
def test_a_tabular_row_may_name_its_features(body, at):
    """In either form, a row may be an object of features."""
    assert same(_decode(body).arrays, ARRAYS)


@pytest.mark.parametrize(("body", "at"), _both(digit=[[0, 1], [2, 3]]))
def test_an_image_may_be_nested(body, at):
    """In either form, an image may be nested lists."""
    assert same(_decode(body).arrays, ARRAYS)


@pytest.mark.parametrize(("body", "at"), _both(insurance={"smoker": None, "bmi": 20}, fruit=...))
def test_defaults_stand_in_and_are_listed(body, at):
    """Absent inputs, absent features and nulls take defaults, listed in the order of the inputs."""
    request = _decode(body)

    assert request.imputed == [
        Imputed(at("insurance") + ".age", 38, "insurance.age"),
        Imputed(at("insurance") + ".smoker", "no", "insurance.smoker"),
        Imputed(at("fruit") + ".weight", 1.5, "fruit.weight"),
        Imputed(at("fruit") + ".length", 2, "fruit.length"),
    ]
    assert same(
        request.arrays,
        {
            **ARRAYS,
            "insurance": np.float32([[38, 20]]),
            "insurance.smoker": np.array([["no"]], object),
            "fruit": np.float32([[1.5, 2]]),
        },
    )


@pytest.mark.parametrize(("body", "at"), _both(insurance=[None, "maybe", 20]))
def test_a_null_in_a_list_takes_the_default_at_its_column(body, at):
    """A null takes the default of its column, and a text that training never saw stays a text."""
    request = _decode(body)

    assert request.imputed == [Imputed(at("insurance") + "[0]", 38, "insurance.age")]
    assert request.arrays["insurance.smoker"].tolist() == [["maybe"]]


@pytest.mark.parametrize(("body", "at"), _both(insurance={"age": 1}, digit=None))
def test_values_without_a_default_must_be_there(body, at):
    """A missing feature and a null image are problems at their own places."""
    assert _problems(body) == [
        (at("insurance") + ".bmi", NO_BMI, "nothing"),
        (at("digit"), FOUR, "null"),
    ]


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        pytest.param(
            {"instances": [{}, ROW, {}]},
            [
                ("instances[0].insurance.bmi", NO_BMI, "nothing"),
                ("instances[2].insurance.bmi", NO_BMI, "nothing"),
                ("instances[0].digit", FOUR, "nothing"),
                ("instances[2].digit", FOUR, "nothing"),
            ],
            id="by-row",
        ),
        pytest.param(
            {"inputs": {"fruit": [[1, 2], [3, 4]]}},
            [
                ("inputs.insurance", "2 rows, since it has no default", "nothing"),
                ("inputs.digit", "2 rows, since it has no default", "nothing"),
            ],
            id="by-column",
        ),
        pytest.param(
            {"inputs": {"fruit": 5, "digits": []}},
            [
                (
                    "inputs.digits",
                    "one of insurance, fruit, digit (did you mean 'digit'?)",
                    'the unknown input "digits"',
                ),
                ("inputs.fruit", A_TABLE, "5"),
                ("inputs.insurance", "a list of rows, since it has no default", "nothing"),
                ("inputs.digit", "a list of rows, since it has no default", "nothing"),
            ],
            id="by-column-without-any-rows",
        ),
    ],
)
def test_a_missing_input_without_defaults_is_named(body, problems):
    """A missing input is a problem of each row, or one problem for a column."""
    assert _problems(body) == problems


@pytest.mark.parametrize(
    ("heads", "inputs"),
    [
        pytest.param(["risk"], ["insurance", "insurance.smoker"], id="one"),
        pytest.param(["size", "tags"], ["fruit"], id="two-of-one-input"),
        pytest.param(["digits", "size"], ["fruit", "digit"], id="in-the-order-asked"),
    ],
)
def test_the_heads_of_a_request_need_their_own_inputs_only(heads, inputs):
    """Only inputs that the asked heads need are required and reach the model."""
    bodies = [
        {"instances": [{name: ROW[name] for name in inputs if name in ROW}]},
        {"inputs": {name: [ROW[name]] for name in inputs if name in ROW}},
        {"instances": [ROW]},
        {"inputs": {name: [value] for name, value in ROW.items()}},
    ]

    for body in bodies:
        request = _decode({**body, "heads": heads})

        assert request.heads == tuple(heads)
        assert same(request.arrays, {name: ARRAYS[name] for name in inputs})
        assert request.imputed == []


def test_an_unneeded_input_may_be_in_some_rows_and_imputes_nothing():
    """The answer lists no imputed values of an input that the asked heads do not need."""
    rows = [{"fruit": [1, 2]}, {"fruit": [3, 4], "insurance": {"bmi": 20}}]

    request = _decode({"instances": rows, "heads": ["size"]})

    assert same(request.arrays, {"fruit": np.float32([[1, 2], [3, 4]])})
    assert request.imputed == []


@pytest.mark.parametrize(("body", "at"), _both(digit=[1, 2, 3], insurance={"bmi": "x", "ages": 1}))
def test_an_unneeded_input_is_checked(body, at):
    """An input that the asked heads do not need is checked all the same.

    Otherwise a mistake would appear only when a client asks for all heads.
    """
    assert _problems({**body, "heads": ["size"]}) == [
        (
            at("insurance") + ".ages",
            "one of age, smoker, bmi (did you mean 'age'?)",
            'the unknown feature "ages"',
        ),
        (at("insurance") + ".bmi", "a number for bmi", '"x"'),
        (at("digit"), FOUR, "3 numbers"),
    ]


def test_an_unneeded_input_in_columns_lines_up_too():
    """An input that the asked heads do not need has as many rows as the others."""
    body = {"inputs": {"fruit": [[1, 2]], "digit": [[0, 1, 2, 3]] * 2}, "heads": ["size"]}

    assert _problems(body) == [("inputs.digit", "1 row, as inputs.fruit has", "2 rows")]


SOME = "a list of some of risk, size, digits, tags, or no such key"
ONE_OF = "one of risk, size, digits, tags"


@pytest.mark.parametrize(
    ("heads", "problems"),
    [
        pytest.param([], [("heads", SOME, "an empty list")], id="empty"),
        pytest.param(None, [("heads", SOME, "null")], id="null"),
        pytest.param("risk", [("heads", SOME, '"risk"')], id="text"),
        pytest.param({"risk": 1}, [("heads", SOME, "an object with 1 key")], id="object"),
        pytest.param(
            ["size", "sizes", 1, ["risk"], None],
            [
                ("heads[1]", f"{ONE_OF} (did you mean 'size'?)", '"sizes"'),
                ("heads[2]", ONE_OF, "1"),
                ("heads[3]", ONE_OF, "a list of 1"),
                ("heads[4]", ONE_OF, "null"),
            ],
            id="unknown",
        ),
        pytest.param(
            ["size", "tags", "size"], [("heads[2]", "each head once", '"size" again')], id="twice"
        ),
    ],
)
def test_heads_are_a_list_of_known_names(heads, problems):
    """A wrong `heads` is refused, and no input is reported missing because of it."""
    assert _problems({"instances": [{"fruit": [1, 2]}], "heads": heads}) == problems


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        pytest.param([], 'an object with "instances" or "inputs"', id="list"),
        pytest.param(None, 'an object with "instances" or "inputs"', id="null"),
        pytest.param("x", 'an object with "instances" or "inputs"', id="text"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body, problems):
    """The message names the keys that a body may hold."""
    received = {"[]": "an empty list", "null": "null", '"x"': '"x"'}[json.dumps(body)]

    assert _problems(body) == [("body", problems, received)]


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        pytest.param({}, [("body", EITHER, "neither")], id="neither"),
        pytest.param({"heads": ["size"]}, [("body", EITHER, "neither")], id="heads-alone"),
        pytest.param({"instances": [], "inputs": {}}, [("body", EITHER, "both")], id="both"),
        pytest.param(
            {"instance": [ROW], "heads": ["sise"]},
            [
                (
                    "instance",
                    "one of instances, inputs, heads, explain (did you mean 'instances'?)",
                    'the unknown key "instance"',
                ),
                ("heads[0]", f"{ONE_OF} (did you mean 'size'?)", '"sise"'),
                ("body", EITHER, "neither"),
            ],
            id="unknown-key",
        ),
        pytest.param(
            {"instances": [ROW], "a.b": 1},
            [('["a.b"]', "one of instances, inputs, heads, explain", 'the unknown key "a.b"')],
            id="unknown-key-with-a-dot",
        ),
        pytest.param(
            {"instances": [ROW], "\ud800": 1},
            [
                (
                    r'["\ud800"]',
                    "one of instances, inputs, heads, explain",
                    r'the unknown key "\ud800"',
                )
            ],
            id="lone-surrogate-key",
        ),
        *(
            pytest.param(
                {"instances": value},
                [("instances", "a list of at least one row", received)],
                id=f"instances-{received}",
            )
            for value, received in [
                ([], "an empty list"),
                (None, "null"),
                (ROW, "an object with 3 keys"),
                (5, "5"),
            ]
        ),
        *(
            pytest.param(
                {"inputs": value},
                [("inputs", "an object of inputs: insurance, fruit, digit", received)],
                id=f"inputs-{received}",
            )
            for value, received in [
                ({}, "an empty object"),
                (None, "null"),
                ([ROW], "a list of 1"),
                ("x", '"x"'),
            ]
        ),
        pytest.param(
            {"instances": [ROW, None, [1], 2]},
            [
                ("instances[1]", "an object of inputs: insurance, fruit, digit", "null"),
                ("instances[2]", "an object of inputs: insurance, fruit, digit", "a list of 1"),
                ("instances[3]", "an object of inputs: insurance, fruit, digit", "2"),
            ],
            id="rows-that-are-no-objects",
        ),
        pytest.param(
            {"instances": [ROW, {**ROW, "fruits": 1}]},
            [
                (
                    "instances[1].fruits",
                    "one of insurance, fruit, digit (did you mean 'fruit'?)",
                    'the unknown input "fruits"',
                )
            ],
            id="unknown-input-by-row",
        ),
        pytest.param(
            {"inputs": {**{name: [value] for name, value in ROW.items()}, "fruits": 1}},
            [
                (
                    "inputs.fruits",
                    "one of insurance, fruit, digit (did you mean 'fruit'?)",
                    'the unknown input "fruits"',
                )
            ],
            id="unknown-input-by-column",
        ),
        pytest.param(
            {
                "inputs": {
                    "insurance": [ROW["insurance"]] * 3,
                    "fruit": [],
                    "digit": [[1, 2, 3]] * 2,
                }
            },
            [
                ("inputs.fruit", A_TABLE, "an empty list"),
                ("inputs.digit", "3 rows, as inputs.insurance has", "2 rows"),
                ("inputs.digit[0]", FOUR, "3 numbers"),
                ("inputs.digit[1]", FOUR, "3 numbers"),
            ],
            id="columns-that-do-not-line-up",
        ),
        pytest.param(
            {"inputs": {"insurance": ROW["insurance"], "fruit": [1, 2], "digit": ROW["digit"]}},
            [
                ("inputs.fruit", "3 rows, as inputs.insurance has", "2 rows"),
                ("inputs.digit", "3 rows, as inputs.insurance has", "4 rows"),
                ("inputs.insurance[0]", THREE_VALUES, "47"),
                ("inputs.insurance[1]", THREE_VALUES, '"yes"'),
                ("inputs.insurance[2]", THREE_VALUES, "20"),
                ("inputs.fruit[0]", "2 values (weight, length), as a list or an object", "1"),
                ("inputs.fruit[1]", "2 values (weight, length), as a list or an object", "2"),
                *((f"inputs.digit[{i}]", FOUR, f"{i}, not in a list") for i in range(4)),
            ],
            id="a-row-for-a-column",
        ),
    ],
)
def test_the_error_names_all_problems_of_a_body(body, problems):
    """Each problem names its place, the expected value and the received value."""
    assert _problems(body) == problems


AGE = 'one of insurance, fruit, digit ("age" is a feature of input "insurance": '
AGE += 'send {"insurance": {"age": …}})'


@pytest.mark.parametrize(
    ("body", "at"),
    [
        pytest.param({"instances": [{**ROW, "age": 47}]}, "instances[0].age", id="by-row"),
        pytest.param(
            {"inputs": {**{name: [value] for name, value in ROW.items()}, "age": [47]}},
            "inputs.age",
            id="by-column",
        ),
    ],
)
def test_a_feature_in_the_place_of_an_input_is_told_where_it_belongs(body, at):
    """A table without the name of its input is a common mistake, and so are full names."""
    assert _problems(body) == [(at, AGE, 'the unknown input "age"')]

    full = json.loads(json.dumps(body).replace('"age"', '"insurance.age"'))
    expected = AGE.replace('"age" is', '"insurance.age" is')
    at = at.replace(".age", '["insurance.age"]')
    assert _problems(full) == [(at, expected, 'the unknown input "insurance.age"')]


def test_a_feature_of_several_inputs_is_told_all_of_them():
    """A name that two inputs share belongs to either."""
    entries = [tabular(name, [Feature("age", "", default=1)]) for name in ("wife", "husband")]
    head = Head("y", "tensor", Tensor("y", "float32", (1,)), inputs=("wife",))
    couple = Signature({entry.name: entry for entry in entries}, {"y": head})

    hint = '"age" is a feature of inputs "wife" and "husband": send {"wife": {"age": …}}'

    assert _problems({"instances": [{"age": 30}]}, couple) == [
        (
            "instances[0].age",
            f"one of wife, husband ({hint})",
            'the unknown input "age"',
        )
    ]


NAN = float("nan")


@pytest.mark.parametrize(
    ("body", "at"),
    _both(insurance={"age": NAN, "smoker": NAN, "bmi": NAN}, digit=[NAN, 1, 2, 3]),
)
def test_the_message_about_a_nan_says_what_to_send(body, at):
    """Python writes NaN for the missing values of pandas; JSON has null for them."""
    assert _problems(body) == [
        (at("insurance") + ".age", "a number for age, or null where it is missing", "NaN"),
        (at("insurance") + ".smoker", "text for smoker, or null where it is missing", "NaN"),
        (at("insurance") + ".bmi", NO_BMI, "NaN"),
        (at("digit") + "[0]", "a number", "NaN"),
    ]


def test_all_problems_of_all_rows_and_inputs_are_found_in_one_go():
    """The error lists the first twenty problems and counts all of them."""
    wrong = {"insurance": {"age": True, "bmi": "x"}, "fruit": [1], "digit": [1, 2, None, 4]}

    with pytest.raises(BadRequest) as caught:
        _decode({"instances": [wrong] * 10, "heads": ["risc"], "head": 1})

    assert caught.value.count == 42
    places = [problem.at for problem in caught.value.problems]
    assert places == ["head", "heads[0]"] + [
        f"instances[{i}].insurance.{name}" for i in range(9) for name in ("age", "bmi")
    ]
    assert str(caught.value) == (
        "head: expected one of instances, inputs, heads, explain (did you mean 'heads'?), "
        'received the unknown key "head" (and 41 more)'
    )


@pytest.mark.parametrize(
    ("body", "at"),
    [
        pytest.param({"instances": [[1, 2, "red"]]}, "instances[0]", id="rows"),
        pytest.param(
            {"instances": [{"height": 1, "plant": 2, "colour": "red"}]},
            "instances[0]",
            id="features",
        ),
        pytest.param({"instances": [{"plant": [1, 2, "red"]}]}, "instances[0].plant", id="by-name"),
        pytest.param(
            {"instances": [{"plant": {"height": 1, "plant": 2, "colour": "red"}}]},
            "instances[0].plant",
            id="features-by-name",
        ),
        pytest.param({"inputs": [[1, 2, "red"]]}, "inputs[0]", id="bare-column"),
        pytest.param(
            {"inputs": {"plant": [[1, 2, "red"]]}}, "inputs.plant[0]", id="column-by-name"
        ),
        pytest.param(
            {"inputs": [{"height": 1, "plant": 2, "colour": "red"}]}, "inputs[0]", id="bare-objects"
        ),
    ],
)
def test_a_single_input_takes_bare_rows(body, at):
    """Either form may leave out the name of a single input, even if a feature has that name."""
    request = _decode(body, PLANT)

    assert same(
        request.arrays,
        {"plant": np.float32([[1, 2]]), "plant.colour": np.array([["red"]], object)},
    )

    with_null = json.loads(json.dumps(body).replace("1,", "null,"))
    column = "[0]" if "[null" in json.dumps(with_null) else ".height"
    assert _decode(with_null, PLANT).imputed == [Imputed(at + column, 10, "plant.height")]


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        pytest.param(
            {"instances": [{}]},
            [
                ("instances[0].plant.plant", "a number for plant, which has no default", "nothing"),
                ("instances[0].plant.colour", "text for colour, which has no default", "nothing"),
            ],
            id="empty-object",
        ),
        pytest.param(
            {"instances": [{"plant": None, "colour": "red"}]},
            [("instances[0].plant", "a number for plant, which has no default", "null")],
            id="null-feature",
        ),
        pytest.param(
            {"instances": [{"heigth": 1, "plant": 2, "colour": "red"}]},
            [
                (
                    "instances[0].heigth",
                    "one of height, plant, colour (did you mean 'height'?)",
                    'the unknown feature "heigth"',
                )
            ],
            id="unknown-feature",
        ),
        pytest.param(
            {"inputs": [[1, 2]]},
            [
                (
                    "inputs[0]",
                    "3 values (height, plant, colour), as a list or an object",
                    "2 values",
                )
            ],
            id="bare-column",
        ),
        pytest.param(
            {"inputs": {"height": [1]}},
            [
                ("inputs.plant", "1 row, since it has no default", "nothing"),
                ("inputs.colour", "1 row, since it has no default", "nothing"),
            ],
            id="some-columns",
        ),
        pytest.param(
            {"inputs": {"plnt": [[1, 2, "red"]]}},
            [
                (
                    "inputs.plnt",
                    "one of plant (did you mean 'plant'?)",
                    'the unknown input "plnt"',
                ),
                ("inputs.plant", "a list of rows, since it has no default", "nothing"),
            ],
            id="unknown-input",
        ),
        pytest.param(
            {"instances": [5]},
            [("instances[0]", "3 values (height, plant, colour), as a list or an object", "5")],
            id="number",
        ),
    ],
)
def test_a_bare_row_that_is_wrong_is_named_without_its_input(body, problems):
    """A problem's place is a path in the body as the client wrote it."""
    assert _problems(body, PLANT) == problems


@pytest.mark.parametrize(
    ("row", "value"),
    [pytest.param(5, [5], id="bare"), pytest.param({"x": 5}, [5], id="by-name")],
)
def test_a_bare_row_of_a_rank_one_input_is_a_value(row, value):
    """A row of an input of rank one is a value without brackets."""
    scalar = Model.load(small.same(small.F, ())).signature

    assert same(_decode({"instances": [row]}, scalar).arrays, {"x": np.float32(value)})
    assert same(_decode({"inputs": value}, scalar).arrays, {"x": np.float32(value)})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            {"inputs": {"age": [30, 41.5], "visits": [2, 3], "city": ["Oslo", "Rome"]}},
            id="by-column",
        ),
        pytest.param(
            {"inputs": {"age": [[30], [41.5]], "visits": [2, 3], "city": [["Oslo"], ["Rome"]]}},
            id="some-in-brackets",
        ),
        pytest.param(
            {"inputs": {"age": [30, [41.5]], "visits": [2, 3], "city": [["Oslo"], "Rome"]}},
            id="mixed",
        ),
        pytest.param(
            {
                "instances": [
                    {"age": 30, "visits": 2, "city": "Oslo"},
                    {"age": 41.5, "visits": 3, "city": "Rome"},
                ]
            },
            id="by-row",
        ),
    ],
)
def test_an_input_of_one_value_takes_bare_values(body):
    """skl2onnx makes an input of one value for each column; a row is then a bare value."""
    request = _decode(body, PER_COLUMN)

    assert same(
        request.arrays,
        {
            "age": np.float32([[30], [41.5]]),
            "visits": np.array([[2], [3]]),
            "city": np.array([["Oslo"], ["Rome"]], object),
        },
    )


def test_a_bare_value_that_does_not_fit_is_named():
    """No bare value is converted, and `null` is none."""
    columns = {"age": [True, None, "3"], "visits": [2**63, 1.5, {}], "city": [1, ["a", "b"], None]}
    whole = f"a whole number from {-(2**63)} to {2**63 - 1}"

    assert _problems({"inputs": columns}, PER_COLUMN) == [
        ("inputs.age[0]", "a number", "true"),
        ("inputs.age[1]", "a number", "null"),
        ("inputs.age[2]", "a number", '"3"'),
        ("inputs.visits[0]", whole, str(2**63)),
        ("inputs.visits[1]", whole, "1.5"),
        ("inputs.visits[2]", whole, "an empty object"),
        ("inputs.city[1]", "1 text", "2 texts"),
        ("inputs.city[0]", "text", "1"),
        ("inputs.city[2]", "text", "null"),
    ]


def test_a_single_input_of_one_value_takes_a_list_of_them():
    """Neither the name of the only input nor brackets are needed."""
    one = Model.load(small.same(small.F, (1,))).signature

    for body in ({"instances": [5, 6]}, {"inputs": [5, 6]}, {"inputs": {"x": [5, [6]]}}):
        assert same(_decode(body, one).arrays, {"x": np.float32([[5], [6]])})


def test_odd_names_stand_in_brackets():
    """A place can be parsed even if names hold dots, slashes, colons, quotes or spaces."""
    odd = Model.load(small.odd_names()).signature

    assert _problems({"instances": [dict.fromkeys(small.ODD_NAMES, "?")]}, odd) == [
        ('instances[0]["a.b/c:0"]', "a number", '"?"'),
        (r'instances[0]["say \"x\""]', "a number", '"?"'),
        ('instances[0]["größe"]', "a number", '"?"'),
        ('instances[0]["two words"]', "a number", '"?"'),
    ]
    assert _problems({"inputs": {"a.b/c:1": []}, "heads": ["größe!"]}, odd) == [
        (
            'inputs["a.b/c:1"]',
            """one of a.b/c:0, say "x", größe, two words (did you mean 'a.b/c:0'?)""",
            'the unknown input "a.b/c:1"',
        ),
        ('inputs["größe"]', "a list of rows, since it has no default", "nothing"),
    ]


def _signature(*heads):
    """Return a signature with these heads."""
    return Signature({}, {head.name: head for head in heads})


def _head(name, kind, shape, labels=None, threshold=None, *, dtype="float32"):
    """Return a head of this kind."""
    return Head(name, kind, Tensor(name, dtype, shape), labels, threshold)


def _encode(signature, outputs, *, by_row, imputed=()):
    """Return the answer for some outputs as JSON."""
    request = Query({}, tuple(outputs), by_row, imputed)
    return orjson.loads(native.encode(request, "m", "3", signature, outputs))


def test_answers_come_in_the_form_of_the_request():
    """By row, each value has its label; by column, all values and all labels come together."""
    signature = _signature(
        _head("yes", "binary", (1,), ("no", "yes"), 0.5),
        _head("best", "multiclass", (2,), ("a", "b")),
        _head("size", "regression", (1,)),
        _head("where", "regression", (2,)),
    )
    outputs = {
        "yes": np.float32([[0.25], [0.75]]),
        "best": np.float32([[1, 0], [0, 1]]),
        "size": np.float32([[7], [8]]),
        "where": np.float32([[1, 2], [3, 4]]),
    }
    imputed = [Imputed("instances[0].age", 38, "x.age")]

    assert _encode(signature, outputs, by_row=True, imputed=imputed) == {
        "model": "m",
        "version": "3",
        "predictions": [
            {
                "yes": {"value": 0.25, "label": "no"},
                "best": {"value": [1.0, 0.0], "label": "a"},
                "size": {"value": 7.0},
                "where": {"value": [1.0, 2.0]},
            },
            {
                "yes": {"value": 0.75, "label": "yes"},
                "best": {"value": [0.0, 1.0], "label": "b"},
                "size": {"value": 8.0},
                "where": {"value": [3.0, 4.0]},
            },
        ],
        "imputed": [{"at": "instances[0].age", "value": 38}],
    }
    assert _encode(signature, outputs, by_row=False) == {
        "model": "m",
        "version": "3",
        "outputs": {
            "yes": [0.25, 0.75],
            "best": [[1.0, 0.0], [0.0, 1.0]],
            "size": [7.0, 8.0],
            "where": [[1.0, 2.0], [3.0, 4.0]],
        },
        "labels": {"yes": ["no", "yes"], "best": ["a", "b"]},
    }


def test_heads_are_answered_in_the_order_asked():
    """Heads come in the requested order, and a head without labels has no `label` key."""
    signature = _signature(_head("a", "tensor", (1,)), _head("b", "tensor", (1,)))

    answer = _encode(signature, {"b": np.ones((1, 1)), "a": np.ones((1, 1))}, by_row=False)

    assert list(answer["outputs"]) == ["b", "a"]
    assert list(answer) == ["model", "version", "outputs"]


@pytest.mark.parametrize(
    ("head", "rows", "labels"),
    [
        pytest.param(
            _head("h", "binary", (1,), ("no", "yes")),
            [[0.5], [np.nextafter(np.float32(0.5), np.float32(1))], [0.0]],
            ["no", "yes", "no"],
            id="binary-above-a-half",
        ),
        pytest.param(
            _head("h", "binary", (1,), ("no", "yes"), 0.25),
            [[0.25], [0.26]],
            ["no", "yes"],
            id="binary-above-its-threshold",
        ),
        pytest.param(
            _head("h", "binary", (1,), ("no", "yes"), 0.0),
            [[0.0], [0.001]],
            ["no", "yes"],
            id="threshold-zero",
        ),
        pytest.param(
            _head("h", "binary", (), ("no", "yes")), [0.2, 0.9], ["no", "yes"], id="binary-rank-one"
        ),
        pytest.param(
            _head("h", "multiclass", (3,), ("a", "b", "c")),
            [[0, 1, 2], [5, 5, 1], [-3, -2, -3]],
            ["c", "a", "b"],
            id="multiclass-the-first-likeliest",
        ),
        pytest.param(
            _head("h", "multilabel", (2,), ("a", "b"), 0.5),
            [[0.5, 0.5], [0.6, 0.5], [0.9, 0.9]],
            [[], ["a"], ["a", "b"]],
            id="multilabel-all-above",
        ),
        pytest.param(
            _head("h", "tensor", (2,), ("a", "b")), [[1, 0]], ["a"], id="foreign-with-labels"
        ),
        pytest.param(
            _head("h", "multiclass", (2,), ("a", "b"), dtype="int64"),
            np.array([[1, 2]]),
            ["b"],
            id="whole-numbers",
        ),
        pytest.param(
            _head("h", "binary", (1,), ("no", "yes"), dtype="bool"),
            np.array([[False], [True]]),
            ["no", "yes"],
            id="true-is-yes",
        ),
        pytest.param(
            _head("h", "multiclass", (2,), ("a", "b")),
            [[np.nan, 1], [np.inf, 1]],
            [None, "a"],
            id="NaN-has-no-class",
        ),
        pytest.param(
            _head("h", "binary", (1,), ("no", "yes")),
            [[np.nan], [1]],
            [None, "yes"],
            id="NaN-is-no-no",
        ),
        pytest.param(
            _head("h", "multilabel", (2,), ("a", "b")),
            [[np.nan, 1]],
            [None],
            id="NaN-has-no-labels",
        ),
    ],
)
def test_a_label_is_read_off_the_value(head, rows, labels):
    """As in Keras' metrics, labels are those above the threshold, or the likeliest one."""
    output = np.asarray(rows, None if isinstance(rows, np.ndarray) else np.float32)

    assert labels_of(head, output) == labels


@pytest.mark.parametrize(
    ("dtype", "shape", "output", "values"),
    [
        pytest.param("float32", (1,), np.float32([[1.5]]), [1.5], id="float32"),
        pytest.param("float16", (2,), np.float16([[1.5, -2]]), [[1.5, -2.0]], id="float16"),
        pytest.param("float64", (1,), np.array([[0.1]]), [0.1], id="float64-all-digits"),
        pytest.param("float32", (), np.float32([1, 2]), [1.0, 2.0], id="rank-one"),
        pytest.param(
            "float32", (2,), np.float32([[np.nan, np.inf]]), [[None, None]], id="no-JSON-numbers"
        ),
        pytest.param("bool", (2,), np.array([[True, False]]), [[True, False]], id="bool"),
        pytest.param("int64", (1,), np.array([[2**63 - 1]]), [2**63 - 1], id="int64"),
        pytest.param("uint64", (1,), np.array([[2**64 - 1]], "u8"), [2**64 - 1], id="uint64"),
        pytest.param("int8", (1,), np.int8([[-128]]), [-128], id="int8"),
        pytest.param(
            "string", (2,), np.array([["ü", ""]], object), [["ü", ""]], id="string-vector"
        ),
        pytest.param("string", (1,), np.array([["ü"]], object), ["ü"], id="string"),
        pytest.param(
            "float32",
            (2, 2),
            np.asfortranarray(np.float32([[[1, 2], [3, 4]]])),
            [[[1.0, 2.0], [3.0, 4.0]]],
            id="not-contiguous",
        ),
        pytest.param("float32", (None, 2), np.zeros((1, 0, 2), "f4"), [[]], id="an-axis-of-none"),
    ],
)
def test_every_dtype_is_an_answer(dtype, shape, output, values):
    """Numbers keep their digits, and a value that JSON cannot express is null."""
    signature = _signature(_head("h", "tensor", shape, dtype=dtype))

    by_column = _encode(signature, {"h": output}, by_row=False)
    by_row = _encode(signature, {"h": output}, by_row=True)

    assert by_column["outputs"] == {"h": values}
    assert by_row["predictions"] == [{"h": {"value": value}} for value in values]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["insurance", "fruit", "age", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"insurance": ANY, "fruit": ANY, "digit": ANY | st.just([0, 1, 2, 3])}
    )
    | ANY,
    max_size=3,
)


@given(
    ANY
    | st.fixed_dictionaries(
        {},
        optional={
            "instances": ROWS | ANY,
            "inputs": st.fixed_dictionaries(
                {}, optional={"insurance": ROWS | ANY, "fruit": ROWS, "digit": ROWS}
            )
            | ANY,
            "heads": st.lists(st.sampled_from(["risk", "size", "digits", "tags", "x"])) | ANY,
        },
    )
)
def test_any_json_is_a_request_or_its_problems(body):
    """The decoder raises nothing else, and every problem can be written as JSON."""
    for signature in (THREE, PLANT):
        try:
            request = _path["decode"](json.dumps(body).encode(), signature)
        except BadRequest as error:
            assert orjson.dumps([vars(p) for p in error.problems])  # noqa: PT017  one of two good ends
        else:
            rows = {len(array) for array in request.arrays.values()}
            assert len(rows) == 1


@given(
    data=st.data(),
    kind=st.sampled_from(["binary", "multiclass", "multilabel"]),
    threshold=st.sampled_from([0.1, 0.5, 0.7]),
)
def test_rows_are_labelled_alike_alone_and_together(data, kind, threshold):
    """The label of a row does not depend on the number of rows in its request."""
    width = 1 if kind == "binary" else 3
    score = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0, float("nan"), float("inf")])
    rows = data.draw(st.lists(st.lists(score, min_size=width, max_size=width), min_size=5))
    labels = ("no", "yes") if kind == "binary" else ("a", "b", "c")
    output = np.array(rows, np.float32)
    head = Head("h", kind, Tensor("h", "float32", (width,)), labels, threshold)

    together = labels_of(head, output)

    assert [labels_of(head, row[None])[0] for row in output] == together
