"""The interface of a dialect: how it reads requests, and writes answers and errors.

    bytes ─ reader(signature) ─▶ Query ─ (the model) ─▶ arrays by head ─ encode ─▶ Reply

A `Codec` is the fastest decoder and encoder of a dialect for one version of a model.

A dialect knows signatures and arrays.  It knows no other dialect and no model, and of HTTP only the
body and the headers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.run import Part
    from service.signature import Signature
    from service.wire.body import Imputed, Unseen
    from service.wire.explanations import Explain
    from service.wire.numbers import Tensors

Header = Callable[[str], str]
"""A function that returns a request header by its name, in any case; empty if it is absent."""


class Query(Protocol):
    """A decoded request: arrays by tensor, [rows, …] in the graph's dtypes, and requested heads."""

    @property
    def arrays(self) -> Tensors:
        """The arrays by tensor: all tensors that the heads need."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The requested heads, each once."""

    @property
    def imputed(self) -> Sequence[Imputed]:
        """The missing values that were replaced by defaults."""

    @property
    def unseen(self) -> Sequence[Unseen]:
        """The texts that training never saw."""

    @property
    def explain(self) -> Explain | None:
        """The request for explanations; `None` if there is none, as always in most dialects.

        If there is one, `with_explanations` returns the request with them, for `Dialect.encode`.
        """


class Reply(NamedTuple):
    """The body of an answer, and the headers that the dialect sets."""

    content: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Reader = Callable[[bytes, Header], Query]


class Encode(Protocol):
    """A function that turns arrays into a reply."""

    def __call__(
        self,
        query: Any,
        name: str,
        version: str,
        signature: Signature,
        outputs: Mapping[str, NDArray[Any]],
    ) -> Reply:
        """Return the reply to a request that the reader of the same dialect decoded.

        Args:
            query: the decoded request.
            name: the name of the model or view that answers.
            version: the version of that model.
            signature: the signature of the model or view.
            outputs: the outputs by head, [rows, …] in the graph's dtypes.
        """


class Codec(NamedTuple):
    """The decoder and the encoder of a dialect, for one version of a model."""

    decode: Reader
    encode: Callable[[Any, Part], Reply]
    """The function that writes the reply to a decoded request, from its part of a run."""
    attempt: Callable[[bytes], Query | None] | None = None
    """The function that decodes a large body in a millisecond or two, or returns `None`.

    It decodes only regular bodies (`wire.quick`).
    """


@dataclass(frozen=True)
class Dialect:
    """A wire protocol for predictions.

    Args:
        name: the name for metrics; several forms of one protocol share it.
        reads: the content types of bodies that are read, such as application/json; if empty, any.
        reader: takes a signature and returns the reader of its bodies.  It is called once for each
            model, so that the reader can prepare all that follows from the signature.  The reader
            raises `RequestError`.
        encode: writes the reply.
        encode_error: writes the reply to a `RequestError`; the answer's status is the error's
            `status`.
        timed: whether a request may set its own timeout.  The decoded request then has `timeout`,
            in seconds, which is `None` if the request sets none.
        example: returns a request body for the rows of some arrays by tensor; if `None`, the native
            example is used.
        fast: takes a name, a version and a signature, and returns a codec with the same results as
            `reader` and `encode`, but faster, or `None` if there is none.
    """

    name: str
    reads: tuple[str, ...]
    reader: Callable[[Signature], Reader]
    encode: Encode
    encode_error: Callable[[RequestError], Reply]
    timed: bool = False
    example: Callable[[Mapping[str, NDArray[Any]]], Any] | None = None
    fast: Callable[[str, str, Signature], Codec | None] | None = None

    def codec(self, name: str, version: str, signature: Signature) -> Codec:
        """Return the codec of a version: the fast one if there is one, else `reader` and `encode`.

        Args:
            name: the name of the model or view that answers.
            version: the version of that model.
            signature: the signature of the model or view.
        """
        fast = None if self.fast is None else self.fast(name, version, signature)
        if fast is not None:
            return fast

        def encode(query: Any, part: Part) -> Reply:
            return self.encode(query, name, version, signature, part.outputs())

        return Codec(self.reader(signature), encode)
