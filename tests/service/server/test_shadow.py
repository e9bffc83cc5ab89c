"""Tests of the shadow of a real service: its figures, and what it must never do to callers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from service.commands.main import main
from service.host import memory
from service.signature import Feature, Head, Signature, Statistics, Tensor, tabular
from tests.harness import small
from tests.harness.exposition import samples
from tests.harness.serving import PROGRAM, Server
from tests.harness.waiting import until

JSON = {"Content-Type": "application/json"}
PREDICT = "/models/scored/predict"
ROWS = 64


def scored(bias: float = 0.0, extra: str = "", *, does: str = "add") -> bytes:
    """Return a model: chance = x + bias, with labels from 0.5 on; double = 2 * x.

    Args:
        bias: is added to the chance.
        extra: a feature that it needs in addition, and does not use; with "=", it has a default.
        does: "fail" for a model that fails if x is not 0, "hang" for one that then hardly ends.
    """
    name, has_default, _ = extra.partition("=")
    features = [Feature("x", "", statistics=Statistics(0, 1, 0.5, 0.3))]
    if name:
        features.append(Feature(name, "", default=1 if has_default else None))
    nodes = [
        helper.make_node("Slice", ["in", "zero", "one", "one"], ["x"]),
        helper.make_node("Add", ["x", "bias"], ["chance" if does == "add" else "sum"]),
        helper.make_node("Add", ["x", "x"], ["double"]),
    ]
    if does == "fail":
        nodes += [
            helper.make_node("Mul", ["x", "many"], ["large"]),
            helper.make_node("Cast", ["large"], ["index"], to=TensorProto.INT64),
            helper.make_node("GatherElements", ["bias_only", "index"], ["nothing"], axis=1),
            helper.make_node("Add", ["sum", "nothing"], ["chance"]),
        ]
    if does == "hang":
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go_on"], ["goes_on"]),
                helper.make_node("Identity", ["before"], ["after"]),
            ],
            "body",
            [
                value("number", TensorProto.INT64, []),
                value("go_on", TensorProto.BOOL, []),
                value("before", TensorProto.FLOAT, None),
            ],
            [value("goes_on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, None)],
        )
        nodes += [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "many"], ["large"]),
            helper.make_node("Cast", ["large"], ["times"], to=TensorProto.INT64),
            helper.make_node("Loop", ["times", "", "sum"], ["chance"], body=body),
        ]
    made = small.model(
        nodes,
        [("in", TensorProto.FLOAT, ["batch", len(features)])],
        [("chance", TensorProto.FLOAT, ["batch", 1]), ("double", TensorProto.FLOAT, ["batch", 1])],
        {
            "zero": np.array([0]),
            "one": np.array([1]),
            "bias": np.float32(bias),
            "many": np.float32(1e12),
            "bias_only": np.float32([[0]]),
        },
    )
    heads = [
        Head("chance", "binary", Tensor("chance", "float32", (1,)), ("no", "yes"), 0.5),
        Head("double", "regression", Tensor("double", "float32", (1,))),
    ]
    signature = Signature({"in": tabular("in", features)}, {head.name: head for head in heads})
    return small.signed(made, signature)


def put(folder: Path, stable: bytes, candidate: bytes, share: float = 1.0) -> None:
    """Write a model with a stable version 1 and a shadow, version 2."""
    models = folder / "models"
    small.put(models, "scored", 1, stable)
    small.put(models, "scored", 2, candidate)
    (models / "scored/aliases.json").write_text('{"stable": "1"}')
    set_traffic(folder, {"shadow": {"version": "2", "share": share}})


def set_traffic(folder: Path, traffic: object) -> None:
    """Replace the shares of the model."""
    file = folder / "models/scored/traffic.json"
    new = file.with_suffix(".new")
    new.write_text(json.dumps(traffic))
    new.rename(file)


@contextlib.contextmanager
def serving(folder: Path, workers: int = 1, **more: object):
    """Serve the model."""
    options = ("--models", "models", "--workers", workers, "--watch", "0.1")
    with Server(*options, folder=folder, **more) as server:
        server.until_ready()
        yield server


def values() -> list[float]:
    """Return as many values as `ROWS`, of which some are just below 0.5."""
    return (np.arange(ROWS) / ROWS).tolist()


def ask(server: Server, numbers: list[float]) -> bytes:
    """Send a request and return its answer."""
    body = json.dumps({"instances": [{"in": {"x": x}} for x in numbers]}).encode()
    status, _, content = server.ask("POST", PREDICT, body, JSON)
    assert status == 200, content
    return content


def compared(server: Server) -> dict:
    """Return the comparison."""
    status, content = server.get("/models/scored/compare")
    assert status == 200, content
    return content


def processes_of_shadow(server: Server) -> list[int]:
    """Return the process IDs of the session of a service that run at the lowest priority."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            if os.getsid(pid) == server.process.pid and os.getpriority(os.PRIO_PROCESS, pid) == 19:
                found.append(pid)
    return found


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_the_figures_are_those_of_diff(tmp_path):
    """The rows of a file, sent in requests of several sizes, give what the command says of it."""
    put(tmp_path, scored(), scored(0.125))
    numbers = values()
    file = tmp_path / "rows.csv"
    file.write_text("x\n" + "".join(f"{x}\n" for x in numbers))
    models = ["--models", str(tmp_path / "models")]
    words = ["diff", "scored@stable", "scored@2", "--in", str(file), "--json", *models]
    done = CliRunner().invoke(main, words)
    expected = json.loads(done.stdout)["heads"]
    with serving(tmp_path) as server:
        for start, end in ((0, 1), (1, 4), (4, 5), (5, ROWS)):
            ask(server, numbers[start:end])
        server.until(lambda: compared(server)["rows"] == ROWS)
        found = compared(server)

    assert (found["version"], found["with"], found["dropped"], found["failed"]) == ("1", "2", 0, 0)
    assert found["heads"] == {
        name: {key: value for key, value in head.items() if key != "most"}
        for name, head in expected.items()
    }
    # Built in: an eighth more moves an eighth of the rows across the threshold.
    assert found["heads"]["chance"]["labels_differ"] == 0.125
    assert found["heads"]["chance"]["largest"] == found["heads"]["chance"]["mean"] == 0.125
    assert found["heads"]["double"]["largest"] == 0
    assert found["not_compared"] == {}
    assert found["seconds"]["rows"] == 3  # those of the second request
    assert found["stopped"] is None


def test_callers_get_the_same_bytes_beside_a_shadow(tmp_path):
    """Whatever the candidate answers."""
    put(tmp_path, scored(), scored(0.125))
    set_traffic(tmp_path, {})
    with serving(tmp_path) as server:
        before = [ask(server, [x]) for x in values()[:8]]
        set_traffic(tmp_path, {"shadow": {"version": "2", "share": 1}})
        server.until(lambda: "shadow" in server.get("/models/scored")[1].get("traffic", {}))
        after = [ask(server, [x]) for x in values()[:8]]
        server.until(lambda: compared(server)["rows"] == 8)

    assert before == after


FAST = "from service.insight.shadow import stops; stops.RUN_SECONDS = 0.3\n" + PROGRAM
NEVER_FAST_ENOUGH = "from service.insight.shadow import stops; stops.SLOW_SECONDS = 0\n" + PROGRAM
NO_MEMORY = (
    "from service.repository import budget; budget.Budget.of = lambda *_: budget.Budget(1)\n"
)


@pytest.mark.parametrize(
    ("candidate", "program", "reason", "logged"),
    [
        pytest.param(
            scored(does="fail"), PROGRAM, "10 runs in succession failed", "10 runs", id="fails"
        ),
        pytest.param(scored(does="hang"), FAST, "a run took longer than", "a run took", id="hangs"),
        pytest.param(
            scored(1), NEVER_FAST_ENOUGH, "the mean of 8 runs", "the mean of 8", id="slow"
        ),
        pytest.param(b"no model", PROGRAM, "refused", "version 2 is refused", id="refused"),
        pytest.param(
            scored(1, "y"),
            PROGRAM,
            "no head can be compared",
            "needs the feature 'in.y'",
            id="unlike",
        ),
    ],
)
def test_a_candidate_that_cannot_be_run_stops(tmp_path, candidate, program, reason, logged):
    """Callers are answered as ever, the log says why once, and new shares start it again."""
    put(tmp_path, scored(), candidate)
    with serving(tmp_path, 2, program=program) as server:
        expected = ask(server, [0.75])

        def has_stopped() -> bool:
            assert ask(server, [0.75]) == expected
            return reason in (compared(server)["stopped"] or "")

        server.until(has_stopped)
        server.until(lambda: "has stopped" in server.said())
        for _ in range(20):
            assert ask(server, [0.75]) == expected
        said = server.said()
        dropped = compared(server)["dropped"]
        small.put(tmp_path / "models", "scored", 3, scored(0.5))
        set_traffic(tmp_path, {"shadow": {"version": "3", "share": 1}})
        server.until(lambda: ask(server, [0.25]) and compared(server)["with"] == "3")
        server.until(lambda: ask(server, [0.25]) and compared(server)["rows"] > 0)
        found = compared(server)

    assert said.count("has stopped") == 1
    assert logged in said
    # A stopped shadow is not short of anything.
    assert dropped == 0 or reason.startswith("a run")
    assert found["stopped"] is None
    assert found["heads"]["chance"]["labels_differ"] == 1


def test_a_candidate_that_ends_the_process_stops(tmp_path):
    """As one that crashes it, or takes all memory; the process is replaced, and knows of it."""
    put(tmp_path, scored(), scored(does="hang"))
    with serving(tmp_path) as server:
        ask(server, [0.75])
        server.until(lambda: processes_of_shadow(server))
        (pid,) = processes_of_shadow(server)
        # Its run has begun once it takes processor time as no waiting process does.
        server.until(lambda: processor_seconds(pid) > 1)
        os.kill(pid, signal.SIGKILL)
        server.until(lambda: compared(server)["stopped"])
        reason = compared(server)["stopped"]
        shadow = server.get("/models/scored")[1]["traffic"]["shadow"]
        ask(server, [0.75])

    assert reason.startswith("the process of the shadow ended during a run of it")
    assert shadow["reason"] == reason


def test_a_view_has_its_part(tmp_path):
    """Its rows are those of its model, and it has its own heads, and no name of the model."""
    small.put(tmp_path / "models", "three", 1, small.three(models={"apple": ["size"]}))
    small.put(tmp_path / "models", "three", 2, small.three(2.0, models={"apple": ["size"]}))
    (tmp_path / "models/three/aliases.json").write_text('{"stable": "1"}')
    traffic = tmp_path / "models/three/traffic.json"
    traffic.write_text('{"shadow": {"version": "2", "share": 1}}')
    body = json.dumps({"instances": [{"fruit": [1, 2]}], "heads": ["size"]}).encode()
    with serving(tmp_path) as server:
        for name in ("three", "apple"):
            assert server.ask("POST", f"/models/{name}/predict", body, JSON)[0] == 200
        server.until(lambda: server.get("/models/apple/compare")[1]["rows"] == 2)
        of_view = server.get("/models/apple/compare")[1]
        of_model = server.get("/models/three/compare")[1]
        traffic.unlink()
        server.until(lambda: server.get("/models/apple/compare")[0] == 404)
        error = server.get("/models/apple/compare")[1]["error"]

    assert of_view["heads"] == of_model["heads"]
    assert of_view["heads"]["size"]["largest"] == 3
    assert error == "model 'apple': it has no shadow"


def test_the_same_shares_set_again_start_it_again(tmp_path):
    """The figures go on, since the versions are the same."""
    put(tmp_path, scored(), scored(does="fail"))
    with serving(tmp_path) as server:
        server.until(lambda: ask(server, [0.75]) and compared(server)["stopped"])
        failed = compared(server)["failed"]
        since = compared(server)["since"]
        set_traffic(tmp_path, {"shadow": {"version": "2", "share": 1}})
        server.until(lambda: ask(server, [0.75]) and compared(server)["failed"] == 2 * failed)
        server.until(lambda: compared(server)["stopped"])

        assert compared(server)["since"] == since
        assert server.said().count("has stopped") == 2


def test_figures_outlive_the_processes(tmp_path):
    """Those of a worker that is killed, and those of the process of the shadow."""
    put(tmp_path, scored(), scored(0.125))
    with serving(tmp_path, 2) as server:
        sent = 0

        def send(number: int) -> None:
            nonlocal sent
            for _ in range(number):
                ask(server, [0.4375])
            sent += number
            server.until(lambda: compared(server)["rows"] + compared(server)["dropped"] == sent)

        send(20)
        since = compared(server)["since"]
        (shadow,) = processes_of_shadow(server)
        for pid in (server.workers()[0], shadow):
            os.kill(pid, signal.SIGKILL)
            server.until(
                lambda pid=pid: pid not in (*server.workers(), *processes_of_shadow(server))
            )
            server.until_ready()
            server.until(lambda: len(server.workers()) == 2)
            send(20)
        found = compared(server)
        page = samples(server.ask("GET", "/metrics")[2].decode())

    assert found["since"] == since
    assert re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{3}Z", since)
    assert found["heads"]["chance"]["labels_differ"] == 1
    labels = {"model": "scored", "version": "2", "stable": "1", "head": "chance"}
    name = "triceps_shadow_rows_total"
    total = sum(n for key, n in page.items() if key[0] == name and set(labels.values()) < set(key))
    assert total == found["rows"]


def test_what_there_is_no_room_for_is_dropped_and_counted(tmp_path):
    """Callers are answered, and the process of the shadow is not asked."""
    put(tmp_path, scored(), scored(0.125))
    program = (
        "from service.server import shadow_channel; shadow_channel.MOST_WAITING = 0\n" + PROGRAM
    )
    with serving(tmp_path, program=program) as server:
        for _ in range(5):
            ask(server, [0.1, 0.2])
        server.until(lambda: compared(server)["dropped"] == 10)
        assert compared(server)["rows"] == 0


def test_another_pair_begins_at_zero(tmp_path):
    """Also the first one, once it comes back."""
    put(tmp_path, scored(), scored(0.125))
    small.put(tmp_path / "models", "scored", 3, scored(0.5))
    with serving(tmp_path) as server:
        server.until(lambda: ask(server, values()) and compared(server)["rows"])
        for version in ("3", "2"):
            set_traffic(tmp_path, {"shadow": {"version": version, "share": 1}})
            server.until(lambda version=version: compared(server)["with"] == version)
            assert compared(server)["rows"] == 0
            server.until(lambda: ask(server, [0.25]) and compared(server)["rows"])
            assert compared(server)["rows"] < ROWS


def test_explained_rows_and_other_versions_are_not_compared(tmp_path):
    """An explanation is what it would be without a shadow."""
    put(tmp_path, scored(), scored(0.125))
    body = json.dumps({"instances": [{"in": {"x": 0.375}}], "explain": True}).encode()
    with serving(tmp_path) as server:
        status, _, explained = server.ask("POST", PREDICT, body, JSON)
        set_traffic(tmp_path, {})
        server.until(lambda: server.get("/models/scored/compare")[0] == 404)
        without = server.ask("POST", PREDICT, body, JSON)[2]
        set_traffic(tmp_path, {"shadow": {"version": "2", "share": 1}})
        server.until(lambda: server.get("/models/scored/compare")[0] == 200)
        path = "/models/scored/versions/2/predict"
        assert server.ask("POST", path, body, JSON)[0] == 200
        ask(server, [0.375])
        server.until(lambda: compared(server)["rows"])

        assert compared(server)["rows"] == 1
    assert status == 200
    assert explained == without


def test_only_the_heads_of_a_request_are_compared(tmp_path):
    """A head that nobody asked for has no answer to compare."""
    put(tmp_path, scored(), scored(0.125, "y=1"))
    body = {"instances": [{"in": {"x": 0.375}}], "heads": ["double"]}
    with serving(tmp_path) as server:
        assert server.ask("POST", PREDICT, json.dumps(body).encode(), JSON)[0] == 200
        server.until(lambda: compared(server)["rows"])

        assert compared(server)["heads"].keys() == {"double"}


def test_a_model_without_a_shadow_says_what_to_do(tmp_path):
    """So does one whose shadow answers by now."""
    put(tmp_path, scored(), scored(0.125))
    with serving(tmp_path) as server:
        (tmp_path / "models/scored/aliases.json").write_text('{"stable": "2"}')
        server.until(lambda: server.get("/models/scored/compare")[0] == 404)
        promoted = server.get("/models/scored/compare")[1]["error"]
        (tmp_path / "models/scored/traffic.json").unlink()
        server.until(lambda: "has no" in server.get("/models/scored/compare")[1]["error"])
        gone = server.get("/models/scored/compare")[1]["error"]
        server.until(lambda: not processes_of_shadow(server))
        assert server.get("/models/scord/compare")[0] == 404

    assert "version 2 is the one that stable names" in promoted
    assert gone == (
        "model 'scored': it has no shadow: triceps traffic scored --shadow VERSION --share 10%"
    )


def test_its_memory_is_limited_and_reaches_no_file(tmp_path):
    """A container of Kubernetes ends as a whole when its memory runs out; rows may be private."""
    put(tmp_path, scored(), scored(0.125))
    with serving(tmp_path) as server:
        ask(server, [0.4375])
        server.until(lambda: compared(server)["rows"])
        (shadow,) = processes_of_shadow(server)
        limits = Path(f"/proc/{shadow}/limits").read_text()

    lines = {line[:25].strip(): line[25:].split() for line in limits.splitlines()}
    assert int(lines["Max data size"][0]) < memory.limit()
    assert lines["Max core file size"][:2] == ["0", "0"]


def test_the_process_ends_with_the_service(tmp_path):
    """Also if the supervisor is killed, and whatever it runs."""
    put(tmp_path, scored(), scored(does="hang"))
    with serving(tmp_path) as server:
        ask(server, [0.75])
        server.until(lambda: processes_of_shadow(server))
        server.process.kill()
        until(lambda: not processes_of_shadow(server))
