"""The check of a downloaded version, in a program of its own.

It forks, as the service does before it has any thread; a program that has downloaded may have some,
of the client of its store.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import service
from service import settings as all_settings
from service.stores.store import StoreError

if TYPE_CHECKING:
    from service.settings import Settings


def reason(folder: Path, name: str, number: str, settings: Settings) -> str | None:
    """Return the reason why a version could not serve; `None` if it could.

    Args:
        folder: the folder of the version, which is not in a repository yet.
        name: the model that it is to become a version of, whose settings apply.
        number: the number that it is to have.
        settings: those of the service, of the environment; its `models` is the repository.

    Raises:
        StoreError: the check did not come to an end.
    """
    command = [sys.executable, "-P", "-m", __name__, str(folder), name, number]
    # The same code, wherever this program has it from.
    paths = [str(Path(service.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(  # noqa: S603  the arguments are not words of a shell
        [*command, str(settings.models)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    try:
        outcome: Any = json.loads(done.stdout)["reason"]
    except (ValueError, KeyError, TypeError) as error:
        message = f"{name}: the check of the download ended with {done.returncode}"
        raise StoreError(message) from error
    return None if outcome is None else str(outcome)


def main(folder: str, name: str, number: str, models: str) -> None:
    """Check a version, and print the outcome as JSON."""
    from service.repository.check import check
    from service.repository.model_settings import DEFAULTS
    from service.repository.named_model import NoSuchModel, locate
    from service.repository.scan import look

    # The reason of the trial has all that it logs.
    logging.getLogger("service").addHandler(logging.NullHandler())
    settings = all_settings.load(models=Path(models))
    [found] = look(Path(folder)).versions
    try:
        own = locate(name, settings).own
    except NoSuchModel:
        own = DEFAULTS
    checked = check(replace(found, name=name, version=number), own, settings, lambda _: {})
    sys.stdout.write(json.dumps({"reason": checked.reason}))


if __name__ == "__main__":
    main(*sys.argv[1:])
