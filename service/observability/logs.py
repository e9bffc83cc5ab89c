"""The format of the service's logs: plain lines at a terminal, JSON lines everywhere else.

    {"time": "2026-01-31T12:00:00.000Z", "level": "info", "process": 7,
     "logger": "service.repository.reloader",
     "message": "serving triceps, version 1", "batching": "rows (operators): …"}

A record is one line of JSON, whatever its message contains; at a terminal, control characters are
escaped.  Logs contain no token and nothing of a request body.  Since the message of an exception
may quote the data that raised it, messages are logged only where no request is involved.  The
traceback is always logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from functools import lru_cache

from service.http import request_ids

# Loggers whose exceptions are about files and processes, and quote no request.
_OF_FILES = (
    "service.repository.reloader",
    "service.repository.loader",
    "service.repository.sandbox",
    "service.server.supervisor",
)
# A token as `triceps token` makes it, or any credentials of an Authorization header.
_TOKEN = re.compile(r"triceps_[A-Za-z0-9_-]{43}|(?i:bearer|basic)\s+[A-Za-z0-9._~+/=-]+")
_HIDDEN = "(a token)"
# Characters that end a line in any alphabet, change the direction of writing, or control a
# terminal.
_UNPRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def set_up() -> None:
    """Write all logs to standard error, in this process and in those that are forked from it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Text() if sys.stderr.isatty() else Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(capture=True)


def moment(seconds: float) -> str:
    """Return a time since the epoch in the form of RFC 3339: UTC, in milliseconds."""
    whole = int(seconds)
    return f"{second(whole)}.{int(1000 * (seconds - whole)):03d}Z"


@lru_cache(1)
def second(seconds: int) -> str:
    """Return the date and the time of day of a second, which many lines may have."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[: -len("+00:00")]


class Lines(logging.Formatter):
    """A formatter of records as one line of JSON each, in ASCII: only a line feed ends a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line of JSON."""
        entry = {
            "time": moment(record.created),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": _message(record),
        }
        if request_id := _request_id(record):
            entry["request_id"] = request_id
        if batching := getattr(record, "batching", ""):
            entry["batching"] = batching
        if exception := _exception(record):
            entry["exception"] = exception
        return json.dumps(entry)


class Text(logging.Formatter):
    """A formatter for people: one line for each record, and below it the traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, with its traceback below."""
        text = f"{record.levelname} {record.process} {record.name}: {_message(record)}"
        if request_id := _request_id(record):
            text += f" (request {request_id})"
        if batching := getattr(record, "batching", ""):
            text += f"; batching: {batching}"
        text = text.replace("\n", "\\n")
        if exception := _exception(record):
            text += f"\n{exception}"
        return _UNPRINTED.sub(lambda match: ascii(match[0])[1:-1], text)


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name == "asyncio":
        # The lines after the first one describe objects, and may quote the data of a request.
        message = message.partition("\n")[0]
    return hide(message)


def _request_id(record: logging.LogRecord) -> str:
    """Return the ID of the request that a record is about; empty if it is about none.

    The caller of the logger may pass it as `extra`; else it is the request of this context.
    """
    return getattr(record, "request_id", "") or request_ids.current.get()


def _exception(record: logging.LogRecord) -> str:
    """Return the tracebacks of a record's exception and of its causes, oldest first, if any."""
    error = record.exc_info[1] if record.exc_info else None
    tracebacks: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        last_line = type(error).__qualname__
        # The message of an OSError names a file and an error code, and nothing else.
        if isinstance(error, OSError) or record.name in _OF_FILES:
            last_line += f": {error}"
        where = "".join(traceback.format_tb(error.__traceback__))
        tracebacks.insert(0, f"{where}{last_line}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return hide("\nand then:\n".join(tracebacks))


def hide(text: str) -> str:
    """Replace the tokens in a string."""
    return _TOKEN.sub(_HIDDEN, text)
