"""The address of a client behind proxies: what a proxy says counts only if a setting names it.

    the peer ─ not a trusted proxy ─▶ the peer
        └─ else Forwarded (RFC 7239) or X-Forwarded-For ─ from the right ─▶ the first other address

A client can send these headers too, and a proxy adds to what it receives.  So they are read from
the right, no further than proxies are trusted, and what is malformed ends the reading.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Address, IPv4Network

    Network = IPv4Network | IPv6Network

EXPECTED = "addresses or networks such as 10.0.0.0/8 and fd00::/8, with commas in between"
# The bytes of a Forwarded header that is read; a longer one is ignored.
MAX_FORWARDED = 4096
# The last hops of an X-Forwarded-For header that are read, and the characters of one.
MAX_HOPS = 64
_MAX_HOP = 64
# The addresses that are remembered: proxies, and their clients.
_REMEMBERED = 1024
# IPv4 addresses within IPv6 (RFC 4291, 2.5.5.2).
_MAPPED = IPv6Network("::ffff:0:0/96")
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(
    rf'[ \t]*(?:(?P<name>{_WORD})=(?:(?P<token>{_WORD})|"(?P<quoted>(?:[^"\\]|\\.)*)"))?[ \t]*'
    r"(?P<next>[;,]|\Z)"
)
_ESCAPE = re.compile(r"\\(.)")
# An address with a port; a port may also be a name that hides it.
_WITH_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))(?::[0-9A-Za-z._-]+)?")


def parse(text: str) -> tuple[Network, ...]:
    """Return the networks in a list that is separated by commas or blanks.

    Raises:
        ValueError: the list has an item that is neither an address nor a network.
    """
    networks: list[Network] = []
    for item in text.replace(",", " ").split():
        try:
            network = ip_network(item)
        except ValueError as error:
            raise ValueError(f"expected {EXPECTED}, received {item!r}: {error}") from error
        if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
            mapped = network.network_address.ipv4_mapped
            network = ip_network(f"{mapped}/{network.prefixlen - _MAPPED.prefixlen}")
        networks.append(network)
    return tuple(networks)


class Proxies:
    """The proxies whose headers are believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        """Believe what the addresses in `networks` say."""
        self._networks = networks
        self._is_trusted = lru_cache(_REMEMBERED)(self._look_up)

    def client(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """Return the address of the client that a request came from.

        That is the right-most address that is not a trusted proxy's; the farthest known one if all
        are.  If both headers are there and differ about it, a client may have sent one of them,
        and neither counts.

        Args:
            peer: the address of the connection's other end, as `address` returns it.
            headers: the headers of the request, by their names in lower case.
        """
        if not self._networks or not self._is_trusted(peer):
            return peer
        read = []
        for name, hops in ((b"forwarded", _forwarded), (b"x-forwarded-for", _x_forwarded_for)):
            value = headers.get(name)
            if value is not None:
                read.append(self._farthest(peer, hops(value.decode("latin-1"))))
        return read[0] if read and read[0] == read[-1] else peer

    def _farthest(self, peer: str, hops: Sequence[str]) -> str:
        """Return the farthest address that trusted proxies report, beginning with the last hop."""
        for hop in reversed(hops):
            reported = _without_port(hop)
            if not reported:
                break
            peer = reported
            if not self._is_trusted(peer):
                break
        return peer

    def _look_up(self, text: str) -> bool:
        parsed = _parsed(text)
        return parsed is not None and any(parsed in network for network in self._networks)


def address(peer: object) -> str:
    """Return the address of a socket's peer name; empty if it has none, as a Unix socket."""
    if not isinstance(peer, tuple) or not peer:
        return ""
    # The scope of a link-local address is a name of this machine's.
    parsed = _parsed(str(peer[0]).partition("%")[0])
    return "" if parsed is None else str(parsed)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, an IPv4 address as such wherever it was within IPv6."""
    if "%" in text:
        return None
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


@lru_cache(_REMEMBERED)
def _without_port(hop: str) -> str:
    """Return the address of a hop, which may have a port; empty if it is malformed or hidden."""
    if len(hop) > _MAX_HOP:
        return ""
    match = _WITH_PORT.fullmatch(hop)
    parsed = _parsed(hop if match is None else match["six"] or match["four"])
    return "" if parsed is None else str(parsed)


def _x_forwarded_for(value: str) -> list[str]:
    return [hop.strip(" \t") for hop in value.rsplit(",", MAX_HOPS)[-MAX_HOPS:]]


def _forwarded(value: str) -> list[str]:
    """Return the `for` of each element of a Forwarded header; none if the header is malformed."""
    if len(value) > MAX_FORWARDED:
        return []
    hops: list[str] = []
    names: dict[str, str] = {}
    at = 0
    while True:
        match = _PAIR.match(value, at)
        if match is None:
            return []
        if match["name"] is not None:
            name = match["name"].lower()
            if name in names:
                return []
            quoted = match["quoted"]
            names[name] = match["token"] if quoted is None else _ESCAPE.sub(r"\1", quoted)
        if match["next"] != ";":
            if names:
                # A proxy that does not say for whom it asks hides those before it.
                hops.append(names.get("for", ""))
            names = {}
        if not match["next"]:
            return hops
        at = match.end()
