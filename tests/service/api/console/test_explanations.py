"""The button of a head that asks why: parts as bars, and patches over the picture."""

import json

from playwright.sync_api import expect

PAINTED = """
canvas => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]
  .filter((_, place) => place % 4 === 3)
"""


def _explained(one, parts):
    """Have answers explained by these parts, by head, where the page asks for that."""

    def answer(route):
        body = json.loads(route.request.post_data)
        asked = body.pop("explain", {"heads": []})["heads"]
        response = route.fetch(post_data=json.dumps(body))
        said = response.json()
        if asked:
            said["predictions"][0]["explanations"] = {head: parts[head] for head in asked}
        route.fulfill(response=response, json=said)

    one.page.route("**/predict", answer)


def _why(one, head):
    return one.page.get_by_role("button", name=f"Why? {head}", exact=True)


def test_parts_are_bars_the_largest_first(visit):
    """They are asked for with the answer while the button is pressed, and are gone with it."""
    one = visit("#/models/three", moves=True)
    one.has_bars("size", {"value": 4})
    parts = {"fruit.weight": -0.5, "fruit.length": 2.25}
    _explained(one, {"size": {"answer": 4, "reference": 7, "parts": parts}})

    _why(one, "size").click()

    listed = one.head("size").locator("ul").nth(1).locator("li")
    expect(listed).to_have_text(["fruit.length+2.25", "fruit.weight-0.5"])
    expect(one.head("size")).to_contain_text("7 at the reference")
    expect(_why(one, "size")).to_have_attribute("aria-pressed", "true")
    assert one.sent[-1]["explain"] == {"heads": ["size"]}
    one.field("fruit", "weight").fill("2")
    one.has_bars("size", {"value": 6})
    assert one.sent[-1]["explain"] == {"heads": ["size"]}
    _why(one, "size").click()
    expect(listed).to_have_count(0)
    assert "explain" not in one.sent[-1]


def test_patches_are_drawn_over_the_picture(visit):
    """Only those that move the answer are painted, and no list of patches stands below."""
    one = visit("#/models/triceps", moves=True)
    expect(one.summary).to_contain_text("o3: 4")
    parts = {"digit[0:4,8:12]": 0.5, "digit[4:8,0:4]": -0.25, "digit[8:12,0:4]": 0}
    _explained(one, {"o3": {"answer": 1, "reference": 0.1, "label": "4", "parts": parts}})

    _why(one, "o3").click()
    expect(one.head("o3")).to_contain_text("0.1 at the reference")

    over = one.page.get_by_role("group", name="digit", exact=True).locator("canvas").nth(1)
    painted = over.evaluate(PAINTED)
    assert painted[2 * 28 + 10] > painted[6 * 28 + 2] > 0
    assert painted[10 * 28 + 2] == painted[20 * 28 + 20] == 0
    expect(one.head("o3").locator("ul").nth(1).locator("li")).to_have_count(0)


def test_heads_without_one_value_have_no_such_button(visit):
    """Their answers cannot be explained."""
    one = visit("#/models/three")
    one.has_bars("size", {"value": 4})

    for head, is_there in (("risk", True), ("size", True), ("digits", True), ("tags", False)):
        assert (_why(one, head).count() == 1) == is_there
