"""The claims of docs/protocols.md about gRPC, each of which is checked against the service.

The points of its section have a check of their name each, and its tables are read.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from service import settings
from service.api.grpc import health, reflection
from service.http.content_encoding import SMALLEST_GZIP
from service.server import calls as dispatch
from service.wire.grpc_status import code_of
from service.wire.messages import POOL, SERVICES, message_class
from tests.harness import documents, grpc_messages, small, tokens
from tests.harness.calls import (
    HEALTH,
    INFER,
    OIP,
    PREDICT,
    REFLECTION,
    ROW,
    Client,
    client,
    prefixed,
    problems,
    send,
)
from tests.harness.served import BODY, JSON, Served
from tests.harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Check = Callable[["World"], None]

SECTION = documents.section(documents.PAGES["docs/protocols.md"], "gRPC")
METHODS, STATUSES = documents.tables(SECTION)
POINTS = documents.points(SECTION)
CHECKS: dict[str, Check] = {}
ANSWERS = {INFER: "inference.ModelInferResponse", PREDICT: "tensorflow.serving.PredictResponse"}


def holds(point: str) -> Callable[[Check], Check]:
    """Register a function as the check of a point."""

    def keep(check: Check) -> Check:
        assert point not in CHECKS
        CHECKS[point] = check
        return check

    return keep


class World:
    """Two services of the same models, of which one requires tokens, and a client of the other."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        for version in (1, 2):
            small.put(self.models, "three", version, small.three(version))
        small.put(self.models, "broken", 1, b"junk")
        self.served = Served(self.models, default_model="three")
        self.guarded = Served(self.models, tokens_file=tokens.put(folder))
        self.calls = Client(self.served.port)

    def stop(self) -> None:
        """Stop all of it."""
        self.calls.close()
        self.served.stop()
        self.guarded.stop()


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.stop()


def test_every_point_has_a_check_and_every_check_a_point():
    """They are matched by their text."""
    assert len(POINTS) == len(set(POINTS))
    assert set(POINTS) == CHECKS.keys()


@pytest.mark.parametrize("point", POINTS)
def test_every_point_holds(world, point):
    """The check of each point passes against the service."""
    CHECKS[point](world)


def test_the_table_has_every_method_of_every_service():
    """And nothing else."""
    named = {documents.quoted(row[0])[0]: documents.quoted(row[1]) for row in METHODS[1:]}

    assert {*named} == {*SERVICES}
    for name, methods in named.items():
        assert {*methods} == {method.name for method in POOL.FindServiceByName(name).methods}


def test_the_table_has_the_status_of_every_http_status():
    """The names are those of gRPC."""
    codes = {code.value[0]: code.name for code in grpc.StatusCode}

    for statuses, name in STATUSES[1:]:
        for status in statuses.split(", "):
            assert f"`{codes[code_of(int(status))]}`" == name, status


def asked(method: str = INFER, rows: int = 1, **fields: str) -> grpc_messages.Arrays:
    """Return a request for some rows."""
    arrays = {name: np.repeat(array, rows, 0) for name, array in ROW.items()}
    if method == INFER:
        return grpc_messages.infer(arrays, raw=True, **fields)
    return grpc_messages.predict(arrays, content=True, **fields)


@holds("One pipeline")
def _(world: World) -> None:
    for method, version in ((INFER, "1"), (PREDICT, "")):
        fields = {"model_version": version} if version else {}
        assert world.calls.ask(method, asked(method, **fields), ANSWERS[method]).code == "OK"
    assert world.served.ask("POST", "/predict", BODY, JSON)[0] == 200
    routes = world.served.front.table.routes.values()
    serving = [route for route in routes if route.servable.version == "2"]
    assert len({route.lane for route in serving}) == 1 < len(serving)
    metrics = world.served.ask("GET", "/metrics")[2].decode()
    for dialect in ("oip_grpc", "tfserving_grpc"):
        assert f'dialect="{dialect}"' in metrics


@holds("A message names its model")
def _(world: World) -> None:
    for method in (INFER, PREDICT):
        told = world.calls.ask(method, asked(method, name=""), ANSWERS[method])
        assert "expected the name of a model, received none" in told.text
        body = prefixed(gzip.compress(asked(method, name="").SerializeToString()), flag=1)
        raw = send(world.served.port, method, body, headers=[("grpc-encoding", "gzip")])
        assert "in the first 4096 bytes of a compressed message" in raw.text


@holds("Pages")
def _(world: World) -> None:
    assert not world.calls.oip("ModelReady", name="broken").answer.ready
    assert world.calls.oip("ModelReady", name="no").code == "NOT_FOUND"
    with client(world.guarded.port) as calls:
        assert calls.oip("ServerMetadata").code == "UNAUTHENTICATED"
        assert calls.oip("ServerLive").code == "OK"


@holds("Load and unload")
def _(world: World) -> None:
    with client(world.guarded.port, "admin") as calls:
        for field in ("model_name", "repository_name"):
            assert calls.oip("RepositoryModelLoad", **{field: "three"}).answer.isLoaded
        both = {"model_name": "three", "repository_name": "mine"}
        assert calls.oip("RepositoryModelLoad", **both).code == "UNIMPLEMENTED"


@holds("Errors")
def _(world: World) -> None:
    request = asked()
    request.inputs[0].shape[1] = 3
    request.inputs[3].name = "x" * 100
    told = world.calls.ask(INFER, request, ANSWERS[INFER])
    assert told.code == "INVALID_ARGUMENT"
    assert len(problems(told)) > 1
    for number in range(1000):
        request.outputs.add(name=f"{number} {'y' * 1000}")
    told = world.calls.ask(INFER, request, ANSWERS[INFER])
    assert told.code == "INVALID_ARGUMENT"
    assert problems(told)
    raw = send(world.served.port, INFER, prefixed(request.SerializeToString()))
    assert sum(len(name) + len(value) + 32 for name, value in raw.headers.items()) < 8192


@holds("Predictions are unary")
def _(world: World) -> None:
    predict = PREDICT.removesuffix("Predict")
    for path in (f"{OIP}/ModelStreamInfer", f"{predict}Classify", f"{predict}Regress"):
        assert world.calls.ask(path, asked(), ANSWERS[INFER]).code == "UNIMPLEMENTED"


@holds("Broken calls")
def _(world: World) -> None:
    compressed = prefixed(b"x", flag=1)
    for body, code in (
        (b"", "UNIMPLEMENTED"),
        (prefixed(b"") * 2, "UNIMPLEMENTED"),
        (prefixed(b"x")[:-1], "INTERNAL"),
        (b"\2\0\0\0\0", "INTERNAL"),
        (compressed, "INTERNAL"),
    ):
        raw = send(world.served.port, INFER, *([body] if body else []))
        assert raw.code == grpc.StatusCode[code].value[0]
    raw = send(world.served.port, f"{OIP}/ModelInfr", prefixed(b""))
    assert raw.code == 12
    assert f"did you mean '{INFER}'?" in raw.text


@holds("Metadata")
def _(world: World) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    for metadata, request_id in (
        ({"x-request-id": "mine"}, "mine"),
        ({"traceparent": trace}, "a" * 32),
    ):
        told = world.calls.ask(INFER, asked(), ANSWERS[INFER], metadata=metadata)
        assert told.initial["x-request-id"] == request_id
    timing = {"x-server-timing": "1"}
    told = world.calls.ask(INFER, asked(), ANSWERS[INFER], metadata=timing)
    assert "server-timing" in told.initial
    late = [("x-request-timeout", "0.000000001")]
    assert (
        send(world.served.port, INFER, prefixed(asked().SerializeToString()), headers=late).code
        == 4
    )
    told = world.calls.oip("ModelMetadata", name="broken")
    assert (told.trailing["retry-after"], "x-request-id" in told.trailing) == ("1", True)
    with client(world.guarded.port, "some") as calls:
        assert calls.ask(INFER, asked(), ANSWERS[INFER]).code == "OK"


@holds("Deadlines")
def _(world: World) -> None:
    body = prefixed(asked().SerializeToString())
    for timeout in ("1n", "0S"):
        raw = send(world.served.port, INFER, body, headers=[("grpc-timeout", timeout)])
        assert raw.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


@holds("Compression")
def _(world: World) -> None:
    accepts = ("grpc-accept-encoding", "identity,gzip")
    for rows in (1, 300):
        content = asked(rows=rows).SerializeToString()
        body = prefixed(gzip.compress(content), flag=1)
        headers = [("grpc-encoding", "gzip"), accepts]
        raw = send(world.served.port, INFER, body, headers=headers)
        plain = send(world.served.port, INFER, prefixed(content), headers=[accepts])
        assert (raw.code, raw.body[0], plain.body[0]) == (0, rows == 300, 0)
    assert SMALLEST_GZIP == 1024


@holds("Limits")
def _(world: World) -> None:
    assert dispatch.LARGEST == 65536
    assert settings.load({}).max_body > 4 * 2**20
    assert "TRICEPS_MAX_BODY" in send(world.served.port, INFER, b"\0\xff\xff\xff\xff").text
    big = asked(rows=120_000)
    options = [("grpc.max_receive_message_length", -1)]
    assert big.ByteSize() > 4 * 2**20
    with client(world.served.port, options=options) as calls:
        assert calls.ask(INFER, big, ANSWERS[INFER]).code == "OK"


@holds("Health")
def _(world: World) -> None:
    for name, serving in (("", 1), (SERVICES[0], 1), ("three", 1), ("broken", 2)):
        assert world.calls.check(name).answer.status == serving
    request = message_class("grpc.health.v1.HealthListRequest")()
    with client(world.guarded.port) as calls:
        assert calls.check("").code == "OK"
        assert calls.check("three").code == "UNAUTHENTICATED"
        listed = calls.ask(f"{HEALTH}/List", request, "grpc.health.v1.HealthListResponse")
        assert "three" not in listed.answer.statuses
    assert health.MOST_LISTED == 100


@holds("Watch")
def _(world: World) -> None:
    assert health.MOST_WATCHES == 1000
    watch = world.calls.watch("new")
    seen = [next(watch)]
    small.put(world.models, "new", 1, small.three())
    world.served.front.library.refresh()
    seen.append(next(watch))
    watch.cancel()
    until(lambda: not world.served.front.calls.health.watches)
    assert seen == [3, 1]


@holds("Reflection")
def _(world: World) -> None:
    limits = reflection.LARGEST, reflection.MOST_REQUESTS, reflection.SECONDS
    assert (*limits, reflection.MOST_STREAMS) == (4096, 1000, 60, 100)
    with client(world.guarded.port, "predict") as calls:
        stream = calls.channel.stream_stream(REFLECTION)
        assert [*stream(iter(()), PATIENCE, metadata=calls.metadata())] == []
    raw = send(world.guarded.port, REFLECTION, b"")
    assert raw.code == grpc.StatusCode.UNAUTHENTICATED.value[0]


@holds("gRPC-Web is another protocol")
def _(world: World) -> None:
    raw = send(world.served.port, INFER, b"x", kind="application/grpc-web")
    assert raw.headers[":status"] == "404"
