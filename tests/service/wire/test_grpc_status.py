"""Errors as the status of a gRPC call."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest, Forbidden, HTTPError, NotReady, Problem, TooBusy, TooLate
from service.wire.grpc_status import code_of, encode_error
from tests.harness.grpc_messages import status

# The most that clients of gRPC take, less the headers that others set.
MOST = 8192 - 800


@pytest.mark.parametrize(
    ("code", "statuses"),
    [
        (0, [200]),
        (1, [499]),
        (3, [400, 411, 422]),
        (4, [408, 504]),
        (5, [404]),
        (7, [403]),
        (8, [413, 429, 431]),
        (10, [409]),
        (12, [405, 415, 501]),
        (13, [500, 505]),
        (14, [503]),
        (16, [401]),
    ],
)
def test_each_http_status_has_a_code(code, statuses):
    """A client of gRPC sees the code that means what the HTTP status does."""
    assert [code_of(each) for each in statuses] == [code] * len(statuses)


def test_every_problem_is_a_field_violation():
    """The path of a problem is the field, and the message is that of the other protocols."""
    error = BadRequest([Problem("inputs[0].shape", "[2]", "[3]"), Problem("id", "text", "größe %")])

    assert status(encode_error(error)) == (
        3,
        "inputs[0].shape: expected [2], received [3] (and 1 more)",
        [
            ("inputs[0].shape", "expected [2], received [3]"),
            ("id", "expected text, received größe %"),
        ],
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Forbidden("no"), 7),
        (TooBusy("later"), 8),
        (NotReady("later"), 14),
        (TooLate("over"), 4),
        (HTTPError(500, "a bug"), 13),
    ],
)
def test_other_errors_have_no_details(error, code):
    """Only a bad message has problems."""
    assert status(encode_error(error)) == (code, str(error), None)


TEXT = st.text(max_size=3000)


@given(problems=st.lists(st.builds(Problem, TEXT, TEXT, TEXT), min_size=1, max_size=30))
def test_the_headers_stay_small_and_valid(problems):
    """Long messages are cut and problems are left out; whatever is in them, headers are ASCII."""
    reply = encode_error(BadRequest(problems))

    assert sum(len(name) + len(value) + 32 for name, value in reply.headers) <= MOST
    assert all(re.fullmatch("[ -~]*", value) for _, value in reply.headers)
    _, text, violations = status(reply)
    assert text[:10].encode(errors="replace") == str(BadRequest(problems))[:10].encode(
        errors="replace"
    )
    assert violations


def test_many_problems_are_as_many_as_fit():
    """The message has the number of all of them."""
    error = BadRequest([Problem(f"inputs[{i}].shape", "x" * 500, "y" * 500) for i in range(20)])

    _, text, violations = status(encode_error(error))

    assert "(and 19 more)" in text or text.endswith("…")
    assert 1 <= len(violations) < 20
