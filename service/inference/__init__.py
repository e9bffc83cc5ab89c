"""Models and their runs: sessions, sub-graphs, queues and batches."""

import os

# ONNX Runtime reads this on import; without it, telemetry writes a device ID under $HOME.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
