"""The page for everybody: by keys, by a screen reader, on a phone, in any scheme, at rest."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.harness import consoles, tokens

AXE = Axe()
VIEWS = {
    "list": ("", "Models"),
    "three": ("#/models/three", "three"),
    "triceps": ("#/models/triceps", "triceps"),
    "fields": ("#/models/fields", "fields"),
    "whole": ("#/models/whole", "whole"),
    "markup": ("#/models/markup", "markup"),
    "two": ("#/models/three?with=aliases/stable", "three"),
}
WINDOWS = {
    "desk": {"width": 1280, "height": 800},
    "phone": {"width": 360, "height": 740},
}
CONTROLS = """
[...document.querySelectorAll("*")].map((one, place) => [place, one.outerHTML.slice(0, 120), one])
  .filter(([,, one]) => one.checkVisibility()
    && one.matches("a[href], button, input, select, textarea, summary, [tabindex='0']"))
  .map(([place, html]) => [place, html])
"""
# The place of what has the focus, and whether that is seen.
FOCUSED = """
() => {
  const style = getComputedStyle(document.activeElement);
  return [[...document.querySelectorAll("*")].indexOf(document.activeElement),
    style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0];
}
"""
OVERFLOWING = """
[...document.body.querySelectorAll("*")]
  .filter(one => one.getBoundingClientRect().right > innerWidth + 1 && one.checkVisibility())
  .map(one => one.outerHTML.slice(0, 120))
"""


def _violations(page):
    """Return what axe-core finds, in light and in dark, at a desk and on a phone."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name, size in WINDOWS.items():
            page.set_viewport_size(size)
            found += [
                f"{scheme} {name}: {rule['id']}: {node['html'][:120]}: {node['failureSummary']}"
                for rule in AXE.run(page).response["violations"]
                for node in rule["nodes"]
            ]
    return found


def _answered(one, title):
    expect(one.page.get_by_role("heading", level=1)).to_have_text(title)
    if title != "Models":
        expect(one.summary).to_contain_text(": ")


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(visit, view):
    """Each view has names, roles and contrasts for everybody."""
    address, title = VIEWS[view]
    one = visit(address, moves=True)  # the window changes its size
    _answered(one, title)
    for part in one.page.locator("details").all():
        part.evaluate("part => part.open = true")

    assert _violations(one.page) == []


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_a_phone(visit, view):
    """A view has no scroll bar across, and no part of it is cut off."""
    address, title = VIEWS[view]
    one = visit(address, **WINDOWS["phone"])
    _answered(one, title)
    for part in one.page.locator("details").all():
        part.evaluate("part => part.open = true")

    width = one.page.evaluate("document.documentElement.scrollWidth")
    assert (width <= 360, one.page.evaluate(OVERFLOWING)) == (True, [])


def test_axe_finds_nothing_in_a_view_with_problems(visit):
    """A problem and a mark at their fields, and a head that is not asked for."""
    one = visit("#/models/three", fails=[400], moves=True)
    _answered(one, "three")

    one.field("fruit", "weight").fill("x")
    one.field("insurance", "age").fill("99")
    one.tick("digits").uncheck()
    expect(one.note("fruit", "weight")).to_contain_text("expected a number")

    assert _violations(one.page) == []


@pytest.mark.parametrize("window", WINDOWS)
def test_findings_are_for_everybody(visit, window):
    """Drift and the comparison with the shadow, opened by keys, fit the window and have names."""
    one = visit("", moves=True, **WINDOWS[window])
    consoles.with_findings(one.page, "three", "2")
    one.open("#/models/three")
    _answered(one, "three")

    for title in ("Shadow", "Drift"):
        one.page.locator("summary").filter(has_text=title).focus()
        one.page.keyboard.press("Enter")
    expect(one.page.get_by_text("too few rows")).to_be_visible()
    expect(one.page.get_by_text("largest 0.5")).to_be_visible()

    width = one.page.evaluate("document.documentElement.scrollWidth")
    assert (width <= WINDOWS[window]["width"], one.page.evaluate(OVERFLOWING)) == (True, [])
    assert _violations(one.page) == []


def test_axe_finds_nothing_in_an_error(visit):
    """A view without an answer."""
    one = visit("#/models/ghost", fails=[404])
    expect(one.page.get_by_role("alert")).to_be_visible()

    assert _violations(one.page) == []


def test_axe_finds_nothing_in_the_dialog(visit, guarded):
    """The question for a token."""
    one = visit(url=guarded.url, fails=[401])
    expect(one.page.get_by_role("dialog")).to_be_visible()

    assert _violations(one.page) == []


@pytest.mark.parametrize("view", ["three", "triceps", "two"])
@pytest.mark.parametrize("window", ["phone", "desk"])
def test_nothing_moves_while_answers_arrive(visit, view, window):
    """The sum of all layout shifts is 0, also of those that follow a key at once."""
    address, title = VIEWS[view]
    one = visit(address, **WINDOWS[window])
    _answered(one, title)
    field = one.field("fruit", "weight")

    field.focus()
    for key in ("1", "2", "Backspace", "Backspace", "9"):
        asked = len(one.sent)
        one.page.keyboard.press(key)
        with one.page.expect_response("**/predict"):
            one.page.wait_for_timeout(50)
        assert len(one.sent) > asked
    one.page.wait_for_timeout(300)

    assert one.moves() == []


def test_a_model_is_tried_by_keyboard_alone(visit):
    """From the list to an answer, a category, a head that is off, and back."""
    one = visit("", moves=True)
    page = one.page
    press = page.keyboard.press

    def tab_to(locator, most=80):
        for _ in range(most):
            if locator.evaluate("one => one === document.activeElement"):
                return
            press("Tab")
        raise AssertionError(f"not reached by the tab key: {locator}")

    tab_to(page.get_by_role("link", name="three", exact=True))
    press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(one.field("insurance", "age"))
    page.keyboard.type("1")  # the text is selected, or it goes on: either way it changes
    tab_to(one.field("insurance", "age, slider"))
    press("End")
    expect(one.field("insurance", "age")).to_have_value("70")
    tab_to(one.field("insurance", "smoker"))
    press("y")
    expect(one.field("insurance", "smoker")).to_have_value("1")
    tab_to(one.tick("risk"))
    press("Space")
    expect(one.summary).not_to_contain_text("risk")
    tab_to(page.get_by_text("This request as curl and Python"))
    press("Enter")
    expect(page.get_by_label("curl", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")


@pytest.mark.parametrize("view", ["list", "three", "triceps", "fields"])
def test_every_control_is_reached_by_the_tab_key_and_seen(visit, view):
    """The order is that of the page, nothing traps the focus, and it is visible everywhere."""
    address, title = VIEWS[view]
    one = visit(address)
    _answered(one, title)
    page = one.page
    wanted = page.evaluate(CONTROLS)

    seen = {}
    for _ in range(len(wanted) + 10):
        page.keyboard.press("Tab")
        place, is_seen = page.evaluate(FOCUSED)
        seen[place] = is_seen
    assert [html for place, html in wanted if place not in seen] == []
    assert [html for place, html in wanted if not seen[place]] == []


def test_the_dialog_has_the_focus_and_gives_it_back(visit, guarded):
    """It is modal: the tab key does not leave it."""
    one = visit(url=guarded.url, fails=[401])
    page = one.page

    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    page.keyboard.type(tokens.secret("all"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")


def test_answers_and_errors_are_told_to_screen_readers(visit):
    """The summary is a live region, and an error is an alert; a note belongs to its field."""
    one = visit("#/models/three", fails=[404], moves=True)

    expect(one.page.get_by_role("status").first).to_contain_text("size: 4")
    expect(one.field("insurance", "age")).to_have_accessible_description(
        "18 to 70 in training · default 38"
    )
    assert one.page.evaluate("document.documentElement.lang") == "en"
    one.open("#/models/ghost")
    expect(one.page.get_by_role("alert")).to_be_visible()


def test_nothing_is_animated_for_those_who_want_no_motion(visit):
    """Bars jump to their values."""
    one = visit("#/models/three", reduced_motion="reduce")
    expect(one.summary).to_contain_text(": ")

    moving = one.page.evaluate(
        "[...document.querySelectorAll('*')].filter(one => {"
        " const style = getComputedStyle(one);"
        " return parseFloat(style.transitionDuration) > 0 || style.animationName !== 'none' })"
        ".length"
    )

    assert moving == 0
