"""Lines that a thread writes: whole ones, in order, and dropped where nobody reads them."""

import errno
import fcntl
import os
import select
import time

import pytest

from service.observability import line_writer
from service.observability.line_writer import LineWriter
from tests.harness.waiting import until


@pytest.fixture(name="pipe")
def _pipe():
    """Yield the reading and the writing end of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def lines(number, size=100):
    """Return numbered lines of the same size."""
    return [b"%0*d\n" % (size - 1, i) for i in range(number)]


def read(end, size):
    """Read so many bytes."""
    data = b""
    while len(data) < size:
        data += os.read(end, size - len(data))
    return data


def test_lines_are_written_in_order(pipe):
    """They are written once they are flushed, or once they are many."""
    source, sink = pipe
    writer = LineWriter(sink, "lines")
    few, many = lines(3), lines(2000)
    for line in few:
        writer.add(line)
    assert not select.select([source], [], [], 0.05)[0]
    writer.flush()
    assert read(source, 300) == b"".join(few)

    for line in many:
        writer.add(line)
    writer.flush()

    assert read(source, 200_000) == b"".join(many)
    assert writer.dropped == 0


def test_a_write_has_whole_lines_and_no_more_bytes_than_the_kernel_keeps_together(
    pipe, monkeypatch
):
    """Other processes write to the same pipe."""
    written = []
    write = os.write
    monkeypatch.setattr(
        line_writer.os, "write", lambda fd, data: written.append(data) or write(fd, data)
    )
    writer = LineWriter(pipe[1], "lines")
    for line in lines(200, 300):
        writer.add(line)

    writer.close(10)

    assert b"".join(written) == b"".join(lines(200, 300))
    assert {data[-1:] for data in written} == {b"\n"}
    assert max(map(len, written)) <= select.PIPE_BUF
    assert len(written) < 20


def test_a_file_takes_many_lines_at_once(tmp_path, monkeypatch):
    """Each write costs the thread its turn; still, no line is in two writes."""
    written = []
    write = os.write
    monkeypatch.setattr(
        line_writer.os, "write", lambda fd, data: written.append(data) or write(fd, data)
    )
    file = tmp_path / "lines"
    with file.open("wb") as sink:
        writer = LineWriter(sink.fileno(), "lines")
        for line in lines(1000, 300):
            writer.add(line)
        writer.close(10)

    assert file.read_bytes() == b"".join(lines(1000, 300))
    assert {data[-1:] for data in written} == {b"\n"}
    assert len(written) < 20


def test_a_full_disk_spoils_one_line(tmp_path, monkeypatch):
    """The line that it took a part of ends there, and counts as dropped with those behind it."""
    write = os.write

    def fill(descriptor, data):
        if len(data) < 300:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:250])

    file = tmp_path / "lines"
    first, then = lines(5)[:5], [b"a\n", b"b\n"]
    with file.open("wb") as sink:
        writer = LineWriter(sink.fileno(), "lines")
        with monkeypatch.context() as patched:
            patched.setattr(line_writer.os, "write", fill)
            for line in first:
                writer.add(line)
            writer.close(10)
        for line in then:
            writer.add(line)
        writer.close(10)

    assert file.read_bytes() == b"".join(first)[:250] + b"\n" + b"".join(then)
    assert writer.dropped == 3


def test_lines_are_dropped_while_nobody_reads(pipe, monkeypatch):
    """What waits has a bound, and adding goes on; each line is written whole, once or never.

    Which lines are dropped depends on when the thread takes them.
    """
    monkeypatch.setattr(line_writer, "MOST_BYTES", 100_000)
    source, sink = pipe
    writer = LineWriter(sink, "lines")
    sent = lines(10_000)
    for line in sent:
        writer.add(line)
        writer.flush()
    dropped = writer.dropped
    # The kernel has what a pipe takes, besides.
    most = (100_000 + fcntl.fcntl(sink, fcntl.F_GETPIPE_SZ)) // 100
    assert 1_000 <= 10_000 - dropped <= most

    kept = read(source, 100 * (10_000 - dropped)).splitlines(keepends=True)
    until(lambda: writer._done == writer._added)
    writer.add(b"the end\n")
    writer.flush()

    assert kept == sorted(set(kept))
    assert set(kept) <= set(sent)
    assert read(source, 8) == b"the end\n"
    assert writer.dropped == dropped


def test_the_end_waits_for_a_reader_for_so_long(pipe, monkeypatch):
    """A service stops, whoever reads its lines."""
    source, sink = pipe
    writer = LineWriter(sink, "lines")
    sent = lines(5_000)
    for line in sent:
        writer.add(line)
    before = time.monotonic()

    writer.close(0.1)

    assert 0.1 <= time.monotonic() - before < 10
    # No thread may write to a pipe that the next test has closed, or opened.
    assert read(source, 500_000) == b"".join(sent)


def test_a_reader_that_has_gone_costs_its_lines(caplog):
    """They count as dropped, and the log says so once."""
    source, sink = os.pipe()
    writer = LineWriter(sink, "lines")
    os.close(source)
    for line in lines(3):
        writer.add(line)
        writer.flush()

    until(lambda: writer.dropped == 3)

    assert [record.getMessage() for record in caplog.records] == [
        "lines: cannot be written: Broken pipe"
    ]
    os.close(sink)


def test_a_descriptor_that_does_not_block_is_waited_for(pipe):
    """It may be shared with another process, which has set that."""
    source, sink = pipe
    os.set_blocking(sink, False)
    writer = LineWriter(sink, "lines")
    sent = lines(3_000)
    for line in sent:
        writer.add(line)
    writer.flush()

    time.sleep(0.05)

    assert read(source, 300_000) == b"".join(sent)
    assert writer.dropped == 0
