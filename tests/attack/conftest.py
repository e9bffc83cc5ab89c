"""What `make attack` prints in the end, and writes."""

from __future__ import annotations

from tests.attack import page


def pytest_configure(config):
    """Have a place for the results of the attacks."""
    config.stash[page.OUTCOMES] = []


def pytest_terminal_summary(terminalreporter, config):
    """Print the table, and write the page where that is asked for, if anything was measured."""
    outcomes = config.stash[page.OUTCOMES]
    for line in page.lines(outcomes):
        terminalreporter.write_line(line)
    if outcomes and config.getoption("--write"):
        page.write(outcomes)
