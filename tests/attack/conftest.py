"""The report at the end of `make attack`."""

from __future__ import annotations

from tests.attack import page


def pytest_configure(config):
    """Make a place for the results of the attacks."""
    config.stash[page.OUTCOMES] = []


def pytest_terminal_summary(terminalreporter, config):
    """Print the table if anything was measured, and write the page with `--write`."""
    outcomes = config.stash[page.OUTCOMES]
    for line in page.lines(outcomes):
        terminalreporter.write_line(line)
    if outcomes and config.getoption("--write"):
        page.write(outcomes)
