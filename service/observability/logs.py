"""What the service logs: lines for a person at a terminal, and JSON for everything else.

    {"time": "2026-01-31T12:00:00.000Z", "level": "info", "process": 7,
     "logger": "service.repository.reloader",
     "message": "serving triceps, version 1", "batching": "rows (operators): …"}

A record is one line there, whatever it is about, and at a terminal it drives nothing.  No token is
in it and nothing of a body: an exception may quote what it was raised over, so its own words are
told only of what has nothing to do with requests; where it was raised is told always.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime

from service.http import request_ids

# Whose exceptions are about files and processes.
_OF_FILES = (
    "service.repository.reloader",
    "service.repository.loader",
    "service.repository.sandbox",
    "service.server.supervisor",
)
# As `triceps token` makes them, and as a request brings whatever it takes for one.
_TOKEN = re.compile(r"triceps_[A-Za-z0-9_-]{43}|(?i:bearer|basic)\s+[A-Za-z0-9._~+/=-]+")
_HIDDEN = "(a token)"
# What ends a line, in whatever alphabet, turns the direction of writing, or drives a terminal.
_UNPRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def set_up() -> None:
    """Have all that is logged written to standard error, here and in what is forked from here."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Text() if sys.stderr.isatty() else Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(capture=True)


class Lines(logging.Formatter):
    """A record as one line of JSON, in ASCII, so that nothing else can be taken for its end."""

    def format(self, record: logging.LogRecord) -> str:
        """That line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": _message(record),
        }
        if request_id := _request_id(record):
            said["request_id"] = request_id
        if batching := getattr(record, "batching", ""):
            said["batching"] = batching
        if exception := _exception(record):
            said["exception"] = exception
        return json.dumps(said)


class Text(logging.Formatter):
    """A record for a person: one line, and below it a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Those lines."""
        said = f"{record.levelname} {record.process} {record.name}: {_message(record)}"
        if request_id := _request_id(record):
            said += f" (request {request_id})"
        if batching := getattr(record, "batching", ""):
            said += f"; batching: {batching}"
        said = said.replace("\n", "\\n")
        if exception := _exception(record):
            said += f"\n{exception}"
        return _UNPRINTED.sub(lambda found: ascii(found[0])[1:-1], said)


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name == "asyncio":
        # Below its first line are the objects that it was about, with what they were raised over.
        message = message.partition("\n")[0]
    return _hide(message)


def _request_id(record: logging.LogRecord) -> str:
    """What the request is called that a record is about: as told by its logger, or as is known."""
    return getattr(record, "request_id", "") or request_ids.current.get()


def _exception(record: logging.LogRecord) -> str:
    """The traceback of a record and of what led to it, oldest first; empty without one."""
    error = record.exc_info[1] if record.exc_info else None
    told: list[str] = []
    met: set[int] = set()
    while error is not None and id(error) not in met:
        met.add(id(error))
        words = type(error).__qualname__
        # The system's errors name files and codes, and no more.
        if isinstance(error, OSError) or record.name in _OF_FILES:
            words += f": {error}"
        where = "".join(traceback.format_tb(error.__traceback__))
        told.insert(0, f"{where}{words}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return _hide("\nand then:\n".join(told))


def _hide(text: str) -> str:
    """A text without the tokens in it."""
    return _TOKEN.sub(_HIDDEN, text)
