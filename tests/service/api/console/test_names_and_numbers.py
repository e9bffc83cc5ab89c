"""Names and numbers that JavaScript would change: the page sends and shows what was meant."""

import csv

import pytest
from onnx import TensorProto
from playwright.sync_api import expect

from tests.harness import consoles, small
from tests.harness.serving import Server

# Whole numbers from 2^53 on are not all floats, and those of JavaScript are floats.
LARGE = 9007199254740993
INHERITED = "[Object, Object.prototype].map(one => Object.keys(one).length)"


@pytest.fixture(name="odd", scope="module")
def _odd(tmp_path_factory):
    """Return a service of models with odd names and of whole numbers."""
    models = tmp_path_factory.mktemp("odd")
    contents = {
        "constructor": consoles.inherited(),
        "__proto__": small.three(),
        "whole": small.same(TensorProto.INT64, (1,)),
        "wholes": small.same(TensorProto.INT64, (20,)),
    }
    for name, content in contents.items():
        small.put(models, name, 1, content)
    options = ("--models", models, "--workers", 1)
    with Server(*options, folder=tmp_path_factory.mktemp("service")) as server:
        server.until_ready()
        yield server


def _csv(one, text):
    file = {"name": "rows.csv", "mimeType": "text/csv", "buffer": text.encode()}
    one.page.get_by_label("choose", exact=False).set_input_files(file)


def _saved(one):
    with one.page.expect_download() as download:
        one.page.get_by_role("link", name="Save").click()
    return list(csv.reader(download.value.path().read_text("utf-8").splitlines()))


def test_names_that_objects_inherit_are_names(visit, odd):
    """Inputs, features and heads of any name are asked for, empty and answered."""
    one = visit("#/models/constructor", url=odd.url, moves=True)
    expect(one.summary).to_have_text("valueOf: 3 · hasOwnProperty: 3 · toString: 1")
    ones = dict.fromkeys(consoles.INHERITED, 1)
    assert one.sent == [{"instances": [{"constructor": ones, "__proto__": ones}]}]

    one.field("constructor", "constructor").fill("2")
    one.has_bars("valueOf", {"value": 4})
    one.page.get_by_role("button", name="Empty", exact=True).click()

    expect(one.note("__proto__", "__proto__")).to_have_text("missing: 1 was used")
    expect(one.field("__proto__", "toString")).to_have_value("")
    expect(one.page.locator("main")).not_to_contain_text("native code")


def test_columns_may_have_names_that_objects_inherit(visit, odd):
    """Their cells reach the service, and change nothing of the page."""
    one = visit("#/models/constructor", url=odd.url, moves=True)
    names = [
        f"{table}.{name}" for table in ("constructor", "__proto__") for name in consoles.INHERITED
    ]

    _csv(one, f"{','.join(names)}\n1,2,3,4,5,6\n")

    expect(one.page.get_by_text("1 rows")).to_be_visible()
    assert _saved(one)[1][:2] == ["6", "15"]
    assert one.page.evaluate(INHERITED) == [0, 0]


def test_requests_are_counted_for_models_of_any_name(visit, odd):
    """The names of models are no part of an object, either."""
    one = visit(url=odd.url)

    expect(one.page.get_by_text("no requests lately")).to_have_count(4)

    assert one.page.evaluate(INHERITED) == [0, 0]


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        pytest.param("whole", str(LARGE), str(LARGE), id="a field"),
        pytest.param("wholes", f"[{', '.join([str(LARGE)] * 20)}]", [str(LARGE)] * 20, id="JSON"),
    ],
)
def test_a_whole_number_that_would_lose_digits_is_refused_and_not_changed(
    visit, odd, name, text, meant
):
    """JavaScript would send its neighbour, and nobody would notice."""
    one = visit(f"#/models/{name}", url=odd.url, fails=[400], moves=True)

    one.field("x").fill(text)
    expect(one.note("x")).to_contain_text(f'received "{LARGE}"')
    assert one.sent[-1]["instances"][0]["x"] in (meant, [meant])
    _csv(one, f'x\n"{text}"\n')

    expect(one.page.get_by_text("line 2: ")).to_contain_text(f'received "{LARGE}"')
    assert one.sent[-1]["instances"][0]["x"] == meant


def test_the_largest_exact_whole_number_is_sent(visit, odd):
    """Only numbers beyond it are refused."""
    one = visit("#/models/whole", url=odd.url, moves=True)

    one.field("x").fill(str(LARGE - 2))

    expect(one.head("y").locator(".value")).to_have_attribute("title", str(LARGE - 2))
    assert one.sent[-1]["instances"][0]["x"] in (LARGE - 2, [LARGE - 2])


def test_a_whole_number_in_an_answer_keeps_its_digits(visit, odd):
    """On the page, and in the file that is saved."""
    one = visit("#/models/whole", url=odd.url, moves=True)
    body = f'{{"model":"whole","version":"1","predictions":[{{"y":{{"value":[{LARGE}]}}}}]}}'
    one.page.route("**/predict", lambda route: route.fulfill(body=body))

    one.field("x").fill("1")
    expect(one.head("y").locator(".value")).to_have_text(str(LARGE))
    _csv(one, "x\n1\n")

    expect(one.page.get_by_text("1 rows")).to_be_visible()
    assert _saved(one)[1] == [str(LARGE)]
