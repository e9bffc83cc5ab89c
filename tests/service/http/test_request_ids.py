"""What requests are called: as they say, where that is safe to repeat, and else anew."""

import os
import re

import pytest

from service.http import request_ids

MADE = re.compile(r"[0-9a-f]{32}")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(
    "given",
    [
        "1",
        "b7d0f6a0-9a1e-4a27-8a30-1f6e2f8f2a11",
        "Root=1-67891233-abcdef012345678912345678",
        "a" * 128,
        "req:a/b@c.d~e+f_g",
    ],
)
def test_a_name_that_is_well_formed_is_kept(given):
    """As it came, whatever else came with it."""
    assert request_ids.name(given, "") == given
    assert request_ids.name(given, f"00-{TRACE}-{PARENT}-01") == given
    assert request_ids.of({b"x-request-id": given.encode()}) == given


@pytest.mark.parametrize(
    "given",
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
def test_a_name_that_is_not_safe_is_replaced(given):
    """By one that was made, or that of the trace."""
    assert MADE.fullmatch(request_ids.name(given, ""))
    assert request_ids.name(given, f"00-{TRACE}-{PARENT}-01") == TRACE
    assert MADE.fullmatch(request_ids.of({b"x-request-id": given.encode()}))


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", id="sampled"),
        pytest.param(f"00-{TRACE}-{PARENT}-00", id="not sampled"),
        pytest.param(f"01-{TRACE}-{PARENT}-01", id="a later version"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-what-is-new", id="a later version, with more"),
    ],
)
def test_a_trace_names_its_requests(given):
    """So that what is logged here is found beside what others did for it."""
    assert request_ids.name("", given) == request_ids.of({b"traceparent": given.encode()}) == TRACE


@pytest.mark.parametrize(
    "given",
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
def test_a_trace_that_is_not_one_names_nothing(given):
    """As the recommendation has it: it is passed over."""
    made = request_ids.name("", given)

    assert MADE.fullmatch(made)
    assert made != TRACE


def test_names_that_are_made_differ():
    """Here, and in what is forked from here."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(write, request_ids.make().encode())
        os._exit(0)
    os.close(write)
    forked = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(pid, 0)
    made = [request_ids.of({}) for _ in range(1000)]

    assert all(MADE.fullmatch(name) for name in made)
    assert len({*made, forked}) == 1001


def test_a_caller_is_told_the_name():
    """As one header."""
    assert request_ids.line("a-1") == b"x-request-id: a-1\r\n"
    assert request_ids.line_of({b"x-request-id": b"a-1"}) == b"x-request-id: a-1\r\n"
    assert request_ids.line_of(
        {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode()}
    ) == request_ids.line(TRACE)
    made = request_ids.line_of({})
    assert MADE.fullmatch(made.decode()[len("x-request-id: ") : -2])
    assert made != request_ids.line_of({})
