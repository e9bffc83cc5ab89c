"""The messages of the gRPC protocols: classes by their full names, from compiled definitions.

    protos/**/*.proto ─ protoc ─▶ protos/descriptors.binpb ─▶ POOL ─▶ message_class("inference.…")

The definitions have the fields, numbers and types of the protocols; each file names its source.
They are in a pool of their own: Triton's client and TensorFlow have other definitions of the same
names, and one pool would refuse the second ones.

`python tests/service/wire/test_messages.py` compiles them again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PROTOS = Path(__file__).with_name("protos")
COMPILED = PROTOS / "descriptors.binpb"


def _load() -> tuple[DescriptorPool, tuple[str, ...]]:
    """Return the pool of all definitions, and the full names of their services."""
    pool, services = DescriptorPool(), []
    # Each file comes after those that it imports.
    for file in FileDescriptorSet.FromString(COMPILED.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
        services += [f"{file.package}.{service.name}" for service in file.service]
    return pool, tuple(services)


POOL, SERVICES = _load()


@cache
def message_class(name: str) -> type[Any]:
    """Return the class of a message by its full name, such as inference.ModelInferRequest.

    Raises:
        KeyError: there is no such message.
    """
    # Any, since the fields of a class that is made at run time are unknown to a type checker.
    return GetMessageClass(POOL.FindMessageTypeByName(name))
