"""`triceps report`: a page about answers to a labelled file, or the one that was published."""

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.commands.report import report
from service.insight.evaluation import judged
from service.repository.publish import publish
from tests.harness import small

HEADER = "age,smoker,bmi,weight,length,digit.0,digit.1,digit.2,digit.3,risk,size,digits,heavy,long"
# The risk is high from age + bmi + 10 if smoker = 60 on; the size is weight + length.
ROWS = [
    "30,no,29,1,2,0,1,0,9,low,3,one,0,1",
    "20,yes,20,3,0,5,4,3,2,high,3.5,zero,1,1",
    ",other,20,3,4,5,4,3,2,,7,two,1,NA",
    "60,yes,20,3,4,0,4,3,2,high,NA,,1,1",
]


@pytest.fixture(autouse=True)
def _command(monkeypatch):
    """Have the command in the program, also where it was installed before there was one."""
    monkeypatch.setitem(main.commands, "report", report)


@pytest.fixture(name="run")
def _run(tmp_path):
    """Return a function that runs the command; it returns exit code, page and standard error."""
    models = tmp_path / "models"
    publish(models, "three", small.three(models={"sized": ["size"]}), b"<!doctype html>run")
    publish(models, "three", small.three())

    def command(model, *arguments, text=None, out="page.html"):
        given = []
        if text is not None:
            (tmp_path / "rows.csv").write_text(text)
            given = ["--on", str(tmp_path / "rows.csv")]
        path = out if out == "-" else tmp_path / out
        given += ["--out", str(path), "--models", str(models)]
        done = CliRunner().invoke(main, ["report", model, *given, *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        page = done.stdout if out == "-" else path.read_text() if path.exists() else None
        return done.exit_code, page, done.stderr.replace(f"{tmp_path}/", "")

    return command


def _text(*rows, header=HEADER):
    return "\n".join([header, *rows]) + "\n"


def _lines(page):
    """Return the cells of all lines of all tables."""
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in re.findall("<tr>(.*?)</tr>", page)]


def test_a_page_has_the_scores_and_the_evaluation_of_each_head(run):
    """Scores are those of `triceps score`, and rows without a target are left out of their head."""
    code, page, err = run("three", text=_text(*ROWS))

    assert code == 0
    assert "<h1>Report of three, version 2</h1>" in page
    assert "Its answers to 4 rows of rows.csv." in page
    lines = _lines(page)
    assert lines[1:5] == [
        ["risk", "3", "accuracy", "0.6667", "0.6667"],
        ["size", "3", "mae", "0.1667", "–"],  # noqa: RUF001  (a dash)
        ["digits", "3", "accuracy", "0.6667", "0.3333"],
        ["tags", "3", "accuracy", "0.8333", "0.8333"],
    ]
    assert re.findall("<h3>(.*?)</h3>", page) == ["risk", "size", "digits", "tags"]
    assert "<li>insurance.age: missing in 1 of them, took its default</li>" in page
    assert "<li>insurance.smoker: a text that training never saw in 1 of them</li>" in page
    assert err.splitlines()[0] == "4 rows scored by three, version 2"


def test_the_worst_rows_have_their_line_and_the_features_that_the_head_reads(run):
    """Columns of other inputs are left out."""
    _, page, _ = run("three", text=_text(*ROWS))

    lines = _lines(page)
    assert ["line 3", "high", "low (4.539e-05)", "10", "20", "yes", "20"] in lines
    assert ["line 3", "3.5", "3", "0.5", "3", "0"] in lines
    assert not any("8" in line for line in lines)


def test_the_same_file_gives_the_same_bytes(run):
    """An existing page is replaced, as by `triceps predict`."""
    first = run("three", text=_text(*ROWS * 100))
    again = run("three", text=_text(*ROWS * 100))

    assert first == again
    assert run("three", text=_text(*ROWS * 100), out="-")[1] == first[1]


def test_a_long_file_is_sampled_and_the_worst_rows_are_those_of_the_whole(run, monkeypatch):
    """The page says so; the scores are of all rows."""
    monkeypatch.setattr(judged, "MOST_ROWS", 50)
    rows = [f"1,{n % 7},{n % 7 + 1}" for n in range(1000)]
    rows[700] = "1,1,9"

    code, page, _ = run("three", text=_text(*rows, header="weight,length,size"))

    assert code == 0
    assert "1000 rows. Drawn from a uniform sample of 50 of 1000 rows." in page
    assert _lines(page)[1][:3] == ["size", "1000", "mae"]
    assert "<td>line 702</td>" in page
    assert "NaN" not in page


def test_heads_without_a_column_and_without_a_target_are_named(run):
    """Such heads are on the page of the others."""
    columns = HEADER.removesuffix(",digits,heavy,long")
    text = _text("30,no,29,1,2,0,1,0,9,,3", header=columns)

    code, page, _ = run("three", text=text)

    assert code == 0
    assert "<li>digits: not scored, since the file has no column with its targets" in page
    assert "No row has its target." in page


@pytest.mark.parametrize(
    ("row", "words"), [("1,2,NA\n", "1 row without one"), ("", "received 0 rows")]
)
def test_a_file_without_targets_is_no_report(run, row, words):
    """There would be nothing on the page."""
    code, page, err = run("three", text=f"weight,length,size\n{row}")

    assert (code, page) == (2, None)
    assert "expected a row with a target of size" in err
    assert words in err


def test_without_a_file_the_published_report_is_copied(run):
    """A version is named as for the other commands."""
    assert run("three/1") == (
        0,
        "<!doctype html>run",
        "the report that was published with three, version 1\n",
    )


@pytest.mark.parametrize(
    ("model", "arguments", "code", "words"),
    [
        pytest.param("three", (), 1, "triceps report MODEL --on FILE.csv", id="no report"),
        pytest.param("three/9", (), 1, "no version", id="no version"),
        pytest.param("tree", (), 1, "tree", id="no model"),
        pytest.param("three/1", ("--target", "size=x"), 2, "--on", id="targets of no rows"),
    ],
)
def test_what_cannot_be_copied_is_said(run, model, arguments, code, words):
    """The way out is a page of rows."""
    done = run(model, *arguments)

    assert done[:2] == (code, None)
    assert words in done[2]


def test_a_file_of_a_foreign_model_is_evaluated(run, tmp_path):
    """A path is a model, whatever made it, and its report lies beside it."""
    foreign = tmp_path / "other.onnx"
    foreign.write_bytes(small.three())

    code, page, _ = run(str(foreign), text=_text(*ROWS))

    assert (code, page.count("<h3>")) == (0, 4)
    assert run(str(tmp_path / "models/three/1"))[0] == 0
    code, _, err = run(str(foreign), out="none.html")
    assert (code, "no report beside it is taken for its own" in err) == (1, True)


def test_classes_without_labels_are_numbered(run, tmp_path):
    """A file from elsewhere may not say what its classes are called."""
    signature = small.three_signature()
    heads = {name: replace(head, labels=None) for name, head in signature.heads.items()}
    unnamed = small.signed(onnx.load_from_string(small.three()), replace(signature, heads=heads))
    (tmp_path / "unnamed.onnx").write_bytes(unnamed)
    text = _text(
        "30,no,29,1,2,0,1,0,9,0,1,1,0",
        header=HEADER.replace("size,", "").replace("heavy,long", "a,b"),
    )

    code, page, _ = run(str(tmp_path / "unnamed.onnx"), "--target", "tags=a,b", text=text)

    assert code == 0
    assert re.findall('<th scope="row">(.*?)</th>', page) == ["0", "1", "0", "1", "2"]
    assert [line[0] for line in _lines(page) if line[:1] in (["a"], ["b"])] == ["a", "b"]


def test_the_rows_are_not_replaced_by_the_page(run, tmp_path):
    """They are data, which nobody can make anew from the page."""
    code, rows, err = run("three", text=_text(*ROWS), out="rows.csv")

    assert (code, rows) == (2, _text(*ROWS))
    assert "--out: rows.csv has the rows; name another file" in err


def test_wrong_rows_leave_the_old_page(run, tmp_path):
    """Nothing is written before all rows are read."""
    (tmp_path / "page.html").write_text("old")

    code, page, err = run("three", text=_text("1,2,big", header="weight,length,size"))

    assert (code, page) == (1, "old")
    assert "rows.csv, line 2, column 'size': expected a number" in err


def test_another_target_and_a_missing_feature_are_named_as_for_score(run):
    """The options are the same."""
    text = _text("1,4", header="weight,big")

    code, page, _ = run(
        "three", "--target", "size=big", "--allow-missing", "fruit.length", text=text
    )

    assert (code, _lines(page)[1]) == (0, ["size", "1", "mae", "1.0000", "–"])  # noqa: RUF001


def test_the_page_is_bounded_whatever_is_in_the_file(run):
    """Cells of the worst rows are cut."""
    random = np.random.default_rng(0)
    rows = [
        f'{n},"{"&" * 3000}",{n},1,{random.normal()},0,1,2,3,low,{random.normal()},one,0,1'
        for n in range(300)
    ]

    code, page, _ = run("three", text=_text(*rows))

    assert code == 0
    assert len(page.encode()) < 300_000
