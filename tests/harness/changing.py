"""A repository that changes while it is served, and what a library says of it."""

import json

import numpy as np

from service.host.files import write_file
from tests.harness import small

BAD = b"not a model"
NO_FILE = "it is not an ONNX file, or not the whole of one"
FRUIT = {"instances": [{"fruit": [1, 1]}], "heads": ["size"]}


def put(folder, version, name="m", **more):
    """Lay down a version whose `size` is its number times what that of others is."""
    small.put(folder, name, version, small.three(version, **more))


def point(models, name="m", **aliases):
    """Let aliases name versions."""
    write_file(models / name / "aliases.json", json.dumps(aliases).encode())


def states(library, name="m"):
    """The versions and their states."""
    return library.current.states(name)


def refused(library):
    """What is refused, as (name, version, reason)."""
    return [(entry.name, entry.version, entry.reason) for entry in library.current.refused]


def size(servable):
    """What a version answers for a fruit of 1 and 1: twice its number."""
    rows = {"fruit": np.ones((1, 2), np.float32)}
    return float(servable.model.predict(rows, ["size"])["size"][0, 0])
