"""The decoder of native bodies that serves requests, for comparison with the reference."""

from service.wire import native
from service.wire.numbers import join


def decode(body, signature):
    """Decode a body like `native.decode`, with the same arrays and errors."""
    asked = native.DIALECT.codec("m", "1", signature).decode(body, lambda _: "")
    arrays = join([asked.arrays])
    names = [tensor.name for entry in signature.inputs.values() for tensor in entry.tensors]
    return asked._replace(arrays={name: arrays[name] for name in names if name in arrays})
