"""FastAPI as in its documentation, with a declared body, which FastAPI checks.

uvicorn --workers 2 benchmarks.peers.fastapi:app
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.predictor import Predictor

app = FastAPI()
predictor = Predictor()


class Row(BaseModel):
    """A row of a request."""

    insurance: list[float]
    fruit: list[float]
    digit: list[float]


class Body(BaseModel):
    """The body of a request."""

    instances: list[Row]


# Async although it never waits: otherwise FastAPI runs it in a thread pool, which costs more.
@app.post("/predict")
async def predict(body: Body) -> dict[str, Any]:
    """Answer a request."""
    return predictor.predict([vars(row) for row in body.instances])
