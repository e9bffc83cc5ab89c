"""Fuzzing: mutated bodies, of which each is decoded or refused as promised.

    python -m tests.fuzz 1000000 [--seed 0]     this many bodies
    python -m tests.fuzz tests/corpus/found/…   one file of the corpus

A body is decoded or refused with a 4xx, in bounded time, and both readers agree where there are
two.  Whatever is decoded runs on its model and is answered.  A seed always gives the same bodies,
while the corpus and the targets stay the same.  A body that fails is kept in the corpus.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
import zlib
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import orjson
from google.protobuf.message import DecodeError

from service.errors import BadRequest, Problem, RequestError
from service.inference.model import Model
from service.run import Part, Run
from service.wire import mlflow, native, oip, tfserving
from service.wire.native.answers import Writer
from service.wire.oip import grpc as oip_grpc
from service.wire.quick import UnsureError
from service.wire.tensors import by_name
from service.wire.tfserving import grpc as tfserving_grpc
from tests.harness import bodies, fast_way, grpc_messages, small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.wire.dialect import Dialect
    from tests.harness.bodies import Body

CORPUS = Path(__file__).parent / "corpus"
DIALECTS: dict[str, Dialect] = {
    "native": native.DIALECT,
    "oip": oip.DIALECT,
    "predict": tfserving.PREDICT,
    "classify": tfserving.CLASSIFY,
    "regress": tfserving.REGRESS,
    "mlflow": mlflow.DIALECT,
    "oip_grpc": oip_grpc.GRPC,
    "tfserving_grpc": tfserving_grpc.GRPC,
}
MESSAGES = {
    "oip_grpc": "inference.ModelInferRequest",
    "tfserving_grpc": "tensorflow.serving.PredictRequest",
}
# CPU seconds for a body of at most 128 KB, from reading to the answer.  The slowest bodies take a
# tenth of it, and anything quadratic in the length of a body takes more.
MOST_SECONDS = 2.0
MOST_MEMORY = 4 << 30
_LONGEST_ERROR = 1 << 16


class Fault(AssertionError):
    """A promise that was not kept."""


class Target:
    """A model with its readers and writers."""

    def __init__(self, name: str, content: bytes) -> None:
        """Load the model."""
        self.name = name
        self.model = Model.load(content)
        self.signature = signature = self.model.signature
        self.tensors = by_name(signature)
        self.writer = Writer("m", "1", signature)
        self.readers = {form: d.reader(signature) for form, d in DIALECTS.items()}
        # By form, another reader of the same bytes, which must agree.
        self.others: dict[str, Any] = {
            "native": lambda body, _: fast_way.decode(body, signature),
            "oip": oip.reader(signature),
            **{form: partial(self._as_protobuf_does, form) for form in MESSAGES},
        }
        self.attempts = {
            form: DIALECTS[form].codec("m", "1", signature).attempt for form in MESSAGES
        }

    def _as_protobuf_does(self, form: str, body: bytes, header: Any) -> Any:
        """Read a message as protobuf writes it again, which must mean the same."""
        try:
            written = grpc_messages.canonical(MESSAGES[form], body)
        except DecodeError:
            return BadRequest([Problem("body", "a message", "none")])
        return self.readers[form](written, header)


@cache
def targets() -> dict[str, Target]:
    """Return a model of each kind, by name."""
    models = {**small.every(), "ragged_twice": small.same(small.F, (None, None))}
    return {name: Target(name, content) for name, content in models.items()}


@cache
def seeds() -> tuple[Body, ...]:
    """Return the bodies to mutate: valid ones of every form and model, and the corpus."""
    right = [
        body
        for number in range(4)
        for name, target in targets().items()
        for _, body in bodies.every(name, target.signature, Random(f"{name} {number}"))
    ]
    kept = [bodies.unpack(path.read_bytes()) for path in corpus()]
    return (*right, *kept * 3)


def corpus() -> list[Path]:
    """Return the files of the corpus."""
    return sorted(CORPUS.glob("*/*.body"))


def body_of(seed: int, number: int) -> Body:
    """Return body `number` of a seed."""
    random = Random(f"{seed} {number}")
    every = seeds()
    return bodies.mutate(random.choice(every), every, random)


def check(body: Body) -> bool:
    """Check a body, and return whether it is decoded.

    Raises:
        Fault: a promise is not kept.
    """
    target = targets()[body.model]
    started = time.thread_time()
    decoded = _check(body, target)
    took = time.thread_time() - started
    if took > MOST_SECONDS:
        raise Fault(f"took {took:.1f} s of CPU for {len(body.content)} bytes")
    return decoded


def _check(body: Body, target: Target) -> bool:
    dialect = DIALECTS[body.form]
    plain = body.form == "oip"
    asked = _read(target.readers[body.form], body, slowly=plain)
    other = target.others.get(body.form)
    if body.form in MESSAGES:
        _compare_messages(asked, _read(other, body))
        attempted = target.attempts[body.form](body.content)
        if attempted is not None:
            _compare(asked, attempted, body.form)
    elif other is not None:
        _compare(asked, _read(other, body), body.form)
    if isinstance(asked, RequestError):
        _check_error(dialect, asked)
        return False
    rows = _check_arrays(asked, target)
    try:
        outputs = target.model.predict(asked.arrays, asked.heads)
    except RequestError as error:
        _check_error(dialect, error)
        return True
    reply = dialect.encode(asked, "m", "1", target.signature, outputs)
    if body.form == "native":
        written = target.writer.write(asked, Part(Run(rows, 0.0, 0.0, outputs), 0, rows))
        if written != reply:
            raise Fault(f"two answers: {written!r} and {reply!r}")
    _check_reply(body, asked, reply, rows)
    return True


def _read(read: Callable[..., Any], body: Body, *, slowly: bool = False) -> Any:
    """Return the decoded request, or the error for its client."""
    try:
        if slowly:
            with _plain():
                return read(body.content, body.header)
        return read(body.content, body.header)
    except RequestError as error:
        return error


@contextmanager
def _plain() -> Iterator[None]:
    """Read with the Open Inference Protocol's reference reader."""
    parse, parse_header = oip.quick.parse, oip.quick.parse_header
    oip.quick.parse = oip.quick.parse_header = _unsure
    try:
        yield
    finally:
        oip.quick.parse, oip.quick.parse_header = parse, parse_header


def _unsure(*_: Any) -> Any:
    raise UnsureError


def _compare(plain: Any, quick: Any, form: str) -> None:
    first, other = _told(plain), _told(quick)
    deep = any("nested too deeply" in str(result) for result in (plain, quick))
    if deep and isinstance(plain, RequestError) and isinstance(quick, RequestError):
        # The depth that is allowed depends on the stack, and one reader calls the other.
        return
    if first != other:
        raise Fault(f"the two paths of {form} differ: {first!r:.500} and {other!r:.500}")


# Reasons to refuse what protobuf takes: a name that is there twice, a version that is not behind
# the name, the number 0, which is reserved and which protobuf for Python skips alone, and more of
# something than any request has.
_STRICT = (
    *("it once", "each name once", "one name in each", "it right behind model_name"),
    *("without a valid number", "at most"),
)


def _compare_messages(asked: Any, other: Any) -> None:
    """Compare a message with that which protobuf makes of it."""
    if isinstance(asked, RequestError):
        if not isinstance(other, RequestError) and not any(map(str(asked).count, _STRICT)):
            raise Fault(f"protobuf takes what is refused: {asked}")
    elif isinstance(other, RequestError):
        raise Fault(f"taken, and as protobuf reads it, {other}")
    else:
        _compare(asked, other, "protobuf")


def _told(result: Any) -> Any:
    """Return the result of a reader in a form that can be compared."""
    if isinstance(result, RequestError):
        # Errors are compared by message, place, expected and received value, and count.
        return (
            type(result),
            str(result),
            getattr(result, "problems", ()),
            getattr(result, "count", 0),
        )
    arrays = {
        name: (a.dtype, a.shape, a.tolist() if a.dtype == object else a.tobytes())
        for name, a in result.arrays.items()
    }
    noted = [*result.imputed, *result.unseen]
    rest = (result.heads, noted, getattr(result, "by_row", None))
    return arrays, *rest, getattr(result, "wanted", None), getattr(result, "id", None)


def _check_arrays(asked: Any, target: Target) -> int:
    """Check decoded rows against the graph."""
    heights = set()
    for name, array in asked.arrays.items():
        tensor = target.tensors[name]
        dtype = "object" if tensor.dtype == "string" else tensor.dtype
        axes = zip(array.shape[1:], tensor.shape, strict=True)
        if str(array.dtype) != dtype or any(b not in (None, a) for a, b in axes):
            raise Fault(f"{name}: {tensor} is {array.dtype}{array.shape}")
        heights.add(len(array))
    if len(heights) != 1 or 0 in heights:
        raise Fault(f"so many rows: {heights}")
    return heights.pop()


def _check_error(dialect: Dialect, error: RequestError) -> None:
    if not 400 <= error.status < 500:
        raise Fault(f"{error.status}: {error}")
    reply = dialect.encode_error(error)
    if dialect in (oip_grpc.GRPC, tfserving_grpc.GRPC):
        grpc_messages.status(reply)
        return
    content = reply.content
    orjson.loads(content)
    if len(content) > _LONGEST_ERROR:
        raise Fault(f"an error of {len(content)} bytes")


def _check_reply(body: Body, asked: Any, reply: Any, rows: int) -> None:
    """Check that an answer is JSON with the requested rows."""
    content, _, headers = reply
    if body.form in MESSAGES:
        read = grpc_messages.inferred if body.form == "oip_grpc" else grpc_messages.predicted
        if {len(output) for output in read(content)[1].values()} != {rows}:
            raise Fault(f"{rows} rows were asked and others answered")
        return
    length = dict(headers).get(bodies.LENGTH)
    answer = json.loads(content[: int(length)] if length else content)
    if body.form == "native":
        orjson.loads(content)
    if body.form == "oip":
        heights = {output["shape"][0] for output in answer["outputs"]}
    elif "outputs" in answer:
        outputs = answer["outputs"]
        columns = outputs.values() if isinstance(outputs, dict) else [outputs]
        heights = {len(column) for column in columns}
    else:
        heights = {len(answer.get("predictions", answer.get("results")))}
    if heights != {rows}:
        raise Fault(f"{rows} rows were asked and {heights} answered")


class Failed(Exception):
    """A body that fails, kept in a file."""


def keep(body: Body, seed: int, number: int, error: Exception) -> Failed:
    """Write a body into the corpus, and return the command that runs it again."""
    content = bodies.pack(body)
    path = CORPUS / "found" / f"{body.form}-{body.model}-{zlib.crc32(content):08x}.body"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Failed(
        f"body {number} of seed {seed}: {type(error).__name__}: {error}\n"
        f"    again: python -m tests.fuzz {path.relative_to(Path.cwd())}"
    )


@contextmanager
def surroundings() -> Iterator[None]:
    """Set the limits of a worker, and make all other warnings errors."""
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def run(seed: int, numbers: Iterator[int], on_failure: Callable[[Failed], None]) -> tuple[int, int]:
    """Check bodies of a seed; return how many were checked and how many decoded."""
    done = decoded = 0
    with surroundings():
        for number in numbers:
            body = body_of(seed, number)
            try:
                decoded += check(body)
            except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
                on_failure(keep(body, seed, number, error))
            done += 1
    return done, decoded


def _raise(failed: Failed) -> None:
    raise failed


def until(seconds: float) -> Iterator[int]:
    """Yield numbers from 0 until the time is over."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Fuzz what reads bodies.")
    parser.add_argument("what", nargs="+", help="how many bodies, or files of the corpus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="bodies of the seed to leave out")
    options = parser.parse_args()
    if not options.what[0].isdigit():
        with surroundings():
            for path in options.what:
                decoded = check(bodies.unpack(Path(path).read_bytes()))
                click.echo(f"{path}: {'decoded' if decoded else 'refused'}")
        return
    count, failures = int(options.what[0]), []

    def tell(failed: Failed) -> None:
        failures.append(failed)
        click.echo(failed)

    seeds()
    before = _memory()
    # A limit of memory: a small body that needs gigabytes is to be found without harm.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    started = time.monotonic()
    done, decoded = run(options.seed, iter(range(options.skip, options.skip + count)), tell)
    took = time.monotonic() - started
    click.echo(
        f"seed {options.seed}: {done} bodies in {took:.0f} s ({done / took:.0f}/s), "
        f"{decoded} decoded, {len(failures)} failed; "
        f"at most {_memory() - before:.0f} MB more than at the start"
    )
    sys.exit(bool(failures))


def _memory() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
