"""Models and their runs: sessions, sub-graphs, queues and batches."""

import os

# ONNX Runtime reads this when it is imported: left alone, it writes a device id under $HOME.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
