"""What `make attack` prints in the end."""

from __future__ import annotations

from tests.attack import siege


def pytest_configure(config):
    """Have a place for what the attacks came to."""
    config.stash[siege.OUTCOMES] = []


def pytest_terminal_summary(terminalreporter, config):
    """Print the table, if anything was measured."""
    for line in siege.table(config.stash[siege.OUTCOMES]):
        terminalreporter.write_line(line)
