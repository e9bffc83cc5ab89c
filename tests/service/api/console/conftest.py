"""A repository of every sort of model behind a real `triceps serve`, and visits in Chromium.

A visit fails at its end if the page reported anything, broke its policy, stored something, asked
another host, or moved what was there already while nobody did anything.
"""

import contextlib
import json
import math
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from service.repository.publish import REPORT
from service.repository.scan import ALIASES
from tests.harness import consoles, graphs, small
from tests.harness.chromium import MISSING, Faults, chromium, opened
from tests.harness.serving import Server
from tests.harness.waiting import until

ROOT = Path(__file__).parents[4]
# Breaches of the policy, and the parts of layout shifts, are reported to the test as they come.
WATCHED = """
document.addEventListener("securitypolicyviolation", event =>
  report("policy", `${event.violatedDirective}: ${event.blockedURI}`));
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) {
    const parts = entry.sources.map(one => one.node?.outerHTML?.slice(0, 100) ?? "text");
    report(entry.hadRecentInput ? "moved by hand" : "moved", `${entry.value}: ${parts}`);
  }
}).observe({type: "layout-shift", buffered: true});
"""
STORED = """
async () => [
  document.cookie, localStorage.length, sessionStorage.length, history.state,
  (await indexedDB.databases()).length, (await caches.keys()).length,
  (await navigator.serviceWorker.getRegistrations()).length,
]
"""
LOADED = re.compile(r"Failed to load resource: .*?(?:status of (\d+)|(net::\w+))")
SECONDS = 20
MINUS = "\N{MINUS SIGN}"
expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture(name="models", scope="session")
def _models(tmp_path_factory):
    """Return a repository: `three` has versions 1 and 2, aliases, a report and a broken 3."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "models", models, dirs_exist_ok=True)
    small.put(models, "three", 1, small.three())
    small.put(models, "three", 2, small.three(2.0, models={"risky": ["risk"]}))
    small.put(models, "three", 3, b"no model")
    (models / "three" / "2" / REPORT).write_text("<!doctype html><title>Report of three</title>")
    (models / "three" / ALIASES).write_text(json.dumps({"stable": "1", "canary": "2"}))
    others = {
        "markup": consoles.markup(),
        "fields": consoles.fields(),
        "whole": graphs.fixed(),
        "foreign": small.odd_names(),
        "refusing": small.refusing(),
    }
    for name, content in others.items():
        small.put(models, name, 1, content)
    return models


@pytest.fixture(name="service", scope="session")
def _service(models, tmp_path_factory):
    """Return a service without tokens."""
    options = ("--models", models, "--workers", 1, "--default-model", "triceps")
    with Server(*options, folder=tmp_path_factory.mktemp("open")) as server:
        server.until_ready()
        yield server


@pytest.fixture(name="guarded", scope="session")
def _guarded(models, tmp_path_factory):
    """Return a service that requires the tokens of `tests.harness.tokens`."""
    options = ("--models", models, "--workers", 1)
    with Server(*options, folder=tmp_path_factory.mktemp("guarded"), guarded=True) as server:
        server.until_ready()
        yield server


@pytest.fixture(name="browser", scope="module")
def _browser():
    if MISSING:
        pytest.skip(MISSING)
    with chromium() as browser:
        yield browser


class Visit:
    """A page of the console: what a person sees of it, and everything that it does."""

    def __init__(self, page, url):
        self.page = page
        self.url = url
        self.fails = set()
        """The statuses and network errors that the test provokes."""
        self.may_move = False
        """Whether things move without a user, as they do for an error that needs room."""
        self.told = []
        """Breaches of the policy and layout shifts, each with its kind."""
        self.sent = []
        """The bodies of all predictions that were asked for."""
        self.faults = Faults(page)
        page.on("request", self._note)
        page.context.expose_binding("report", lambda _, kind, what: self.told.append((kind, what)))
        page.add_init_script(WATCHED)
        self.summary = page.locator("output.summary")

    def _note(self, request):
        if request.method == "POST":
            self.sent.append(json.loads(request.post_data))

    def open(self, view=""):
        """Show a view, such as #/models/three, and wait until it is there."""
        self.page.goto(f"{self.url}/console/{view}")
        expect(self.page.locator("h1").or_(self.page.get_by_role("dialog")).first).to_be_visible()

    def give(self, token):
        """Answer the question for a token."""
        self.page.get_by_label("Token", exact=True).fill(token)
        self.page.get_by_role("button", name="Use it").click()

    def field(self, field, name=None):
        """Return the control of a feature of an input, or of an input that has one field."""
        group = self.page.get_by_role("group", name=field, exact=True)
        return group.get_by_label(name or field, exact=True)

    def note(self, field, name=None):
        """Return the text that describes a control."""
        return self.page.locator(f"#{self.field(field, name).get_attribute('aria-describedby')}")

    def tick(self, head):
        """Return the box by which a head is asked for."""
        return self.page.get_by_role("checkbox", name=head, exact=True)

    def head(self, name, side=0):
        """Return the card of a head; of the other version, if `side` is 1."""
        text = re.compile(rf"^\s*{re.escape(name)}$")
        title = self.page.get_by_role("heading").filter(has_text=text)
        return self.page.locator("section.card").filter(has=title).nth(side)

    def bars(self, name, side=0):
        """Return the values that a head shows, by label, each with its difference if it has one."""
        lines = self.head(name, side).locator("ul").first.locator("li")
        texts = lines.evaluate_all("lines => lines.map(one => one.innerText.split(/\\s+/))")
        return {label: [_number(value) for value in values] for label, *values in texts}

    def has_bars(self, name, expected, side=0):
        """Wait until a head shows these values; probabilities may be rounded to three digits."""
        wanted = {
            label: value if isinstance(value, list) else [value]
            for label, value in expected.items()
        }

        def fits():
            return [*self.bars(name, side).items()] == [
                (label, pytest.approx(values, abs=6e-4)) for label, values in wanted.items()
            ]

        until(fits, SECONDS)

    def moves(self):
        """Return all layout shifts, also those that follow something that a user did."""
        return [what for kind, what in self.told if kind.startswith("moved")]

    def check(self):
        """Check that the page did nothing that no page of ours may."""
        stored = self.page.evaluate(STORED)
        assert [text for text in self.faults.reports if not self._is_provoked(text)] == []
        assert [what for kind, what in self.told if kind == "policy"] == []
        assert self.may_move or [what for kind, what in self.told if kind == "moved"] == []
        assert self.faults.hosts() == {urlsplit(self.url).netloc}
        assert stored == ["", 0, 0, None, 0, 0, 0]

    def _is_provoked(self, text):
        match = LOADED.search(text)
        return match is not None and bool({match[1], match[2]} & self.fails)


def _number(text):
    """Return a number, or a truth, that the page shows."""
    try:
        return float(text.replace(MINUS, "-"))
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text, math.nan)


@pytest.fixture(name="visit")
def _visit(browser, service):
    """Return a function that opens the console in a window of some size, and checks it at the end.

    Its arguments: the view; the URL of the service, if it is another one; the statuses that the
    test provokes; whether it has things move; and those of `tests.harness.chromium.opened`.
    """
    with contextlib.ExitStack() as stack:
        visits = []

        def visit(view="", *, url=service.url, fails=(), moves=False, **window):
            page = stack.enter_context(opened(browser, **window))
            page.set_default_timeout(SECONDS * 1000)
            one = Visit(page, url)
            one.fails |= set(map(str, fails))
            one.may_move = moves
            visits.append(one)
            one.open(view)
            return one

        yield visit
        for one in visits:
            one.check()
