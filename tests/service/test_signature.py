"""Signatures: dump and parse are inverse to each other, and wrong metadata are refused."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ModelRefused
from service.kinds import UNSEEN
from service.metadata import FORMAT, dump, parse
from service.signature import (
    DTYPES,
    Feature,
    Golden,
    Head,
    Input,
    Signature,
    Statistics,
    Tensor,
    holds,
    tabular,
)
from tests.harness import small


def reread(signature):
    """Return the signature as it is read from a file that holds `signature`."""
    inputs = [tensor for entry in signature.inputs.values() for tensor in entry.tensors]
    owners = {t.name: entry.name for entry in signature.inputs.values() for t in entry.tensors}
    needs = {
        head.name: [tensor for tensor, owner in owners.items() if owner in head.inputs]
        for head in signature.heads.values()
    }
    outputs = [head.tensor for head in signature.heads.values()]
    return parse(dump(signature), inputs, outputs, needs, signature.batch)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32)
STATISTICS = st.none() | st.builds(Statistics, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
LABELS = st.lists(NAMES, min_size=2, max_size=5, unique=True).map(tuple)


@st.composite
def inputs(draw, name):
    """Draw an input of this name."""
    kind = draw(st.sampled_from(["tabular", "image", "tensor"]))
    if kind == "tabular":
        features = [
            Feature(
                feature,
                "",
                default=draw(st.none() | (NAMES if words else NUMBERS)),
                vocabulary=draw(LABELS) if words else None,
                statistics=draw(STATISTICS),
                unseen=draw(st.sampled_from(UNSEEN)),
            )
            for feature in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
            for words in [draw(st.booleans())]
        ]
        return tabular(name, features)
    size = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=3)))
    values = size[0] * size[1] * (size[2] if len(size) > 2 else 1)
    if kind == "image":
        tensor = Tensor(name, "float32", (values,))
        return Input(name, kind, (tensor,), size=size, statistics=draw(STATISTICS))
    return Input(name, kind, (Tensor(name, draw(st.sampled_from(DTYPES)), size),))


@st.composite
def heads(draw, name, needs):
    """Draw a head of this name."""
    kind = draw(st.sampled_from(["binary", "multiclass", "multilabel", "regression", "tensor"]))
    labels = draw(st.none() | LABELS) if kind not in ("regression", "tensor") else None
    size = 1 if kind == "binary" else len(labels or "abc")
    if kind == "binary" and labels:
        labels = labels[:2]
    threshold = draw(st.none() | st.floats(0.01, 0.99)) if "b" in kind else None
    constant = st.lists(NUMBERS, min_size=size, max_size=size).map(tuple)
    return Head(
        name,
        kind,
        Tensor(name, "float32", (size,)),
        labels,
        threshold,
        needs,
        targets=draw(st.lists(NAMES, max_size=2).map(tuple)),
        constant=draw(st.just(()) | constant),
        statistics=draw(st.none() | STATISTICS),
    )


@st.composite
def made(draw):
    """Draw a signature in which no two inputs share a tensor."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    entries = {name: draw(inputs(name)) for name in names}
    tensors = [tensor.name for entry in entries.values() for tensor in entry.tensors]
    if len(set(tensors)) < len(tensors):
        entries = {names[0]: entries[names[0]]}
    drawn = {
        name: draw(heads(name, tuple(entries)))
        for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    }
    views = draw(st.dictionaries(NAMES, st.just(tuple(drawn)), max_size=2))
    provenance = draw(st.dictionaries(NAMES, NUMBERS | NAMES, max_size=2))
    return Signature(entries, drawn, views, provenance=provenance)


@given(made())
def test_a_dumped_signature_is_parsed_back(signature):
    """A signature survives the way through a file unchanged."""
    assert reread(signature) == signature


@given(made())
def test_a_signature_is_always_the_same_text(signature):
    """Equal signatures have equal JSON, so that equal models have equal files."""
    assert dump(reread(signature)) == dump(signature)


def test_golden_rows_come_back():
    """Golden rows survive the way through a file."""
    signature = small.three_signature(models={"view": ("risk", "size")})
    needs = {"risk": ("insurance",), "size": ("fruit",), "digits": ("digit",), "tags": ("fruit",)}
    heads = {n: replace(head, inputs=needs[n]) for n, head in signature.heads.items()}
    signature = replace(signature, heads=heads)

    assert reread(signature) == signature


def test_the_text_has_only_facts_that_the_graph_lacks():
    """The text has neither the dtypes and shapes of the graph nor unknown values."""
    signature = Signature(
        {"x": tabular("x", [Feature("age", "", default=38)])},
        {"y": Head("y", "binary", Tensor("y", "float32", (1,)), ("no", "ja, so"), 0.5, ("x",))},
        golden=Golden({"x": [[1.0]]}, {"y": [[0.25]]}),
        provenance={"rows": 14},
    )

    assert json.loads(dump(signature)) == {
        "format": 1,
        "inputs": {"x": {"kind": "tabular", "features": [{"name": "age", "default": 38}]}},
        "heads": {"y": {"kind": "binary", "labels": ["no", "ja, so"], "threshold": 0.5}},
        "models": {},
        "golden": {"inputs": {"x": [[1.0]]}, "outputs": {"y": [[0.25]]}},
        "provenance": {"rows": 14},
    }


def test_a_value_without_json_is_not_dumped():
    """NaN is refused, since other readers would reject the file."""
    signature = Signature({}, {}, provenance={"loss": float("nan")})

    with pytest.raises(ValueError, match="not JSON"):
        dump(signature)


GRAPH = {
    "inputs": [
        Tensor("x", "float32", (2,)),
        Tensor("x.colour", "string", (1,)),
        Tensor("n", "int8", (4,)),
    ],
    "outputs": [
        Tensor("y", "float32", (1,)),
        Tensor("z", "float32", (3,)),
        Tensor("w", "float32", (None,)),
        Tensor("t", "string", (1,)),
    ],
    "needs": {"y": {"x", "x.colour"}, "z": {"n"}, "w": {"n"}, "t": {"x"}},
}
GOOD = {
    "format": FORMAT,
    "inputs": {
        "x": {
            "kind": "tabular",
            "features": [
                {"name": "a", "default": 1.5},
                {"name": "colour", "default": "red", "vocabulary": ["red"]},
                {"name": "b"},
            ],
        },
        "n": {"kind": "image", "size": [2, 2], "min": 0, "max": 1, "mean": 0.5, "std": 0.1},
    },
    "heads": {
        "y": {"kind": "binary", "labels": ["no", "yes"], "threshold": 0.5},
        "z": {"kind": "multiclass", "labels": ["r", "g", "b"]},
        "t": {"kind": "tensor"},
    },
    "models": {"why": ["y"]},
    "golden": {
        "inputs": {"x": [[1, 2]], "x.colour": [["red"]], "n": [[1, 2, 3, 4]]},
        "outputs": {"y": [[0.5]]},
    },
}


def changed(path, value):
    """Return `GOOD` with another value at a path; `...` removes the key."""
    note = json.loads(json.dumps(GOOD))
    *steps, last = path
    place = note
    for step in steps:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return note


def test_a_note_and_its_graph_make_one_signature():
    """Names, dtypes and shapes come from the graph, and the rest from the metadata."""
    assert parse(json.dumps(GOOD), **GRAPH) == Signature(
        inputs={
            "x": Input(
                "x",
                "tabular",
                (Tensor("x", "float32", (2,)), Tensor("x.colour", "string", (1,))),
                (
                    Feature("a", "x", 0, 1.5),
                    Feature("colour", "x.colour", 0, "red", ("red",)),
                    Feature("b", "x", 1),
                ),
            ),
            "n": Input(
                "n",
                "image",
                (Tensor("n", "int8", (4,)),),
                size=(2, 2),
                statistics=Statistics(0, 1, 0.5, 0.1),
            ),
        },
        heads={
            "y": Head("y", "binary", GRAPH["outputs"][0], ("no", "yes"), 0.5, ("x",)),
            "z": Head("z", "multiclass", GRAPH["outputs"][1], ("r", "g", "b"), None, ("n",)),
            "w": Head("w", "tensor", GRAPH["outputs"][2], inputs=("n",)),
            "t": Head("t", "tensor", GRAPH["outputs"][3], inputs=("x",)),
        },
        models={"why": ("y",)},
        golden=Golden(GOOD["golden"]["inputs"], GOOD["golden"]["outputs"]),
    )


def test_a_foreign_graph_speaks_for_itself():
    """Without metadata, each tensor is an input or a head with its own name."""
    assert parse(None, **GRAPH, batch=1) == Signature(
        inputs={tensor.name: Input(tensor.name, "tensor", (tensor,)) for tensor in GRAPH["inputs"]},
        heads={
            "y": Head("y", "tensor", GRAPH["outputs"][0], inputs=("x", "x.colour")),
            "z": Head("z", "tensor", GRAPH["outputs"][1], inputs=("n",)),
            "w": Head("w", "tensor", GRAPH["outputs"][2], inputs=("n",)),
            "t": Head("t", "tensor", GRAPH["outputs"][3], inputs=("x",)),
        },
        batch=1,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "its metadata 'triceps' is not JSON: Expecting value", id="empty"),
        pytest.param('{"format": 1', "its metadata 'triceps' is not JSON: Exp", id="cut off"),
        pytest.param("[" * 100_000, "its metadata 'triceps' is not JSON: ", id="nested"),
        pytest.param(
            '{"format": 1, "x": NaN}',
            "its metadata 'triceps' is not JSON: NaN is no JSON",
            id="NaN",
        ),
        pytest.param(
            "[1]",
            "its metadata 'triceps' is not a signature: expected an object with a format",
            id="list",
        ),
        pytest.param(
            '{"inputs": {}}',
            "its metadata 'triceps' is not a signature: expected an object with a format",
            id="no format",
        ),
        pytest.param(
            '{"format": 2}',
            "its signature has format 2, and this Triceps reads format 1: sign it again, or serve "
            "it with the Triceps that signed it",
            id="a future format",
        ),
    ],
)
def test_metadata_that_are_no_signature_are_refused(text, reason):
    """Foreign or incomplete metadata are not taken for a signature."""
    with pytest.raises(ModelRefused) as refused:
        parse(text, **GRAPH)

    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        pytest.param(
            changed(["inputs", "n"], ...),
            "its signature and its graph disagree on the input 'n'",
            id="leaves out an input",
        ),
        pytest.param(
            changed(["inputs", "m"], {"kind": "tensor"}),
            "its signature and its graph disagree on the input 'm'",
            id="an input that the graph has not",
        ),
        pytest.param(
            changed(["inputs", "m"], {"kind": "tabular", "features": [{"name": "a"}]}),
            "its signature and its graph disagree on the input 'm'",
            id="a table that the graph has not",
        ),
        pytest.param(
            changed(["inputs", "x.colour"], {"kind": "tensor"}),
            "its signature and its graph disagree on the input 'x.colour'",
            id="one tensor for two inputs",
        ),
        pytest.param(
            changed(["heads", "v"], {"kind": "tensor"}),
            "its signature and its graph disagree on the head 'v'",
            id="a head that the graph has not",
        ),
        pytest.param(
            changed(["models", "why"], ["v"]),
            "its signature and its graph disagree on the head 'v'",
            id="a view of such a head",
        ),
        pytest.param(
            changed(["golden", "outputs", "v"], [[1]]),
            "its signature and its graph disagree on the head 'v'",
            id="golden rows of such a head",
        ),
        pytest.param(
            changed(["golden", "inputs", "m"], [[1]]),
            "its signature and its graph disagree on the input 'm'",
            id="golden rows of such an input",
        ),
        pytest.param(
            changed(["golden", "inputs", "n"], ...),
            "its signature and its graph disagree on the input 'n'",
            id="golden rows without an input",
        ),
        pytest.param(
            changed(["inputs", "x", "features"], [{"name": "a"}]),
            "its input 'x' is float32[2] a row, and its features say float32[1]",
            id="too few features",
        ),
        pytest.param(
            changed(["inputs", "x", "features", 1, "vocabulary"], ...),
            "its input 'x' is float32[2] a row, and its features say float32[3]",
            id="a number that is text in the graph",
        ),
        pytest.param(
            changed(["inputs", "x", "features", 2, "name"], "a"),
            "input 'x' has the features ['a', 'colour', 'a']: expected different names",
            id="a feature twice",
        ),
        pytest.param(
            changed(["inputs", "x", "features"], []),
            "input 'x' has the features []: expected different names",
            id="no features",
        ),
        pytest.param(
            changed(["inputs", "x", "features", 0, "default"], "red"),
            "x.a has the default 'red', which no float32 holds",
            id="text for a number",
        ),
        pytest.param(
            changed(["inputs", "x", "features", 0, "default"], 1e39),
            "x.a has the default 1e+39, which no float32 holds",
            id="a default past its dtype",
        ),
        pytest.param(
            changed(["inputs", "x", "features", 0, "default"], [1]),
            "x.a has the default [1], which no float32 holds",
            id="a list for a number",
        ),
        pytest.param(
            changed(["inputs", "x", "features", 1, "default"], 3),
            "x.colour has the default 3, which no string holds",
            id="a number for text",
        ),
        pytest.param(
            changed(["inputs", "n", "size"], [2, 3]),
            "input 'n' has the size [2, 3] for 4 values a row",
            id="another size",
        ),
        pytest.param(
            changed(["inputs", "n", "kind"], "picture"),
            "input 'n' has the kind 'picture', which is none of ('tabular', 'image', 'tensor')",
            id="an unknown kind of input",
        ),
        pytest.param(
            changed(["heads", "y", "kind"], "trinary"),
            "head 'y' has the kind 'trinary', which is none of ('binary', 'multiclass', "
            "'multilabel', 'regression', 'tensor')",
            id="an unknown kind of head",
        ),
        pytest.param(
            changed(["heads", "z", "kind"], "binary"),
            "head 'z' is binary, and not one value but float32[3] a row",
            id="a binary head of three values",
        ),
        pytest.param(
            changed(["heads", "z", "kind"], "regression"),
            "head 'z' is regression, and has labels",
            id="labels of a regression",
        ),
        pytest.param(
            changed(["heads", "z", "labels"], ["r", "g"]),
            "head 'z' has 2 labels for 3 classes",
            id="too few labels",
        ),
        pytest.param(
            changed(["heads", "w"], {"kind": "multiclass", "labels": ["r", "g"]}),
            "head 'w' has labels, and no fixed number of classes: it is float32[any] a row",
            id="labels of any number",
        ),
        pytest.param(
            changed(["heads", "t", "kind"], "multiclass"),
            "head 't' is multiclass, and its values are texts",
            id="classes of texts",
        ),
        pytest.param(
            changed(["heads", "z", "labels"], ["r", "g", "r"]),
            "head 'z' has the labels ['r', 'g', 'r']: expected each once",
            id="a label twice",
        ),
        pytest.param(
            changed(["heads", "y", "threshold"], "half"),
            "head 'y' has the threshold 'half': expected a number",
            id="a threshold that is text",
        ),
        pytest.param(
            changed(["heads", "z", "constant"], [0, 1]),
            "head 'z' has a constant of 2 values, and is float32[3] a row",
            id="a constant of too few values",
        ),
        pytest.param(
            changed(["golden", "inputs", "n"], [[1, 2, 3, 4], [1, 2, 3, 4]]),
            "its golden rows do not line up: expected as many of each, received "
            "{'x': 1, 'x.colour': 1, 'n': 2, 'y': 1}",
            id="golden rows that do not line up",
        ),
        pytest.param(
            changed(["golden"], {"inputs": {"x": [], "x.colour": [], "n": []}, "outputs": {}}),
            "its golden rows do not line up: expected as many of each, received "
            "{'x': 0, 'x.colour': 0, 'n': 0}",
            id="no golden rows",
        ),
    ],
)
def test_a_note_that_contradicts_its_graph_is_refused(note, reason):
    """The model is refused on loading, by name and with the reason, not at its first request."""
    with pytest.raises(ModelRefused) as refused:
        parse(json.dumps(note), **GRAPH)

    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(["inputs"], [1], id="inputs"),
        pytest.param(["inputs", "x"], 1, id="input"),
        pytest.param(["inputs", "x", "kind"], ..., id="no kind"),
        pytest.param(["inputs", "x", "features"], ..., id="no features"),
        pytest.param(["inputs", "x", "features"], "ab", id="features"),
        pytest.param(["inputs", "x", "features", 0], {}, id="feature without a name"),
        pytest.param(["inputs", "x", "features", 1, "vocabulary"], "red", id="vocabulary"),
        pytest.param(["inputs", "n", "size"], "2x2", id="size"),
        pytest.param(["inputs", "n", "max"], ..., id="statistics without their max"),
        pytest.param(["inputs", "n", "max"], "much", id="statistics"),
        pytest.param(["heads"], [], id="heads"),
        pytest.param(["heads", "y"], [], id="head"),
        pytest.param(["heads", "y", "labels"], "no", id="labels"),
        pytest.param(["heads", "y", "targets"], "bought", id="targets that are text"),
        pytest.param(["heads", "y", "constant"], "1", id="a constant that is text"),
        pytest.param(["models"], ["y"], id="models"),
        pytest.param(["models", "why"], "y", id="a view that is text"),
        pytest.param(["models", "why"], [], id="a view of nothing"),
        pytest.param(["golden"], {"inputs": {}}, id="golden rows without answers"),
        pytest.param(["golden"], [1], id="golden"),
        pytest.param(["golden", "inputs"], 1, id="golden inputs"),
        pytest.param(["provenance"], 1, id="provenance"),
    ],
)
def test_a_damaged_note_is_refused_as_one(path, value):
    """A value of the wrong type anywhere is refused with the reason, without a crash."""
    with pytest.raises(ModelRefused, match=r"^its signature \(metadata 'triceps'\) is damaged: "):
        parse(json.dumps(changed(path, value)), **GRAPH)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
PATHS = [
    [*path[:length]]
    for path in (
        ["inputs", "x", "features", 0, "default"],
        ["inputs", "x", "features", 1, "vocabulary"],
        ["inputs", "x", "features", 1, "unseen"],
        ["inputs", "x", "kind"],
        ["inputs", "n", "size"],
        ["inputs", "n", "mean"],
        ["heads", "y", "labels"],
        ["heads", "y", "threshold"],
        ["heads", "z", "kind"],
        ["models", "why"],
        ["golden", "inputs", "n"],
        ["golden", "outputs", "y"],
        ["provenance"],
        ["format"],
    )
    for length in range(1, len(path) + 1)
]


@given(st.sampled_from(PATHS), JSON)
def test_any_note_is_parsed_or_refused(path, value):
    """Any JSON value is either parsed or refused."""
    note = changed(path, value) if path != ["provenance"] else {**GOOD, "provenance": value}

    try:
        signature = parse(json.dumps(note), **GRAPH)
    except ModelRefused:
        return
    assert list(signature.heads) == ["y", "z", "w", "t"]


@pytest.mark.parametrize(
    ("dtype", "value", "held"),
    [
        pytest.param("float32", 0.1, True, id="rounded"),
        pytest.param("float16", 70_000, False, id="past float16"),
        pytest.param("float64", 10**400, False, id="past every float"),
        pytest.param("float32", True, False, id="a boolean is not a number"),
        pytest.param("float32", float("nan"), False, id="NaN is nothing"),
        pytest.param("int64", 1.5, False, id="half a whole number"),
        pytest.param("int64", 2.0, True, id="a whole number written as a float"),
        pytest.param("int8", 300, False, id="past int8"),
        pytest.param("uint8", -1, False, id="below nothing"),
        pytest.param("uint64", 2**64 - 1, True, id="the largest of all"),
        pytest.param("int64", 2**64, False, id="past int64"),
        pytest.param("bool", True, True, id="a boolean"),
        pytest.param("bool", 1, False, id="1 is not a boolean"),
        pytest.param("string", "1", True, id="a text"),
        pytest.param("string", 1, False, id="a number is not a string"),
        pytest.param("float32", "1", False, id="a string is not a number"),
        pytest.param("float32", [1], False, id="a list"),
        pytest.param("float32", {}, False, id="an object"),
    ],
)
def test_a_default_is_one_of_its_dtype(dtype, value, held):
    """A default must be a value of the graph's dtype, without conversion."""
    assert holds(dtype, value) is held


def test_a_restricted_signature_keeps_what_its_heads_need():
    """A view has neither the other heads, nor their inputs, nor other views."""
    signature = parse(json.dumps(GOOD), **GRAPH)

    seen = signature.restrict(["z"])

    assert (list(seen.inputs), list(seen.heads), seen.models) == (["n"], ["z"], {})


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        pytest.param((), 1, id="a bare value"),
        pytest.param((28, 28), 784, id="an image"),
        pytest.param((None, 3), None, id="any length"),
    ],
)
def test_a_tensors_size_is_the_values_of_a_row(shape, size):
    """A tensor with a free axis has no fixed number of values per row."""
    assert Tensor("x", "float32", shape).size == size
