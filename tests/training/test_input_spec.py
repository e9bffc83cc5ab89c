"""The inputs of a spec: files, columns, images and keys."""

import pytest

from tests.training.spec_text import A_TABLE, edit


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            A_TABLE,
            f"{A_TABLE}\nheder = true",
            "inputs.a.heder: no such key (did you mean 'header'?)",
            id="unknown key of an input",
        ),
        pytest.param(
            'csv = "a.csv"',
            "csv = true",
            "inputs.a.csv: expected the name of a CSV file, received true",
            id="csv that is a flag",
        ),
        pytest.param(
            'csv = "a.csv"',
            "",
            "inputs.a.csv: missing; expected the name of a CSV file",
            id="no csv",
        ),
        pytest.param(
            "header = false",
            'header = "no"',
            'inputs.b.header: expected true or false, received "no"',
            id="header that is a text",
        ),
        pytest.param(
            A_TABLE,
            f"{A_TABLE}\ntarget = 0",
            "inputs.a.target: expected the name of a column, received 0",
            id="column by number in a file with names",
        ),
        pytest.param(
            "target = 0",
            "target = -1",
            "inputs.b.target: expected a column: a name or a number from 0, received -1",
            id="column before the first",
        ),
        pytest.param(
            A_TABLE,
            f'{A_TABLE}\ncolumns = ["p", 1]',
            'inputs.a.columns: expected an array of column names, received ["p", 1]',
            id="columns that are numbers",
        ),
        pytest.param(
            A_TABLE,
            f'{A_TABLE}\ncolumns = ["p", "q", "p"]',
            'inputs.a.columns: "p" is there 2 times',
            id="a column twice",
        ),
        pytest.param(
            "image = [2, 2]",
            "image = [2, 0]",
            "inputs.b.image: expected [height, width] or [height, width, channels],"
            " received [2, 0]",
            id="image of no width",
        ),
        pytest.param(
            "image = [2, 2]",
            "image = 4",
            "inputs.b.image: expected [height, width] or [height, width, channels], received 4",
            id="image of one number",
        ),
        pytest.param(
            "image = [2, 2]",
            'image = [2, 2]\ncategorical = ["p"]',
            "inputs.b.categorical: an image takes all its columns; remove it, or image",
            id="image with categories",
        ),
        pytest.param(
            A_TABLE,
            f'{A_TABLE}\nunseen = "refused"',
            'inputs.a.unseen: expected one of answer, refuse, received "refused" (did you mean'
            " 'refuse'?)",
            id="another word for unseen texts",
        ),
        pytest.param(
            "image = [2, 2]",
            'image = [2, 2]\nunseen = "refuse"',
            "inputs.b.unseen: an image has no texts; remove it",
            id="unseen texts of an image",
        ),
        pytest.param(
            A_TABLE,
            f'{A_TABLE}\nkey = "id"',
            'inputs.a.key: only read with align = "key"; here align = "position"',
            id="key without align",
        ),
        pytest.param(
            'name = "small"',
            'name = "small"\nalign = "key"',
            'inputs.a.key: missing; align = "key" needs the joining column of every input\n'
            'inputs.b.key: missing; align = "key" needs the joining column of every input',
            id="no key",
        ),
        pytest.param(
            'csv = "b.csv"',
            'csv = "a.csv"',
            "inputs.b.header: expected true as inputs.a has it for the same file, received false",
            id="two views of one file",
        ),
        pytest.param(
            'name = "small"\n\n[inputs.a]\ncsv = "a.csv"',
            'name = "small"\nalign = "key"\n[inputs.a]\ncsv = "b.csv"\nheader = false\nkey = 3',
            'inputs.b.key: missing; align = "key" needs the joining column of every input\n'
            'inputs.b.key: expected "3" as inputs.a has it for the same file, received nothing',
            id="one file with two keys",
        ),
    ],
)
def test_a_wrong_input_is_refused_with_its_key(problems_of, old, new, expected):
    """Every mistake is reported with its key, expected and received value, and the way out."""
    assert problems_of(edit(old, new)) == expected.splitlines()
