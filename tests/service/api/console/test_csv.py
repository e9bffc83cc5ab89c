"""A CSV that is scored in pieces, as by `triceps predict`, with progress and refusals."""

import csv
import io
import json

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from service.commands.main import main
from tests.harness.waiting import until

ROWS = 700
HEADER = "id,age,smoker,bmi,weight,length,digit.0,digit.1,digit.2,digit.3"


def _row(place):
    insurance = (20 + place % 50, ("yes", "no", "")[place % 3], 20 + place % 9)
    return ",".join(map(str, (f'"r, ""{place}"""', *insurance, 1.5, place / 8, 0, 1, 0, place)))


def _table(rows=ROWS, header=HEADER):
    return "\n".join([header, *map(_row, range(rows))]) + "\n"


def _give(one, text, name="rows.csv"):
    content = text if isinstance(text, bytes) else text.encode()
    file = {"name": name, "mimeType": "text/csv", "buffer": content}
    one.page.get_by_label("choose", exact=False).set_input_files(file)


def _saved(one):
    """Return the file that the page offers."""
    with one.page.expect_download() as download:
        one.page.get_by_role("link", name="Save").click()
    return download.value.suggested_filename, download.value.path().read_text("utf-8")


def _scored(models, text, folder, name="three"):
    """Return the table that `triceps predict` writes for the same file."""
    (folder / "rows.csv").write_text(text)
    arguments = ["predict", name, str(folder / "rows.csv"), "--models", str(models)]
    result = CliRunner().invoke(main, [*arguments, "--out", str(folder / "out.csv")])
    assert result.exit_code == 0, result.output
    return (folder / "out.csv").read_text()


def _numbers(text):
    """Return a table with its numbers as numbers, as far as float32 tells them apart."""
    rows = list(csv.reader(io.StringIO(text)))
    return rows[0], [[_number(cell) for cell in row] for row in rows[1:]]


def _number(cell):
    try:
        return pytest.approx(float(cell), rel=1e-5)
    except ValueError:
        return cell


def test_a_file_is_scored_as_by_triceps_predict(visit, models, tmp_path):
    """The columns and the answers are the same, in pieces of the file and with its progress."""
    one = visit("#/models/three", moves=True)
    text = _table()

    _give(one, text)
    expect(one.page.get_by_text(f"{ROWS} rows")).to_be_visible()
    name, scored = _saved(one)

    assert name == "answers.csv"
    expected = _scored(models, text, tmp_path)
    assert _numbers(scored) == _numbers(expected)
    pieces = [body for body in one.sent if len(body["instances"]) > 1]
    assert sum(len(body["instances"]) for body in pieces) == ROWS
    assert len(pieces) > 1
    bar = one.page.get_by_role("progressbar")
    assert bar.evaluate("bar => bar.value / bar.max") == 1


def test_a_file_is_dropped_anywhere(visit):
    """The page takes it wherever it falls, and does not leave for it."""
    one = visit("#/models/three", moves=True)
    transfer = one.page.evaluate_handle(
        """text => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([text], "dropped.csv", {type: "text/csv"}));
          return transfer;
        }""",
        _table(3),
    )

    one.page.locator("h1").dispatch_event("drop", {"dataTransfer": transfer, "bubbles": True})

    expect(one.page.get_by_text("3 rows")).to_be_visible()
    assert len(_saved(one)[1].splitlines()) == 4


def test_refused_rows_are_listed_by_line_and_the_others_are_answered(visit):
    """The reason is the service's, and the row stands in the file without answers."""
    one = visit("#/models/three", fails=[400], moves=True)
    lines = _table(5).splitlines()
    lines[2] = lines[2].replace(",1.5,", ",heavy,")
    lines[4] += ",more"

    _give(one, "\n".join(lines))

    expect(one.page.get_by_text("5 rows · 2 refused")).to_be_visible()
    expect(one.page.get_by_text("line 3: ")).to_contain_text('received "heavy"')
    expect(one.page.get_by_text("line 5: ")).to_contain_text("received 11")
    header, rows = _numbers(_saved(one)[1])
    size = header.index("size")
    assert [row[0] for row in rows] == [f'r, "{place}"' for place in range(5)]
    assert [row[size] == "" for row in rows] == [False, True, False, True, False]


def test_only_ticked_heads_are_scored(visit):
    """Then columns of other inputs are not needed."""
    one = visit("#/models/three", moves=True)
    for head in ("risk", "digits", "tags"):
        one.tick(head).uncheck()

    _give(one, "weight,length\n1,2\n3,4\n")

    expect(one.page.get_by_text("2 rows")).to_be_visible()
    assert _saved(one)[1].split() == ["size", "6", "14"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("age,bmi\n1,2\n", "expected a column for", id="columns are missing"),
        pytest.param("", "0 rows", id="empty"),
        pytest.param("age,age\n1,2\n", "age", id="a column twice"),
        pytest.param("age,city\n1,Köln\n".encode("latin-1"), "expected UTF-8", id="not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_scored_is_said(visit, text, said):
    """The message says where and what, and nothing is saved."""
    one = visit("#/models/three", moves=True)

    _give(one, text)

    expect(one.page.locator("section.csv output")).to_contain_text(said)
    expect(one.page.get_by_role("link", name="Save")).to_have_count(0)


def test_columns_may_be_missing_if_the_user_says_so(visit):
    """Their defaults are used then, as by `--allow-missing`."""
    one = visit("#/models/three", moves=True)

    one.page.get_by_role("checkbox", name="missing columns").check()
    _give(one, "bmi,digit.0,digit.1,digit.2,digit.3\n22,0,1,0,0\n")

    expect(one.page.get_by_text("1 rows")).to_be_visible()
    assert ",3," not in _saved(one)[1]


def test_a_busy_service_is_waited_for(visit):
    """A piece that is refused is sent again when the service says, and no row is lost."""
    one = visit("#/models/three", fails=[429], moves=True)
    one.has_bars("size", {"value": 4})
    came = []

    def answer(route):
        came.append(route)
        if len(came) == 2:
            headers = {"Retry-After": "1"}
            route.fulfill(status=429, json={"error": "too much is asked"}, headers=headers)
        else:
            route.continue_()

    one.page.route("**/predict", answer)
    _give(one, _table())

    expect(one.page.get_by_text(f"{ROWS} rows")).to_be_visible()
    assert len(_numbers(_saved(one)[1])[1]) == ROWS


def test_scoring_is_cancelled(visit):
    """What is scored by then can be saved."""
    one = visit("#/models/three", moves=True)
    one.has_bars("size", {"value": 4})
    came = []

    def answer(route):
        came.append(route)
        if len(came) == 1:
            route.continue_()

    one.page.route("**/predict", answer)
    _give(one, _table())
    expect(one.page.get_by_text("256 rows")).to_be_visible()

    one.page.get_by_role("button", name="Cancel").click()

    expect(one.page.get_by_text("cancelled")).to_be_visible()
    assert len(_numbers(_saved(one)[1])[1]) == 256


def test_a_second_file_takes_the_place_of_the_first(visit):
    """The first ends, and changes nothing of what the page says of the second."""
    one = visit("#/models/three", moves=True)
    one.has_bars("size", {"value": 4})
    held = []

    def hold(route):
        held.append(route)

    one.page.route("**/predict", hold)
    _give(one, _table())
    until(lambda: one.page.wait_for_timeout(20) or held)

    _give(one, _table(3))
    until(lambda: one.page.wait_for_timeout(20) or len(held) == 2)

    expect(one.page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(one.page.locator("section.csv")).not_to_contain_text("cancelled")
    held[1].continue_()
    expect(one.page.get_by_text("3 rows")).to_be_visible()
    assert len(_saved(one)[1].splitlines()) == 4


def test_choosing_no_file_changes_nothing(visit):
    """What was scored can still be saved."""
    one = visit("#/models/three", moves=True)
    _give(one, _table(3))
    expect(one.page.get_by_text("3 rows")).to_be_visible()

    one.page.get_by_label("choose", exact=False).set_input_files([])

    expect(one.page.locator("section.csv output")).to_have_text("3 rows")
    assert len(_saved(one)[1].splitlines()) == 4


def test_a_file_whose_rows_are_all_refused_is_cancelled(visit):
    """It asks the service nothing that could be stopped."""
    one = visit("#/models/three", moves=True)
    one.has_bars("size", {"value": 4})

    _give(one, HEADER + "\n" + "short\n" * 500_000)
    one.page.get_by_role("button", name="Cancel").click()

    expect(one.page.get_by_text("cancelled")).to_be_visible()


def test_cells_cannot_become_markup(visit):
    """What the file has in other columns comes back as it was."""
    one = visit("#/models/three", fails=[400], moves=True)
    for head in ("risk", "digits", "tags"):
        one.tick(head).uncheck()
    other = '"<img src=x onerror=alert(1)>"'

    _give(one, f"note,weight,length\n{other},1,2\n{other},x,2\n")

    expect(one.page.get_by_text("line 3: ")).to_be_visible()
    assert json.dumps(_saved(one)[1]).count("<img src=x") == 2
