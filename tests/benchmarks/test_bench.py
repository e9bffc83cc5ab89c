"""The benchmark's load over HTTP/2, and its tables of the other ways to ask."""

import pytest

from benchmarks import load_http2, plot, report, results, ways
from benchmarks.load import Load, NoLoadError
from benchmarks.results import CELLS, Result, Sample

PRINTED = """\
finished in 2.00s, 1500.00 req/s, 1.10MB/s
requests: 3000 total, 3016 started, 3000 done, 2999 succeeded, 3 failed, 2 errored, 1 timeout
status codes: 2999 2xx, 0 3xx, 1 4xx, 0 5xx
traffic: 2.20MB (2300000) total, 500.00KB (512000) headers (space savings 9%), 292KB (299000) data
"""


def test_the_load_over_http2_is_read():
    """Rates, percentiles and errors come from what h2load prints and logs."""
    lines = [f"{start} 200 {start + 1}" for start in range(1000)]

    load = load_http2.read(PRINTED, [*lines, "0 200 11000000"])

    assert (load.requests, load.seconds) == (3000, 2.0)
    assert (load.p50, load.p99, load.p999) == (0.501, 0.991, 1.0)
    assert (load.refused, load.late, load.broken) == (1, 1, 3)


def test_answers_of_another_size_are_errors():
    """An error of gRPC has the status 200 and no body, so the bytes of all answers are compared."""
    assert load_http2.read(PRINTED, [], answer=100).refused == 1 + 3000 - 3 - 2990
    assert load_http2.read(PRINTED, [], answer=90).refused == 1


def test_other_output_is_refused():
    """What h2load did not print is no measurement."""
    with pytest.raises(NoLoadError, match="summary"):
        load_http2.read("no such host", [])


def _result(*samples):
    """Return a result of samples: server, cell, calls a second and their processor time."""
    made = Result("now", "abc", results.machine(), {}, 1.0, 1, slow_sender=False, floor={})
    for server, cell, rate, cpu in samples:
        made.samples.append(Sample(server, cell, 0, Load(rate, 1.0, 1.0, 2.0, 0, 0, 0), cpu))
    return made


def test_the_other_ways_are_beside_json_and_their_peer():
    """Each has a row beside JSON; calls by gRPC have one beside grpcio's server too."""
    result = _result(
        *(("triceps", "W1-16", 1000, 50.0), ("naive", "W1-16", 100, 500.0)),
        ("triceps", "http1-W1-16", 1000, 50.0),
        *(("triceps", "grpc-W1-16", 900, 55.0), ("grpcio", "grpc-W1-16", 300, 250.0)),
    )

    found = {table.title: table for table in report.tables(result)}

    first, row = found["Triceps asked in other ways: binary tensors, HTTP/2, gRPC"].rows
    assert first[:3] == ("http1-W1-16", "1,000", "1.00 (W1-16)")
    assert row == ("grpc-W1-16", "900", "0.90 (http1-W1-16)", "2.00", "55", "1.10")
    [row] = found["Calls by gRPC, beside a server of grpcio with asyncio"].rows
    assert row[:4] == ("grpc-W1-16", "900", "300", "3.00")
    assert "grpcio" not in next(iter(found.values())).header
    assert [*report.shortfalls(result)] == []
    assert "grpcio" not in plot.draw(result)


def test_missed_goals_are_told():
    """The goals are 0.9 times JSON, at most 1.2 times its cost, and 3 times the peer."""
    result = _result(
        *(("triceps", "W1-16", 1000, 50.0), ("triceps", "http1-W1-16", 1000, 50.0)),
        ("triceps", "grpc-W1-16", 800, 70.0),
        *(("grpcio", "grpc-W1-16", 300, 250.0),),
    )

    assert [*report.shortfalls(result)] == [
        "grpc-W1-16: 2.67 x the peer, wanted 3",
        "grpc-W1-16: 0.80 x http1-W1-16, wanted 0.9",
        "grpc-W1-16: 1.40 x the processor time of http1-W1-16, wanted 1.2",
    ]


def test_every_cell_has_a_way():
    """A cell that names another one has its model, rows and connections."""
    for cell in CELLS.values():
        assert cell.way in ways.WAYS
        if cell.beside:
            other = CELLS[cell.beside]
            same = (other.model, other.body, other.connections)
            assert (cell.model, cell.body, cell.connections) == same
