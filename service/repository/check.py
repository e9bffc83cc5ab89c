"""The check of one version before it serves: loaded as a worker loads it, in a child process.

    version ─ sandbox ─▶ trial ─ loader.load ─▶ servable ─ describe, time ─▶ facts

The trial is that of `triceps serve`, and so is what follows it.  A file that crashes its process,
hangs or takes all memory does so in a child process, and is refused as the service refuses it.
"""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.capi import _pybind_state

from service.host import child, memory, processors
from service.inference import model_file
from service.repository import file_trial, sandbox
from service.repository.budget import Budget
from service.repository.loader import Broken, Loaded, load
from service.repository.reasons import plain
from service.repository.selection import set_up
from service.wire import native
from service.wire.native.examples import example

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from service.repository.loader import Servable
    from service.repository.model_settings import ModelSettings
    from service.repository.scan import Version
    from service.settings import Settings

    Describe = Callable[[Servable], dict[str, Any]]

# The rows of the second kind of run that is timed.
MANY = 64
# Runs of one kind: repeated until this time is over, and at least a few times.
TIMED_SECONDS, FEWEST, MOST = 0.3, 3, 200
# A run that takes longer than this is not waited for.
LONGEST_SECONDS = 20
# A trial waits for its verdict; the child then loads the file again and times it.
CHILD_SECONDS = sandbox.VERDICT_SECONDS + 2 * file_trial.WALL_SECONDS + 2 * LONGEST_SECONDS


@dataclass(frozen=True)
class Checked:
    """The outcome of a check: the reason why a version would not serve, or the facts about it."""

    reason: str | None
    facts: Mapping[str, Any]


def check(found: Version, own: ModelSettings, settings: Settings, describe: Describe) -> Checked:
    """Load a version as the service with these settings would, and return what comes of it.

    Args:
        found: the version.
        own: the settings of its model.
        settings: the settings of the service.
        describe: returns facts about the loaded version that JSON can hold; it runs in the child
            process that has the version loaded.

    Returns:
        The facts of `describe`, beside `opset`, `memory` and `seconds`.
    """
    workers = settings.workers or processors.available()
    budget = Budget.of(settings.memory or memory.limit() // 2, workers)
    execution = own.execution(settings.provider)

    def admit(size: int) -> bool:
        if not own.keep:
            budget.check(size)
        return True

    def work() -> dict[str, Any]:
        before = memory.taken()
        outcome = load(found, execution, admit)
        after = memory.taken()
        if not isinstance(outcome, Loaded):
            # A file that is admitted is loaded or broken, and never only tried.
            return {"reason": outcome.reason if isinstance(outcome, Broken) else "not loaded"}
        servable = set_up(outcome, {found.name: own}).servable
        added = max(0, after.own - before.own)
        return {
            "reason": None,
            **describe(servable),
            "opset": _opset(found),
            "memory": {"added": added, "counted": outcome.size, "budget": int(budget.size)},
            "seconds": _seconds(servable),
        }

    # The keeper forks before there is a model in any process, as it does for the service.
    with sandbox.kept(workers, settings.cache):
        try:
            facts = child.run(work, CHILD_SECONDS)
        except child.ChildError as error:
            return Checked(plain(f"loading it failed: {error}"), {})
    return Checked(facts.pop("reason"), facts)


def _opset(found: Version) -> dict[str, dict[str, int]]:
    """Return the operator sets of a graph, and the newest that this ONNX Runtime has, by domain."""
    graph: Any = model_file.read(Path(found.path))
    wanted = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}
    newest: dict[str, int] = {}
    for schema in _pybind_state.get_all_operator_schema():
        domain = schema.domain or "ai.onnx"
        newest[domain] = max(newest.get(domain, 0), schema.since_version)
    return {"graph": wanted, "newest": {d: newest[d] for d in wanted if d in newest}}


def _seconds(servable: Servable) -> dict[str, float | None]:
    """Return the median time of a run with one row, and with many, on this machine.

    It is `None` where no row is known that the model answers, or where a run takes too long; whole
    tensors have only the first.
    """
    one = _one_row(servable)
    if one is None:
        return {"one": None, "many": None}
    many = None
    first = _median(servable, one)
    if not servable.signature.tensor and first is not None:
        repeated = {name: np.repeat(array, MANY, axis=0) for name, array in one.items()}
        many = _median(servable, repeated)
    return {"one": first, "many": many}


def _one_row(servable: Servable) -> dict[str, NDArray[Any]] | None:
    if servable.proof.no_example:
        return None
    body = example(servable.signature, servable.proof.shapes)
    return dict(native.interpret(body, servable.signature).arrays)


def _median(servable: Servable, arrays: Mapping[str, NDArray[Any]]) -> float | None:
    """Return the median time of some runs; `None` if they fail, or one takes too long."""
    times: list[float] = []

    def run() -> None:
        heads = servable.signature.head_names
        end = time.perf_counter() + TIMED_SECONDS
        with suppress(Exception):  # a graph need not take many rows, or any but its example
            # The first run allocates the memory that the others reuse.
            servable.model.predict(arrays, heads)
            while len(times) < FEWEST or (time.perf_counter() < end and len(times) < MOST):
                started = time.perf_counter()
                servable.model.predict(arrays, heads)
                times.append(time.perf_counter() - started)

    # ONNX Runtime cannot be interrupted, so it runs in a thread that the end of the process ends.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONGEST_SECONDS)
    return statistics.median(times) if len(times) >= FEWEST else None
