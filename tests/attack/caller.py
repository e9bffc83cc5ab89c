"""The well-behaved client, the caller, in a process of its own: it checks every answer.

The program reads one line of JSON with the port and the requests, and then commands, one for each
line: `phase NAME` begins a phase, `report` prints all phases as a line of JSON, and `end` prints
them for the last time.  It imports only the standard library, so that it starts at once, and
grpcio if it has a call to make.
"""

from __future__ import annotations

import base64
import http.client
import importlib
import json
import math
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

# In seconds: an answer that takes longer counts as lost.
TIMEOUT = 10.0
# The requests on a connection; new ones are opened during an attack too.
KEPT = 25
NEAR = 1e-5
MOST_TOLD = 10
REFUSALS = (429, 503)
# The method of a request that is a call by gRPC.
CALL = "CALL"


@dataclass
class Phase:
    """The results of the requests that began in a phase."""

    seconds: list[float] = field(default_factory=list)
    """The seconds of each right answer to a request that must not be refused."""
    right: int = 0
    threads: set[int] = field(default_factory=set)
    """The threads that got a right answer."""
    names: set[str] = field(default_factory=set)
    """The names of the requests that got a right answer."""
    refused: int = 0
    """The number of refusals because of a full queue, where these are allowed."""
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Return the results as values for JSON."""
        seconds = sorted(self.seconds)
        return {
            "right": self.right,
            "threads": len(self.threads),
            "names": sorted(self.names),
            "p99": seconds[int(0.99 * len(seconds))] if seconds else 0.0,
            "longest": seconds[-1] if seconds else 0.0,
            "refused": self.refused,
            "lost": len(self.lost),
            "wrong": len(self.wrong),
            "examples": (self.lost + self.wrong)[:MOST_TOLD],
        }


@dataclass(frozen=True)
class Answer:
    """An answer, and whether it is a refusal that says when to try again."""

    ok: bool
    content: bytes
    why: str = ""
    refusal: bool = False


class Pages:
    """A connection of HTTP/1.1."""

    def __init__(self, port: int, certificate: str) -> None:
        host = "127.0.0.1"
        if certificate:
            tls = ssl.create_default_context(cadata=certificate)
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT, context=tls
            )
        else:
            self.connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)

    def ask(self, ask: dict[str, Any]) -> Answer:
        """Send a request, and return the answer."""
        self.connection.request(ask["method"], ask["path"], ask["body"], ask["headers"])
        answer = self.connection.getresponse()
        content = answer.read()
        later = answer.status in REFUSALS and answer.headers["Retry-After"] is not None
        why = f"{answer.status} {content[:150]!r}"
        return Answer(answer.status == http.HTTPStatus.OK, content, why, later)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class Calls:
    """A channel of gRPC, with a connection of its own."""

    def __init__(self, port: int, certificate: str) -> None:
        self.grpc: Any = importlib.import_module("grpc")
        # Otherwise all channels of a process share a connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        if certificate:
            trusted = self.grpc.ssl_channel_credentials(certificate.encode())
            self.channel = self.grpc.secure_channel(f"localhost:{port}", trusted, options)
        else:
            self.channel = self.grpc.insecure_channel(f"127.0.0.1:{port}", options)

    def ask(self, ask: dict[str, Any]) -> Answer:
        """Make a call, and return the answer."""
        metadata = [(name.lower(), value) for name, value in ask["headers"].items()]
        try:
            return Answer(
                ok=True,
                content=self.channel.unary_unary(ask["path"])(
                    ask["body"], timeout=TIMEOUT, metadata=metadata, wait_for_ready=True
                ),
            )
        except self.grpc.RpcError as error:
            raise OSError(f"{error.code()}: {error.details()}") from error

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


class Caller:
    """The threads that send requests in turn, each on connections of its own."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said
        self.asks: list[dict[str, Any]] = said["asks"]
        for ask in self.asks:
            ask["body"] = base64.b64decode(ask["body"])
            ask["answer"] = base64.b64decode(ask.get("answer", ""))
        sys.path += said["packages"]
        self.lock = threading.Lock()
        self.phases = {"start": Phase()}
        self.now = "start"
        self.ended = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(number,)) for number in range(said["threads"])
        ]

    def run(self, number: int) -> None:
        """Send requests until the end."""
        open_: dict[bool, Pages | Calls] = {}
        asked = number
        while not self.ended.wait(self.said["pace"]):
            ask = self.asks[asked % len(self.asks)]
            asked += 1
            is_call = ask["method"] == CALL
            phase, started = self.phases[self.now], time.perf_counter()
            try:
                if is_call not in open_:
                    made = Calls if is_call else Pages
                    open_[is_call] = made(self.said["port"], self.said["certificate"])
                answer = open_[is_call].ask(ask)
            except (OSError, http.client.HTTPException) as error:
                took = time.perf_counter() - started
                why = f"{ask['name']}: {type(error).__name__}: {error} after {took:.2f} s"
                with self.lock:
                    phase.lost.append(why)
                if is_call in open_:
                    open_.pop(is_call).close()
                continue
            took = time.perf_counter() - started
            if self.judge(phase, ask, answer):
                with self.lock:
                    if not ask["may_be_refused"]:
                        phase.seconds.append(took)
                    phase.right += 1
                    phase.threads.add(number)
                    phase.names.add(ask["name"])
            if asked % KEPT == 0:
                while open_:
                    open_.popitem()[1].close()
        while open_:
            open_.popitem()[1].close()

    def judge(self, phase: Phase, ask: dict[str, Any], answer: Answer) -> bool:
        """Return whether an answer is right, and record a wrong one."""
        if answer.ok and is_right(ask, answer.content):
            return True
        with self.lock:
            if answer.refusal and ask["may_be_refused"]:
                phase.refused += 1
            else:
                why = answer.why or repr(answer.content[:150])
                phase.wrong.append(f"{ask['name']}: {why}")
        return False

    def report(self) -> None:
        """Print all phases."""
        with self.lock:
            told = {name: phase.told() for name, phase in self.phases.items()}
        print(json.dumps(told), flush=True)  # noqa: T201  the harness reads it

    def obey(self) -> None:
        """Follow the commands."""
        for thread in self.threads:
            thread.start()
        try:
            for line in sys.stdin:
                command, _, name = line.strip().partition(" ")
                if command == "phase":
                    self.phases[name] = Phase()
                    self.now = name
                elif command == "report":
                    self.report()
                elif command == "end":
                    break
        finally:
            self.ended.set()
            for thread in self.threads:
                thread.join()
        self.report()


def is_right(ask: dict[str, Any], content: bytes) -> bool:
    """Return whether an answer is right: to the last bit, or within the tolerance of kernels."""
    if "values" not in ask:
        return bool(content == ask["answer"])
    try:
        data = json.loads(content)["outputs"][0]["data"]
    except (ValueError, KeyError, IndexError, TypeError):
        return False
    expected = ask["values"]
    return len(data) == len(expected) and all(
        math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR)
        for one, other in zip(data, expected, strict=True)
    )


if __name__ == "__main__":
    Caller(json.loads(sys.stdin.readline())).obey()
