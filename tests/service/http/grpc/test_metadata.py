"""Metadata as the headers that the pipeline reads."""

import pytest

from service.errors import BadRequest, TooLate
from service.http import deadline
from service.http.grpc.metadata import check_form, headers_of
from service.http.grpc.status import BadCall


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"250m", 0.25),
        (b"1u", 1e-6),
        (b"99999999n", 0.099999999),
        (b"99999999H", 99999999 * 3600),
        (b"0010S", 10),
    ],
)
def test_a_deadline_is_read_in_each_unit(timeout, seconds):
    """The pipeline reads it as it reads X-Request-Timeout, which it replaces."""
    metadata = {b"grpc-timeout": timeout, b"x-request-timeout": b"7"}

    headers = headers_of(metadata, compressed=False)

    assert deadline.parse(headers[b"x-request-timeout"]) == pytest.approx(seconds)


@pytest.mark.parametrize("timeout", [b"0S", b"0n", b"00000000H"])
def test_no_time_at_all_is_too_late(timeout):
    """A deadline of 0 is over before the call is read."""
    with pytest.raises(TooLate, match=r"\(grpc-timeout\), received none$"):
        headers_of({b"grpc-timeout": timeout}, compressed=False)


@pytest.mark.parametrize(
    "timeout", [b"", b"S", b"5", b"-1S", b"1.5S", b"123456789S", b"1s", b"1 S"]
)
def test_a_wrong_deadline_is_refused(timeout):
    """The message has the form of right ones."""
    text = "^grpc-timeout: expected at most 8 digits and one of H, M, S, m, u and n, received "
    with pytest.raises(BadRequest, match=text):
        headers_of({b"grpc-timeout": timeout}, compressed=False)


@pytest.mark.parametrize(
    ("metadata", "encodings"),
    [
        pytest.param({}, (None, None), id="none"),
        pytest.param({b"grpc-encoding": b"gzip"}, (b"gzip", b"gzip"), id="gzip both ways"),
        pytest.param({b"grpc-encoding": b" GZIP "}, (b"gzip", b"gzip"), id="in any case"),
        pytest.param({b"grpc-encoding": b"deflate"}, (b"deflate", None), id="deflate"),
        pytest.param(
            {b"grpc-encoding": b"deflate", b"grpc-accept-encoding": b"identity, gzip"},
            (b"deflate", b"gzip"),
            id="another answer",
        ),
        pytest.param(
            {b"grpc-encoding": b"gzip", b"grpc-accept-encoding": b"identity"},
            (b"gzip", None),
            id="an answer as it is",
        ),
    ],
)
def test_encodings_become_those_of_http(metadata, encodings):
    """Headers of HTTP about encodings apply to no message."""
    misleading = {b"content-encoding": b"br", b"accept-encoding": b"gzip"}

    headers = headers_of({**misleading, **metadata}, compressed=bool(metadata))

    assert (headers.get(b"content-encoding"), headers.get(b"accept-encoding")) == encodings


def test_the_encoding_does_not_matter_for_a_message_that_is_not_compressed():
    """A client may name an encoding and send some messages as they are."""
    headers = headers_of({b"grpc-encoding": b"snappy"}, compressed=False)

    assert b"content-encoding" not in headers


@pytest.mark.parametrize(
    ("metadata", "code", "text"),
    [
        ({b"grpc-encoding": b"snappy"}, 12, "grpc-encoding: expected one of identity, deflate, "),
        ({b"grpc-encoding": b"identity"}, 13, "compressed message: expected grpc-encoding to say "),
        ({}, 13, "compressed message: expected grpc-encoding to say how, since the prefix of the "),
    ],
)
def test_a_compressed_message_has_a_known_encoding(metadata, code, text):
    """Other encodings are not implemented, and none at all breaks the protocol."""
    with pytest.raises(BadCall, match=f"^{text}") as raised:
        headers_of(metadata, compressed=True)

    assert raised.value.code == code
    accepted = (("grpc-accept-encoding", "identity, deflate, gzip"),)
    assert raised.value.headers == (accepted if code == 12 else ())


def test_the_metadata_themselves_are_left_alone():
    """They are cached by the connection."""
    metadata = {b"grpc-timeout": b"1S", b"accept-encoding": b"br"}

    headers_of(metadata, compressed=False)

    assert metadata == {b"grpc-timeout": b"1S", b"accept-encoding": b"br"}


@pytest.mark.parametrize("kind", [b"", b"+proto", b";charset=utf-8", b"+proto ; x=1"])
def test_messages_are_protobuf(kind):
    """The content type may say so, and may have parameters."""
    check_form(b"POST", {b"content-type": b"application/grpc" + kind})


@pytest.mark.parametrize(
    ("method", "kind", "text"),
    [
        (b"GET", b"application/grpc", "gRPC: expected POST, received GET"),
        (
            b"POST",
            b"application/grpc+json",
            (
                "content-type: expected application/grpc or application/grpc+proto, received "
                "application/grpc+json"
            ),
        ),
    ],
)
def test_other_forms_are_not_implemented(method, kind, text):
    """A call is a POST of protobuf."""
    with pytest.raises(BadCall) as raised:
        check_form(method, {b"content-type": kind})

    assert (raised.value.code, str(raised.value)) == (12, text)
