"""An input of pixels: a pad to draw on, by a pointer or by keys, which takes picture files too."""

import base64
import struct
import zlib

import pytest
from playwright.sync_api import expect

from tests.harness.waiting import until

RED, GREEN = (255, 0, 0), (0, 255, 0)


def _png(width, height, colour):
    """Return a picture of one colour as PNG."""
    lines = (b"\0" + bytes(colour) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if len(colour) == 3 else 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _pad(one, name):
    return one.page.get_by_role("group", name=name, exact=True).get_by_role("img")


def _pixels(one, name):
    return one.sent[-1]["instances"][0][name]


def _drawn(one, place):
    """Wait until a picture is sent that has ink at a place, and none of the example's on the left.

    Return the picture.
    """

    def is_there():
        one.page.wait_for_timeout(20)
        pixels = _pixels(one, "digit")
        return pixels[place] > 0 and not any(pixels[line * 28 + 6] for line in range(28))

    until(is_there)
    return _pixels(one, "digit")


def _button(one, group, name):
    return one.page.get_by_role("group", name=group, exact=True).get_by_role("button", name=name)


def _stroke(one, name, *points):
    """Draw with the mouse; the points are parts of the pad's width and height."""
    box = _pad(one, name).bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    mouse = one.page.mouse
    mouse.move(*places[0])
    mouse.down()
    for place in places[1:]:
        mouse.move(*place, steps=12)
    mouse.up()


def test_a_drawn_digit_is_recognised(visit):
    """The shipped model reads what a person draws, as it is drawn."""
    one = visit("#/models/triceps")
    expect(one.summary).to_contain_text("o3: ")

    _button(one, "digit", "Clear").click()
    _stroke(one, "digit", (0.5, 0.2), (0.5, 0.8))

    pixels = _drawn(one, 20 * 28 + 14)
    expect(one.summary).to_contain_text("o3: 1")
    assert len(pixels) == 28 * 28
    assert {value for value in pixels if not 0 <= value <= 255 or value != int(value)} == set()
    assert pixels[14 * 28 + 14] > 200
    assert pixels[14 * 28 + 2] == 0


def test_pixels_that_nobody_draws_on_keep_their_values(visit, service):
    """The example is sent as it is, and only what a stroke covers changes."""
    example = service.get("/models/triceps/example")[1]["instances"][0]["digit"]
    one = visit("#/models/triceps")
    expect(one.summary).to_contain_text("o3: ")

    before = _pixels(one, "digit")
    with one.page.expect_request("**/predict"):
        _stroke(one, "digit", (0.05, 0.05), (0.05, 0.1))
        one.page.wait_for_timeout(200)
    after = _pixels(one, "digit")

    flat = [value for line in example for value in (line if isinstance(line, list) else [line])]
    assert before == flat
    changed = [place for place in range(784) if before[place] != after[place]]
    assert changed
    assert all(place // 28 < 8 and place % 28 < 8 for place in changed)


def test_a_picture_is_drawn_by_keys_alone(visit):
    """The arrow keys move, and the space bar puts the pen down and up."""
    one = visit("#/models/triceps")
    expect(one.summary).to_contain_text("o3: ")
    _button(one, "digit", "Clear").press("Enter")

    _pad(one, "digit").focus()
    for key in [*["ArrowUp"] * 8, " ", *["ArrowDown"] * 16, " ", *["ArrowRight"] * 3]:
        one.page.keyboard.press(key)

    pixels = _drawn(one, 21 * 28 + 14)
    assert pixels[14 * 28 + 14] > 100
    assert pixels[21 * 28 + 18] == 0
    expect(one.summary).to_contain_text("o3: 1")


def test_colours_are_inverted_and_cleared(visit):
    """Both are what they say of the numbers that are sent."""
    one = visit("#/models/fields")
    one.has_bars("light", {"0": 0, "1": 0, "2": 0})

    _button(one, "picture", "Invert").click()
    one.has_bars("light", {"0": 255, "1": 255, "2": 255})
    _button(one, "picture", "Clear").click()
    one.has_bars("light", {"0": 0, "1": 0, "2": 0})


def _choose(one, content):
    with one.page.expect_file_chooser() as chooser:
        _button(one, "picture", "A picture…").click()
    chooser.value.set_files({"name": "p.png", "mimeType": "image/png", "buffer": content})


def _drop(one, content):
    transfer = one.page.evaluate_handle(
        """text => {
          const bytes = Uint8Array.from(atob(text), one => one.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "p.png", {type: "image/png"}));
          return transfer;
        }""",
        base64.b64encode(content).decode(),
    )
    _pad(one, "picture").dispatch_event("drop", {"dataTransfer": transfer, "bubbles": True})


@pytest.mark.parametrize("give", [_choose, _drop], ids=["chosen", "dropped"])
def test_a_picture_file_is_scaled_to_the_size_of_the_input(visit, give):
    """A colour comes as the numbers of its channels, in the order of the model."""
    one = visit("#/models/fields")
    one.has_bars("light", {"0": 0, "1": 0, "2": 0})

    give(one, _png(31, 17, RED))
    one.has_bars("light", {"0": 255, "1": 0, "2": 0})
    assert _pixels(one, "picture") == [*RED] * 6
    give(one, _png(3, 2, GREEN))
    one.has_bars("light", {"0": 0, "1": 255, "2": 0})


@pytest.mark.parametrize("give", [_choose, _drop], ids=["chosen", "dropped"])
def test_a_file_that_is_no_picture_is_said(visit, give):
    """The pad stays as it was."""
    one = visit("#/models/fields", moves=True)
    one.has_bars("light", {"0": 0, "1": 0, "2": 0})
    asked = len(one.sent)

    give(one, b"no picture")

    expect(one.page.get_by_text("p.png is no picture")).to_be_visible()
    assert len(one.sent) == asked


def test_a_transparent_picture_is_on_white_whatever_was_there_before(visit):
    """Browsers show it on white, too; the example must not shine through."""
    one = visit("#/models/fields", moves=True)
    expect(one.summary).to_contain_text("light")
    file = {"name": "clear.png", "mimeType": "image/png", "buffer": _png(6, 4, (0, 0, 0, 0))}

    with one.page.expect_file_chooser() as chooser:
        _button(one, "picture", "A picture").click()
    chooser.value.set_files(file)

    until(lambda: one.page.wait_for_timeout(20) or set(_pixels(one, "picture")) == {255})
