"""A repository that changes while it is served, and the state of its library."""

import json

import numpy as np

from service.host.files import write_file
from tests.harness import small

BAD = b"not a model"
NO_FILE = "it is not an ONNX file, or not the whole of one"
FRUIT = {"instances": [{"fruit": [1, 1]}], "heads": ["size"]}


def put(folder, version, name="m", **more):
    """Write a version whose head `size` is multiplied by the number of the version."""
    small.put(folder, name, version, small.three(version, **more))


def point(models, name="m", **aliases):
    """Point aliases to versions."""
    write_file(models / name / "aliases.json", json.dumps(aliases).encode())


def states(library, name="m"):
    """Return the versions and their states."""
    return library.current.states(name)


def refused(library):
    """Return the refused versions as (name, version, reason)."""
    return [(entry.name, entry.version, entry.reason) for entry in library.current.refused]


def size(servable):
    """Return the answer of a version to a fruit of 1 and 1: twice its number."""
    rows = {"fruit": np.ones((1, 2), np.float32)}
    return float(servable.model.predict(rows, ["size"])["size"][0, 0])
