"""The import of Keras, TensorFlow and tf2onnx, in one place and without their start-up messages.

They would write notes about the processor and GPUs to every process' stderr.
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
    """Discard what C++ code writes to stderr; exceptions and warnings of Python are not affected.

    TensorFlow logs its first lines before it reads the log level that is set below.
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


# They are read during the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

with mute(), warnings.catch_warnings():
    # Users cannot do anything about deprecations inside these imports.
    warnings.simplefilter("ignore")
    import keras
    import tensorflow as tf
    import tf2onnx

logging.getLogger("tensorflow").setLevel(logging.ERROR)
logging.getLogger("tf2onnx").setLevel(logging.ERROR)

__all__ = ["keras", "mute", "tf", "tf2onnx"]
