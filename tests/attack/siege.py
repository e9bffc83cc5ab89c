"""An attack from beginning to end: calm, the behaviour, and the comparison with before.

calm ─▶ attack ─▶ after          the caller asks all the while, in a process of its own
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import subprocess
import sys
import sysconfig
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.attack import behaviours, bodies, calls, floods, http2, inspection, repository
from tests.attack.caller import CALL
from tests.attack.hostile import ALL_TOKENS, TABLE, Behaviour, Hostile
from tests.attack.pairs import pairwise
from tests.attack.streams import Asking, Peer
from tests.harness import certificates, forms, protobuf, tokens
from tests.harness.serving import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.attack.inspection import Look

# Importing them registers the behaviours.
__all__ = ["ALL_TOKENS", "behaviours", "bodies", "calls", "floods", "http2"]

THREADS = 4
PACE = 0.02
ENOUGH = 40
# In seconds: until sockets are closed, a worker's clock has ticked and metrics are published.
SETTLE_SECONDS = 20.0
# The longest duration of a behaviour, in seconds.
MOST_SECONDS = 120.0
MEGABYTE = 1 << 20
# The limits of what a worker may keep.
KEPT_FILES = 16
KEPT_CONNECTIONS = 2 * THREADS
CALM_TIMES = 10
P99_SECONDS = 0.25
# Waits depend on the machine too, so a test fails only above ten times the goal.
FAILING_TIMES = 10


@dataclass(frozen=True)
class Case:
    """A behaviour, and its combination of tokens, TLS and kind of path."""

    behaviour: str
    tokens: str
    tls: bool
    kind: str

    @property
    def row(self) -> Behaviour:
        """The row of the behaviour in the table."""
        return TABLE[self.behaviour]

    @property
    def service(self) -> tuple[bool, bool, int]:
        """The kind of service: with or without tokens and TLS, and its limit of descriptors."""
        return self.tokens != "off", self.tls, self.row.files

    def __str__(self) -> str:
        """Return the name as a test."""
        tls = "TLS" if self.tls else "plain"
        return f"{self.behaviour}, {self.kind}, tokens {self.tokens}, {tls}"


def cases() -> list[Case]:
    """Return the cases of `few`, then pairwise ones, sorted by service."""

    def allowed(chosen: tuple[Any, ...]) -> bool:
        name, holder, tls, kind = chosen
        row = TABLE[name]
        return holder in row.tokens and tls in row.tls and kind in row.kinds

    axes = list(TABLE), ("off", "holder", "stranger"), (False, True), repository.KINDS
    found = dict.fromkeys([*few(), *(Case(*chosen) for chosen in pairwise(axes, allowed))])
    return sorted(found, key=lambda case: case.service)


def few() -> list[Case]:
    """Return the most harmful case of each behaviour, in turns with and without TLS."""
    found = []
    for number, row in enumerate(TABLE.values()):
        holder, kind = row.once
        found.append(Case(row.name, holder, row.tls[number % len(row.tls)], kind))
    return sorted(found, key=lambda case: case.service)


@dataclass
class Outcome:
    """The result of an attack."""

    case: Case
    phases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    before: int = 0
    peak: int = 0
    after: int = 0
    """The resident bytes of the largest worker."""
    seconds: float = 0.0
    """The duration of the attack."""
    kept_out: str = ""
    """The error that ended the attack early, if any."""

    @property
    def calm_p99(self) -> float:
        """The 99th percentile of the caller's waits in calm, in seconds."""
        return float(self.phases["calm"]["p99"])

    @property
    def p99(self) -> float:
        """The 99th percentile of the caller's waits under attack, in seconds."""
        return float(self.phases["attack"]["p99"])

    def count(self, what: str) -> int:
        """Return the sum of a count, such as `lost`, over all phases."""
        return sum(int(phase[what]) for phase in self.phases.values())

    @property
    def longest(self) -> float:
        """The longest wait for an answer, in seconds."""
        return max(float(self.phases[name]["longest"]) for name in ("attack", "after"))

    @property
    def grown(self) -> float:
        """The megabytes by which the largest worker grew."""
        return (self.peak - self.before) / MEGABYTE

    @property
    def kept(self) -> float:
        """The megabytes that it kept after the attack."""
        return (self.after - self.before) / MEGABYTE

    @property
    def goal(self) -> float:
        """The limit for the caller's p99, in seconds."""
        return max(CALM_TIMES * self.calm_p99, P99_SECONDS)

    def check_speed(self) -> None:
        """Record a complaint if the caller waited much longer than in calm."""
        if self.p99 > FAILING_TIMES * self.goal:
            self.complaints.append(
                f"p99: expected at most {self.goal:.3f} s, received {self.p99:.3f} s "
                f"({self.calm_p99:.3f} s in calm)"
            )


class Stage:
    """The service under attack: one at a time, and a new one after a failure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._key: tuple[bool, bool, int] | None = None
        self._service: Server | None = None
        self._models = folder / "models"
        repository.publish(self._models)

    def service(self, key: tuple[bool, bool, int]) -> Server:
        """Return a running service of a kind."""
        if self._service is None or self._key != key:
            self.clear()
            folder = self._folder / str(self._number)
            folder.mkdir()
            self._number += 1
            guarded, encrypted, files = key
            self._service = Server(
                *("--models", self._models, "--workers", "2"),
                folder=folder,
                guarded=guarded,
                encrypted=encrypted,
                files=files,
                environment={"TRICEPS_DEFAULT_MODEL": repository.MAIN},
            )
            self._service.until_ready()
            self._key = key
        return self._service

    def clear(self) -> None:
        """Stop the running service, if any."""
        if self._service is not None:
            self._service.stop()
            self._service = None


def attack(stage: Stage, case: Case, *, seconds: float, scale: float) -> Outcome:
    """Attack a service beside the caller; a damaged service is not used again."""
    service = stage.service(case.service)
    outcome = Outcome(case)
    offset = service.logged()
    caller = _Caller(service, _asks(service, case.row))
    try:
        caller.phase("calm")
        time.sleep(seconds)
        before = inspection.look(service)
        outcome.before = max(before.resident.values())
        caller.phase("attack")
        with _peak(service, outcome):
            _act(service, case, outcome, seconds, scale)
            caller.phase("after")
            _settle(service, before, caller, outcome)
    except (OSError, AssertionError) as error:
        outcome.complaints.append(f"the service: {type(error).__name__}: {error}")
    finally:
        outcome.phases = caller.end()
    _judge(outcome, case.row, inspection.errors(service, offset))
    if outcome.complaints:
        stage.clear()
    return outcome


def _act(service: Server, case: Case, outcome: Outcome, seconds: float, scale: float) -> None:
    """Run the behaviour with a time limit."""
    token = tokens.secret("predict") if case.tokens == "holder" else ""
    hostile = Hostile(service.port, service.tls, token, case.kind, seconds, scale)
    began = time.monotonic()

    def act() -> None:
        try:
            # A short behaviour is repeated, so that the caller could notice it.
            while True:
                case.row.act(hostile)
                if time.monotonic() - began > seconds:
                    break
        except AssertionError as error:
            outcome.complaints.append(f"the attacker: {error}")
        except OSError as error:
            # The service may shut the attacker out; the caller shows whether others were affected.
            outcome.kept_out = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(MOST_SECONDS)
    if thread.is_alive():
        outcome.complaints.append(f"the attacker: still at it after {MOST_SECONDS:g} s")
    outcome.seconds = time.monotonic() - began


@contextlib.contextmanager
def _peak(service: Server, outcome: Outcome) -> Iterator[None]:
    """Record the size of the largest worker during the block."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(OSError):
                outcome.peak = max(outcome.peak, *inspection.resident(service).values(), 0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _settle(service: Server, before: Look, caller: _Caller, outcome: Outcome) -> None:
    """Wait until all values are back, and record complaints about those that are not in time."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            complaints = _differences(service, before, caller, outcome)
        except (OSError, AssertionError, http.client.HTTPException) as error:
            complaints = [f"/metrics: {type(error).__name__}: {error}"]
        if not complaints or time.monotonic() > deadline:
            outcome.complaints += complaints
            return
        time.sleep(0.2)


def _differences(service: Server, before: Look, caller: _Caller, outcome: Outcome) -> list[str]:
    """Return the differences from before the attack."""
    found = []
    if (status := service.status("/readyz")) != http.HTTPStatus.OK:
        found.append(f"/readyz: expected 200, received {status}")
    after = caller.report()["after"]
    if after["right"] < ENOUGH or after["threads"] < THREADS:
        found.append(
            f"after the attack: expected {ENOUGH} right answers to all {THREADS} callers, "
            f"received {after['right']} to {after['threads']}"
        )
    if missing := caller.names - set(after["names"]):
        found.append(f"after the attack: expected answers to {sorted(missing)}, received none")
    now = inspection.look(service)
    outcome.after = max(now.resident.values())
    if now.resident.keys() != before.resident.keys():
        found.append(f"workers: expected {[*before.resident]}, found {[*now.resident]}")
    for pid, resident in before.resident.items():
        if now.resident.get(pid, 0) > resident + outcome.case.row.kept * MEGABYTE:
            had, has = resident / MEGABYTE, now.resident[pid] / MEGABYTE
            found.append(f"memory of {pid}: {had:.0f} MB before, {has:.0f} MB after")
        if now.files.get(pid, 0) > before.files[pid] + KEPT_FILES:
            found.append(f"descriptors of {pid}: {before.files[pid]}, then {now.files[pid]}")
    if now.connections > before.connections + KEPT_CONNECTIONS:
        found.append(f"connections: {before.connections} before, {now.connections} after")
    return found


def _judge(outcome: Outcome, row: Behaviour, logged: list[str]) -> None:
    """Record complaints about the caller's answers, peak memory and errors of the service."""
    for name, phase in outcome.phases.items():
        for what in ("lost", "wrong"):
            if phase[what]:
                examples = "; ".join(phase["examples"][:3])
                outcome.complaints.append(f"{phase[what]} {what} in {name}: {examples}")
    if outcome.grown > row.peak:
        outcome.complaints.append(
            f"memory: expected a worker to grow by {row.peak} MB at most, "
            f"it grew by {outcome.grown:.0f} MB"
        )
    logged = [line for line in logged if not row.faults or row.faults not in line]
    if logged:
        outcome.complaints.append(f"{len(logged)} errors logged, the first: {logged[0][-600:]}")


# ── the caller ───────────────────────────────────────────────────────────────────────────────────


class _Caller:
    """The process of the caller, and its commands."""

    def __init__(self, service: Server, asks: list[dict[str, Any]]) -> None:
        script = Path(__file__).with_name("caller.py")
        # -I -S: only the standard library, whatever else is installed.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        said = {
            "port": service.port,
            "certificate": certificates.A if service.tls else "",
            "packages": [sysconfig.get_path(name) for name in ("purelib", "platlib")],
            "threads": THREADS,
            "pace": PACE,
            "asks": asks,
        }
        self.names = {ask["name"] for ask in asks}
        self._tell(json.dumps(said))

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")

    def _hear(self) -> dict[str, dict[str, Any]]:
        assert self._process.stdout is not None
        told: dict[str, dict[str, Any]] = json.loads(self._process.stdout.readline())
        return told

    def phase(self, name: str) -> None:
        """Begin a phase of the caller."""
        self._tell(f"phase {name}")

    def report(self) -> dict[str, dict[str, Any]]:
        """Return all phases up to now."""
        self._tell("report")
        return self._hear()

    def end(self) -> dict[str, dict[str, Any]]:
        """End the caller, and return all phases for the last time."""
        with self._process:
            self._tell("end")
            return self._hear()


def _asks(service: Server, row: Behaviour) -> list[dict[str, Any]]:
    """Return the requests of the caller: `three` on every kind of path, and the behaviour's models.

    The expected answers of `three` are its present ones without other load, after a comparison
    with ONNX Runtime's own.
    """
    asks = []
    for kind in repository.PATHS:
        arrays = repository.rows_for(repository.MAIN, 2)
        method, sent = repository.encode(kind, repository.MAIN, arrays)
        status, headers, content = service.ask(method, sent.path, sent.body or None, sent.headers)
        assert status == http.HTTPStatus.OK, content
        if kind != "page":
            received = forms.outputs_of(headers, content)
            for head, values in repository.expected(repository.MAIN, arrays).items():
                assert np.array_equal(received[head], values), (kind, head)
        asks.append(_ask(service, kind, method, sent, answer=_text(content)))
    if row.calls:
        asks.append(_call(service))
    for name in row.asks:
        # For joint models, single rows, and more rows than run together.
        for count in (1, 300) if name in repository.JOINT else (1,):
            arrays = repository.rows_for(name, count)
            method, sent = repository.encode("oip", name, arrays)
            [values] = repository.expected(name, arrays).values()
            asks.append(
                _ask(
                    *(service, f"{name}, {count} rows", method, sent),
                    values=values.ravel().tolist(),
                    may_be_refused=row.fills,
                )
            )
    return asks


def _call(service: Server) -> dict[str, Any]:
    """Return the call of the caller by gRPC, after a comparison as in `_asks`."""
    arrays = repository.rows_for(repository.MAIN, 2)
    token = tokens.secret("all") if service.guarded else ""
    client = Hostile(service.port, service.tls, token, repository.CALL)
    with Peer(client) as peer:
        _, _, content = protobuf.unframed(peer.answer(Asking.of(client, arrays=arrays)))
    received = protobuf.infer_response(content)
    for head, values in repository.expected(repository.MAIN, arrays).items():
        assert np.array_equal(received[head], values), head
    sent = forms.Sent(protobuf.INFER, protobuf.infer_request(repository.MAIN, arrays), {})
    return _ask(service, repository.CALL, CALL, sent, answer=_text(content))


def _ask(
    service: Server, name: str, method: str, sent: forms.Sent, **expected: Any
) -> dict[str, Any]:
    headers = {**sent.headers, **(tokens.header("predict") if service.guarded else {})}
    said = {"name": name, "method": method, "path": sent.path, "headers": headers}
    return {"may_be_refused": False, **said, "body": _text(sent.body), **expected}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
