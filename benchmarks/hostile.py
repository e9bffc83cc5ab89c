"""The hostile callers of a soak: behaviours of tests/attack, at a low rate, beside all others."""

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

__all__ = ["behaviours", "bodies"]  # importing them fills the table

# So little of each behaviour, and so long.
SCALE = 0.01
SECONDS = 0.3
PAUSE_SECONDS = 0.5
# How many requests a behaviour sends at most, any of which may be answered, and counted, or not.
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
# Extreme rows, beside which others' are computed.
EXTREME = np.full((1, 4), 1e30, np.float32)
TIMES = 30


class HostileCaller(Caller):
    """Attacks in one way after another; those that ask the same joint models notice nothing."""

    def __init__(self, target: Target, seed: int) -> None:
        """Attack `target`."""
        super().__init__(target, seed, 1 / PAUSE_SECONDS)

    def run(self) -> None:
        """Until the end."""
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
        """Behave in one of the ways of the table."""
        name = self.random.choice(list(ATTACKS))
        self.dialect = "native"
        self.to.ledger.doubt(self.dialect, ATTACKS[name], ATTACKS[name])
        token = self.to.tokens["asks"]
        # To be cut off is what an attacker has to expect.
        with contextlib.suppress(OSError):
            TABLE[name].act(Hostile(self.to.port, None, token, "fast", SECONDS, SCALE))
        return f"attack: {name}"

    def sit_beside(self) -> str:
        """Ask a model that mixes rows for extreme ones, over and over."""
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
