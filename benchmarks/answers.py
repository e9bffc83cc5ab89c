"""Two checkouts of Triceps side by side: whether the one answers as the other does.

    python -m benchmarks.answers BEFORE AFTER

Each is a folder with a checkout that has its own `.venv`, in which it is installed.  Both receive
the same recorded requests in the same order, by `triceps serve` and by their Flask app under
Werkzeug's server, with tokens and without.  Status, headers and body are compared byte for byte,
but for the time and for names that are random.  It ends with 1 if more than wording differs.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import subprocess
import time
import zlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from benchmarks import processes, recorded, servers
from benchmarks.commits import checkout
from benchmarks.servers import NotReadyError, Running, Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.recorded import Request

OURS, FLASK = "triceps serve", "Flask"
_WSGI = (
    "import sys; from werkzeug.serving import run_simple; from service.app import create_app; "
    "run_simple('127.0.0.1', int(sys.argv[1]), create_app(), threaded=True)"
)
PATIENCE = 5.0

# The kinds of a difference; all but the last are of consequence.  FIGURES are those in a text that
# is worded otherwise, SPELLING is that of headers (their order, and capitals in their names),
# ENCODING is that of the same body, compressed otherwise.
STATUS, HEADERS, VALUES, FIGURES = "status", "headers", "values", "figures"
SPELLING, ENCODING, WORDING = "spelling", "encoding", "wording"
KINDS = (STATUS, HEADERS, VALUES, FIGURES, SPELLING, ENCODING, WORDING)
# The keys of prose in JSON answers: errors, pages about models, and OpenAPI.
_PROSE = {
    *("error", "error_message", "message", "reason", "expected", "received"),
    *("description", "summary"),
}
# The headers whose values differ from one answer to the next.
_VOLATILE = re.compile(
    rb"^((?:date|server-timing): ).*\r|^(x-request-id: )[0-9a-f]{32}\r",
    re.IGNORECASE | re.MULTILINE,
)
_SHOWN = 160
_EXAMPLES = 3


class Difference(NamedTuple):
    """One thing that two answers do not have in common, and where in a JSON body it stands."""

    kind: str
    before: str
    after: str
    at: str = ""


@dataclass(frozen=True)
class Answer:
    """An answer, without what differs each time."""

    status: bytes
    headers: tuple[str, ...]
    body: bytes

    @classmethod
    def of(cls, content: bytes) -> Answer:
        """Take an answer apart."""
        head, _, body = _VOLATILE.sub(rb"\1\2*\r", content).partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        return cls(status, tuple(header.decode("latin-1") for header in headers), body)

    def text(self) -> bytes:
        """Return the body, inflated where it was sent compressed."""
        try:
            if "content-encoding: gzip" in map(str.lower, self.headers):
                return gzip.decompress(self.body)
        except (OSError, EOFError, zlib.error):
            pass
        return self.body


class Asked(NamedTuple):
    """A request, the status that it had after, and how the two answers differ."""

    request: Request
    status: str
    differences: list[Difference]


def differences(before: Answer, after: Answer) -> list[Difference]:
    """Tell two answers to the same request apart."""
    if before.status != after.status:
        # The rest follows from that.
        texts = [f"{_text(answer.status)} {_text(answer.text())}" for answer in (before, after)]
        return [Difference(STATUS, *texts)]
    found = [*_in_headers(before, after)]
    texts = before.text(), after.text()
    if texts[0] != texts[1]:
        found += _in_bodies(*texts)
    elif before.body != after.body:
        found.append(Difference(ENCODING, *(f"{len(a.body)} bytes" for a in (before, after))))
    return found


def _text(content: bytes) -> str:
    return content.decode(errors="backslashreplace")


def _in_headers(before: Answer, after: Answer) -> Iterator[Difference]:
    pair = before.headers, after.headers
    if pair[0] == pair[1]:
        return
    lost, gained = ({_lower(line) for line in headers} for headers in pair)
    lost, gained = lost - gained, gained - lost
    lengths = [{line for line in lines if _is_length(line)} for lines in (lost, gained)]
    if all(lengths):
        # Another body has another length; of a body that a HEAD leaves out, no more is to be seen.
        lost, gained = lost - lengths[0], gained - lengths[1]
        if not before.body and not after.body:
            yield Difference(WORDING, *(", ".join(sorted(lines)) for lines in lengths))
    if lost or gained:
        yield Difference(HEADERS, ", ".join(sorted(lost)), ", ".join(sorted(gained)))
    names = [[line.partition(":")[0] for line in headers] for headers in pair]
    if not lost and not gained and names[0] != names[1]:
        yield Difference(SPELLING, ", ".join(names[0]), ", ".join(names[1]))


def _lower(header: str) -> str:
    name, _, value = header.partition(":")
    return f"{name.lower()}:{value}"


def _is_length(header: str) -> bool:
    return header.lower().startswith("content-length:")


def _in_bodies(before: bytes, after: bytes) -> list[Difference]:
    same = Difference(VALUES, _text(before), _text(after))
    try:
        return list(_in_values("", json.loads(before), json.loads(after))) or [same]
    except ValueError:
        return [same]


def _in_values(at: str, before: Any, after: Any, *, prose: bool = False) -> Iterator[Difference]:
    """Go through two JSON values; `prose` says whether their strings are wording."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before], [*after]
        if keys[0] != keys[1]:
            lost, gained = sorted({*before} - {*after}), sorted({*after} - {*before})
            told = ("without " + _json(gained), "without " + _json(lost))
            same = not lost and not gained
            yield Difference(VALUES, *(map(_json, keys) if same else told), at)
        for key in [key for key in before if key in after]:
            words = prose or key in _PROSE
            yield from _in_values(f"{at}.{key}", before[key], after[key], prose=words)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, values in enumerate(zip(before, after, strict=True)):
            yield from _in_values(f"{at}[{number}]", *values, prose=prose)
    # In JSON 1, 1.0 and true are three values, and NaN is itself.
    elif (type(before), repr(before)) != (type(after), repr(after)):
        kind = VALUES
        if prose and isinstance(before, str) and isinstance(after, str):
            figures = [sorted(re.findall(r"\d+", text)) for text in (before, after)]
            kind = WORDING if figures[0] == figures[1] else FIGURES
        yield Difference(kind, _json(before), _json(after), at)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Setting:
    """A service, with tokens or without, and the requests that it receives."""

    way: str
    tokens: bool
    requests: Sequence[Request]

    def __str__(self) -> str:
        """Name it."""
        return self.way + (", with tokens" if self.tokens else "")


def settings() -> list[Setting]:
    """List both ways in, with tokens and without."""
    open_, guarded = recorded.requests(), recorded.guarded()
    return [
        Setting(OURS, tokens=False, requests=open_),
        Setting(OURS, tokens=True, requests=guarded),
        Setting(FLASK, tokens=False, requests=[one for one in open_ if not one.ours]),
        Setting(FLASK, tokens=True, requests=[one for one in guarded if not one.ours]),
    ]


def server(folder: Path, name: str, setting: Setting, tokens: Path, models: Path) -> Server:
    """Return the server of a checkout in a setting.

    Raises:
        NotReadyError: as `commits.checkout`.
    """
    made = checkout(folder, f"{name}-{setting.way.split()[-1]}-{setting.tokens}".lower())
    variables = {
        **made.environment,
        # Werkzeug lists methods in the order of a set.
        "PYTHONHASHSEED": "0",
        "TRICEPS_DEFAULT_MODEL": recorded.MODEL,
        **({"TRICEPS_TOKENS_FILE": str(tokens)} if setting.tokens else {}),
    }
    if setting.way == OURS:
        return replace(made, environment=variables)
    python = str(folder.resolve() / ".venv/bin/python")

    def command(_peer: str, _model: str, port: str) -> list[str]:
        # -P: not the service of the folder that this program runs in.
        return [python, "-P", "-c", _WSGI, port]

    variables["TRICEPS_MODELS"] = str(models)
    return replace(made, command=command, environment=variables)


def ask(running: Running, content: bytes) -> bytes:
    """Send bytes over a connection of their own, and return all that comes back.

    What comes late, or how the connection breaks, stands behind it in words.
    """
    received = b""
    with socket.create_connection((servers.HOST, running.port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(content)
            while piece := connection.recv(1 << 20):
                received += piece
        except TimeoutError:
            received += b"(and no end)"
        except ConnectionError as error:
            received += f"({type(error).__name__})".encode()
    return received


def _is_ready(running: Running) -> None:
    if not ask(running, b"GET /livez HTTP/1.0\r\n\r\n").split(b" ", 2)[1:2] == [b"200"]:
        raise NotReadyError("/livez: expected 200")


def is_its_own(running: Running) -> bool:
    """Return whether the server that was started is the one that listens on its port."""
    own = set()
    for pid in (running.pid, *processes.tree(running.pid)):
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            # What was open a moment ago may be closed by now.
            with contextlib.suppress(OSError):
                own.add(str(file.readlink()))
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # 0A is a socket that listens.
    listening = {
        f"socket:[{fields[9]}]"
        for fields in sockets
        if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == running.port
    }
    return bool(listening) and listening <= own


def compare(folders: tuple[Path, Path], setting: Setting) -> list[Asked]:
    """Ask both checkouts all of one setting, each served from a repository of its own.

    Raises:
        NotReadyError: one does not start, or it was not the one that answered.
    """
    with ExitStack() as stack:
        # Of one length, since answers name them and tell their own length.
        homes = [Path(stack.enter_context(TemporaryDirectory(prefix="answers-"))) for _ in folders]
        up = []
        for folder, home, name in zip(folders, homes, ("before", "after"), strict=True):
            models, tokens = home / "models", home / "tokens.toml"
            recorded.write_models(models)
            recorded.write_tokens(tokens)
            one = server(folder, name, setting, tokens, models)
            up.append(stack.enter_context(servers.run(one, "", models, _is_ready)))
        pool = stack.enter_context(ThreadPoolExecutor(len(up)))
        found = []
        for request in setting.requests:
            # One request at a time of each, since the models that are loaded depend on the order.
            said = pool.map(ask, up, [request.content, request.content])
            before, after = (
                Answer.of(content.replace(str(home).encode(), b"HOME"))
                for content, home in zip(said, homes, strict=True)
            )
            status = _text(after.status[9:12]) or "none"
            found.append(Asked(request, status, differences(before, after)))
        for folder, running in zip(folders, up, strict=True):
            if not is_its_own(running):
                raise NotReadyError(f"{folder}: {setting}: another process answers on its port")
        return found


def show(setting: Setting, every: Sequence[Asked]) -> None:
    """Print each difference once, by kind, with the first few requests that it was met at."""
    met: dict[Difference, list[str]] = defaultdict(list)
    for asked in every:
        for difference in asked.differences:
            place = f"{asked.request.name}{difference.at and f' at {difference.at}'}"
            met[difference._replace(at="")].append(place)
    # Two services that answer nothing are alike too.
    statuses = Counter(asked.status for asked in every)
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    differing = sum(bool(asked.differences) for asked in every)
    print(f"\n{setting}: {len(every)} requests ({counts}), {differing} differ")
    for kind in KINDS:
        for difference, places in met.items():
            if difference.kind == kind:
                more = f" and {len(places) - _EXAMPLES} more" if len(places) > _EXAMPLES else ""
                print(f"  {kind}: {'; '.join(places[:_EXAMPLES])}{more}")
                print(f"    - {_cut(difference.before, difference.after)}")
                print(f"    + {_cut(difference.after, difference.before)}")


def _cut(text: str, other: str) -> str:
    """Shorten a text to where it becomes another, and what follows."""
    same = next(
        (i for i, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]), 0
    )
    start = max(0, same - _SHOWN // 2) if len(text) > _SHOWN else 0
    end = start + _SHOWN
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"


@click.command()
@click.argument("before", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(before: Path, after: Path) -> None:
    """Ask the checkouts BEFORE and AFTER the same, and end with 1 if more than wording differs."""
    servers.stop_when_told()
    started = time.monotonic()
    all_settings = settings()
    try:
        with ThreadPoolExecutor(len(all_settings)) as pool:
            every = list(pool.map(lambda one: compare((before, after), one), all_settings))
    except NotReadyError as error:
        raise click.ClickException(str(error)) from error
    totals = dict.fromkeys(KINDS, 0)
    for setting, found in zip(all_settings, every, strict=True):
        show(setting, found)
        for kind in KINDS:
            totals[kind] += sum(any(d.kind == kind for d in asked.differences) for asked in found)
    count = sum(map(len, every))
    for name, folder in (("before", before), ("after", after)):
        print(f"\n{name}: {folder.resolve()}, {_commit(folder)}", end="")
    print(f"\n{count} requests in {time.monotonic() - started:.0f} s; answers that differ:")
    print(", ".join(f"{count} in {kind}" for kind, count in totals.items()))
    if any(count for kind, count in totals.items() if kind != WORDING):
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
