"""Keras, TensorFlow and tf2onnx, imported in one place and without their chatter.

They greet every process with notes about the processor, GPUs and the like; what matters of a
run is the run's own to say.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def mute() -> Iterator[None]:
    """Send what C++ writes to stderr nowhere; exceptions and warnings of Python are not muted.

    TensorFlow logs its first lines before it has read the level below.
    """
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


# Read when they are imported, so set before.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

with mute(), warnings.catch_warnings():
    # Deprecations inside their own imports are nothing that a user of this can mend.
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf
    import tf2onnx

logging.getLogger("tensorflow").setLevel(logging.ERROR)
logging.getLogger("tf2onnx").setLevel(logging.ERROR)

__all__ = ["keras", "mute", "tf", "tf2onnx"]
