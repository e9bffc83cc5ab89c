"""The simulations of drift, with a few windows."""

from click.testing import CliRunner

from benchmarks import drift


def test_every_table_is_made():
    """False alarms by risk, whole models, changes, rows a cell, and usual bounds."""
    done = CliRunner().invoke(drift.main, ["--windows", "10"], catch_exceptions=False)

    assert done.exit_code == 0
    assert done.output.count("┏") == 6
    for name in (*drift.EQUAL, *(shift.name for shift in drift.large())):
        assert name in done.output


def test_changes_have_the_size_that_is_stated():
    """By the formula, and not by simulation."""
    large = [shift for shift in drift.large() if shift.psi == 0.25]

    assert len(large) == 4
    assert large[0].name == "normal, mean + 0.51"
