"""FastAPI as its documentation has it, with the body declared, so that it is checked.

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
    """One row."""

    insurance: list[float]
    fruit: list[float]
    digit: list[float]


class Body(BaseModel):
    """One request."""

    instances: list[Row]


# Declared async although it never waits: the thread pool that it would else run in costs more.
@app.post("/predict")
async def predict(body: Body) -> dict[str, Any]:
    """Answer one request."""
    return predictor.predict([vars(row) for row in body.instances])
