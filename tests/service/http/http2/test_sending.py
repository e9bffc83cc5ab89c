"""Answers against a peer that grants windows as it likes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from service.http.http2 import frames
from tests.harness.http2_streams import BEGIN, request, streams

steps = st.lists(
    st.tuples(
        st.sampled_from([*"aaawwwWsfp"]),
        st.integers(0, 4),
        st.sampled_from([0, 1, 10, 1000, 16_384, 16_385, 70_000, 300_000]),
    ),
    max_size=30,
)


class Reader:
    """The client's side: what has come, and whether it was allowed to come."""

    def __init__(self):
        self.window = frames.DEFAULT_WINDOW
        self.windows = {}
        self.initial = frames.DEFAULT_WINDOW
        self.frame = frames.DEFAULT_FRAME
        self.bodies = {}
        self.ended = set()

    def read(self, data):
        """Follow the frames of the service."""
        at = 0
        while at < len(data):
            high, low, kind, flags, number = frames.HEADER.unpack_from(data, at)
            at += frames.HEADER_SIZE
            size = high << 8 | low
            payload = data[at : at + size]
            at += size
            if kind not in (frames.DATA, frames.HEADERS):
                continue
            assert number not in self.ended
            if kind == frames.DATA:
                assert size <= self.frame
                self.window -= size
                self.windows[number] -= size
                assert size == 0 or (self.window >= 0 and self.windows[number] >= 0)
                self.bodies[number] += payload
            if flags & frames.END_STREAM:
                self.ended.add(number)


@settings(max_examples=500)
@given(steps)
def test_answers_keep_to_the_windows_and_come_whole(script):
    """No window is overrun, no byte is lost or out of order, and each answer ends once."""
    new, recorder = streams()
    new.receive(b"".join(BEGIN))
    reader, expected, number = Reader(), {}, 1
    for kind, which, size in script:
        if kind == "a":
            reader.windows[number], reader.bodies[number] = reader.initial, b""
            new.receive(request(number, ends=True))
            body = bytes(i % 251 for i in range(min(size, 5000))) * (1 + size // 5000)
            expected[number] = body
            trailers = b"" if which % 2 else b"\0\1x\1y"
            new.sending.answer(new.open[number], b"\x88", body, trailers)
            number += 2
        elif kind == "w" and size and 2 * which + 1 in reader.windows:
            reader.windows[2 * which + 1] += size
            new.receive(frames.window_update(2 * which + 1, size))
        elif kind == "W" and size:
            reader.window += size
            new.receive(frames.window_update(0, size))
        elif kind == "s":
            change = size - reader.initial
            reader.initial = size
            for each in reader.windows:
                reader.windows[each] += change
            new.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: size}))
        elif kind == "f":
            reader.frame = max(reader.frame, 16_384 + size)
            new.receive(frames.settings({frames.MAX_FRAME_SIZE: reader.frame}))
        else:
            new.sending.is_paused = bool(which % 2)
            new.sending.flush()
        reader.read(recorder.sent)
        recorder.sent = b""
    assert all(expected[each].startswith(body) for each, body in reader.bodies.items())
    new.sending.is_paused = False
    new.receive(frames.window_update(0, 10**8))
    for each in list(reader.windows):
        reader.windows[each] += 10**8
        new.receive(frames.window_update(each, 10**8))
    reader.window += 10**8
    for _ in range(200):
        new.sending.flush()
    reader.read(recorder.sent)
    assert not new.has_failed
    assert reader.bodies == expected
    assert reader.ended == {*expected}
    assert (new.sending.total, new.sending.waiting, new.open) == (0, {}, {})


def test_streams_take_turns():
    """A long answer does not hold up a short one that waits for the same window."""
    new, recorder = streams()
    new.receive(b"".join(BEGIN) + request(1, ends=True) + request(3, ends=True))
    new.sending.window = 0
    for number, size in ((1, 10**6), (3, 20_000)):
        new.sending.answer(new.open[number], b"\x88", b"x" * size, b"")
    recorder.sent = b""
    new.receive(frames.window_update(0, 60_000))
    order, at = [], 0
    while at < len(recorder.sent):
        high, low, _, _, number = frames.HEADER.unpack_from(recorder.sent, at)
        order.append(number)
        at += frames.HEADER_SIZE + (high << 8 | low)
    assert order[:4] == [1, 3, 1, 3]


def test_an_answer_counts_until_its_last_byte_is_sent():
    """All of it stays in memory as long: a client cannot leave a byte of each of many."""
    new, recorder = streams()
    new.receive(b"".join(BEGIN) + request(1, ends=True) + request(3, ends=True))
    new.sending.window = new.sending.initial = 10**7
    for number in (1, 3):
        new.open[number].send_window = 99_999
        new.sending.answer(new.open[number], b"\x88", b"x" * 100_000, b"")
    new.sending.flush()
    assert len(recorder.sent) > 199_000
    assert [stream.waiting for stream in new.open.values()] == [1, 1]
    assert new.sending.total == 200_000
    new.receive(frames.window_update(1, 1) + frames.rst_stream(3, frames.CANCEL))
    assert (new.sending.total, new.sending.waiting, new.open) == (0, {}, {})
