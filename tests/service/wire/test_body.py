"""The reading of a body as one JSON value, and the messages for what is wrong with it."""

import difflib
import math
import time

import pytest

from service import errors
from service.errors import BadRequest, Problem
from service.wire import body
from service.wire.body import Imputed, Notes


def _refusal(content):
    """Return the message with which a body is refused."""
    with pytest.raises(BadRequest) as caught:
        body.parse(content)
    assert caught.value.count == 1
    (problem,) = caught.value.problems
    assert problem.at == "body"
    return problem.expected, problem.received


@pytest.mark.parametrize(
    ("content", "value"),
    [
        pytest.param(
            b'{"a": [1, 2.5, "x", true, null]}', {"a": [1, 2.5, "x", True, None]}, id="all"
        ),
        pytest.param(b" \r\n\t[]\n ", [], id="white-space-around"),
        pytest.param('"größe 🍎"'.encode(), "größe 🍎", id="UTF-8"),
        pytest.param(b'"\\ud83c\\udf4e"', "🍎", id="escaped-pair"),
        pytest.param(b'"\\ud800"', "\ud800", id="lone-surrogate"),
        pytest.param(b"1e400", math.inf, id="past-every-float"),
        pytest.param(b"1" + b"0" * 400, 10**400, id="huge-integer"),
        pytest.param(b'{"": {"": 1}}', {"": {"": 1}}, id="one-name-at-two-levels"),
    ],
)
def test_json_is_read_as_it_stands(content, value):
    """Every value that RFC 8259 allows becomes the Python value."""
    assert body.parse(content) == value


def test_a_nan_is_left_to_the_reader_that_knows_its_place():
    """NaN is not JSON, but is refused only where its path is known."""
    assert math.isnan(body.parse(b'{"a": NaN}')["a"])


def test_a_spelled_infinity_is_told_from_a_number_that_is_too_large():
    """Some protocols have infinities, and a number that overflows is not one of them."""
    spelled = body.parse(b"[NaN, Infinity, -Infinity]")
    (large,) = body.parse(b"[1e400]")

    assert [type(value) for value in spelled] == [body.Spelled] * 3
    assert str(spelled) == "[nan, inf, -inf]"
    assert (type(large), large) == (float, math.inf)


@pytest.mark.parametrize(
    ("content", "expected", "received"),
    [
        pytest.param(b"", 'a JSON object with "a"', "no body", id="empty"),
        pytest.param(b"[]", 'an object with "a"', "an empty list", id="list"),
        pytest.param(b"NaN", 'an object with "a"', "NaN", id="NaN"),
    ],
)
def test_a_body_that_is_no_object_is_refused_with_its_keys(content, expected, received):
    """The message uses the terms of the dialect that reads the body."""
    with pytest.raises(BadRequest) as caught:
        body.parse_object(content, '"a"')

    assert caught.value.problems == (Problem("body", expected, received),)


@pytest.mark.parametrize(
    ("content", "expected", "received"),
    [
        pytest.param(b"", "JSON", "no body", id="empty"),
        pytest.param(b" \n", "JSON", "no body", id="blank"),
        pytest.param(
            b'{"instances": }',
            "JSON",
            "something else at line 1, column 15 (Expecting value)",
            id="no-value",
        ),
        pytest.param(
            b"{\n'instances': []}",
            "JSON",
            "something else at line 2, column 1 "
            "(Expecting property name enclosed in double quotes)",
            id="single-quotes",
        ),
        pytest.param(
            b"{} {}", "JSON", "something else at line 1, column 4 (Extra data)", id="two-values"
        ),
        pytest.param(
            b'"\x01"',
            "JSON",
            "something else at line 1, column 2 (Invalid control character at)",
            id="control-character",
        ),
        pytest.param(
            b"a=1&b=2", "JSON", "something else at line 1, column 1 (Expecting value)", id="form"
        ),
        pytest.param(b'{"\xff": 1}', "JSON in UTF-8", "the byte 0xff at offset 2", id="not-UTF-8"),
        pytest.param(b"\xed\xa0\x80", "JSON in UTF-8", "the byte 0xed at offset 0", id="surrogate"),
        pytest.param(
            "{}".encode("utf-16"), "JSON in UTF-8", "the byte 0xff at offset 0", id="UTF-16"
        ),
        pytest.param(
            b"\xef\xbb\xbf{}",
            "JSON in UTF-8 without a byte order mark",
            "one that begins with it",
            id="byte-order-mark",
        ),
        pytest.param(
            b"[" * 500_000,
            "JSON of a few levels",
            "brackets nested too deeply",
            id="a-million-brackets",
        ),
        pytest.param(
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            "JSON of a few levels",
            "brackets nested too deeply",
            id="deep-objects",
        ),
        pytest.param(
            b"[" + b"9" * 5000 + b"]",
            "numbers of at most 4,300 digits",
            "a longer one",
            id="5000-digits",
        ),
        pytest.param(
            b'{"a": 1, "b": 2, "a": 3}', "each key of an object once", '"a" twice', id="key-twice"
        ),
        pytest.param(
            b'[{"x": {"\\ud800": 1, "\\ud800": 2}}]',
            "each key of an object once",
            r'"\ud800" twice',
            id="surrogate-key-twice",
        ),
    ],
)
def test_a_body_that_is_not_json_is_refused_with_the_reason(content, expected, received):
    """Each kind of JSON error has its own message, with a place where there is one."""
    assert _refusal(content) == (expected, received)


def test_a_repeated_key_among_very_many_is_found_at_once():
    """Finding a repeated key takes no longer than reading the body."""
    content = "{" + ",".join(f'"k{i}":1' for i in range(50_000)) + ',"k49999":1}'

    started = time.perf_counter()

    assert _refusal(content.encode()) == ("each key of an object once", '"k49999" twice')
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize(
    ("name", "step"),
    [
        pytest.param("age", ".age", id="plain"),
        pytest.param("smoker_2-b", ".smoker_2-b", id="word-characters"),
        pytest.param("a.b", '["a.b"]', id="dot"),
        pytest.param("a/b:0", '["a/b:0"]', id="slash-and-colon"),
        pytest.param("2nd", '["2nd"]', id="digit-first"),
        pytest.param("", '[""]', id="empty"),
        pytest.param('say "x"', r'["say \"x\""]', id="quotes"),
        pytest.param("größe", '["größe"]', id="unicode"),
        pytest.param("\ud800", r'["\ud800"]', id="lone-surrogate"),
        pytest.param("a" * 1000, "." + "a" * 199 + "…", id="long"),
        pytest.param(" " * 1000, '["' + " " * 198 + "…]", id="long-and-quoted"),
    ],
)
def test_a_step_of_a_path_reads_as_javascript_would_have_it(name, step):
    """Names that are not identifiers stand in brackets and quotes."""
    assert body.key(name) == step


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(None, "null", id="null"),
        pytest.param(True, "true", id="true"),
        pytest.param("70", '"70"', id="text-of-a-number"),
        pytest.param(70, "70", id="number"),
        pytest.param(1.0, "1.0", id="whole-float"),
        pytest.param("größe", '"größe"', id="unicode"),
        pytest.param("\ud800!", r'"\ud800!"', id="lone-surrogate"),
        pytest.param("a" * 100, '"' + "a" * 38 + "…", id="long-text"),
        pytest.param(10**400, "1" + "0" * 38 + "…", id="huge-integer"),
        pytest.param({}, "an empty object", id="empty-object"),
        pytest.param({"a": 1}, "an object with 1 key", id="object"),
        pytest.param([], "an empty list", id="empty-list"),
        pytest.param([1, 2], "a list of 2", id="list"),
        pytest.param(math.nan, "NaN", id="NaN"),
        pytest.param(math.inf, "Infinity, or a number too large for any float", id="infinity"),
        pytest.param(
            -math.inf, "-Infinity, or a number too large for any float", id="minus-infinity"
        ),
    ],
)
def test_a_value_is_shown_short_and_told_apart(value, shown):
    """Texts are quoted, lists and objects are shown as sizes, and long values are cut."""
    assert body.show(value) == shown


def test_names_are_listed_up_to_twenty():
    """A longer list ends with the number of the other names."""
    assert body.listing(("a", "b")) == "a, b"
    assert body.listing([str(i) for i in range(21)]) == (
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, … (21 in all)"
    )


def test_one_thing_is_singular():
    """Nouns agree with their counts."""
    assert [body.count(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]


def test_unknown_names_are_refused_with_the_nearest_right_one():
    """Each unknown key is a problem at its own place."""
    notes = Notes()

    body.refuse_unknown({"age": 1, "agee": 2, "a.b": 3}, "feature", ("age", "bmi"), "row", notes)

    with pytest.raises(BadRequest) as caught:
        notes.stop()
    assert caught.value.problems == (
        Problem("row.agee", "one of age, bmi (did you mean 'age'?)", 'the unknown feature "agee"'),
        Problem('row["a.b"]', "one of age, bmi", 'the unknown feature "a.b"'),
    )


def test_very_many_unknown_names_are_counted_at_once():
    """The nearest name is searched only for the problems that are shown."""
    notes = Notes()
    names = [f"feature_{i}" for i in range(100)]
    started = time.perf_counter()

    body.refuse_unknown([f"Feature_{i}" for i in range(200_000)], "key", names, "", notes)

    assert notes.count == 200_000
    assert time.perf_counter() - started < 20


def test_notes_without_a_problem_let_the_request_pass():
    """A note of an imputed value is not a problem."""
    notes = Notes()

    notes.impute("instances[0].age", 38, "insurance.age")
    notes.stop()

    assert notes.imputed == [Imputed("instances[0].age", 38, "insurance.age")]


def test_twenty_problems_are_listed_and_all_are_counted():
    """The message has the first problem, the list has twenty, and the count has all."""
    notes = Notes()
    for i in range(30):
        notes.add(f"x[{i}]", "a number", "null")

    with pytest.raises(BadRequest) as caught:
        notes.stop()

    assert str(caught.value) == "x[0]: expected a number, received null (and 29 more)"
    assert caught.value.problems == tuple(Problem(f"x[{i}]", "a number", "null") for i in range(20))
    assert caught.value.count == 30


@pytest.mark.parametrize("length", [6, 11, 12, 10_000_000])
def test_names_longer_than_any_that_is_near_are_not_compared(length, monkeypatch):
    """Very long names are not compared, since difflib takes half a gigabyte for one of 10 MB."""
    asked: list[str] = []
    find = difflib.get_close_matches
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda w, p, n: asked.append(w) or find(w, p, n)
    )

    suggestion = errors.nearest(("heads" * length)[:length], ["heads", "a"])

    assert bool(asked) == (length <= 11)
    assert suggestion == (
        " (did you mean 'heads'?)" if length <= 11 else ""
    )  # 10 of 16 letters are in both names.
