"""The session of docs/notebook.md, typed line by line."""

from __future__ import annotations

import contextlib
import doctest
import io
import shutil

import pandas as pd

from tests.harness import documents

PAGE = "docs/notebook.md"


def test_the_session_shows_what_happens(tmp_path, monkeypatch):
    """Every statement of the page prints what stands below it."""
    shutil.copytree(documents.ROOT / "models" / "triceps", tmp_path / "models" / "triceps")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = documents.blocks(documents.PAGES[PAGE], "pycon")
    examples = [one for block in blocks for one in doctest.DocTestParser().get_examples(block)]
    assert examples

    for example in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), pd.option_context("display.width", 80):
            exec(compile(example.source, PAGE, "single"), names)  # noqa: S102  the page's own lines
        documents.check_same(printed.getvalue().strip(), example.want.strip())
