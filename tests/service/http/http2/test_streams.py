"""What a peer may send for nothing, and how a connection ends when it sends more."""

from __future__ import annotations

import itertools

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.http2 import budgets, fields, frames
from service.http.http2.streams import FRAMES_AT_ONCE, MAX_STREAMS
from tests.harness.http2_streams import BEGIN, HEAD, frame, request, streams

ODD = itertools.count(1, 2)
LITERAL = b"\0\1x\1y"


def begun():
    """Return streams that have had a client's first frames, and their receiver."""
    new, recorder = streams()
    new.receive(b"".join(BEGIN))
    return new, recorder


def handle(new, data):
    """Have all bytes handled, in as many turns as that takes; return their number."""
    turns = 1
    more = new.receive(data)
    while more:
        more = new.receive(b"")
        turns += 1
    return turns


def goaway(recorder):
    """Return the code and the message of the GOAWAY frame that was sent; `None` if none was."""
    at = 0
    while at < len(recorder.sent):
        high, low, kind, _, _ = frames.HEADER.unpack_from(recorder.sent, at)
        at += frames.HEADER_SIZE
        size = high << 8 | low
        if kind == frames.GOAWAY:
            payload = recorder.sent[at : at + size]
            return int.from_bytes(payload[4:8], "big"), payload[8:].decode()
        at += size
    return None


def reset_at_once(number):
    """Return a request that its client resets: the rapid reset of CVE-2023-44487."""
    return request(number) + frames.rst_stream(number, frames.CANCEL)


def made_to_reset(number):
    """Return a request that the service resets: CVE-2025-8671."""
    return request(number, (b"content-length", b"0")) + frame(frames.DATA, 0, number, b"x")


FLOODS = {
    "rapid reset": (budgets.RESETS, reset_at_once),
    "made to reset": (budgets.RESETS, made_to_reset),
    "data after the end": (
        budgets.RESETS,
        lambda n: request(n, ends=True) + frame(frames.DATA, 0, n, b"x"),
    ),
    "malformed requests": (budgets.RESETS, lambda n: frame(frames.HEADERS, 4, n, LITERAL)),
    "settings": (budgets.SETTINGS, lambda _: frames.settings({})),
    "acknowledgements": (budgets.SETTINGS, lambda _: frames.SETTINGS_ACK),
    "goaway": (budgets.SETTINGS, lambda _: frames.goaway(0, 0)),
    "pings": (budgets.PINGS, lambda _: frame(frames.PING, 0, 0, b"x" * 8)),
    "answers to pings": (budgets.PINGS, lambda _: frame(frames.PING, frames.ACK, 0, b"x" * 8)),
    "empty data": (budgets.EMPTY, lambda _: frame(frames.DATA, 0, 1)),
    "padding alone": (budgets.EMPTY, lambda _: frame(frames.DATA, frames.PADDED, 1, b"\1\0")),
    "empty continuations": (budgets.EMPTY, lambda _: frame(frames.CONTINUATION, 0, 3)),
    "priorities": (budgets.PRIORITIES, lambda n: frame(frames.PRIORITY, 0, n, b"\0\0\0\0\1")),
    "unknown frames": (budgets.UNKNOWN, lambda _: frame(0x42, 0, 0, b"x")),
    "windows": (budgets.WINDOW_UPDATES, lambda _: frames.window_update(0, 1)),
    "windows of closed streams": (budgets.WINDOW_UPDATES, lambda _: frames.window_update(1, 1)),
}
# What has to come before a flood.
FIRST = {
    "empty data": request(1),
    "padding alone": request(1),
    "empty continuations": frame(frames.HEADERS, 0, 3),
    "windows of closed streams": request(1) + frames.rst_stream(1, 0),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_ended(flood):
    """After more frames than its budget, the peer is told to calm down, and is read no more."""
    kind, make = FLOODS[flood]
    new, recorder = begun()
    handle(new, FIRST.get(flood, b""))
    budget = budgets.BUDGETS[kind]
    sent = 0
    while not new.has_failed:
        handle(new, make(2 * sent + 5))
        sent += 1
    assert budget.share // 3 <= sent <= budget.share + 2
    code, message = goaway(recorder)
    assert code == frames.ENHANCE_YOUR_CALM
    assert budget.what in message
    known = len(recorder.events)
    assert not new.receive(request(10**6 + 1, ends=True))
    assert len(recorder.events) == known


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_that_recovers_in_time_is_none(flood):
    """Each second, a connection may send some frames of each kind, for as long as it lasts."""
    kind, make = FLOODS[flood]
    new, recorder = begun()
    handle(new, FIRST.get(flood, b""))
    number = 5
    for _ in range(100):
        for _ in range(budgets.BUDGETS[kind].each_second // 2):
            handle(new, make(number))
            number += 2
        new.budgets.tick()
    assert not new.has_failed
    assert goaway(recorder) is None


def test_requests_that_are_answered_pay_for_what_comes_with_them():
    """GRPC sends a PING and some WINDOW_UPDATE for nearly each answer, and long headers at will."""
    new, recorder = begun()
    for number in range(1, 20_001, 2):
        handle(new, request(number, (b"x", b"y" * 2000), ends=True))
        stream = new.open[number]
        new.sending.answer(stream, b"\x88", b"content", b"")
        handle(new, frame(frames.PING, 0, 0, b"x" * 8) + frames.window_update(0, 7) * 2)
        if number % 1000 == 1:
            new.budgets.tick()
    assert goaway(recorder) is None
    assert new.open == {}


def test_long_headers_of_requests_that_are_given_up_have_a_bound():
    """To decode them is most of the work, and it is the client's choice."""
    new, recorder = begun()
    for number in range(1, 2000, 2):
        handle(new, request(number, (b"x", b"y" * 15_000)) + frames.rst_stream(number, 8))
        if new.has_failed:
            break
    assert number < 100
    assert "header bytes" in goaway(recorder)[1]


def test_a_header_block_has_a_bound_in_bytes_and_in_frames():
    """A client cannot keep a block open (CVE-2024-27316), nor send one that becomes large."""
    new, recorder = begun()
    handle(new, frame(frames.HEADERS, 0, 1, LITERAL))
    for _ in range(10_000):
        handle(new, frame(frames.CONTINUATION, 0, 1, LITERAL * 100))
        if new.has_failed:
            break
    assert goaway(recorder) == (
        frames.ENHANCE_YOUR_CALM,
        f"header block: expected at most {fields.MAX_BLOCK} bytes, received more",
    )
    new, recorder = begun()
    # One long entry of the table, and a thousand references to it.
    long = b"\x40\1x\x7f\x91\x1e" + b"y" * 4000
    handle(new, frame(frames.HEADERS, 4, 1, long + b"\xbe" * 1000))
    code, message = goaway(recorder)
    assert code == frames.ENHANCE_YOUR_CALM
    assert message == f"headers: expected at most {fields.MAX_LIST} bytes, received more"


def test_changes_of_the_tables_size_have_a_bound():
    """Two are allowed at the beginning of a block; a thousand would take long."""
    new, recorder = begun()
    block = hpack.Encoder().encode(HEAD)
    handle(new, frame(frames.HEADERS, 4, 1, b"\x20\x3f\xe1\x1f" + block))
    assert [event[1] for event in recorder.events] == [1]
    handle(new, frame(frames.HEADERS, 4, 3, b"\x20" * 3 + block))
    assert goaway(recorder)[0] == frames.COMPRESSION_ERROR


def test_many_settings_in_a_frame_are_refused():
    """Each may change every stream."""
    new, recorder = begun()
    one = frames.SETTING.pack(frames.INITIAL_WINDOW_SIZE, 1)
    handle(new, frame(frames.SETTINGS, 0, 0, one * 100))
    assert goaway(recorder)[0] == frames.ENHANCE_YOUR_CALM


def test_one_client_does_not_take_the_whole_turn():
    """Frames, and blocks that have to be decoded, are handled in several turns."""
    new, _ = begun()
    assert handle(new, frames.window_update(0, 1) * (3 * FRAMES_AT_ONCE)) >= 3
    new, _ = begun()
    blocks = [request(n, (b"x", b"y" * 15_000), ends=True) for n in range(1, 21, 2)]
    assert handle(new, b"".join(blocks)) >= 5


def test_more_streams_than_allowed_are_refused_one_by_one():
    """The others go on."""
    new, recorder = begun()
    for number in range(1, 2 * MAX_STREAMS + 3, 2):
        handle(new, request(number))
    assert recorder.faults() == [2 * MAX_STREAMS + 1]
    assert len(new.open) == MAX_STREAMS


def test_frames_of_a_stream_that_was_reset_here_are_ignored():
    """They were on their way; their header blocks still change the table."""
    new, recorder = begun()
    encoder = hpack.Encoder()
    handle(new, frame(frames.HEADERS, 4, 1, encoder.encode(HEAD)))
    new.reset(new.open[1], frames.CANCEL)
    handle(new, frame(frames.DATA, 0, 1, b"late"))
    handle(new, frame(frames.HEADERS, 5, 1, encoder.encode([(b"late", b"trailer")])))
    handle(new, frame(frames.HEADERS, 5, 3, encoder.encode([*HEAD, (b"late", b"trailer")])))
    assert recorder.faults() == [1]
    assert recorder.events[-2][4][b"late"] == b"trailer"


@pytest.mark.parametrize("wrong", [b"GET / HTTP/1.1\r\n", frames.PREFACE[:-1] + b"x"])
def test_a_wrong_preface_ends_the_connection(wrong):
    """A client that has agreed on HTTP/2 by TLS has to begin it (h2spec 3.5)."""
    new, recorder = streams()
    handle(new, wrong)
    assert goaway(recorder)[0] == frames.PROTOCOL_ERROR


def test_settings_come_first():
    """Another frame, or an acknowledgement, is no beginning (3.4)."""
    for first in (frames.SETTINGS_ACK, request(1)):
        new, recorder = streams()
        handle(new, frames.PREFACE + first)
        assert goaway(recorder)[0] == frames.PROTOCOL_ERROR
        assert recorder.events == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 1, 1, 3]),
            st.sampled_from([0, 1, 1023, 1024, 5000, 16_384]),
            st.sampled_from([0, 0, 0, 0, frames.PADDED, frames.END_STREAM]),
        ),
        max_size=20,
    ),
    st.integers(1, 40_000),
)
def test_frames_of_a_body_mean_the_same_together(steps, size):
    """Frames that follow each other are handled as one, and windows, bodies and ends are theirs."""
    parts = [*BEGIN, request(1), request(3)]
    for number, length, flags in steps:
        text = bytes([length % 251]) * length
        padded = b"\2" + text + b"\0\0" if flags == frames.PADDED else text
        parts.append(frame(frames.DATA, flags, number, padded[:16_384]))
    data = b"".join(parts)
    outcomes = []
    for pieces in (len(data), size, None):
        new, recorder = streams()
        if pieces is None:
            for part in parts:
                handle(new, part)
        else:
            for at in range(0, len(data), pieces):
                handle(new, data[at : at + pieces])
        bodies = {1: b"", 3: b""}
        for kind, number, *rest in recorder.events:
            if kind == "data":
                bodies[number] += rest[0]
        ends = [event for event in recorder.events if event[0] == "ended"]
        windows = {n: (s.window, s.credit, s.received) for n, s in new.open.items()}
        outcomes.append((bodies, ends, windows, recorder.faults(), new._window, new._credit))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_streams_after_goaway_are_ignored():
    """The client knows from its last stream that they were not answered."""
    new, recorder = begun()
    handle(new, request(1))
    new.leave(1)
    handle(new, request(3, ends=True) + frame(frames.DATA, 1, 1, b"x"))
    assert [event[:2] for event in recorder.events] == [("request", 1), ("data", 1), ("ended", 1)]


def test_a_smaller_table_is_confirmed_in_the_next_header_block():
    """A client that has shrunk its table refuses answers that do not say so, and is told once."""
    new, recorder = begun()
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    handle(new, frames.settings({frames.HEADER_TABLE_SIZE: 0}) + request(1, ends=True))
    handle(new, frames.settings({frames.HEADER_TABLE_SIZE: 0}) + request(3, ends=True))
    recorder.sent = b""
    for number in (1, 3):
        new.sending.answer(new.open[number], b"\x88", b"", b"")

    first, second = b"\x20\x88", b"\x88"
    assert recorder.sent == frame(1, 5, 1, first) + frame(1, 5, 3, second)
    assert decoder.decode(first) == decoder.decode(second) == [(":status", "200")]
