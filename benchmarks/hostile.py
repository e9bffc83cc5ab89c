"""The hostile clients of a soak test: behaviours of tests/attack, at a low rate."""

from __future__ import annotations

import contextlib
import http
import time

import numpy as np

from benchmarks.ledger import Target, WrongError
from benchmarks.traffic import PREDICTING, Caller
from tests.attack import behaviours, bodies, repository
from tests.attack.hostile import TABLE, Hostile
from tests.harness import forms

__all__ = ["behaviours", "bodies"]  # importing them registers the behaviours

# The amount of each behaviour, and its duration.
SCALE = 0.01
SECONDS = 0.3
PAUSE_SECONDS = 0.5
# The most requests that a behaviour sends; each of them may or may not be answered and counted.
ATTACKS = {
    "pipelines refusals of strangers": 2404,
    "half closes": 1,
    "resets in each state": 8,
    "lies about lengths": 100,
    "smuggles": 60,
    "speaks something else": 20,
    "sends bad gzip": 20,
    "nests deeply": 3,
    "inflates brackets": 3,
    "connects and leaves": 0,
}
# Extreme rows, which share runs with the rows of other clients.
EXTREME = np.full((1, 4), 1e30, np.float32)
TIMES = 30


class HostileCaller(Caller):
    """A client that attacks in one way after another, which other clients must not notice."""

    def __init__(self, target: Target, seed: int) -> None:
        """Prepare to attack `target`."""
        super().__init__(target, seed, 1 / PAUSE_SECONDS)

    def run(self) -> None:
        """Attack until the gate ends the test."""
        while not self.to.gate.ended:
            if not self.to.gate.is_open:
                self.close()
                self.to.gate.rest()
                continue
            self.do(self.sit_beside if self._chance(0.5) else self.attack)
            time.sleep(self.random.expovariate(self.pace))
        self.close()
        self.to.gate.leave()

    def attack(self) -> str:
        """Run one of the registered behaviours, and return its name."""
        name = self.random.choice(list(ATTACKS))
        self.dialect = "native"
        self.to.ledger.doubt(self.dialect, ATTACKS[name], ATTACKS[name])
        token = self.to.tokens["asks"]
        # The service may close the connection of an attacker.
        with contextlib.suppress(OSError):
            TABLE[name].act(Hostile(self.to.port, None, token, "fast", SECONDS, SCALE))
        return f"attack: {name}"

    def sit_beside(self) -> str:
        """Send extreme rows repeatedly to a model that mixes rows."""
        name = self.random.choice(repository.JOINT)
        path = PREDICTING["oip"].format(name)
        sent = forms.oip_flat({"x": EXTREME})
        for _ in range(TIMES):
            if not self.to.gate.is_open:
                break
            status, _, content = self._post(path, sent.body, sent.headers, "oip")
            if status != http.HTTPStatus.OK:
                raise WrongError(f"{path}: expected 200, received {status}: {content[:300]!r}")
            self.to.ledger.note("oip", status, 1)
        return "attack: extreme rows for joint models"
