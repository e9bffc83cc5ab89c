"""Header blocks of requests (HPACK, RFC 7541), and the rules for their fields.

    block ─ hpack ─▶ names and values ─ RFC 9113, 8.2 and 8.3 ─▶ HeaderBlock

A client whose requests are alike sends the same block again and again, and a block that was decoded
since the client's dynamic table last changed is not decoded again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from service.http.http2.faults import ConnectionFault
from service.http.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM

if TYPE_CHECKING:
    from collections.abc import Iterable

# The largest list of a request, with 32 bytes for each name and value (RFC 9113, 6.5.2), and the
# largest block.  To decode so much takes some three milliseconds at worst.
MAX_LIST = MAX_BLOCK = 16 * 1024
# The blocks that are kept, the bytes of the block of one, and its headers and their bytes: a field
# of a byte may stand for kilobytes, and each takes a hundred bytes of memory.
_MAX_KNOWN = 32
_MAX_KNOWN_BYTES = 1024
_MAX_KNOWN_FIELDS = 32
_MAX_KNOWN_VALUES = 2048
# A block may begin with two changes of the table's size (RFC 7541, 4.2), each a byte that begins
# with these bits.
_MAX_RESIZES = 2
_RESIZE, _RESIZE_BITS = 0x20, 0xE0
_LONG_RESIZE = 0x3F
_MORE = 0x80

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# No NUL, CR or LF, and no blank at either end.
_VALUE = re.compile(rb"(?:[^\x00\r\n\t ](?:[^\x00\r\n]*[^\x00\r\n\t ])?)?")
_BLANKS = b" \t"
_TARGET = re.compile(rb"/[^\x00-\x20\x7f]*")
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
# Of one connection, and so of HTTP/1.1 alone (8.2.2).
_OF_HTTP1 = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_GRPC = b"application/grpc"


class Malformed(Exception):
    """A request that has a field that it may not have, or lacks one (8.1.1)."""


class HeaderBlock(NamedTuple):
    """The parsed header block of a request.

    Header names are in lower case; values of a header that is sent more than once are joined.
    """

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    size: int
    """The Content-Length; -1 without one."""
    is_grpc: bool


class _Table(HeaderTable):
    """A dynamic table that counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Add an entry."""
        self.changes += 1
        super().add(name, value)


class FieldDecoder:
    """The decoder of one connection's header blocks, whose state every block may change."""

    def __init__(self) -> None:
        self._table = _Table()
        self._decoder = Decoder(MAX_LIST)
        self._decoder.header_table = self._table
        # The blocks that were decoded since the table last changed.
        self._known: dict[bytes, HeaderBlock] = {}

    def parse(self, block: bytes) -> tuple[HeaderBlock, bool]:
        """Parse the header block of a request; return whether it had to be decoded, too.

        Raises:
            Malformed: the block is well formed, and the request is not.
            ConnectionFault: the block cannot be decoded, or has too many bytes.
        """
        known = self._known.get(block)
        if known is not None:
            return known, False
        changes = self._table.changes
        parsed = _header_block(self.fields(block))
        if (
            changes == self._table.changes
            and len(block) <= _MAX_KNOWN_BYTES
            and len(parsed.headers) <= _MAX_KNOWN_FIELDS
            and sum(map(len, parsed.headers.values())) <= _MAX_KNOWN_VALUES
            and not _resizes(block)
        ):
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[block] = parsed
        return parsed, True

    def fields(self, block: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Return the names and values of a block, such as trailers.

        Raises:
            ConnectionFault: the block cannot be decoded, or has too many bytes.
        """
        resizes, changes = _resizes(block), self._table.changes
        if resizes > _MAX_RESIZES:
            message = "header block: expected at most two changes of the table's size"
            raise ConnectionFault(COMPRESSION_ERROR, message)
        try:
            return self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            message = f"headers: expected at most {MAX_LIST} bytes, received more"
            raise ConnectionFault(ENHANCE_YOUR_CALM, message) from error
        except HPACKError as error:
            message = f"header block: expected HPACK, received something else: {error}"
            raise ConnectionFault(COMPRESSION_ERROR, message[:200]) from error
        finally:
            if resizes or changes != self._table.changes:
                self._known.clear()


def _resizes(block: bytes) -> int:
    """Return how many changes of the table's size a block begins with, counting a few at most."""
    at = count = 0
    while count <= _MAX_RESIZES and at < len(block) and block[at] & _RESIZE_BITS == _RESIZE:
        count += 1
        if block[at] == _LONG_RESIZE:
            at += 1
            while at < len(block) and block[at] & _MORE:
                at += 1
        at += 1
    return count


def check_trailers(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Check the trailers of a request, which are ignored.

    Raises:
        Malformed: a name or value is not allowed there.
    """
    for name, value in fields:
        _check(name, value.strip(_BLANKS))


def _check(name: bytes, value: bytes) -> None:
    if _NAME.fullmatch(name) is None or name in _OF_HTTP1:
        raise Malformed
    if _VALUE.fullmatch(value) is None or (name == b"te" and value != b"trailers"):
        raise Malformed


def _header_block(fields: Iterable[tuple[bytes, bytes]]) -> HeaderBlock:
    """Return the parsed header block of a request by the names and values of its block.

    Raises:
        Malformed: a field is not allowed, or missing.
    """
    pseudo: dict[bytes, bytes] = {}
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _PSEUDO:
            if headers or name in pseudo or _VALUE.fullmatch(value) is None:
                raise Malformed
            pseudo[name] = value
            continue
        # As in HTTP/1.1, blanks around a value are no part of it.  RFC 9113 (8.2.1) would have the
        # request refused; but `curl -H "Authorization: Bearer $UNSET"` sends one.
        value = value.strip(_BLANKS)  # noqa: PLW2901
        _check(name, value)
        former = headers.get(name)
        if former is None:
            headers[name] = value
        elif name in (b"host", b"content-length"):
            raise Malformed
        else:
            headers[name] = former + (b"; " if name == b"cookie" else b",") + value
    method = pseudo.get(b":method", b"")
    if _METHOD.fullmatch(method) is None:
        raise Malformed
    _set_host(headers, pseudo.get(b":authority"))
    length = headers.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) <= 18):  # noqa: PLR2004
        raise Malformed
    size = -1 if length is None else int(length)
    kind = headers.get(b"content-type", b"")
    is_grpc = kind.startswith(_GRPC) and kind[len(_GRPC) :][:1] in (b"", b"+", b";")
    return HeaderBlock(method, _target(method, pseudo), headers, size, is_grpc)


def _set_host(headers: dict[bytes, bytes], authority: bytes | None) -> None:
    """Have the host of a request in the header Host, as in HTTP/1.1.

    Raises:
        Malformed: the request names no host, or two.
    """
    host = headers.setdefault(b"host", authority or b"")
    if not host or authority not in (None, host):
        raise Malformed


def _target(method: bytes, pseudo: dict[bytes, bytes]) -> bytes:
    """Return the target of a request, as the first line of HTTP/1.1 has it."""
    if method == b"CONNECT":
        if b":path" in pseudo or b":scheme" in pseudo:
            raise Malformed
        return pseudo.get(b":authority", b"")
    target = pseudo.get(b":path", b"")
    if not pseudo.get(b":scheme"):
        raise Malformed
    if _TARGET.fullmatch(target) is None and not (target == b"*" and method == b"OPTIONS"):
        raise Malformed
    return target
