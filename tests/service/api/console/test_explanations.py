"""The button of a head that asks why: parts as bars, and patches over the picture."""

from playwright.sync_api import expect

# How much of each pixel is painted over, from 0 to 255.
PAINTED = """
canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, canvas.width, canvas.height).data]
    .filter((_, place) => place % 4 === 3);
}
"""


def _why(one, head):
    return one.page.get_by_role("button", name=f"Why? {head}", exact=True)


def test_parts_are_bars_the_largest_first(visit):
    """They are asked for with the answer while the button is pressed, and are gone with it."""
    one = visit("#/models/three", moves=True)
    one.has_bars("size", {"value": 4})

    _why(one, "size").click()

    # size = 2 * (weight + length), of which 1.5 and 2 are the defaults.
    listed = one.head("size").locator("ul").nth(1).locator("li")
    expect(listed).to_have_text(["fruit.length-2", "fruit.weight-1"])
    expect(one.head("size")).to_contain_text("7 at the reference")
    expect(_why(one, "size")).to_have_attribute("aria-pressed", "true")
    assert one.sent[-1]["explain"] == {"heads": ["size"]}
    one.field("fruit", "weight").fill("5.5")
    expect(listed).to_have_text(["fruit.weight+8", "fruit.length-2"])
    _why(one, "size").click()
    expect(listed).to_have_count(0)
    assert "explain" not in one.sent[-1]


def test_patches_are_drawn_over_the_picture(visit):
    """Only those that move the answer are painted, and the list below has the features alone."""
    one = visit("#/models/triceps", moves=True)
    expect(one.summary).to_contain_text("o3: 4")
    over = one.page.get_by_role("group", name="digit", exact=True).locator("canvas").nth(1)
    assert max(over.evaluate(PAINTED)) == 0

    _why(one, "o3").click()
    expect(one.head("o3")).to_contain_text("at the reference")

    note = one.page.get_by_role("group", name="digit", exact=True).locator(".note")
    expect(note).to_have_text("blue raises o3, orange lowers it")
    painted = over.evaluate(PAINTED)
    assert max(painted) > 128
    assert painted[0] == painted[27] == 0  # the corners of the example have no ink
    listed = one.head("o3").locator("ul").nth(1).locator("li").all_inner_texts()
    assert len(listed) == 4
    assert [text for text in listed if text.startswith("digit")] == []
    _why(one, "o3").click()
    expect(one.head("o3")).not_to_contain_text("at the reference")
    assert max(over.evaluate(PAINTED)) == 0
    expect(note).to_contain_text("draw, or drop a picture")


def test_heads_without_one_value_have_no_such_button(visit):
    """Their answers cannot be explained."""
    one = visit("#/models/three")
    one.has_bars("size", {"value": 4})

    for head, is_there in (("risk", True), ("size", True), ("digits", True), ("tags", False)):
        assert (_why(one, head).count() == 1) == is_there
