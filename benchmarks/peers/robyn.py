"""Robyn, a Rust HTTP server around Python handlers.

python -m benchmarks.peers.robyn PORT --processes 2
"""

from __future__ import annotations

import sys

import orjson
from robyn import Request, Response, Robyn

from benchmarks.peers.predictor import Predictor

app = Robyn(__file__)
predictor = Predictor()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Answer a request."""
    body = orjson.loads(request.body)
    return Response(
        status_code=200,
        headers={"Content-Type": "application/json"},
        description=orjson.dumps(predictor.predict(body["instances"])),
    )


if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(sys.argv[1]))
