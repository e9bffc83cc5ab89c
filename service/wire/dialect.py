"""What a dialect is: how its predictions are read, answered and refused.

    bytes ─ reader(signature) ─▶ Asked ─ (the model) ─▶ arrays by head ─ encode ─▶ Reply

A `Codec` is both ways for one version of a model, by the fastest way that there is.

A dialect knows signatures and arrays; it knows no other dialect, no model, and of HTTP only the
bytes of a body and the headers beside it.
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
    from service.wire.body import Imputed

Header = Callable[[str], str]
"""A request's header by its name, in whatever case; empty where there is none."""


class Asked(Protocol):
    """A decoded request: arrays by tensor, [rows, …] in the graph's dtypes, and what is wanted."""

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """By tensor; all that the heads need."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads asked for, each once."""

    @property
    def imputed(self) -> Sequence[Imputed]:
        """Missing values that a default stands in for."""


class Reply(NamedTuple):
    """An answer's body, and the headers that are the dialect's to say."""

    content: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Reader = Callable[[bytes, Header], Asked]


class Encode(Protocol):
    """What makes a reply of arrays."""

    def __call__(
        self,
        asked: Any,
        name: str,
        version: str,
        signature: Signature,
        outputs: Mapping[str, NDArray[Any]],
    ) -> Reply:
        """The reply to what the same dialect's reader returned.

        Args:
            asked: that.
            name: of the model or view that answers.
            version: of that model.
            signature: its signature.
            outputs: by head, [rows, …] in the graph's dtypes.
        """


class Codec(NamedTuple):
    """A dialect's way to read bodies and to write answers, for one version of a model."""

    decode: Reader
    encode: Callable[[Any, Part], Reply]
    """The reply to what `decode` returned, made of its rows of a run."""
    attempt: Callable[[bytes], Asked | None] | None = None
    """Decodes a large body in a millisecond or two, if it is as it should be; else `None`."""


@dataclass(frozen=True)
class Dialect:
    """One way to ask for a prediction.

    Args:
        name: for metrics; several forms of one protocol share it.
        reads: content types of bodies that are read, such as application/json; none: any is.
        reader: what reads bodies for a signature; asked once for a model, so that what follows from
            the signature is worked out once.  A reader raises `RequestError`.
        encode: the reply.
        encode_error: the reply to a `RequestError`, whose `status` goes with it.
        timed: whether a request may say how long it may take, as `timeout` in seconds of what the
            reader returns; `None` where it does not.
        example: a body that asks for the rows of arrays by tensor; without it, the native one does.
        fast: a codec for a name, a version and a signature that does the same as `reader` and
            `encode`, and faster; `None` where it does not.
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
        """The codec of a version: the fast one, or one of `reader` and `encode`.

        Args:
            name: of the model or view that answers.
            version: of that model.
            signature: its signature.
        """
        made = None if self.fast is None else self.fast(name, version, signature)
        if made is not None:
            return made

        def encode(asked: Any, part: Part) -> Reply:
            return self.encode(asked, name, version, signature, part.outputs())

        return Codec(self.reader(signature), encode)
