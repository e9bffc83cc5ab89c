"""Log records: each one line that no client can forge, without anything of a request's body."""

import io
import json
import logging
import os
import re
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import TricepsError
from service.http import request_ids
from service.observability import logs
from tests.harness import small
from tests.harness.serving import Server

ROOT = Path(__file__).parents[3]
TOKEN = "triceps_" + "Ab1_-" * 8 + "Ab1"
PATIENCE = 20


@pytest.fixture
def say():
    """Return a function that logs a message by a formatter and returns the text."""

    def log(
        formatter, message, *arguments, name="service.server.front", error=None, request_id=None
    ):
        info = None if error is None else (type(error), error, error.__traceback__)
        record = logging.LogRecord(name, logging.WARNING, "", 0, message, arguments, info)
        if request_id is not None:
            # `extra` sets it in the same way.
            record.request_id = request_id
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        handler.emit(record)
        return stream.getvalue()

    return log


def raised(error, cause=None):
    """Return an error that was raised, perhaps because of another."""
    try:
        if cause is None:
            raise error
        raise error from cause
    except type(error) as caught:
        return caught


def test_a_record_is_an_object_on_one_line(say):
    """The time is in the form of RFC 3339."""
    before = time.time()
    line = say(logs.Lines(), "serving %s, version %s", "a", 1, name="service.repository.reloader")
    record = json.loads(line)
    moment = record.pop("time")

    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    assert abs(np.datetime64(moment[:-1]).astype("datetime64[ms]").astype(int) / 1e3 - before) < 5
    assert record == {
        "level": "warning",
        "process": os.getpid(),
        "logger": "service.repository.reloader",
        "message": "serving a, version 1",
    }


def test_a_record_has_its_request_id(say):
    """The ID is that of the record, or else that of the request that is being answered."""
    request_ids.current.set("known")
    try:
        known = say(logs.Lines(), "x")
        own = say(logs.Lines(), "x", request_id="own")
        text = say(logs.Text(), "x")
    finally:
        request_ids.current.set("")

    assert json.loads(known)["request_id"] == "known"
    assert json.loads(own)["request_id"] == "own"
    assert text.endswith(" service.server.front: x (request known)\n")


@given(st.text())
def test_no_text_is_more_than_one_line(text):
    """A record is one line, whatever its text; in JSON, the text is complete."""
    record = logging.LogRecord(text or "x", logging.INFO, "", 0, "%s", (text,), None)
    line, shown = logs.Lines().format(record), logs.Text().format(record)

    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert json.loads(line)["message"] == text
    assert len(shown.splitlines()) == 1
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("forged", "shown"),
    [
        pytest.param('a\n{"level": "info"}', 'a\\n{"level": "info"}', id="a line"),
        pytest.param("a\r\nINFO 1 x: b", "a\\r\\nINFO 1 x: b", id="a line of another system"),
        pytest.param("a\x1b[2Jb", "a\\x1b[2Jb", id="a sequence that clears the screen"),
        pytest.param("a\u2028b", "a\\u2028b", id="a line in other alphabets"),
        pytest.param("a\u202eb", "a\\u202eb", id="a character that turns the direction"),
        pytest.param("a\x85b\x9bc", "a\\x85b\\x9bc", id="control characters beyond ASCII"),
        pytest.param("é\tb", "é\tb", id="harmless text"),
    ],
)
def test_no_text_drives_the_terminal(say, forged, shown):
    """Control characters are shown in escaped form."""
    assert say(logs.Text(), "%s", forged).endswith(f" service.server.front: {shown}\n")


def test_an_exception_is_one_text_with_its_causes(say):
    """The oldest cause comes first, each with the place where it was raised."""
    error = raised(TricepsError("second"), raised(OSError(2, "No such file")))
    line = say(logs.Lines(), "failed", name="service.repository.reloader", error=error)
    exception = json.loads(line)["exception"]

    assert line.count("\n") == 1
    first, second = exception.split("\nand then:\n")
    assert first.startswith('  File "')
    assert first.endswith("\nFileNotFoundError: [Errno 2] No such file")
    assert second.endswith("TricepsError: second")
    assert exception.count(", in raised\n") == 2


def test_a_cycle_of_exceptions_ends(say):
    """Such cycles happen, and the log must not hang in them."""
    first, second = raised(ValueError("1")), raised(KeyError("2"))
    first.__context__, second.__context__ = second, first
    exception = json.loads(say(logs.Lines(), "failed", error=first))["exception"]

    assert exception.count("\nand then:\n") == 1


def test_a_record_without_an_exception_has_none():
    """`logging.exception` outside of any exception gives an empty one."""
    record = logging.LogRecord("x", logging.ERROR, "", 0, "y", (), (None, None, None))

    assert "exception" not in json.loads(logs.Lines().format(record))
    assert logs.Text().format(record).endswith(" x: y")


@pytest.mark.parametrize("formatter", [logs.Lines(), logs.Text()])
def test_the_message_of_an_exception_is_left_out(say, formatter):
    """The message may quote a body. The place is kept, and so are messages about files."""
    error = raised(ValueError("could not read 'payload'"), raised(KeyError("payload")))

    text = say(formatter, "failed", error=error)
    of_files = say(formatter, "failed", error=error, name="service.repository.loader")

    assert "payload" not in text
    assert "ValueError" in text
    assert ", in raised" in text
    assert "could not read 'payload'" in of_files


@pytest.mark.parametrize("formatter", [logs.Lines(), logs.Text()])
def test_the_objects_of_the_event_loop_are_left_out(say, formatter):
    """A task is shown by asyncio together with the exception that it raised."""
    message = "Task exception was never retrieved\nfuture: <Task exception=KeyError('payload')>"
    text = say(formatter, message, name="asyncio", error=raised(KeyError("payload")))

    assert "Task exception was never retrieved" in text
    assert "KeyError" in text
    assert "payload" not in text


@pytest.mark.parametrize("formatter", [logs.Lines(), logs.Text()])
@pytest.mark.parametrize("text", [TOKEN, f"x={TOKEN}&y", f"authorization: Bearer {TOKEN}"])
def test_a_token_is_hidden_wherever_it_is(say, formatter, text):
    """A token is hidden in a message and in an exception."""
    lines = say(formatter, "got %s", text)
    lines += say(
        formatter, "failed", name="service.repository.reloader", error=raised(ValueError(text))
    )

    assert TOKEN not in lines
    assert TOKEN[8:] not in lines
    assert lines.count("(a token)") == 2


def test_credentials_of_any_scheme_are_hidden(say):
    """The credentials need not be a token of this service."""
    assert "czpz" not in say(logs.Lines(), "%r", {b"authorization": b"Basic czpz"})
    assert "x.y-z" not in say(logs.Lines(), "bearer  x.y-z=")


def test_a_terminal_gets_text_and_all_else_json(monkeypatch):
    """Python's warnings are logged too."""
    root = logging.getLogger()
    # A command that another test ran in this process may have turned it on.
    logging.captureWarnings(capture=False)
    for is_terminal, kind in ((True, logs.Text), (False, logs.Lines)):
        stream = io.StringIO()
        stream.isatty = lambda known=is_terminal: known
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(root, "handlers", [])
        monkeypatch.setattr(root, "level", logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logs.set_up()
            warnings.warn("something", stacklevel=1)
            logging.captureWarnings(capture=False)

        assert [type(handler.formatter) for handler in root.handlers] == [kind]
        assert root.level == logging.INFO
        assert "something" in stream.getvalue()
        assert stream.getvalue().count("\n") == 1


_BUGGY = """
from pathlib import Path
from service.commands import main
from service.observability import logs
from service.inference.model import Model
from service.wire.native.answers import Writer

right = Writer.write

def write(*arguments):
    # Loading a model writes answers too, so the bug waits until then.
    if Path("armed").exists():
        raise ValueError(repr(arguments))
    return right(*arguments)

def summary(*arguments):
    from flask import request
    raise KeyError(repr((arguments, request.headers)))

from service.api import descriptions
descriptions.summary = summary
Writer.write = write
logs.set_up()
main.main()
"""


def test_bugs_log_nothing_of_their_requests(tmp_path):
    """Two bugs quote all that they have; each is one line in the log that says where it was."""
    small.put(tmp_path / "models", "three", 1, small.three())
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    body = json.dumps({"instances": [{"fruit": [123456, 2]}], "heads": ["size"]}).encode()

    with Server("--workers", "1", folder=tmp_path, program=_BUGGY) as server:
        server.until_alive()
        (tmp_path / "armed").touch()
        requests = [("POST", "/predict", body), ("GET", "/models", None)]
        statuses = [server.ask(*request, headers)[0] for request in requests]
        _, _, _, err = server.end()
    failed = [record for record in map(json.loads, err.splitlines()) if record["level"] == "error"]

    assert statuses == [500, 500]
    assert [record["exception"].splitlines()[-1] for record in failed] == ["ValueError", "KeyError"]
    assert all("in write" in s["exception"] or "in summary" in s["exception"] for s in failed)
    assert "123456" not in err
    assert TOKEN not in err
