"""The reading of a TOML file, which is refused with its line."""

import pytest

from tests.training.spec_text import GOOD, X_KIND, edit
from training import spec as specs
from training.errors import SpecError
from training.toml_file import LARGEST


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"# \xc3\xa4\r\n"])
def test_files_of_other_editors_are_read(tmp_path, before):
    """A byte order mark, Windows line ends and UTF-8 are accepted."""
    path = tmp_path / "small.toml"
    path.write_bytes(before + GOOD.replace("\n", "\r\n").encode())

    assert specs.load(path).name == "small"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "[heads.y]",
            "[heads.x]",
            "line 22: a second [heads.x]; every name is given once",
            id="a name twice",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\n{X_KIND}",
            "line 19: a key that is given twice; every key is given once",
            id="a key twice",
        ),
        pytest.param(
            'target = "a"',
            "target = ",
            "line 19: not TOML: Invalid value",
            id="no TOML",
        ),
        pytest.param(
            'target = "b"\n',
            'target = "b"\nlabels = ["p",',
            "at the end: not TOML: Invalid value",
            id="no end",
        ),
        pytest.param(
            'target = "b"\n',
            f'target = "b"\nlabels = {"[" * 100_000}',
            "brackets are nested too deeply",
            id="brackets without end",
        ),
        pytest.param(
            "[heads.y]",
            f"[fit]\nseed = {'9' * 5000}\n[heads.y]",
            "a number has more than 4,300 digits",
            id="digits without end",
        ),
        pytest.param(
            "[heads.y]",
            f"#{'x' * LARGEST}\n[heads.y]",
            f"expected a spec of at most {LARGEST:,} bytes, received more",
            id="megabytes",
        ),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(problems_of, old, new, expected):
    """Bounds apply to brackets, digits and the bytes of the file."""
    assert problems_of(edit(old, new)) == expected.splitlines()


def test_a_table_is_no_spec(tmp_path):
    """The message has the command that writes a spec for it."""
    path = tmp_path / "my people.csv"
    path.write_text("age,bought\n30,yes\n")

    with pytest.raises(SpecError) as caught:
        specs.load(path)

    assert str(caught.value) == (
        f"{path}: expected a spec (a TOML file), received a table; this writes one for it: "
        f"triceps init '{path}' --head COLUMN"
    )


def test_bytes_that_are_no_utf_8_are_refused_with_their_line(problems_of):
    """A file in another encoding is refused with the line and the byte."""
    assert problems_of(b'name = "a"\n# caf\xe9\n') == [
        "line 2: not UTF-8 (byte 0xe9); save it as UTF-8"
    ]


def test_a_missing_spec_is_refused_with_the_nearest_file(tmp_path):
    """A misspelt path is refused with the nearest name."""
    (tmp_path / "three_heads.toml").write_text(GOOD)

    with pytest.raises(SpecError) as raised:
        specs.load(tmp_path / "three_head.toml")

    expected = f"{tmp_path}/three_head.toml: no such file (did you mean 'three_heads.toml'?)"
    assert str(raised.value) == expected


def test_a_folder_is_no_spec(tmp_path):
    """The path of a folder is refused with the system's reason."""
    with pytest.raises(SpecError) as raised:
        specs.load(tmp_path)

    assert str(raised.value) == f"{tmp_path}: expected a spec (a TOML file), but: Is a directory"


def test_long_values_and_dates_are_shown_short(problems_of):
    """A message shows a value as in the file, and cuts a long one."""
    assert problems_of(edit('name = "small"', f"name = [{'1, ' * 60}]"))[0].endswith(" 1, 1, 1,…")
    assert problems_of(edit('name = "small"', "name = 2020-01-01")) == [
        "name: expected a text, received 2020-01-01"
    ]
