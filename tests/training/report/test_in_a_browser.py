"""The report in Chromium: on a phone and on a desk, in light, in dark and in print."""

import pytest

from tests.harness.chromium import MISSING, Faults, chromium, opened
from tests.training.report import made

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

# What is wider than the window, and scrolls inside of nothing that is as wide as the page.
OVERFLOWING = """
[...document.body.querySelectorAll("*")]
  .filter(part => part.getBoundingClientRect().right > innerWidth + 1 && !part.closest(".wide"))
  .map(part => part.outerHTML.slice(0, 200))
"""
SMALLEST = """
Math.min(...[...document.body.querySelectorAll("text")].map(part => {
  const box = part.ownerSVGElement
  return parseFloat(getComputedStyle(part).fontSize)
    * box.getBoundingClientRect().width / box.viewBox.baseVal.width
}))
"""
GROUND = "getComputedStyle(document.body).backgroundColor"
VIEWS = {
    "phone": {"width": 390},
    "dark phone": {"width": 390, "scheme": "dark"},
    "desk": {"width": 1280},
    "dark desk": {"width": 1280, "scheme": "dark"},
    "print": {"width": 794, "media": "print", "scheme": "dark"},
}


@pytest.fixture(scope="module", name="browser")
def _browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", name="report")
def _report(tmp_path_factory):
    """Write a report with every section, long names and markup in them."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    long = "a_name_that_is_longer_than_the_window_of_a_phone_and_has_no_blank"
    columns = ("age", "city", long, "<script>alert(1)</script>")
    names = ("o1", "o2", long)
    path.write_text(
        made.page(heads=names, warnings=[long], notes=["a"], layers=5, columns=columns), "utf-8"
    )
    return path


@pytest.mark.parametrize("view", VIEWS)
def test_a_report_is_as_wide_as_the_window_and_quiet(browser, report, view):
    """Nothing overflows, nothing but the file is loaded, no script runs, and nothing is wrong."""
    with opened(browser, **VIEWS[view]) as page:
        faults = Faults(page)
        page.goto(report.as_uri())

        width = page.evaluate("document.documentElement.scrollWidth")
        assert (width, page.evaluate(OVERFLOWING)) == (VIEWS[view]["width"], [])
        assert (faults.requests, faults.reports) == ([report.as_uri()], [])
        assert page.evaluate(SMALLEST) >= 8.5  # pixels


def test_a_report_follows_the_colour_scheme_and_is_printed_on_white(browser, report):
    """The ground is white in light and in print, and dark in dark."""
    grounds = {}
    for view in ("desk", "dark desk", "print"):
        with opened(browser, **VIEWS[view]) as page:
            page.goto(report.as_uri())
            grounds[view] = page.evaluate(GROUND)

    assert grounds["desk"] == grounds["print"] == "rgb(255, 255, 255)"
    assert grounds["dark desk"] == "rgb(22, 22, 22)"
