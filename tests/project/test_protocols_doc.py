"""The claims of docs/protocols.md, each of which is checked against the service.

A cell of the table has several claims, separated by semicolons, and the sections have points. Each
has a check of that name, and every check has a claim.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import shutil
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import helper

from service import __version__
from service import settings as all_settings
from service.app import create_app
from service.commands.main import main
from service.inference.model import Model
from service.wire.messages import message_class
from tests.harness import documents, graphs, grpc_messages, small
from tests.harness.calls import INFER, ROW, Client, client
from tests.harness.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    Check = Callable[["World"], None]

ROOT = documents.ROOT
DOCUMENT = documents.PAGES["docs/protocols.md"]

IMAGE = (ROOT / "Dockerfile").read_text().partition(" AS serve\n")[2]

ALL = "All of them"
OIP = "Open Inference Protocol v2"
TF = "TensorFlow Serving REST"
KSERVE = "KServe v1"
MLFLOW = "MLflow"
SAGEMAKER = "SageMaker"
VERTEX = "Vertex AI"
ROUTED = "`/", "by `POST` `/"

HEADER, *ROWS = next(documents.tables(documents.section(DOCUMENT, "Overview")))
CELLS = {
    (row[0].partition(" (")[0], column): cell.split("; ")
    for row in ROWS
    for column, cell in zip(HEADER[1:], row[1:], strict=True)
}
# Predictions and pages, by the method that all routes of a column have.
ROUTES = {HEADER[1]: "POST", HEADER[2]: "GET"}
PROTOCOLS = list(dict.fromkeys(protocol for protocol, _ in CELLS))
IN_CELLS = [
    (protocol, claim)
    for (protocol, column), claims in CELLS.items()
    for claim in claims
    if column not in ROUTES or not claim.startswith(ROUTED)
]
POINTS = [
    (title, point)
    for title in (ALL, *PROTOCOLS)
    for point in documents.points(documents.section(DOCUMENT, title))
]
# One check covers a claim of both.
CLAIMS = list(dict.fromkeys([*IN_CELLS, *POINTS]))
CHECKS: dict[tuple[str, str], Check] = {}

AIP = {
    "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/8:predict",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/8",
}
NAN, INFINITY = float("nan"), float("inf")
TOKEN = "triceps_of_the_tests"  # noqa: S105
REFUSED = {*range(400, 418), 501}


def holds(protocol: str, *claims: str) -> Callable[[Check], Check]:
    """Register a function as the check of some claims."""

    def keep(check: Check) -> Check:
        for claim in claims:
            assert (protocol, claim) not in CHECKS
            CHECKS[protocol, claim] = check
        return check

    return keep


class World:
    """A repository of models, and clients of services over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models"
        shutil.copytree(ROOT / "models" / "triceps", self.models / "triceps")
        (self.models / "triceps" / "aliases.json").write_text('{"stable": "1"}')
        for name in ("three", "logs", "float16", "int64", "string", "counted"):
            small.put(self.models, name, 1, small.every()[name])
        small.put(self.models, "three", 2, small.three(2.0))
        (self.models / "three" / "aliases.json").write_text('{"old": "1"}')
        small.put(self.models, "broken", 1, b"junk")
        small.put(self.models, "voice", 1, graphs.voice())
        small.put(self.models, "bytes", 1, _bytes())
        tokens = folder / "tokens.toml"
        digest = sha256(TOKEN.encode()).hexdigest()
        tokens.write_text(
            f'[[tokens]]\nname = "all"\nhash = "sha256:{digest}"\nscopes = ["predict", "admin"]\n'
        )
        tokens.chmod(0o600)
        self.client = self.serve()
        self._by_default: dict[str, FlaskClient] = {}

    def serve(self, environ: dict[str, str] | None = None, **extra: Any) -> FlaskClient:
        """Return a client of another service."""
        settings = {"models": self.models, "default_model": "triceps", **extra}
        return create_app(all_settings.load(environ or {}, **settings)).test_client()

    def by_default(self, name: str) -> FlaskClient:
        """Return a client of a service with this default model."""
        if name not in self._by_default:
            self._by_default[name] = self.serve(default_model=name)
        return self._by_default[name]

    def guarded(self) -> FlaskClient:
        """Return a client of a service that requires tokens."""
        return self.serve(tokens_file=str(self.folder / "tokens.toml"))

    def example(self, dialect: str, name: str = "three") -> Any:
        """Return a body that works."""
        return self.client.get(f"/models/{name}/example?dialect={dialect}").get_json()

    @contextlib.contextmanager
    def calls(self) -> Iterator[Client]:
        """Yield a client of gRPC."""
        served = Served(self.models, default_model="triceps")
        try:
            with client(served.port) as calls:
                yield calls
        finally:
            served.stop()

    def ask(self, path: str, body: Any = None, **more: Any) -> TestResponse:
        """POST a body, as JSON unless it is bytes, or GET without one."""
        return ask(self.client, path, body, **more)

    def answer(self, path: str, body: Any = None, **more: Any) -> Any:
        """Return the JSON of a successful answer."""
        answer = self.ask(path, body, **more)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.data)

    def refusal(self, path: str, body: Any = None, status: int = 400, **more: Any) -> str:
        """Return the message of a refusal."""
        answer = self.ask(path, body, **more)
        assert answer.status_code == status, answer.text
        error = answer.get_json()
        return str(error.get("error") or error["message"])


def _bytes() -> bytes:
    """Return a foreign file with a text head whose name TensorFlow Serving writes in base64."""
    nodes = [helper.make_node("Identity", ["x"], ["y_bytes"])]
    axes = ["n", 2]
    model = small.model(nodes, [("x", small.S, axes)], [("y_bytes", small.S, axes)])
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def ask(client: FlaskClient, path: str, content: Any = None, **headers: Any) -> TestResponse:
    """Send JSON or bytes, or GET a page; return the answer."""
    if content is None:
        return client.get(path, headers=headers)
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers.setdefault("Content-Type", "application/json")
    return client.post(path, data=body, headers=headers)


def infer(name: str) -> str:
    """Return the Open Inference Protocol's path for a prediction."""
    return f"/v2/models/{name}/infer"


def predict(name: str) -> str:
    """Return TensorFlow Serving's path for a prediction."""
    return f"/v1/models/{name}:predict"


def entry(name: str, shape: list[int], data: list[Any], datatype: str = "FP32") -> dict[str, Any]:
    """Return an input of an Open Inference Protocol request."""
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


FRUIT = entry("fruit", [1, 2], [1, 2])
ALONE = {"inputs": [FRUIT], "outputs": [{"name": "size"}]}
GOLDEN = {"risk": [0.5], "size": [2.0], "digits": [0.0, 1.0, 0.0], "tags": [0.5, 0.5]}
GOLDEN_2 = {**GOLDEN, "size": [4.0]}


# --- the documents themselves -------------------------------------------------------------------


def test_every_claim_has_a_check_and_every_check_a_claim():
    """Claims and checks are matched by their text."""
    assert len(IN_CELLS) == len(set(IN_CELLS))
    assert len(POINTS) == len(set(POINTS))
    assert set(CLAIMS) == CHECKS.keys()


def test_no_cell_is_empty():
    """The table has four cells for each of six protocols."""
    assert len(PROTOCOLS) == 6
    assert len(CELLS) == 24
    assert all(claim for claims in CELLS.values() for claim in claims)


@pytest.mark.parametrize(
    ("protocol", "claim"), [pytest.param(*both, id=": ".join(both)) for both in CLAIMS]
)
def test_every_claim_holds(world, protocol, claim):
    """The check of each claim passes against the service."""
    CHECKS[protocol, claim](world)


def _routes(protocol: str) -> set[tuple[str, str]]:
    """Return the method and the rule of all routes in a protocol's cells."""
    routes = set()
    for column, method in ROUTES.items():
        for claim in CELLS[protocol, column]:
            if claim.startswith(ROUTED):
                path = claim.removeprefix("by `POST` ").strip("`")
                asked = "POST" if claim.startswith("by") else method
                routes |= {(asked, _rule(short)) for short in documents.paths(path)}
    return routes


def _rule(path: str) -> str:
    """Return a path as a rule of the app."""
    names = {"M": "<name>", "V": "<version>", "L": "<alias>"}
    last, colon, verb = path.rpartition("/")[2].partition(":")
    *steps, _ = path.split("/")
    return "/".join([*(names.get(step, step) for step in steps), names.get(last, last)]) + (
        colon + verb
    )


def test_the_table_has_every_route_of_every_protocol(world):
    """The table has exactly the routes of the app."""
    named = set().union(*map(_routes, PROTOCOLS))
    known = {
        (method, rule.rule)
        for rule in world.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(("/v1", "/v2"))
        or rule.rule in ("/", "/ping", "/health", "/version", "/invocations")
    }

    assert named == known


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_document_has_the_routes_of_the_table(protocol):
    """The sections of the protocols write out the routes of the table."""
    text = documents.section(DOCUMENT, protocol)
    named = {(method, rule) for method in ("GET", "POST") for rule in documents.coded(text, method)}

    assert named == _routes(protocol)


BODIES = {
    "infer": ("oip", {}),
    ":predict": ("tfserving", {}),
    ":explain": ("tfserving", {}),
    ":classify": ("tfserving", {"signature_name": "risk"}),
    ":regress": ("tfserving", {"signature_name": "size"}),
    "invocations": ("mlflow", {}),
}


@pytest.mark.parametrize(
    ("protocol", "method", "rule"),
    [(protocol, *route) for protocol in PROTOCOLS for route in sorted(_routes(protocol))],
)
def test_every_route_is_answered(world, protocol, method, rule):
    """Every route gives 200, except for loading, which gives 403 without a token."""
    path = rule.replace("<name>", "three").replace("<version>", "2").replace("<alias>", "old")
    body: Any = {}
    for end, (dialect, more) in BODIES.items():
        if path.endswith(end):
            body = world.example(dialect, "triceps" if end == "invocations" else "three")
            if end in (":classify", ":regress"):
                body = {"examples": body["instances"], **more}

    answer = world.ask(path, body if method == "POST" else None)

    assert answer.status_code == (403 if "repository/models" in rule else 200), answer.text


def test_a_request_is_shown_of_every_protocol():
    """The page shows a request of each protocol, which the tests of all pages run."""
    commands = "\n".join(session.command for session in documents.sessions(DOCUMENT))

    for path in ("/v2/models/", "/v1/models/triceps:predict", "/v1/models/triceps\n"):
        assert path in commands
    for path in ("/invocations", "/ping", AIP["AIP_PREDICT_ROUTE"]):
        assert path in commands


# --- all of them --------------------------------------------------------------------------------


@holds(ALL, "Tensors are the graph's")
def _(world: World) -> None:
    assert world.answer(predict("three"), world.example("tfserving"))["predictions"] == [GOLDEN_2]
    outputs = world.answer(infer("three"), world.example("oip"))["outputs"]
    assert {part["name"]: part["shape"] for part in outputs} == {
        name: [1, len(values)] for name, values in GOLDEN.items()
    }
    native = world.answer("/models/three/predict", world.example("native"))
    assert native["predictions"][0]["risk"] == {"value": 0.5, "label": "low"}
    assert _classify(world, "regress") == {"results": [4.0]}


@holds(ALL, "A table with text is several tensors")
def _(world: World) -> None:
    names = ["insurance", "insurance.smoker", "fruit", "digit"]
    assert list(world.example("tfserving")["instances"][0]) == names
    assert [part["name"] for part in world.answer("/v2/models/three")["inputs"]] == names
    native = world.example("native")["instances"][0]["insurance"]
    assert world.example("tfserving")["instances"][0]["insurance"] == [native["age"], native["bmi"]]


@holds(ALL, "A missing input is an error")
def _(world: World) -> None:
    body = world.example("oip")
    del body["inputs"][2]
    assert world.refusal(infer("three"), body).endswith("received no fruit")
    row = world.example("tfserving")
    del row["instances"][0]["fruit"]
    assert world.refusal(predict("three"), row).endswith("received nothing")
    native = world.example("native")
    del native["instances"][0]["fruit"]["weight"]
    imputed = [{"at": "instances[0].fruit.weight", "value": 1.5}]
    assert world.answer("/models/three/predict", native)["imputed"] == imputed


@holds(ALL, "Unseen texts are listed where there is room")
def _(world: World) -> None:
    native = world.example("native")
    native["instances"][0]["insurance"]["smoker"] = "perhaps"
    unseen = [{"at": "instances[0].insurance.smoker", "received": "perhaps"}]
    assert world.answer("/models/three/predict", native)["unseen"] == unseen
    body = world.example("oip")
    body["inputs"][1]["data"] = ["perhaps"]
    unseen = [{"at": "inputs[1].data[0]", "received": "perhaps"}]
    assert json.loads(world.answer(infer("three"), body)["parameters"]["unseen"]) == unseen
    row = world.example("tfserving")
    row["instances"][0]["insurance.smoker"] = ["perhaps"]
    assert world.answer(predict("three"), row).keys() == {"predictions"}


@holds(ALL, "The same words")
def _(world: World) -> None:
    words = 'expected a number, received "x" (and 1 more)'
    body = world.example("oip")
    body["inputs"][2]["data"] = body["inputs"][0]["data"] = ["x", 1]
    assert world.refusal(infer("three"), body) == f"inputs[0].data[0]: {words}"
    row = world.example("tfserving")
    row["instances"][0].update(insurance=["x", 1], fruit=["x", 1])
    assert world.refusal(predict("three"), row) == f"instances[0].insurance[0]: {words}"
    shipped = world.example("mlflow", "triceps")
    shipped["instances"][0].update(insurance={"age": "x"}, fruit=[1, "x", 1])
    assert world.refusal("/invocations", shipped) == (
        'instances[0].insurance.age: expected a number for age, received "x" (and 1 more)'
    )


@holds(ALL, "Rows are counted")
def _(world: World) -> None:
    body = world.example("oip")
    body["inputs"][2].update(shape=[2, 2], data=[1, 2, 3, 4])
    assert "expected 1 row, as inputs[0] has" in world.refusal(infer("three"), body)
    assert "at least one row" in world.refusal(predict("three"), {"instances": []})
    assert "at least one row" in world.refusal("/invocations", {"instances": []})


@holds(ALL, "Graphs without rows take whole tensors")
def _(world: World) -> None:
    page = world.answer("/models/voice")
    assert page["batching"]["mode"] == "tensor"
    assert world.answer("/models/voice/predict", page["example"])
    assert world.answer(infer("voice"), world.example("oip", "voice"))
    for path, body in (
        (predict("voice"), {"instances": [1]}),
        ("/models/voice/predict", {"instances": [1]}),
        ("/v1/models/voice:classify", {"examples": [{"audio": 1}]}),
    ):
        error = world.refusal(path, body)
        assert "/v2/models/<name>/infer" in error
        assert "input 'sr' is a scalar" in error
    assert world.answer("/v2/models/voice/config")["max_batch_size"] == 0


@holds(ALL, "Strict numbers")
def _(world: World) -> None:
    for value in ("1", True, 1e39):
        body = {**ALONE, "inputs": [{**FRUIT, "data": [1, value]}]}
        assert world.refusal(infer("three"), body).startswith(
            "inputs[0].data[1]: expected a number"
        )
        row = world.example("tfserving")
        row["instances"][0]["fruit"] = [1, value]
        assert world.refusal(predict("three"), row).startswith("instances[0].fruit[1]: expected")
        shipped = world.example("mlflow", "triceps")
        shipped["instances"][0]["fruit"] = [1, value, 1]
        assert "fruit" in world.refusal("/invocations", shipped)
    for value in (1.7, 2**63):
        body = {"inputs": [entry("x", [1, 2], [1, value], "INT64")]}
        assert "expected a whole number" in world.refusal(infer("int64"), body)
        assert "expected a whole number" in world.refusal(
            predict("int64"), {"instances": [[1, value]]}
        )


@holds(ALL, "Limits")
def _(world: World) -> None:
    client = world.serve(max_body=1024)
    large = json.dumps({"instances": [[0] * 4000]}).encode()
    for path in (infer("three"), predict("three"), "/invocations"):
        assert ask(client, path, large).status_code == 413
        small_body = zlib.compress(large)
        assert len(small_body) < 1024
        headers = {"Content-Encoding": "deflate"}
        assert ask(client, path, small_body, **headers).status_code == 413
    rows = world.example("tfserving")
    rows["instances"] *= 20
    answer = world.ask(predict("three"), rows, **{"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.data))["predictions"] == [GOLDEN_2] * 20


@holds(ALL, "Unknown is 404, unusable is 503")
def _(world: World) -> None:
    for path in (infer("thre"), predict("thre")):
        assert "three" in world.refusal(path, {}, 404)
    for path in ("/v2/models/three/versions/7", "/v1/models/three/versions/7"):
        assert "Available: 1, 2" in world.refusal(path, None, 404)
    assert "Available: old" in world.refusal("/v1/models/three/labels/new:predict", {}, 404)
    for path in (infer("broken"), predict("broken")):
        assert "not an ONNX file" in world.refusal(path, {}, 503)
    alone = world.serve(models=world.models / "broken", default_model=None)
    assert ask(alone, "/invocations", {}).status_code == 503


@holds(ALL, "Versions")
def _(world: World) -> None:
    assert world.answer(infer("three"), world.example("oip"))["model_version"] == "2"
    pinned = world.folder / "pinned"
    for version in (1, 2):
        small.put(pinned, "three", version, small.three(version))
    (pinned / "three" / "aliases.json").write_text('{"stable": "1"}')
    client = world.serve(models=pinned, default_model="three", policy="pinned")
    assert ask(client, infer("three"), world.example("oip")).get_json()["model_version"] == "1"


NOT_FINITE = [[-1, 0]], [NAN, -INFINITY]


@pytest.mark.parametrize(
    "row", next(documents.tables(documents.section(DOCUMENT, ALL)))[1:], ids=lambda row: row[0]
)
def test_nan_and_infinity_are_as_the_table_says(world, row):
    """The values come from a model of logarithms, and its head returns them."""
    name, given, answered = row
    check, expected = {
        "native": (_native_nan, ("refused", "`null`")),
        "Open Inference Protocol": (
            _oip_nan,
            (
                "refused in JSON, values in binary tensors",
                "words in JSON, values in binary tensors",
            ),
        ),
        "TensorFlow Serving, KServe v1, Vertex AI": (
            _tfserving_nan,
            ("values of floats, as the words NaN, Infinity, -Infinity", "words"),
        ),
        "MLflow, SageMaker": (
            _mlflow_nan,
            ("NaN of a feature is a missing value; the rest is refused", "words"),
        ),
    }[name]

    assert (given, answered) == expected
    check(world)


def _native_nan(world: World) -> None:
    assert "received NaN" in world.refusal("/models/logs/predict", {"instances": [[NAN, 0]]})
    answer = world.ask("/models/logs/predict", {"instances": NOT_FINITE[0]})
    assert b'"many":{"value":[null,null]' in answer.data


def _oip_nan(world: World) -> None:
    body = {"inputs": [entry("x", [1, 2], [NAN, 0])], "outputs": [{"name": "many"}]}
    assert "received NaN" in world.refusal(infer("logs"), body)
    body["inputs"] = [entry("x", [1, 2], [-1, 0])]
    assert b"[NaN,-Infinity]" in world.ask(infer("logs"), body).data
    array = np.float32([[NAN, INFINITY]])
    _, arrays = binary(world.client, "logs", {"x": array}, [{"name": "many"}])
    assert np.array_equal(arrays["many"], array, equal_nan=True)


def _tfserving_nan(world: World) -> None:
    answer = world.ask(predict("logs"), b'{"instances": [[NaN, Infinity], [-1, 0]]}')
    rows = json.loads(answer.data)["predictions"]
    assert np.array_equal(rows[0]["many"], [NAN, INFINITY], equal_nan=True)
    assert b'"many":[NaN,-Infinity]' in answer.data
    assert "received NaN" in world.refusal(predict("int64"), {"instances": [[NAN, 0]]})


def _mlflow_nan(world: World) -> None:
    row = world.example("mlflow", "triceps")
    row["instances"][0]["insurance"]["age"] = NAN
    with_nan = world.answer("/invocations", row)
    row["instances"][0]["insurance"]["age"] = INFINITY
    assert "Infinity" in world.refusal("/invocations", row)
    del row["instances"][0]["insurance"]["age"]
    assert world.answer("/invocations", row) == with_nan
    row["instances"][0]["digit"][0] = NAN
    assert "received NaN" in world.refusal("/invocations", row)
    client = world.by_default("logs")
    assert b'"many":[NaN,-Infinity]' in ask(client, "/invocations", {"instances": [[-1, 0]]}).data


# --- the Open Inference Protocol ----------------------------------------------------------------


def binary(
    client: FlaskClient, name: str, arrays: dict[str, Any], outputs: list[dict[str, Any]]
) -> tuple[Any, dict[str, Any]]:
    """Return the JSON and the arrays of an answer with float32 inputs and outputs in bytes."""
    inputs = [
        {
            "name": tensor,
            "datatype": "FP32",
            "shape": array.shape,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for tensor, array in arrays.items()
    ]
    parameters = {"binary_data_output": True}
    body = {"inputs": inputs, "outputs": outputs, "parameters": parameters}
    head = json.dumps(body).encode()
    length = {"Inference-Header-Content-Length": f"{len(head)}"}
    raw = b"".join(array.tobytes() for array in arrays.values())
    answer = ask(client, infer(name), head + raw, **length)
    assert answer.status_code == 200, answer.text
    end = int(answer.headers["Inference-Header-Content-Length"])
    content, rest = json.loads(answer.data[:end]), answer.data[end:]
    values = {}
    for part in content["outputs"]:
        if "parameters" in part:
            size = part["parameters"]["binary_data_size"]
            values[part["name"]] = np.frombuffer(rest[:size], "<f4").reshape(part["shape"])
            rest = rest[size:]
    assert rest == b""
    return content, values


def not_advertised(world: World, *names: str) -> None:
    """Check that the server does not list an extension."""
    assert set(world.answer("/v2")["extensions"]) & set(names) == set()


def absent(world: World, *paths: str) -> None:
    """Check that some paths do not exist for either method."""
    for path in paths:
        assert world.ask(path).status_code in REFUSED, path
        assert world.ask(path, {}).status_code in REFUSED, path


@holds(OIP, "flat and nested `data`", "`data` comes flat or nested, and goes out flat")
def _(world: World) -> None:
    flat = {**ALONE, "inputs": [entry("fruit", [2, 2], [1, 2, 3, 4])]}
    nested = {**ALONE, "inputs": [entry("fruit", [2, 2], [[1, 2], [3, 4]])]}
    assert world.answer(infer("three"), flat) == world.answer(infer("three"), nested)
    flat["outputs"] = [{"name": "tags"}]
    assert np.shape(world.answer(infer("three"), flat)["outputs"][0]["data"]) == (4,)


@holds(OIP, "`outputs`, and nothing else is computed", "Outputs")
def _(world: World) -> None:
    with mock.patch.object(Model, "predict", autospec=True, side_effect=Model.predict) as run:
        outputs = world.answer(infer("three"), ALONE)["outputs"]
    assert [part["name"] for part in outputs] == ["size"]
    assert [tuple(call.args[2]) for call in run.call_args_list] == [("size",)]
    assert list(run.call_args.args[1]) == ["fruit"]


@holds(OIP, "`id`")
def _(world: World) -> None:
    assert world.answer(infer("three"), {**ALONE, "id": "a 7"})["id"] == "a 7"
    assert "id" not in world.answer(infer("three"), ALONE)


@holds(OIP, "`timeout`")
def _(world: World) -> None:
    served = Served(world.models, default_model="three")
    try:
        body = json.dumps({**ALONE, "parameters": {"timeout": 1}}).encode()
        assert served.ask("POST", infer("three"), body)[0] == 504
        body = json.dumps({**ALONE, "parameters": {"timeout": 20_000_000}}).encode()
        assert served.ask("POST", infer("three"), body)[0] == 200
    finally:
        served.stop()


@holds(OIP, "binary tensors, beside JSON or alone, both ways", "Binary tensors")
def _(world: World) -> None:
    arrays = {"fruit": np.float32([[1, 2], [3, 4]])}
    _, result = binary(world.client, "three", arrays, [{"name": "size"}])
    assert np.array_equal(result["size"], [[6], [14]])
    wanted = [{"name": "size"}, {"name": "tags", "parameters": {"binary_data": False}}]
    content, result = binary(world.client, "three", arrays, wanted)
    assert list(result) == ["size"]
    assert len(content["outputs"][1]["data"]) == 4
    body = {"inputs": [{**FRUIT, "parameters": {}}], "outputs": wanted}
    assert world.answer(infer("three"), body)["outputs"][0]["data"] == [6]
    length = {"Inference-Header-Content-Length": "9999"}
    assert "a number from 0" in world.refusal(infer("three"), ALONE, **length)
    assert "binary_tensor_data" in world.answer("/v2")["extensions"]


@holds(OIP, "Raw binary requests")
def _(world: World) -> None:
    length = {"Inference-Header-Content-Length": "0"}
    raw = np.float32([1, 2]).tobytes()
    answer = world.ask(infer("logs"), raw, **length)
    assert answer.status_code == 200
    assert int(answer.headers["Inference-Header-Content-Length"]) < len(answer.data)
    assert "the model has 4 inputs" in world.refusal(infer("three"), raw, **length)


@holds(OIP, "gzip and deflate")
def _(world: World) -> None:
    body = json.dumps(ALONE).encode()
    for name, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        answer = world.answer(infer("three"), packed, **{"Content-Encoding": name})
        assert answer["outputs"][0]["data"] == [6]
    assert world.ask(infer("three"), body, **{"Content-Encoding": "br"}).status_code == 415


@holds(OIP, "classification with our labels", "Classification")
def _(world: World) -> None:
    body = world.example("oip")
    body["outputs"] = [
        {"name": head, "parameters": {"classification": 2}} for head in ("digits", "risk")
    ]
    digits, risk = world.answer(infer("three"), body)["outputs"]
    assert (digits["datatype"], digits["shape"]) == ("BYTES", [1, 2])
    assert digits["data"] == ["1.0:1:one", "0.0:0:zero"]
    assert risk["data"] == ["0.5:0:low"]
    assert "classification" in world.answer("/v2")["extensions"]


@holds(OIP, "statistics", "Statistics")
def _(world: World) -> None:
    client = world.serve()
    ask(client, infer("three"), {**ALONE, "inputs": [entry("fruit", [2, 2], [1, 2, 3, 4])]})
    ask(client, infer("three"), {})
    [stats] = ask(client, "/v2/models/three/versions/2/stats").get_json()["model_stats"]
    assert (stats["name"], stats["version"]) == ("three", "2")
    assert (stats["inference_count"], stats["execution_count"]) == (2, 1)
    assert stats["inference_stats"]["success"]["count"] == 1
    assert stats["inference_stats"]["fail"] == {"count": 1, "ns": 0}
    assert stats["batch_stats"] == []
    assert "last_inference" not in stats
    assert "statistics" in world.answer("/v2")["extensions"]


@holds(OIP, "repository index", "Repository index")
def _(world: World) -> None:
    listed = {
        (one["name"], one.get("version")): one for one in world.answer("/v2/repository/index", {})
    }
    assert listed["three", "2"] == {"name": "three", "version": "2", "state": "READY", "reason": ""}
    assert listed["broken", "1"]["state"] == "UNAVAILABLE"
    assert "not an ONNX file" in listed["broken", "1"]["reason"]
    ready = world.answer("/v2/repository/index", {"ready": True})
    assert {one["state"] for one in ready} == {"READY"}


@holds(OIP, "load and unload, by a token of the scope `admin`", "Load and unload")
@holds(OIP, "load with parameters")
def _(world: World) -> None:
    assert "admin" in world.refusal("/v2/repository/models/three/unload", {}, 403)
    own = world.folder / "own"
    if not own.exists():
        small.put(own, "three", 1, small.three())
    tokens = str(world.folder / "tokens.toml")
    client = world.serve(models=own, default_model="three", tokens_file=tokens)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(client, "/v2/repository/models/three/unload", {}).status_code == 401
    for verb, ready in (("unload", 503), ("load", 200)):
        answer = ask(client, f"/v2/repository/models/three/{verb}", {}, **bearer)
        assert answer.get_json() == {"name": "three", verb: True}
        assert ask(client, "/v2/models/three/ready", **bearer).status_code == ready
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
        body = {"parameters": parameters}
        answer = ask(client, "/v2/repository/models/three/load", body, **bearer)
        assert answer.status_code == 501
    assert "model_repository" in world.answer("/v2")["extensions"]
    not_advertised(world, "model_repository(unload_dependents)")


@holds(OIP, "the same by gRPC")
def _(world: World) -> None:
    with world.calls() as calls:
        assert calls.oip("ServerReady").answer.ready
        request = grpc_messages.infer({"fruit": np.float32([[1, 2]])}, raw=True)
        request.outputs.add(name="size")
        told = calls.ask(INFER, request, "inference.ModelInferResponse")
        assert np.frombuffer(told.answer.raw_output_contents[0], np.float32) == [6.0]


@holds(TF, "`Predict`, metadata and status by gRPC", "the other methods of gRPC")
def _(world: World) -> None:
    service = "/tensorflow.serving"
    spec = {"model_spec": {"name": "three"}}
    with world.calls() as calls:
        for method, request, answer in (
            ("PredictionService/Predict", grpc_messages.predict(ROW, content=True), "Predict"),
            (
                "PredictionService/GetModelMetadata",
                message_class("tensorflow.serving.GetModelMetadataRequest")(
                    **spec, metadata_field=["signature_def"]
                ),
                "GetModelMetadata",
            ),
            (
                "ModelService/GetModelStatus",
                message_class("tensorflow.serving.GetModelStatusRequest")(**spec),
                "GetModelStatus",
            ),
        ):
            kind = f"tensorflow.serving.{answer}Response"
            told = calls.ask(f"{service}.{method}", request, kind)
            assert (told.code, told.text) == ("OK", "")
        for method in (
            *("PredictionService/Classify", "PredictionService/Regress"),
            *("PredictionService/MultiInference", "ModelService/HandleReloadConfigRequest"),
        ):
            path = f"{service}.{method}"
            assert calls.ask(path, request, kind).code == "UNIMPLEMENTED"


@holds(OIP, "BF16")
def _(world: World) -> None:
    body = {"inputs": [{**FRUIT, "datatype": "BF16"}], "outputs": ALONE["outputs"]}
    assert world.refusal(infer("three"), body) == (
        'inputs[0].datatype: expected FP32, received "BF16"'
    )


@holds(OIP, "FP16 in JSON", "FP16 is binary")
def _(world: World) -> None:
    body = {"inputs": [entry("x", [1, 2], [1, 2], "FP16")]}
    assert "FP16 and has no form in JSON" in world.refusal(infer("float16"), body)
    body["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    assert "since FP16 has no form in JSON" in world.refusal(infer("float16"), body)
    raw = np.float16([1, 2]).tobytes()
    answer = world.ask(infer("float16"), raw, **{"Inference-Header-Content-Length": "0"})
    assert answer.data.endswith(raw)


@holds(OIP, "shared memory")
def _(world: World) -> None:
    for sort in ("systemsharedmemory", "cudasharedmemory"):
        absent(world, f"/v2/{sort}/status", f"/v2/{sort}/region/x/register")
    parameters = {"shared_memory_region": "x", "shared_memory_byte_size": 8}
    body = {**ALONE, "inputs": [{**FRUIT, "parameters": parameters}]}
    assert "shared memory, which is not served" in world.refusal(infer("three"), body)
    not_advertised(world, "system_shared_memory", "cuda_shared_memory")


@holds(OIP, "`generate`")
def _(world: World) -> None:
    absent(world, "/v2/models/three/generate", "/v2/models/three/generate_stream")
    not_advertised(world, "generate")


@holds(OIP, "trace and logging")
def _(world: World) -> None:
    absent(world, "/v2/trace/setting", "/v2/models/three/trace/setting", "/v2/logging")
    not_advertised(world, "trace", "logging")


@holds(OIP, "sequences and priorities, which are taken and change nothing")
@holds(OIP, "`priority` and `sequence_…` are taken and change nothing")
def _(world: World) -> None:
    reserved = {"priority": 1, "sequence_id": 7, "sequence_start": True, "sequence_end": False}
    answer = world.answer(infer("three"), {**ALONE, "parameters": reserved})
    assert answer == world.answer(infer("three"), ALONE)
    for name in ("headers", "triton_enable_empty_final_response"):
        assert world.refusal(infer("three"), {**ALONE, "parameters": {name: True}})
    not_advertised(world, "sequence", "schedule_policy", "parameters")


@holds(OIP, "Not ready is 503")
def _(world: World) -> None:
    assert world.answer("/v2/health/ready") == {"ready": True}
    empty = world.folder / "empty"
    empty.mkdir(exist_ok=True)
    client = world.serve(models=empty, default_model=None)
    answer = ask(client, "/v2/health/ready")
    assert (answer.status_code, answer.get_json()) == (503, {"ready": False})
    assert ask(client, "/v2/health/live").get_json() == {"live": True}
    assert world.ask("/v2/models/broken/ready").status_code == 503


@holds(OIP, "`/v2` and `/v2/`")
def _(world: World) -> None:
    page = world.answer("/v2")
    assert page == world.answer("/v2/")
    assert (page["name"], page["version"]) == ("triceps", __version__)


@holds(OIP, "Extensions")
def _(world: World) -> None:
    line = next(line for line in DOCUMENT.splitlines() if line.startswith("- **Extensions"))
    assert world.answer("/v2")["extensions"] == documents.quoted(line)


@holds(OIP, "Shapes begin with -1")
def _(world: World) -> None:
    page, config = world.answer("/v2/models/three"), world.answer("/v2/models/three/config")
    assert [part["shape"] for part in page["outputs"]] == [[-1, 1], [-1, 1], [-1, 3], [-1, 2]]
    assert [part["dims"] for part in config["output"]] == [[1], [1], [3], [2]]
    assert config["max_batch_size"] == 131072


@holds(OIP, "`GET /v2/models` lists names")
def _(world: World) -> None:
    names = world.answer("/v2/models")["models"]
    assert {"three", "triceps"} <= set(names)
    assert "broken" not in names


@holds(OIP, "Errors")
def _(world: World) -> None:
    body = world.ask(infer("three"), {}).get_json()
    assert body.keys() == {"error", "problems", "count"}
    assert isinstance(body["error"], str)
    assert world.ask(infer("thre"), {}).get_json().keys() == {"error"}


# --- TensorFlow Serving, and KServe v1 ----------------------------------------------------------


@holds(TF, "`instances`", "`inputs`", "Rows and columns")
@holds(TF, "bare values where there is one input or one head")
def _(world: World) -> None:
    rows = world.example("tfserving")
    assert world.answer(predict("three"), rows) == {"predictions": [GOLDEN_2]}
    columns = {name: [value] for name, value in rows["instances"][0].items()}
    assert world.answer(predict("three"), {"inputs": columns}) == {
        "outputs": {name: [value] for name, value in GOLDEN_2.items()}
    }
    assert world.answer(predict("int64"), {"instances": [[1, 2]]}) == {"predictions": [[1, 2]]}
    assert world.answer(predict("int64"), {"inputs": [[1, 2]]}) == {"outputs": [[1, 2]]}
    assert world.answer(predict("int64"), {"instances": [{"x": [1, 2]}]})["predictions"] == [[1, 2]]


def _classify(world: World, verb: str, **more: Any) -> Any:
    examples = world.example("tfserving")["instances"]
    return world.answer(f"/v1/models/three:{verb}", {"examples": examples, **more})


@holds(TF, "`:classify` of heads with labels", "`results`")
def _(world: World) -> None:
    digits = [["zero", 0.0], ["one", 1.0], ["two", 0.0]]
    assert _classify(world, "classify", signature_name="digits") == {"results": [digits]}
    risk = [["low", 0.5], ["high", 0.5]]
    assert _classify(world, "classify", signature_name="risk") == {"results": [risk]}
    examples = {"examples": world.example("tfserving")["instances"]}
    for verb, head in (("classify", "size"), ("regress", "risk")):
        body = {**examples, "signature_name": head}
        assert world.refusal(f"/v1/models/three:{verb}", body).startswith(
            "signature_name: expected"
        )


@holds(TF, "`:regress` of heads of one number", "In examples, `signature_name` is the head")
def _(world: World) -> None:
    assert _classify(world, "regress") == {"results": [4.0]}
    assert _classify(world, "regress", signature_name="size") == {"results": [4.0]}
    by_name = {"examples": [{"weight": 1, "length": 2}]}
    assert world.answer("/v1/models/three:regress", by_name) == {"results": [6.0]}
    assert "signature_name" in world.refusal("/v1/models/three:classify", by_name)


@holds(TF, "`context`")
def _(world: World) -> None:
    body = {"context": {"weight": 1}, "examples": [{"length": 2}, {"length": 3}]}
    assert world.answer("/v1/models/three:regress", body) == {"results": [6.0, 8.0]}


@holds(TF, "aliases as labels", "Labels are aliases")
def _(world: World) -> None:
    rows = world.example("tfserving")
    assert world.answer("/v1/models/three/labels/old:predict", rows)["predictions"] == [GOLDEN]
    assert world.answer("/v1/models/three/labels/old/metadata")["model_spec"]["version"] == "1"


@holds(TF, "`b64`")
@holds(VERTEX, "`b64`")
def _(world: World) -> None:
    client = world.serve(AIP, default_model="bytes")
    packed = base64.b64encode("größe".encode()).decode()
    text = {"b64": packed.rstrip("=")}
    for path in (predict("bytes"), AIP["AIP_PREDICT_ROUTE"]):
        answer = ask(client, path, {"instances": [[text, "größe"]]})
        assert answer.get_json() == {"predictions": [[{"b64": packed}] * 2]}


@holds(TF, "NaN and Infinity as words")
def _(world: World) -> None:
    _tfserving_nan(world)


@holds(TF, "columns of unequal length", "Columns have as many rows each")
def _(world: World) -> None:
    columns = {name: [value] for name, value in world.example("tfserving")["instances"][0].items()}
    columns["fruit"] *= 2
    assert "expected 1 row, as inputs.insurance has" in world.refusal(
        predict("three"), {"inputs": columns}
    )


@holds(TF, "signatures but `serving_default`", "One signature")
def _(world: World) -> None:
    page = world.answer("/v1/models/three/metadata")["metadata"]["signature_def"]["signature_def"]
    assert list(page) == ["serving_default"]
    assert list(page["serving_default"]["inputs"]) == [
        *("insurance", "insurance.smoker", "fruit", "digit")
    ]
    rows = world.example("tfserving")
    right = world.answer(predict("three"), {**rows, "signature_name": "serving_default"})
    assert list(right["predictions"][0]) == list(GOLDEN)
    assert "serving_default" in world.refusal(predict("three"), {**rows, "signature_name": "other"})


@holds(TF, "`/monitoring/prometheus/metrics`")
def _(world: World) -> None:
    absent(world, "/monitoring/prometheus/metrics")
    assert world.ask("/metrics").status_code == 200


@holds(TF, "Any content type")
def _(world: World) -> None:
    rows = world.example("tfserving")
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        assert world.answer(predict("three"), rows, **{"Content-Type": kind})


@holds(TF, "Malformed requests")
def _(world: World) -> None:
    message = world.refusal("/v1/models/three:predictt", {})
    assert message.startswith("Malformed request: POST /v1/models/three:predictt: expected one of")


@holds(TF, "Errors")
def _(world: World) -> None:
    for path in (predict("three"), predict("thre"), "/v1/models/three:classify"):
        assert world.ask(path, {}).get_json().keys() == {"error"}


@holds(KSERVE, "`instances`", "Answers have TensorFlow Serving's form")
def _(world: World) -> None:
    rows = world.example("tfserving")
    assert world.answer(predict("three"), rows) == {"predictions": [GOLDEN_2]}
    assert world.answer("/v1/models/three/versions/1:predict", rows) == {"predictions": [GOLDEN]}
    columns = {name: [value] for name, value in rows["instances"][0].items()}
    assert world.answer(predict("three"), {"inputs": columns})["outputs"]["size"] == [[4.0]]


@holds(KSERVE, "readiness as a boolean", "`ready` is a boolean", "One object for two protocols")
def _(world: World) -> None:
    page = world.answer("/v1/models/three")
    assert page.keys() == {"model_version_status", "name", "ready"}
    assert (page["name"], page["ready"]) == ("three", True)
    assert world.answer("/v1/models/broken")["ready"] is False
    assert world.answer("/")["status"] == "alive"


@holds(KSERVE, "explanations with `:explain`", "Explanations")
def _(world: World) -> None:
    rows = world.example("tfserving")
    answer = world.answer("/v1/models/three:explain", rows)
    assert answer["predictions"] == [GOLDEN_2]
    explained = {"heads": ["size"], "method": "shapley"}
    native = {**world.example("native"), "explain": explained}
    [row] = world.answer("/models/three/predict", native)["predictions"]
    chosen = world.answer("/v1/models/three:explain", {**rows, "explain": explained})
    assert chosen["explanations"] == [row["explanations"]]
    assert answer["explanations"][0].keys() == {"risk", "size", "digits"}


@holds(KSERVE, "No explainer of its own")
def _(world: World) -> None:
    absent(world, "/v2/models/three/explain")


@holds(KSERVE, "Models")
def _(world: World) -> None:
    assert ":/mnt/models:" in IMAGE
    assert "HOST=0.0.0.0" in IMAGE
    assert all_settings.load({}).port == 8080
    assert world.answer("/v2/models/three/ready") == {"name": "three", "ready": True}


@holds(KSERVE, "CloudEvents")
def _(world: World) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    body = {**event, "data": world.example("tfserving")}
    kind = {"Content-Type": "application/cloudevents+json"}
    assert "specversion" in world.refusal(predict("three"), body, **kind)


# --- MLflow, SageMaker and Vertex AI -----------------------------------------------------------


def score(world: World, body: Any, name: str = "three", **headers: Any) -> Any:
    """Return MLflow's answer, or its message."""
    answer = ask(world.by_default(name), "/invocations", body, **headers)
    return answer.get_json().get("predictions") or answer.get_json()["message"]


COLUMNS = {
    "insurance.age": 30,
    "smoker": "no",
    "insurance.bmi": 30,
    "weight": 1,
    "length": 1,
    "digit": [0, 1, 0, 9],
}
LINES = b'insurance.age,smoker,bmi,weight,length,digit\n30,no,30,1,1,"[0, 1, 0, 9]"\n'
TEXT_CSV = {"Content-Type": "text/csv"}


@holds(MLFLOW, "`dataframe_split`", "Columns", "several heads as records", "Answers")
def _(world: World) -> None:
    split = {"columns": list(COLUMNS), "data": [list(COLUMNS.values())]}
    assert score(world, {"dataframe_split": split}) == [GOLDEN_2]
    row = {name: value for name, value in COLUMNS.items() if name != "digit"}
    row |= {f"digit.{i}": value for i, value in enumerate(COLUMNS["digit"])}
    split = {"columns": list(row), "data": [list(row.values())]}
    assert score(world, {"dataframe_split": split}) == [GOLDEN_2]
    assert score(world, {"instances": [[1, 2]]}, "int64") == [[1, 2]]


@holds(MLFLOW, "`dataframe_records`", "`instances`", "Rows")
def _(world: World) -> None:
    nested = world.example("native")["instances"]
    for form in ("dataframe_records", "instances", "inputs"):
        assert score(world, {form: [COLUMNS]}) == [GOLDEN_2]
        assert score(world, {form: nested}) == [GOLDEN_2]


@holds(MLFLOW, "`inputs`")
def _(world: World) -> None:
    columns = {name: [value] for name, value in COLUMNS.items()}
    assert score(world, {"inputs": columns}) == [GOLDEN_2]


@holds(MLFLOW, "`text/csv`", "CSV")
def _(world: World) -> None:
    assert score(world, LINES, **TEXT_CSV) == [GOLDEN_2]
    empty = LINES.replace(b",no,", b",,")
    assert score(world, empty, **TEXT_CSV) == [GOLDEN_2]


@holds(MLFLOW, "defaults for what is missing", "Missing values")
def _(world: World) -> None:
    lacking = {name: value for name, value in COLUMNS.items() if name != "smoker"}
    for row in (lacking, {**COLUMNS, "smoker": None}, {**COLUMNS, "smoker": NAN}):
        assert score(world, {"dataframe_records": [row]}) == [GOLDEN_2]
    for row in ({**COLUMNS, "insurance.bmi": None}, {**COLUMNS, "insurance.bmi": NAN}):
        assert "bmi" in score(world, {"dataframe_records": [row]})


@holds(MLFLOW, "`params`", "Parameters")
def _(world: World) -> None:
    body = {"dataframe_records": [COLUMNS]}
    assert score(world, {**body, "params": {}}) == [GOLDEN_2]
    message = score(world, {**body, "params": {"temperature": 1}})
    assert message.startswith("params.temperature: expected no parameters")


@holds(MLFLOW, "bodies of language models")
def _(world: World) -> None:
    for name in ("messages", "prompt", "input"):
        assert f'the unknown key "{name}"' in world.refusal("/invocations", {name: "Hello"})


@holds(MLFLOW, "other content types", "Content types")
def _(world: World) -> None:
    for kind in ("application/x-parquet", "text/csv; charset=latin-1", "text/plain"):
        message = world.refusal("/invocations", LINES, 415, **{"Content-Type": kind})
        assert message.startswith("Content-Type: expected application/json or text/csv, in UTF-8")


@holds(MLFLOW, "Not ready is 503")
def _(world: World) -> None:
    client = world.by_default("broken")
    for path in ("/ping", "/health"):
        assert ask(client, path).status_code == 503
        assert world.ask(path).data == b"\n"


@holds(MLFLOW, "`/version` is the version of Triceps")
def _(world: World) -> None:
    assert world.ask("/version").text == __version__


@holds(MLFLOW, "Errors")
def _(world: World) -> None:
    body = world.ask("/invocations", {"inputs": {"password": ["secret"]}}).get_json()
    assert body.keys() == {"error_code", "message", "problems", "count"}
    assert body["error_code"] == "BAD_REQUEST"
    assert "secret" not in json.dumps(body)


@holds(SAGEMAKER, "`serve` as the argument", "`SAGEMAKER_BIND_TO_PORT`", "The container")
def _(world: World) -> None:
    assert '\nENTRYPOINT ["triceps"]\n' in IMAGE
    assert "HOST=0.0.0.0" in IMAGE
    assert CliRunner().invoke(main, ["serve", "--help"]).exit_code == 0
    assert all_settings.load({"SAGEMAKER_BIND_TO_PORT": "8123"}).port == 8123
    assert all_settings.load({}).port == 8080


@holds(SAGEMAKER, "`/opt/ml/model`", "Models")
def _(world: World) -> None:
    line = next(part for part in IMAGE.split() if part.startswith("TRICEPS_MODELS="))
    places = line.removeprefix("TRICEPS_MODELS=").split(":")
    assert places[:3] == ["/models", "/mnt/models", "/opt/ml/model"]
    alone = world.folder / "opt" / "ml" / "model"
    alone.mkdir(parents=True, exist_ok=True)
    (alone / "model.onnx").write_bytes(small.three())
    result = all_settings.load({"TRICEPS_MODELS": f"{world.folder / 'none'}:{alone}"})
    client = create_app(result).test_client()
    assert ask(client, "/invocations", LINES, **TEXT_CSV).get_json()["predictions"] == [GOLDEN]


@holds(SAGEMAKER, "MLflow's bodies by content type", "Bodies")
def _(world: World) -> None:
    amazon = {"X-Amzn-SageMaker-Custom-Attributes": "a=b", "Accept": "*/*"}
    assert score(world, LINES, **TEXT_CSV, **amazon) == [GOLDEN_2]
    assert score(world, {"instances": [COLUMNS]}, **amazon) == [GOLDEN_2]


@holds(SAGEMAKER, "answers in CSV", "Answers are JSON")
def _(world: World) -> None:
    for kind in ("text/csv", "application/jsonlines"):
        answer = ask(world.by_default("three"), "/invocations", LINES, Accept=kind, **TEXT_CSV)
        assert answer.content_type == "application/json"
        assert answer.get_json() == {"predictions": [GOLDEN_2]}


@holds(SAGEMAKER, "Tokens")
def _(world: World) -> None:
    body = world.example("mlflow", "triceps")
    assert ask(world.guarded(), "/invocations", body).status_code == 401
    assert ask(world.guarded(), "/ping").status_code == 200


@holds(SAGEMAKER, "multi-model `/models`", "Not multi-model")
def _(world: World) -> None:
    body = {"model_name": "x", "url": "/opt/ml/models/x"}
    assert world.ask("/models", body).status_code == 405
    assert world.client.delete("/models/three").status_code == 405
    assert world.ask("/models/three/invoke", {}).status_code == 404
    assert isinstance(world.answer("/models")["models"], list)


@holds(SAGEMAKER, "CSV without a header", "Not every CSV", "`application/jsonlines`")
def _(world: World) -> None:
    message = score(world, LINES.partition(b"\n")[2] * 2, **TEXT_CSV)
    assert message.startswith("line 1, the header: expected one of insurance.age")
    lines = {"Content-Type": "application/jsonlines"}
    assert world.ask("/invocations", b'{"a": 1}\n', **lines).status_code == 415


@holds(VERTEX, "`AIP_PREDICT_ROUTE`", "`AIP_HEALTH_ROUTE`", "Routes")
def _(world: World) -> None:
    client = world.serve(AIP)
    rows = world.example("tfserving", "triceps")
    assert len(ask(client, AIP["AIP_PREDICT_ROUTE"], rows).get_json()["predictions"]) == 1
    assert ask(client, AIP["AIP_HEALTH_ROUTE"]).status_code == 200
    assert ask(client, predict("triceps"), rows).status_code == 200
    assert world.ask(AIP["AIP_PREDICT_ROUTE"], rows).status_code == 404
    assert world.ask(AIP["AIP_HEALTH_ROUTE"]).status_code == 404


@holds(VERTEX, "`AIP_HTTP_PORT`")
def _(world: World) -> None:
    assert all_settings.load({"AIP_HTTP_PORT": "8123"}).port == 8123


@holds(VERTEX, "`instances`", "Bodies")
def _(world: World) -> None:
    rows = world.example("tfserving")
    rows["instances"] *= 3
    client = world.serve(AIP, default_model="three")
    answer = ask(client, AIP["AIP_PREDICT_ROUTE"], rows)
    assert answer.get_json() == {"predictions": [GOLDEN_2] * 3}


@holds(VERTEX, "`parameters`", "`parameters` may be there and empty")
def _(world: World) -> None:
    rows = world.example("tfserving", "triceps")
    client = world.serve(AIP)
    path = AIP["AIP_PREDICT_ROUTE"]
    assert ask(client, path, {**rows, "parameters": {}}).status_code == 200
    answer = ask(client, path, {**rows, "parameters": {"threshold": 0.5}})
    assert answer.status_code == 400
    assert answer.get_json()["error"].startswith("parameters: expected none")


@holds(VERTEX, "Health")
def _(world: World) -> None:
    client = world.serve(AIP, default_model="broken")
    assert ask(client, AIP["AIP_HEALTH_ROUTE"]).status_code == 503


@holds(VERTEX, "`AIP_STORAGE_URI`", "Models")
def _(world: World) -> None:
    assert all_settings.load({"AIP_STORAGE_URI": "gs://models"}) == all_settings.load({})


@holds(VERTEX, "Tokens")
def _(world: World) -> None:
    client = world.serve(AIP, tokens_file=str(world.folder / "tokens.toml"))
    rows = world.example("tfserving", "triceps")
    assert ask(client, AIP["AIP_HEALTH_ROUTE"]).status_code == 200
    assert ask(client, AIP["AIP_PREDICT_ROUTE"], rows).status_code == 401
