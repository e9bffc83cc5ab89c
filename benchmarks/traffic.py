"""The clients of a soak test, which use every dialect and check each answer to the last number.

Each client is a thread that keeps a connection for a while, as real clients do.  It sends one
request after another: right ones, wrong ones, requests for pages, and some that it abandons.  Other
clients send slowly.
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import re
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import shelf as shelves
from benchmarks.compare import check_labels, compare, tensors
from benchmarks.ledger import TIMEOUT, Answer, WrongError
from benchmarks.servers import HOST
from tests.attack.repository import JOINT
from tests.harness import forms

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from benchmarks.ledger import Target

PREDICTING = {
    "native": "/models/{}/predict",
    "oip": "/v2/models/{}/infer",
    "tfserving": "/v1/models/{}:predict",
}
VERSIONED = {
    "native": "/models/{}/versions/{}/predict",
    "oip": "/v2/models/{}/versions/{}/infer",
    "tfserving": "/v1/models/{}/versions/{}:predict",
}
LABELLED = {
    "native": "/models/{}/aliases/{}/predict",
    "tfserving": "/v1/models/{}/labels/{}:predict",
}
PAGES = (
    *("/", "/models", "/models/three", "/models/three/example", "/openapi.json"),
    *("/livez", "/readyz", "/v2", "/v2/models", "/v2/models/three", "/v2/models/three/config"),
    *("/v2/models/stats", "/v2/health/ready", "/v1/models/three", "/v1/models/three/metadata"),
    *("/ping", "/health", "/version", "/metrics"),
)
OTHER = "other"
MOST_TOLD = 20
# The number of versions of a model that are not removed soon.
FRESH = 3
HUGE = 2**31
# A client that sends half of a request is refused after 60 s, or at most this much later.
REFUSED_SECONDS = 90

_VERSION = re.compile(rb'"(?:model_)?version": ?"(\d+)"')


class Caller(threading.Thread):
    """A client that sends one request after another, at a given rate."""

    def __init__(self, target: Target, seed: int, pace: float) -> None:
        """Prepare to send `pace` requests a second to `target`."""
        super().__init__(name=f"caller-{seed}", daemon=True)
        self.to = target
        self.random = random.Random(seed)
        self.pace = pace
        self.connection: http.client.HTTPConnection | None = None
        self.left = 0
        self.dialect, self.rows, self.begun = OTHER, 0, 0.0
        target.gate.join()

    def run(self) -> None:
        """Send requests until the gate ends the test."""
        doings = {
            self.predict: 62,
            self.predict_numbered: 8,
            self.predict_labelled: 8,
            self.predict_sort: 8,
            self.ask_wrongly: 12,
            self.look: 6,
            self.hang_up: 5,
            self.ask_ahead: 2,
        }
        choices, weights = list(doings), list(doings.values())
        while not self.to.gate.ended:
            if not self.to.gate.is_open:
                self.close()
                self.to.gate.rest()
                continue
            self.do(self.random.choices(choices, weights)[0])
            time.sleep(self.random.expovariate(self.pace))
        self.close()
        self.to.gate.leave()

    def do(self, doing: Callable[[], str]) -> None:
        """Run one action, and record its result."""
        self.dialect, self.rows, self.begun = OTHER, 0, time.monotonic()
        what = doing.__name__
        try:
            what = doing()
        except WrongError as error:
            self.close()
            self.to.ledger.fail(what, error, self.begun, self.dialect, self.rows)
        except Exception as error:  # noqa: BLE001  reported at the end
            self.close()
            self.to.ledger.fail(what, error, self.begun, self.dialect, self.rows)
        with self.to.ledger.lock:
            self.to.ledger.asked[what] += 1

    # The actions of a client; each returns its name for the report.

    def predict(self) -> str:
        """Send rows to the serving version, by the name of the model or to the default."""
        form, dialect = self._form()
        name = self.random.choice(("three", "other", "lent"))
        path = "/invocations" if dialect == "mlflow" else PREDICTING[dialect].format(name)
        if dialect == "mlflow":
            name = "three"
        elif dialect == "native" and self._chance(0.2):
            name, path = "three", "/predict"
        self._predict(form, dialect, path, name, "")
        return form.__name__

    def predict_labelled(self) -> str:
        """Send rows to an alias."""
        form, dialect = self._form(LABELLED)
        alias = self.random.choice(shelves.ALIASES)
        self._predict(form, dialect, LABELLED[dialect].format("other", alias), "other", alias)
        return f"{form.__name__}, by alias"

    def predict_numbered(self) -> str:
        """Send rows to a version by its number, which may be new, old, broken or removed."""
        form, dialect = self._form(VERSIONED)
        name = self.random.choice(("three", "other"))
        version = self.random.choice(self.to.shelf.versions_of(name))
        arrays = self._rows()
        sent = form(arrays)
        path = VERSIONED[dialect].format(name, version)
        status, headers, content = self._post(path, sent.body, sent.headers, dialect)
        end = time.monotonic()
        allowed = self.to.shelf.statuses(name, version, self.begun, end)
        if status not in allowed:
            raise WrongError(f"{path}: expected one of {allowed}, received {status}: {content!r}")
        if status != http.HTTPStatus.OK:
            self.to.ledger.note(dialect, status)
            return f"{form.__name__}, by version"
        self._check(Answer(path, headers, content), arrays, name, [version])
        if version in self.to.shelf.versions_of(name)[-FRESH:]:
            self.to.ledger.note(dialect, status, self.rows)
        else:
            # The version may be removed, with its counts, before these are read.
            self.to.ledger.doubt(dialect, self.rows)
        return f"{form.__name__}, by version"

    def predict_sort(self) -> str:
        """Send a request to a model of another kind, with any dtypes and shapes, by OIP."""
        # Models whose rows must not share runs with other requests are chosen more often.
        names = JOINT if self._chance(0.3) else list(self.to.shelf.sorts)
        name = self.random.choice(names)
        content = self.to.shelf.sorts[name]
        self.rows = self.random.choice((1, 1, 3, 8))
        arrays = {
            tensor.name: self._any(tensor.dtype, [self.rows, *(s or 3 for s in tensor.shape)])
            for entry in shelves.model_of(content).signature.inputs.values()
            for tensor in entry.tensors
        }
        binary = name == "float16" or self._chance(0.5)
        sent = (forms.oip_binary if binary else forms.oip_flat)(arrays)
        path = PREDICTING["oip"].format(name)
        status, headers, answer = self._post(path, sent.body, sent.headers, "oip")
        if status != http.HTTPStatus.OK:
            raise WrongError(f"{path}: expected 200, received {status}: {answer[:300]!r}")
        received = tensors(headers, answer)
        for head, values in shelves.expected_of(content, arrays).items():
            compare(path, head, received.get(head), values)
        self.to.ledger.note("oip", status, self.rows)
        return "oip_binary, other sorts" if binary else "oip_flat, other sorts"

    def ask_wrongly(self) -> str:
        """Send a wrong request, and check that it is refused."""
        wrong = self.random.choice(WRONG)
        arrays = self._rows()
        what, method, path, body, headers, statuses = wrong(self, arrays)
        self.dialect, self.rows = OTHER, 0
        status, _, content = self._ask(method, path, body, headers)
        if status not in statuses:
            raise WrongError(f"{what}: expected {statuses}, received {status}: {content[:300]!r}")
        said = json.loads(content)
        if not (said.get("error") or said.get("message")):
            raise WrongError(f"{what}: expected an error's words, received {content[:300]!r}")
        self.to.ledger.note("", status)
        return f"wrong: {what}"

    def look(self) -> str:
        """Request a page."""
        path = self.random.choice(PAGES)
        token = self.to.tokens["reads" if path == "/metrics" else "asks"]
        status, _, content = self._ask("GET", path, None, {"Authorization": f"Bearer {token}"})
        if status != http.HTTPStatus.OK or not content:
            raise WrongError(f"{path}: expected 200, received {status}: {content[:300]!r}")
        self.to.ledger.note(OTHER, status)
        return f"page {path}"

    def hang_up(self) -> str:
        """Send half of a request or all of it, or read half of the answer; then disconnect."""
        form, self.dialect = self._form(PREDICTING)
        big = self._chance(1 / 3)
        arrays = self._rows(300 if big else 1)
        sent = form(arrays)
        request = self._raw(PREDICTING[self.dialect].format("three"), sent.body, sent.headers)
        half = not big and self._chance(0.5)
        with socket.create_connection((HOST, self.to.port), TIMEOUT) as sock:
            if self._chance(0.5):
                # The connection ends with a reset.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if half:
                sock.sendall(request[: self.random.randrange(1, len(request))])
                time.sleep(self.random.uniform(0, 0.1))
                return "disconnected within the request"
            sock.sendall(request)
            if not big:
                self.to.ledger.doubt(self.dialect, self.rows)
                return "disconnected before the answer"
            start = sock.recv(12)
            if not start:
                # A worker that is killed resets or ends its connections.
                raise ConnectionError("a large body: the connection ended without an answer")
            if start != b"HTTP/1.1 200":
                raise WrongError(f"a large body: expected 200, received {start!r}")
            self.to.ledger.note(self.dialect, 200, self.rows)
        return "disconnected within the answer"

    def ask_ahead(self) -> str:
        """Send three requests at once, and check three answers in order."""
        self.dialect = "native"
        asked = [forms.rows_of(self.random.randrange(2**32), 1) for _ in range(3)]
        self.rows = len(asked)
        requests = [
            self._raw(PREDICTING["native"].format("three"), sent.body, sent.headers)
            for sent in map(forms.native_rows, asked)
        ]
        with socket.create_connection((HOST, self.to.port), TIMEOUT) as sock:
            sock.sendall(b"".join(requests))
            for arrays in asked:
                status, headers, content = _read(sock)
                if status != http.HTTPStatus.OK:
                    raise WrongError(f"ahead: expected 200, received {status}: {content[:300]!r}")
                self._check_current(Answer("ahead", headers, content), arrays, "three", "")
                self.to.ledger.note("native", 200, 1)
        return "three requests at once"

    def say_nonsense(self) -> str:
        """Send bytes that are not a request, or announce a body that is too large."""
        token = self.to.tokens["asks"]
        huge = (
            f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {HUGE}\r\n\r\n{{"
        )
        what, request, expected = self.random.choice(
            (
                ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
                (
                    "two lengths",
                    huge.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n").encode(),
                    400,
                ),
                ("a huge head", b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000, 431),
                ("a huge body", huge.encode(), 413),
            )
        )
        with socket.create_connection((HOST, self.to.port), TIMEOUT) as sock:
            sock.sendall(request)
            status, _, content = _read(sock)
        if status != expected or not json.loads(content)["error"]:
            raise WrongError(f"{what}: expected {expected}, received {status}: {content[:300]!r}")
        self.to.ledger.note("", status)
        return f"wrong: {what}"

    # How a client sends and checks.

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _form(self, of: Container[str] | None = None) -> tuple[Callable[..., forms.Sent], str]:
        known = [f for f in forms.FORMS if of is None or _dialect(f) in of]
        form = self.random.choice(known)
        return form, _dialect(form)

    def _rows(self, rows: int = 0) -> forms.Arrays:
        self.rows = rows or self.random.choice((*(1,) * 8, 2, 5, 17, 64, 200))
        return forms.rows_of(self.random.randrange(2**32), self.rows)

    def _any(self, dtype: str, shape: list[int]) -> Any:
        random = np.random.default_rng(self.random.randrange(2**32))
        if dtype == "string":
            return random.choice(np.array(["red", "green", "größe", ""], object), shape)
        if dtype.startswith("float"):
            return random.normal(0, 3, shape).astype(dtype)
        return random.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)

    def _predict(
        self, form: Callable[..., forms.Sent], dialect: str, path: str, name: str, alias: str
    ) -> None:
        arrays = self._rows()
        sent = form(arrays)
        status, headers, content = self._post(path, sent.body, sent.headers, dialect)
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            possible = self.to.shelf.possible(name, alias, self.begun, time.monotonic())
            if None not in possible:
                raise WrongError(f"{path}: expected {possible}, received 503: {content[:300]!r}")
            self._note_late(name, alias, None)
        elif status == http.HTTPStatus.OK:
            self._check_current(Answer(path, headers, content), arrays, name, alias)
        else:
            raise WrongError(f"{path}: expected 200, received {status}: {content[:300]!r}")
        self.to.ledger.note(dialect, status, self.rows if status == http.HTTPStatus.OK else 0)

    def _check_current(self, answer: Answer, arrays: forms.Arrays, name: str, alias: str) -> None:
        possible = self.to.shelf.possible(name, alias, self.begun, time.monotonic())
        versions = [version for version in possible if version is not None]
        self._note_late(name, alias, self._check(answer, arrays, name, versions))

    def _note_late(self, name: str, alias: str, version: str | None) -> None:
        late = self.to.shelf.late(name, alias, version, self.begun)
        with self.to.ledger.lock:
            self.to.ledger.late = max(self.to.ledger.late, late)

    @staticmethod
    def _check(answer: Answer, arrays: forms.Arrays, name: str, versions: list[str]) -> str:
        """Check that an answer is wholly from one of the versions, and return that version.

        Raises:
            WrongError: the answer is from none of them.
        """
        path, headers, content = answer
        found = forms.outputs_of(headers, content)
        if (named := _VERSION.search(content)) is not None:
            version = named[1].decode()
            if version not in versions:
                raise WrongError(f"{path}: expected one of {versions}, received {version}")
            versions = [version]
        said = ""
        for version in reversed(versions):
            try:
                for head, values in shelves.expected(name, version, arrays).items():
                    compare(path, head, found.get(head), values)
            except WrongError as error:
                said = f"{said}\n  version {version}: {error}"
                continue
            check_labels(path, content, found)
            return version
        raise WrongError(f"{path}: expected the answer of one of {versions}: {said}")

    def _post(
        self, path: str, body: bytes, headers: Mapping[str, str], dialect: str
    ) -> tuple[int, dict[str, str], bytes]:
        self.dialect = dialect
        head = {**headers, "Authorization": f"Bearer {self.to.tokens['asks']}"}
        if self._chance(0.15) and "Inference-Header-Content-Length" not in headers:
            head["Content-Encoding"] = "gzip"
            body = gzip.compress(body, 1)
        if self._chance(0.15):
            head["Accept-Encoding"] = "gzip"
        return self._ask("POST", path, body, head)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self._connected()
        self.begun = time.monotonic()
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        content = answer.read()
        received = {name.lower(): value for name, value in answer.headers.items()}
        if received.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        return answer.status, received, content

    def _connected(self) -> http.client.HTTPConnection:
        """Return an open connection, as from a client's pool; now and then a new one."""
        self.left -= 1
        known = self.connection
        sock = None if known is None else known.sock
        if known is None or self.left < 0 or sock is None or select.select([sock], [], [], 0)[0]:
            self.close()
            known = self.connection = http.client.HTTPConnection(
                HOST, self.to.port, timeout=TIMEOUT
            )
            self.left = self.random.randrange(1, 200)
        return known

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _raw(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        head = {
            "Host": HOST,
            "Authorization": f"Bearer {self.to.tokens['asks']}",
            **headers,
            "Content-Length": str(len(body)),
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


class SlowCaller(Caller):
    """A client that sends a request slowly and waits for its answer, or never sends the end."""

    def __init__(self, target: Target, seed: int, *, ends: bool) -> None:
        """Prepare to send slowly to `target`; if `ends`, whole requests."""
        super().__init__(target, seed, 1.0)
        self.ends = ends

    def run(self) -> None:
        """Send requests until the gate ends the test."""
        while not self.to.gate.ended:
            if not self.to.gate.is_open:
                self.to.gate.rest()
                continue
            self.do(self.send_slowly if self.ends else self.send_half)
        self.to.gate.leave()

    def send_slowly(self) -> str:
        """Send a request in twenty pieces within two seconds, sometimes in chunks."""
        self.dialect = "native"
        arrays = self._rows(3)
        sent = forms.native_rows(arrays)
        request = self._raw(PREDICTING["native"].format("three"), sent.body, sent.headers)
        if self._chance(0.5):
            head, _, body = request.partition(b"\r\n\r\n")
            head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
            pieces = [body[i : i + 50] for i in range(0, len(body), 50)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            request = head + b"\r\n\r\n" + body + b"0\r\n\r\n"
        size = len(request) // 20 + 1
        with socket.create_connection((HOST, self.to.port), TIMEOUT) as sock:
            for i in range(0, len(request), size):
                sock.sendall(request[i : i + size])
                time.sleep(0.1)
            status, headers, content = _read(sock)
        if status != http.HTTPStatus.OK:
            raise WrongError(f"slowly: expected 200, received {status}: {content[:300]!r}")
        self._check_current(Answer("slowly", headers, content), arrays, "three", "")
        self.to.ledger.note("native", 200, self.rows)
        return "sent slowly"

    def send_half(self) -> str:
        """Send half of a request, and wait until it is refused or the clients pause."""
        self.dialect = "native"
        sent = forms.native_rows(self._rows(1))
        request = self._raw(PREDICTING["native"].format("three"), sent.body, sent.headers)
        self.rows = 0
        with socket.create_connection((HOST, self.to.port), TIMEOUT) as sock:
            sock.sendall(request[: len(request) // 2])
            while not select.select([sock], [], [], 0.2)[0]:
                if not self.to.gate.is_open:
                    return "never sent the rest"
                if time.monotonic() - self.begun > REFUSED_SECONDS:
                    raise WrongError("half a request: expected 408 within 60 s, received nothing")
            status, _, content = _read(sock)
        if status != http.HTTPStatus.REQUEST_TIMEOUT:
            raise WrongError(f"half a request: expected 408, received {status}: {content!r}")
        self.to.ledger.note("", status)
        return "never sent the rest, until 408"


def _read(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer, without any byte of the next."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        got = sock.recv(1)
        if not got:
            raise ConnectionResetError(f"closed after {head!r}")
        head += got
    lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
    }
    content = b""
    length = int(headers["content-length"])
    while len(content) < length:
        got = sock.recv(length - len(content))
        if not got:
            raise ConnectionResetError(f"closed within {content[:100]!r}")
        content += got
    return int(lines[0].split()[1]), headers, content


def _dialect(form: Callable[..., forms.Sent]) -> str:
    return form.__name__.partition("_")[0]


# ── wrong requests ───────────────────────────────────────────────────────────────────────────────

_Wrong = tuple[str, str, str, "bytes | None", dict[str, str], set[int]]


def _wrong(
    what: str,
    statuses: set[int],
    change: Callable[[Caller, forms.Sent, dict[str, str], str], tuple[str, str, bytes | None]],
    dialects: Sequence[str] = (*PREDICTING, "mlflow"),
) -> Callable[[Caller, forms.Arrays], _Wrong]:
    """Return a right request of any dialect, changed into a wrong one."""

    def make(caller: Caller, arrays: forms.Arrays) -> _Wrong:
        form, dialect = caller._form(dialects)  # noqa: SLF001  the same module
        sent = form(arrays)
        path = "/invocations" if dialect == "mlflow" else PREDICTING[dialect].format("three")
        headers = {**sent.headers, "Authorization": f"Bearer {caller.to.tokens['asks']}"}
        method, path, body = change(caller, sent, headers, path)
        return what, method, path, body, headers, statuses

    return make


def _as(caller: Caller, headers: dict[str, str], token: str | None) -> None:
    headers.pop("Authorization")
    if token is not None:
        headers["Authorization"] = f"Bearer {caller.to.tokens.get(token, token)}"


def _set(headers: dict[str, str], name: str, value: str) -> None:
    headers[name] = value


def _instead(content: bytes) -> Callable[..., tuple[str, str, bytes]]:
    def change(_: Caller, __: object, headers: dict[str, str], path: str) -> tuple[str, str, bytes]:
        headers.pop("Inference-Header-Content-Length", None)
        headers["Content-Type"] = "application/json"
        return "POST", path, content

    return change


def _but(act: Callable[[Caller, dict[str, str]], None]) -> Callable[..., tuple[str, str, bytes]]:
    """Return a function that makes a right body with wrong headers."""

    def change(
        caller: Caller, sent: forms.Sent, headers: dict[str, str], path: str
    ) -> tuple[str, str, bytes]:
        act(caller, headers)
        return "POST", path, sent.body

    return change


WRONG = (
    # Half of a CSV may be a valid CSV.
    _wrong("JSON cut short", {400}, _instead(b'{"instances":[{"fruit":[1,2]},{"fru')),
    _wrong("nothing", {400}, _instead(b"")),
    _wrong("an empty object", {400}, _instead(b"{}")),
    _wrong("a list", {400}, _instead(b"[[1,2]]")),
    _wrong("a hundred thousand brackets", {400}, _instead(b"[" * 100_000)),
    _wrong("no UTF-8", {400}, _instead(b'{"instances":[{"fruit":"\xff\xfe"}]}')),
    _wrong("a key twice", {400}, _instead(b'{"inputs":{},"inputs":{}}')),
    _wrong(
        *("a shape below zero", {400}),
        _instead(
            b'{"inputs":[{"name":"fruit","datatype":"FP32","shape":[-1,2],"data":[1,2]}],'
            b'"instances":7}'
        ),
    ),
    _wrong(
        "half of the rows",
        {400},
        lambda _, sent, headers, path: (
            ("POST", path, sent.body[:-30])
            if headers["Content-Type"] != "text/csv"
            else ("POST", path, b"fruit.weight\nmuch\n")
        ),
    ),
    _wrong("no gzip", {400}, _but(lambda _, h: _set(h, "Content-Encoding", "gzip"))),
    _wrong("brotli", {415}, _but(lambda _, h: _set(h, "Content-Encoding", "br"))),
    # Another header marks OIP's binary bodies, and TensorFlow Serving ignores content types.
    _wrong(
        *("another type", {415}),
        _but(lambda _, h: _set(h, "Content-Type", "image/png")),
        ("native", "mlflow"),
    ),
    _wrong("no token", {401}, _but(lambda caller, h: _as(caller, h, None))),
    _wrong("an unknown token", {401}, _but(lambda caller, h: _as(caller, h, "triceps_x"))),
    _wrong("a token for metrics", {403}, _but(lambda caller, h: _as(caller, h, "reads"))),
    _wrong("no such model", {404}, lambda _, s, __, ___: ("POST", "/models/thre/predict", s.body)),
    _wrong("no such page", {404}, lambda _, s, __, ___: ("POST", "/models/three/guess", s.body)),
    _wrong("not by POST", {405}, lambda _, __, ___, path: ("GET", path, None)),
    _wrong(
        "unload without the scope",
        {403},
        lambda _, __, ___, ____: ("POST", "/v2/repository/models/three/unload", b""),
    ),
)
