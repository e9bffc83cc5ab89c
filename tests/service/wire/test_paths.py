"""The paths of values in a body, and the rows that they lead into."""

import pytest

from service.wire.paths import row_of


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("instances[3].insurance.age", 3),
        ("instances[12]", 12),
        ("inputs.insurance.age[4]", 4),
        ('inputs["a[1].b"]["c"][5]', 5),
        ("dataframe_split.data[0].insurance.age", 0),
        ("line 3", None),
        ("", None),
    ],
)
def test_a_path_leads_into_a_row(path, row):
    """Its number is the first one in brackets that is no part of a name."""
    assert row_of(path) == row
