"""Header blocks: the same as without the cache, and answers that any decoder reads."""

from __future__ import annotations

import tracemalloc

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.http2 import answers
from service.http.http2.fields import FieldDecoder, Malformed
from tests.harness.http2_streams import HEAD

names = st.sampled_from([b"x", b"accept", b"user-agent", b"content-type", b"cookie"])
values = st.sampled_from([b"", b"1", b"a longer value", b"application/grpc", b"application/json"])
heads = st.lists(
    st.tuples(names, values, st.sampled_from(["table", "literal", "secret"])), max_size=4
)


@given(st.lists(st.tuples(heads, st.sampled_from([None, 0, 100, 4096])), max_size=12))
def test_a_block_that_is_known_means_what_it_meant(blocks):
    """The cache gives the blocks of a decoder that has none, whatever happens to the table."""
    encoder, ours = hpack.Encoder(), FieldDecoder()
    for fields, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        parts = [hpack.HeaderTuple(*item) for item in HEAD]
        parts += [
            hpack.NeverIndexedHeaderTuple(name, value)
            if how == "secret"
            else hpack.HeaderTuple(name, value)
            for name, value, how in fields
        ]
        block = encoder.encode(parts)
        head, _ = ours.parse(block)
        expected = {b"host": b"a"}
        for name, value, _ in fields:
            between = b"; " if name == b"cookie" else b","
            known = expected.get(name)
            expected[name] = value if known is None else known + between + value
        assert head.headers == expected
        assert (
            head.is_grpc
            == expected.get(b"content-type", b"").split(b",")[0].startswith(b"application/grpc")
            or b"," in expected[b"content-type"]
        )


def test_a_repeated_block_is_decoded_once():
    """It is not decoded again until the table changes."""
    encoder, ours = hpack.Encoder(), FieldDecoder()
    first, second = encoder.encode(HEAD), encoder.encode(HEAD)
    first_head, is_new = ours.parse(first)
    assert is_new
    assert ours.parse(second)[1]
    assert not ours.parse(second)[1]
    assert ours.parse(encoder.encode([*HEAD, (b"x", b"1")]))[1]
    assert ours.parse(encoder.encode(HEAD)) == (first_head, True)


def test_what_is_known_of_a_connection_has_a_bound():
    """A client cannot have megabytes kept for kilobytes of headers, and be idle."""
    fields = [(b"%04d" % i, b"", True) for i in range(150)]
    many, long = hpack.Encoder(), hpack.Encoder()
    entry = (b"y", b"z" * 3000)
    kept = [many.encode(HEAD)] + [
        many.encode([*HEAD, *fields, (b"x", b"%d" % i, True)]) for i in range(100)
    ]
    others = [long.encode([*HEAD, entry])] + [
        long.encode([*HEAD, *[entry] * 4, (b"x", b"%d" % i, True)]) for i in range(100)
    ]
    decoders = FieldDecoder(), FieldDecoder()
    tracemalloc.start()
    for decoder, blocks in zip(decoders, (kept, others), strict=True):
        for block in blocks:
            assert decoder.parse(block)[1]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 100_000


@pytest.mark.parametrize(
    ("kind", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=x", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
    ],
)
def test_calls_of_grpc_are_known_by_their_content_type(kind, is_grpc):
    """Other protocols that begin with its name are not gRPC."""
    block = hpack.Encoder().encode([*HEAD, (b"content-type", kind)])
    assert FieldDecoder().parse(block)[0].is_grpc == is_grpc


@pytest.mark.parametrize("value", [b"Bearer ", b" Bearer", b"\tBearer\t "])
def test_blanks_around_a_value_are_no_part_of_it(value):
    """A client that HTTP/1.1 would answer is answered: `-H "Authorization: Bearer $UNSET"`."""
    block = hpack.Encoder().encode([*HEAD, (b"authorization", value)])
    assert FieldDecoder().parse(block)[0].headers[b"authorization"] == b"Bearer"


@pytest.mark.parametrize("target", [b"x", b"", b"/a b", b"/a\x00", b"http://x/", b"*"])
def test_a_target_that_http_1_1_would_refuse_is_refused(target):
    """It would reach the app in a form that it never has there."""
    head = [(name, target if name == b":path" else value) for name, value in HEAD]
    with pytest.raises(Malformed):
        FieldDecoder().parse(hpack.Encoder().encode(head))


lines = st.lists(
    st.tuples(
        st.sampled_from([b"content-type", b"x-request-id", b"vary", b"X-Other", b"retry-after"]),
        st.binary(max_size=300).filter(lambda value: not {*value} & {*b"\r\n"}),
    )
)


@given(st.integers(100, 599), lines)
def test_an_answer_is_read_by_any_decoder(status, fields):
    """Blocks refer to nothing that was sent before."""
    text = b"".join(b"%b: %b\r\n" % item for item in fields)
    block = answers.encode_status(status) + answers.encode(text)
    assert hpack.Decoder().decode(block, raw=True) == [
        (b":status", b"%d" % status),
        *((name.lower(), value) for name, value in fields),
    ]
