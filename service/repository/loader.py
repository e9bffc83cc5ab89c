"""The loader of one version: from its file to a servable model, or to the reason for a refusal."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ModelRefused
from service.inference.execution import PLAIN, Execution
from service.inference.model import Model
from service.repository import sandbox
from service.repository.model_settings import DEFAULTS, ModelSettings
from service.repository.proof import Proof, prove
from service.repository.reasons import is_shortage, plain
from service.repository.scan import is_replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.repository.sandbox import Passed
    from service.repository.scan import Version
    from service.signature import Signature

    Admit = Callable[[int], bool]

log = logging.getLogger(__name__)

# The time until a load is tried again that failed for lack of memory or the like; it doubles after
# each try, up to the second number.
AGAIN_SECONDS = 1.0
MOST_AGAIN_SECONDS = 300.0
_REPLACED = "its files have been replaced since the last look, and are loaded after the next one"


@dataclass(frozen=True)
class Servable:
    """A loaded version of a model, or a view of some of its heads, under the name of its URL."""

    name: str
    version: str
    model: Model
    signature: Signature
    proof: Proof = field(default_factory=Proof)
    settings: ModelSettings = DEFAULTS
    """The settings of the model that are in force."""


@dataclass(frozen=True)
class Loaded:
    """A loaded version: its servable, and one for each of its views."""

    found: Version
    servable: Servable
    views: Mapping[str, Servable]
    size: int = 0
    """The memory in bytes that it takes, as its trial has shown."""
    execution: Execution = PLAIN


@dataclass(frozen=True)
class Tried:
    """A version that can serve, as a trial or an earlier load has shown, and is not loaded."""

    found: Version
    views: tuple[str, ...]
    execution: Execution = PLAIN


@dataclass(frozen=True)
class Broken:
    """A version whose file, as it is now, cannot serve."""

    found: Version
    reason: str
    execution: Execution = PLAIN
    """The execution that it was tried with."""
    is_short: bool = False
    """True if not the file is at fault, but the machine, for lack of memory or the like; or if the
    file has been replaced since it was found."""
    tries: int = 0
    again: float = math.inf
    """The time of the next try, by the monotonic clock; never, if the file is at fault."""

    def is_due(self) -> bool:
        """Return whether to try again what failed because the machine was short of something."""
        return time.monotonic() >= self.again


def try_out(found: Version, execution: Execution = PLAIN) -> None:
    """Try a version in the sandbox, and do not load it in this process.

    Raises:
        ModelRefused: the version cannot serve.
        Shortage: the machine is short of something that loading needs.
    """
    check_place(Path(found.path), found.root)
    with sandbox.passed(found.path, found.stamp, execution):
        pass


def load(
    found: Version, execution: Execution = PLAIN, admit: Admit | None = None
) -> Loaded | Tried | Broken:
    """Load a version and prove it, or return the reason why it cannot serve.

    What is in its files by now, but was not when they were found, is not loaded: another worker
    may serve on what it has loaded from them before.

    Args:
        found: the version.
        execution: the settings of its model that its session is made with.
        admit: takes the bytes that the loaded version will take, and returns whether it is to be
            loaded; it may raise `ModelRefused` or `Shortage`.  By default, it is loaded.
    """
    outcome = _load(found, execution, admit)
    return Broken(found, _REPLACED, execution, is_short=True) if is_replaced(found) else outcome


def _load(found: Version, execution: Execution, admit: Admit | None) -> Loaded | Tried | Broken:
    name, version = found.key
    try:
        check_place(Path(found.path), found.root)
        with sandbox.passed(found.path, found.stamp, execution) as passed:
            size = _size(found, passed)
            if admit is not None and not admit(size):
                return Tried(found, () if passed is None else passed.views, execution)
            model = _model(found, execution, None if passed is None else passed.prepared)
            model.name = f"{name!r}, version {version}"
            model.asked = time.perf_counter()
            if model.wide is not None:
                model.wide.name = model.name
            signature = model.signature
            proof, views = prove(model)
        return Loaded(
            found,
            Servable(name, version, model, signature, proof),
            {
                view: Servable(view, version, model, restricted, own)
                for view, (restricted, own) in views.items()
            },
            size,
            execution,
        )
    except ModelRefused as error:
        return Broken(found, plain(str(error)), execution, is_shortage(error))
    except Exception as error:
        # A bug, here or in a library; the other models have to serve all the same.
        is_short = is_shortage(error)
        if not is_short:
            log.exception("%s, version %s: loading it failed", name, version)
        reason = f"loading it failed: {type(error).__name__}: {error}"
        return Broken(found, plain(reason), execution, is_short)


def _model(found: Version, execution: Execution, prepared: str | None) -> Model:
    """Load the model of a file: the prepared one if that can be used, else that of the file."""
    if prepared is not None:
        try:
            return Model.load(Path(found.path), execution, Path(prepared))
        except (ModelRefused, OSError) as error:
            message = "%s, version %s: it is loaded without its prepared model: %s"
            log.warning(message, *found.key, plain(str(error)))
    return Model.load(Path(found.path), execution)


def _size(found: Version, passed: Passed | None) -> int:
    """Return the bytes that a loaded version takes; without a trial, those of its files."""
    if passed is not None:
        return passed.size
    return sum(int(numbers[2]) for _, *numbers in found.stamp if len(numbers) > 2)  # noqa: PLR2004


def later(outcome: Loaded | Tried | Broken, before: Broken | None) -> Loaded | Tried | Broken:
    """Return the outcome of a load, with the time of the next try if the machine is at fault.

    Args:
        outcome: the outcome of the load.
        before: the outcome of the previous load, if that failed.
    """
    if not isinstance(outcome, Broken) or not outcome.is_short:
        return outcome
    tries = before.tries + 1 if before is not None and before.found == outcome.found else 0
    wait = min(MOST_AGAIN_SECONDS, AGAIN_SECONDS * 2**tries)
    return replace(outcome, tries=tries, again=time.monotonic() + wait)


def check_place(file: Path, root: str) -> None:
    """Refuse a file if a link leads out of the repository.

    The user who writes into the repository may not be permitted to read the service's other files.
    The repository itself may be a link, and links inside it are followed.

    Raises:
        ModelRefused: the file is outside of `root`.
    """
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):  # reading the file will fail too, and give the reason
        return
    if root and not real.is_relative_to(Path(root).resolve()):
        message = (
            f"a link leads out of the repository, to {real}: expected the file, or a link inside; "
            "the repository itself may be a link"
        )
        raise ModelRefused(message)
