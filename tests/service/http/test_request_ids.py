"""Request IDs: those of the client if they are safe to repeat, else new ones."""

import os
import re

import pytest

from service.http import request_ids

NEW_ID = re.compile(r"[0-9a-f]{32}")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(
    "request_id",
    [
        "1",
        "b7d0f6a0-9a1e-4a27-8a30-1f6e2f8f2a11",
        "Root=1-67891233-abcdef012345678912345678",
        "a" * 128,
        "req:a/b@c.d~e+f_g",
    ],
)
def test_a_well_formed_id_is_kept(request_id):
    """The client's ID is kept, with or without a trace beside it."""
    assert request_ids.name(request_id, "") == request_id
    assert request_ids.name(request_id, f"00-{TRACE}-{PARENT}-01") == request_id
    assert request_ids.of({b"x-request-id": request_id.encode()}) == request_id


@pytest.mark.parametrize(
    "request_id",
    [
        pytest.param("a" * 129, id="too long"),
        pytest.param("a b", id="a blank"),
        pytest.param("a\r\nset-cookie: b", id="a header of its own"),
        pytest.param("a\n", id="an end of line"),
        pytest.param('a"b', id="a quote"),
        pytest.param("a,b", id="two headers"),
        pytest.param("a\x1b[2J", id="what drives a terminal"),
        pytest.param("<b>", id="markup"),
        pytest.param("é", id="no ASCII"),
        pytest.param("\u0661", id="a digit of another alphabet"),
    ],
)
def test_an_unsafe_id_is_replaced(request_id):
    """The ID of the trace replaces it, or else a new one."""
    assert NEW_ID.fullmatch(request_ids.name(request_id, ""))
    assert request_ids.name(request_id, f"00-{TRACE}-{PARENT}-01") == TRACE
    assert NEW_ID.fullmatch(request_ids.of({b"x-request-id": request_id.encode()}))


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", id="sampled"),
        pytest.param(f"00-{TRACE}-{PARENT}-00", id="not sampled"),
        pytest.param(f"01-{TRACE}-{PARENT}-01", id="a later version"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-what-is-new", id="a later version, with more"),
    ],
)
def test_the_id_of_a_trace_is_the_request_id(traceparent):
    """The log of the service can then be matched with those of other services."""
    assert (
        request_ids.name("", traceparent)
        == request_ids.of({b"traceparent": traceparent.encode()})
        == TRACE
    )


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param(f"ff-{TRACE}-{PARENT}-01", id="no version"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", id="more than the version has"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no parent"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", id="capitals"),
        pytest.param(f"00-{TRACE[1:]}-{PARENT}-01", id="too short"),
        pytest.param(f"00-{TRACE}-{PARENT}", id="no flags"),
        pytest.param(f"00-{TRACE}-{PARENT}-01\n", id="an end of line"),
        pytest.param(f"01-{TRACE}-{PARENT}-01-a\nb", id="an end of line in what is new"),
        pytest.param(f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01", id="two of them"),
    ],
)
def test_a_malformed_trace_is_ignored(traceparent):
    """The W3C recommendation says to ignore a malformed header."""
    new = request_ids.name("", traceparent)

    assert NEW_ID.fullmatch(new)
    assert new != TRACE


def test_new_ids_differ():
    """New IDs differ within a process, and from those of a forked process."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(write, request_ids.make().encode())
        os._exit(0)
    os.close(write)
    forked = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(pid, 0)
    new = [request_ids.of({}) for _ in range(1000)]

    assert all(NEW_ID.fullmatch(name) for name in new)
    assert len({*new, forked}) == 1001


def test_the_answer_has_the_request_id():
    """The request ID is one header of the answer."""
    assert request_ids.line("a-1") == b"x-request-id: a-1\r\n"
    assert request_ids.line_of({b"x-request-id": b"a-1"}) == b"x-request-id: a-1\r\n"
    assert request_ids.line_of(
        {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode()}
    ) == request_ids.line(TRACE)
    new = request_ids.line_of({})
    assert NEW_ID.fullmatch(new.decode()[len("x-request-id: ") : -2])
    assert new != request_ids.line_of({})
