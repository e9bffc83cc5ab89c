"""The prefixes of messages: exactly one message in a unary call, and any number in a stream."""

import pytest

from service.errors import TooLarge
from service.http.grpc import framing
from service.http.grpc.status import BadCall
from tests.harness.calls import prefixed

INTERNAL, UNIMPLEMENTED = 13, 12


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 100])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_message_comes_out_as_it_went_in(content, compressed):
    """The prefix has the length, and whether the message is compressed."""
    body = framing.encode(content, compressed=compressed)

    flag, message = framing.only_message(body, 100)

    assert body == prefixed(content, flag=compressed)
    assert (flag, bytes(message)) == (compressed, content)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        pytest.param(
            b"",
            UNIMPLEMENTED,
            "request: expected one message, since the method is unary, received none",
            id="none",
        ),
        pytest.param(
            prefixed(b"abc") * 2,
            UNIMPLEMENTED,
            "request: expected one message, since the method is unary, received 8 bytes after the "
            "first",
            id="two",
        ),
        pytest.param(
            b"\0\0\0",
            INTERNAL,
            "message: expected a prefix of 5 bytes, received only 3 of them",
            id="a cut prefix",
        ),
        pytest.param(
            prefixed(b"abc")[:-1],
            INTERNAL,
            "message: expected the 3 bytes that its prefix says, received only 2 of them",
            id="a cut message",
        ),
        pytest.param(
            b"\2\0\0\0\0",
            INTERNAL,
            "message: expected a prefix that begins with 0 or 1, for compressed, received 2",
            id="a wrong flag",
        ),
    ],
)
def test_a_unary_call_has_exactly_one_message(body, code, text):
    """Anything else has the code that gRPC has for it, and says what came."""
    with pytest.raises(BadCall) as raised:
        framing.only_message(body, 100)

    assert (raised.value.code, str(raised.value)) == (code, text)


def test_a_message_that_says_to_be_too_long_is_refused():
    """The length in the prefix counts, however much of the message has come."""
    text = r"^message: expected at most 9 bytes \(TRICEPS_MAX_BODY\), received 10$"
    with pytest.raises(TooLarge, match=text):
        framing.only_message(prefixed(b"x" * 10)[:7], 9)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_messages_are_cut_from_pieces_of_any_size(size):
    """It does not matter where the pieces of a stream begin and end."""
    contents = [b"", b"abc", b"x" * 20, b""]
    stream = b"".join(map(prefixed, contents))
    messages = framing.Messages(20)

    cut = []
    for start in range(0, len(stream), size):
        cut += messages.cut(stream[start : start + size])
    messages.end()

    assert cut == contents


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (prefixed(b"x" * 21), "message: expected at most 20 bytes, received 21"),
        (prefixed(b"x", flag=1), "message: expected it as it is, in a stream; received it "),
        (b"\7\0\0\0\0", "message: expected a prefix that begins with 0 or 1"),
    ],
)
def test_wrong_messages_of_a_stream_are_refused(stream, text):
    """A message of a stream is small and not compressed."""
    with pytest.raises((TooLarge, BadCall), match=f"^{text}"):
        list(framing.Messages(20).cut(stream))


def test_a_stream_ends_between_two_messages():
    """The end within a message is an error."""
    messages = framing.Messages(20)
    assert list(messages.cut(prefixed(b"abc")[:-1])) == []

    with pytest.raises(BadCall, match="received only the first of them"):
        messages.end()
