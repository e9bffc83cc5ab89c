"""The naive server: Flask and ONNX Runtime, run by gunicorn with its default worker.

gunicorn --workers 2 benchmarks.peers.naive:app
"""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from benchmarks.peers.predictor import Predictor

app = Flask(__name__)
predictor = Predictor()


@app.post("/predict")
def predict() -> Response:
    """Answer a request."""
    return jsonify(predictor.predict(request.get_json()["instances"]))
