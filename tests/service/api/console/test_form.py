"""The form of a model: a field for each part of a row, and live answers to it."""

import json
import threading

import pytest
from playwright.sync_api import expect

JSON = {"Content-Type": "application/json"}
EXAMPLE = {
    "insurance": {"age": 30, "smoker": "no", "bmi": 30},
    "fruit": {"weight": 1, "length": 1},
    "digit": [0, 1, 0, 9],
}


def _three(visit, **more):
    one = visit("#/models/three", **more)
    one.has_bars("risk", {"low": 0.5, "high": 0.5})
    return one


def test_form_is_filled_with_the_example_and_answered_at_once(visit, service):
    """The first answer comes without a click, and to every head."""
    one = _three(visit)

    (body,) = one.sent
    _, _, content = service.ask("POST", "/models/three/predict", json.dumps(body).encode(), JSON)
    assert body == {"instances": [EXAMPLE]}
    assert json.loads(content)["version"] == "2"
    one.has_bars("size", {"value": 4})
    one.has_bars("digits", {"zero": 0, "one": 1, "two": 0})
    one.has_bars("tags", {"heavy": 0.5, "long": 0.5})
    expect(one.summary).to_have_text("risk: low · size: 4 · digits: one · tags: none")


def test_an_answer_follows_every_change(visit):
    """The request has what stands in the form, and the bars are those of the answer."""
    one = _three(visit)

    one.field("insurance", "age").fill("31")

    one.has_bars("risk", {"low": 0.2689, "high": 0.7311})
    expect(one.summary).to_contain_text("risk: high")
    assert one.sent[-1]["instances"][0]["insurance"]["age"] == 31


def test_a_number_has_a_slider_of_its_training_range(visit):
    """Either moves the other; the range and the default stand below."""
    one = _three(visit)
    age, slider = one.field("insurance", "age"), one.field("insurance", "age, slider")

    slider.focus()
    slider.press("ArrowRight")
    expect(age).to_have_value("31")
    one.has_bars("risk", {"low": 0.2689, "high": 0.7311})
    age.fill("40")
    expect(slider).to_have_value("40")
    expect(one.note("insurance", "age")).to_have_text("18 to 70 in training · default 38")


def test_a_category_is_chosen_or_typed(visit):
    """A text that training never saw is sent as it is, and marked."""
    one = _three(visit, moves=True)  # "other…" opens a field
    smoker = one.field("insurance", "smoker")

    smoker.select_option("yes")
    one.has_bars("risk", {"low": 0, "high": 1})
    smoker.select_option("other…")
    other = one.field("insurance", "smoker, another text")
    expect(other).to_be_focused()
    other.fill("sometimes")

    one.has_bars("risk", {"low": 0.006693, "high": 0.9933})
    expect(one.note("insurance", "smoker")).to_contain_text("training never saw this text")
    assert one.sent[-1]["instances"][0]["insurance"]["smoker"] == "sometimes"


def test_a_text_that_a_model_refuses_is_said_at_its_field(visit):
    """The words are those of the service."""
    one = visit("#/models/refusing", fails=[400], moves=True)

    one.field("insurance", "smoker").select_option("other…")
    one.field("insurance", "smoker, another text").fill("sometimes")

    note = one.note("insurance", "smoker")
    expect(note).to_contain_text('received "sometimes"')
    expect(one.field("insurance", "smoker")).to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize(
    ("text", "sent", "said"),
    [
        pytest.param("seven", "seven", 'expected a number for weight, received "seven"', id="word"),
        pytest.param("1,5", "1,5", 'expected a number for weight, received "1,5"', id="comma"),
        pytest.param("0x10", "0x10", 'received "0x10"', id="hexadecimal"),
        pytest.param(
            "true", True, "expected a number for weight (1 for true, 0 for false)", id="boolean"
        ),
        pytest.param("1e400", "1e400", 'received "1e400"', id="too large for any"),
        pytest.param("1e39", 1e39, "expected a number within ±3.40282e+38", id="too large for it"),
    ],
)
def test_a_wrong_value_is_sent_as_it_is_and_refused_at_its_field(visit, text, sent, said):
    """The page checks nothing itself, so its errors are those that a program would get."""
    one = _three(visit, fails=[400], moves=True)
    weight = one.field("fruit", "weight")

    weight.fill(text)

    expect(one.note("fruit", "weight")).to_contain_text(said)
    expect(weight).to_have_attribute("aria-invalid", "true")
    expect(one.field("fruit", "length")).to_have_attribute("aria-invalid", "false")
    assert one.sent[-1]["instances"][0]["fruit"]["weight"] == sent
    weight.fill("1")
    expect(weight).to_have_attribute("aria-invalid", "false")
    expect(one.summary).to_contain_text("size: 4")


def test_every_problem_stands_at_its_own_field(visit):
    """One answer has them all."""
    one = _three(visit, fails=[400], moves=True)

    one.field("fruit", "weight").fill("a")
    one.field("fruit", "length").fill("b")
    one.field("insurance", "bmi").fill("c")

    expect(one.note("fruit", "weight")).to_contain_text('received "a"')
    expect(one.note("fruit", "length")).to_contain_text('received "b"')
    expect(one.note("insurance", "bmi")).to_contain_text('received "c"')


def test_answers_to_another_row_are_not_shown_beside_an_error(visit):
    """Nobody takes them for answers to what stands in the form."""
    one = _three(visit, fails=[400], moves=True)
    shown = one.head("size").locator("ul").first
    expect(shown).to_be_visible()

    one.field("fruit", "weight").fill("a")
    expect(shown).to_be_hidden()
    one.field("fruit", "weight").fill("2")

    expect(shown).to_be_visible()
    one.has_bars("size", {"value": 6})


def test_an_empty_form_shows_what_was_used_in_its_place(visit):
    """A default is marked as imputed; what has none is refused at its field."""
    one = _three(visit, fails=[400], moves=True)

    one.page.get_by_role("button", name="Empty", exact=True).click()
    expect(one.note("insurance", "bmi")).to_contain_text("has no default")
    one.field("insurance", "bmi").fill("22")

    expect(one.note("insurance", "age")).to_have_text("missing: 38 was used")
    expect(one.note("fruit", "weight")).to_have_text("missing: 1.5 was used")
    expect(one.note("insurance", "smoker")).to_have_text("missing: no was used")
    one.page.get_by_role("button", name="Example", exact=True).click()
    expect(one.field("insurance", "age")).to_have_value("30")
    one.has_bars("risk", {"low": 0.5, "high": 0.5})


@pytest.mark.parametrize(("age", "is_marked"), [("71", True), ("17", True), ("70", False)])
def test_a_value_outside_of_the_training_range_is_marked(visit, age, is_marked):
    """It is answered all the same."""
    one = _three(visit)

    one.field("insurance", "age").fill(age)

    said = "outside of 18 to 70 in training" if is_marked else "18 to 70 in training · default 38"
    expect(one.note("insurance", "age")).to_have_text(said)
    expect(one.summary).to_contain_text("risk: " + ("low" if age == "17" else "high"))


def test_only_the_inputs_of_ticked_heads_are_asked_for(visit):
    """The request names the heads, and has no value that they do not need."""
    one = _three(visit, moves=True)  # what is not asked for is hidden

    for head in ("risk", "digits", "tags"):
        one.tick(head).uncheck()
    expect(one.summary).to_have_text("size: 4")

    assert one.sent[-1] == {"instances": [{"fruit": {"weight": 1, "length": 1}}], "heads": ["size"]}
    expect(one.page.get_by_role("group", name="insurance")).to_be_hidden()
    one.tick("size").uncheck()
    expect(one.summary).to_contain_text("Tick a head")
    one.tick("risk").check()
    expect(one.summary).to_have_text("risk: low")
    expect(one.page.get_by_role("group", name="insurance")).to_be_visible()
    expect(one.page.get_by_role("group", name="fruit")).to_be_hidden()


def test_there_is_a_field_for_each_sort_of_input(visit):
    """Short lists have a box for each value, booleans a choice, and anything else is JSON."""
    one = visit("#/models/fields")

    for place, value in enumerate(("1.5", "-2", "1e1")):
        one.field("vector", str(place)).fill(value)
    one.field("cube").fill("[[[1, 2]], [[3, 4.5]]]")
    one.field("flag").select_option("true")

    one.has_bars("sum", {"value": 9.5})
    expect(one.head("sum")).to_contain_text("-10 to 12.5 in training")
    expect(one.head("same").locator("pre")).to_have_text("[[[1,2]],[[3,4.5]]]")
    one.has_bars("other", {"value": 0})
    row = one.sent[-1]["instances"][0]
    assert (row["vector"], row["cube"]) == ([1.5, -2, 10], [[[1, 2]], [[3, 4.5]]])
    assert row["flag"] in (True, [True])


def test_json_that_does_not_fit_is_said_at_its_field(visit):
    """What is no JSON is sent as text, so that the service says what it expects."""
    one = visit("#/models/fields", fails=[400], moves=True)

    one.field("cube").fill("[[[1, 2]], [[3]]]")
    expect(one.note("cube")).to_contain_text("expected")
    one.field("cube").fill("[[")
    expect(one.note("cube")).to_contain_text('received "[["')


def test_a_graph_of_whole_tensors_is_asked_for_them(visit):
    """Its request has the form that works for it, and its shape is that of the graph."""
    one = visit("#/models/whole")

    one.field("x").fill("[[1, 2, 3], [4, 5, 6]]")

    expect(one.head("y").locator("pre")).to_have_text("[[2,4,6],[8,10,12]]")
    assert one.sent[-1] == {"inputs": {"x": [[1, 2, 3], [4, 5, 6]]}}


def test_a_file_without_a_signature_is_shown_by_the_names_of_its_graph(visit, service):
    """Names that no trainer makes are shown as they are."""
    one = visit("#/models/foreign")
    about = service.get("/models/foreign")[1]

    for name in about["inputs"]:
        expect(one.page.get_by_role("group", name=name, exact=True)).to_be_visible()
    for head in about["heads"]:
        expect(one.head(head)).to_be_visible()
    expect(one.summary).to_contain_text(next(iter(about["heads"])))


def test_one_request_is_under_way_and_the_last_change_wins(visit):
    """A slow service is not asked for what nobody waits for any more."""
    one = _three(visit)
    under_way, most = [0], [0]
    lock = threading.Lock()

    def slowly(route):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        one.page.wait_for_timeout(300)
        route.continue_()
        with lock:
            under_way[0] -= 1

    one.page.route("**/predict", slowly)
    asked = len(one.sent)
    for weight in ("2", "3", "4", "5", "6"):
        one.field("fruit", "weight").fill(weight)
        one.page.wait_for_timeout(160)

    one.has_bars("size", {"value": 14})
    assert most[0] == 1
    assert 1 <= len(one.sent) - asked <= 4
    assert one.sent[-1]["instances"][0]["fruit"]["weight"] == 6
