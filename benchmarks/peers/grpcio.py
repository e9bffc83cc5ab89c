"""grpcio with asyncio, and the messages and the service that tritonclient publishes.

python -m benchmarks.peers.grpcio 8000 --processes 2

Each process has a server of its own on the same port, as gRPC's example of several processes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from typing import Any

import numpy as np
from grpc import aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.peers.predictor import HEADS, Predictor


class Inference(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The service; messages have their tensors as bytes."""

    def __init__(self) -> None:
        self._predictor = Predictor()

    # Async although it never waits, so that it runs in the event loop.
    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Answer a request."""
        arrays = {
            tensor.name: np.frombuffer(raw, np.float32).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        answer = service_pb2.ModelInferResponse(model_name="bench", model_version="1")
        for head, output in zip(HEADS, self._predictor.run(arrays), strict=True):
            answer.outputs.add(name=head, datatype="FP32", shape=output.shape)
            answer.raw_output_contents.append(output.tobytes())
        return answer


def serve(port: str) -> None:
    """Serve until the process is ended."""

    async def run() -> None:
        server = aio.server(options=[("grpc.so_reuseport", 1)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Inference(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    asyncio.run(run())


if __name__ == "__main__":
    port, _, count = sys.argv[1:]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=serve, args=(port,)) for _ in range(int(count))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
