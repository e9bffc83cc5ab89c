"""`Streams` against the library h2, as the server of the same frames (RFC 9113).

Both get the same bytes.  Requests, bodies and ends must be the same in the same order, and an error
of one must be an error of the other; h2 ends the connection for some that concern one stream.
"""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from service.http.http2 import frames
from service.http.http2.fields import MAX_LIST
from service.http.http2.streams import MAX_STREAMS, WINDOW
from tests.harness.http2_streams import BEGIN, frame, streams

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p"), (b":authority", b"a")]
# Each is a change of a good request that both refuse, or that both take.
CHANGED = [
    *(HEAD[:i] + HEAD[i + 1 :] for i in range(3)),
    HEAD[:3],
    [*HEAD, HEAD[0]],
    [*HEAD[:3], (b"x", b"1"), HEAD[3]],
    [*HEAD, (b":status", b"200")],
    [*HEAD, (b":x", b"1")],
    [*HEAD, (b"X", b"1")],
    [*HEAD, (b"x", b"1\r")],
    [*HEAD, (b"connection", b"close")],
    [*HEAD, (b"transfer-encoding", b"chunked")],
    [*HEAD, (b"te", b"trailers")],
    [*HEAD, (b"te", b"gzip")],
    [*HEAD, (b"host", b"a")],
    [*HEAD, (b"host", b"b")],
    [*HEAD, (b"content-length", b"3")],
    [*HEAD, (b"content-length", b"x")],
    [*HEAD, (b"cookie", b"a=1"), (b"cookie", b"b=2")],
    [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b""), (b":authority", b"a")],
]
TRAILERS = [[(b"x", b"1")], [(b":path", b"/")], [(b"connection", b"close")], []]


ids = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 0, 2])
numbers = st.sampled_from([0, 1, 2, 5, 65535, 2**31 - 1])
heads = st.one_of(st.just(HEAD), st.just(HEAD), st.just(HEAD), st.sampled_from(CHANGED))
# Requests, bodies and their ends come more often than other frames.
kinds = st.sampled_from([*"hhhhddddetswwprPuCx"])
step = st.tuples(kinds, ids, heads, st.booleans(), st.booleans(), numbers, st.binary(max_size=9))


def written(steps):  # noqa: PLR0912  a branch for each kind of frame
    """Return the frames of a client that does these steps; header blocks depend on each other."""
    encoder = hpack.Encoder()
    for kind, stream, fields, one, two, value, text in steps:
        end = frames.END_STREAM if one else 0
        if kind in "ht":
            block = encoder.encode(fields if kind == "h" else TRAILERS[value % 4], huffman=two)
            cut = value % len(block) if two and block else len(block)
            whole = frames.END_HEADERS if cut == len(block) else 0
            yield frame(frames.HEADERS, end | whole, stream, block[:cut])
            if not whole:
                yield frame(frames.CONTINUATION, frames.END_HEADERS, stream, block[cut:])
        elif kind == "d" and two:
            padded = bytes((value % 5,)) + text + bytes(value % 5)
            yield frame(frames.DATA, end | frames.PADDED, stream, padded)
        elif kind == "d":
            yield frame(frames.DATA, end, stream, text)
        elif kind == "e":
            yield frame(frames.DATA, frames.END_STREAM, stream)
        elif kind == "s":
            setting = frames.SETTING.pack(value % 7 + 1, value)
            yield frame(frames.SETTINGS, 0, 0 if one else stream, setting)
        elif kind == "w":
            yield frames.window_update(stream, value)
        elif kind == "p":
            yield frame(frames.PING, end, 0 if one else stream, text[:8].ljust(8))
        elif kind == "r":
            yield frames.rst_stream(stream, value % 14)
        elif kind == "P":
            yield frame(frames.PRIORITY, 0, stream, frames.NUMBER.pack(value) + b"\x10")
        elif kind == "u":
            yield frame(20 + value % 9, value % 256, stream, text)
        elif kind == "C":
            yield frame(frames.CONTINUATION, frames.END_HEADERS, stream, text)
        else:
            # Without GOAWAY, after which h2 takes nothing, and a client may still send.
            yield frame((0, 1, 2, 3, 4, 5, 6, 8, 9)[value % 9], value % 256, stream, text)


def oracle():
    """Return h2 with the same settings."""
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    connection = h2.connection.H2Connection(config)
    codes = h2.settings.SettingCodes
    connection.local_settings = h2.settings.Settings(
        client=False,
        initial_values={
            codes.INITIAL_WINDOW_SIZE: WINDOW,
            codes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            codes.MAX_HEADER_LIST_SIZE: MAX_LIST,
        },
    )
    connection.initiate_connection()
    connection.increment_flow_control_window(WINDOW - frames.DEFAULT_WINDOW)
    return connection


def told(connection, data):
    """Return what h2 makes of a frame, as `Streams` would tell it, and whether that is an error."""
    events = []
    try:
        came = connection.receive_data(data)
    except h2.exceptions.ProtocolError:
        return events, True
    is_wrong = False
    for event in came:
        if isinstance(event, h2.events.RequestReceived):
            events.append(("request", event.stream_id, *request(event.headers)))
        elif isinstance(event, h2.events.DataReceived):
            if event.data:
                events.append(("data", event.stream_id, event.data))
            if event.flow_controlled_length:
                size = event.flow_controlled_length
                connection.acknowledge_received_data(size, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            events.append(("ended", event.stream_id))
        elif isinstance(event, h2.events.StreamReset) and not event.remote_reset:
            is_wrong = True
    return events, is_wrong


def request(fields):
    """Return the method, the target and the headers of a request, as `Head` has them."""
    pseudo = {name: value for name, value in fields if name.startswith(b":")}
    headers = {}
    for name, value in fields:
        if name == b"cookie" and name in headers:
            headers[name] += b"; " + value
        elif not name.startswith(b":"):
            headers[name] = value
    headers.setdefault(b"host", pseudo.get(b":authority"))
    return pseudo[b":method"], pseudo[b":path"], headers


def is_more_lenient(data, highest):
    """Return whether h2 takes a frame that RFC 9113 has refused."""
    _, _, kind, flags, stream = frames.HEADER.unpack_from(data)
    # A stream that is idle, so that there is nothing to reset (5.1, 6.4); and CONTINUATION with no
    # header block before it (6.10).
    if kind in (frames.RST_STREAM, frames.CONTINUATION):
        return True
    # A frame on a stream that the client has reset, or has passed over (5.1, 5.1.1).
    if kind in (frames.DATA, frames.HEADERS) and stream <= highest:
        return True
    # A request that has ended, and lacks the body that its Content-Length announces (8.1.1).
    return kind == frames.HEADERS and flags & frames.END_STREAM


@settings(max_examples=2000)
@given(st.lists(step, max_size=14))
def test_the_streams_and_h2_make_the_same_of_the_same_frames(steps):
    """Until the first mistake, both tell the same; and both find the mistake in the same frame."""
    ours, recorder = streams()
    theirs = oracle()
    for data in (*BEGIN, *written(steps)):
        known, had, highest = len(recorder.events), len(recorder.faults()), ours.highest
        assert not ours.receive(data)
        events, is_wrong = told(theirs, data)
        found = len(recorder.faults()) > had
        if found and not is_wrong:
            assert is_more_lenient(data, highest)
            return
        assert found == is_wrong, (data, recorder.events, recorder.faults(), steps)
        if is_wrong:
            return
        assert recorder.events[known:] == events


@settings(max_examples=300)
@given(st.lists(step, max_size=14), st.integers(1, 40))
def test_frames_mean_the_same_in_whatever_pieces_they_come(steps, size):
    """A frame that comes byte by byte is the same as one that comes whole."""
    data = b"".join([*BEGIN, *written(steps)])
    whole, recorder = streams()
    whole.receive(data)
    pieces, other = streams()
    for i in range(0, len(data), size):
        pieces.receive(data[i : i + size])

    assert other.events == recorder.events
    assert other.sent == recorder.sent
