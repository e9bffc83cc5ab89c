"""The address of a client behind proxies: which headers count, from whom, and how far."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http import forwarded
from service.http.forwarded import MAX_FORWARDED, MAX_HOPS, Proxies, address

PROXIES = Proxies(forwarded.parse("10.0.0.0/8, fd00::/8"))
PEER = "10.0.0.1"


def client(peer=PEER, **headers):
    """Return the address of a client, by headers whose names have underscores."""
    named = {
        name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()
    }
    return PROXIES.client(peer, named)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", id="one hop"),
        pytest.param("198.51.100.1, 192.0.2.1", "192.0.2.1", id="what a client sent is left out"),
        pytest.param("192.0.2.1, 10.0.0.3, 10.0.0.2", "192.0.2.1", id="through trusted ones"),
        pytest.param("10.0.0.3,10.0.0.2", "10.0.0.3", id="all are trusted: the farthest"),
        pytest.param("192.0.2.1:4711", "192.0.2.1", id="with a port"),
        pytest.param("2001:DB8::1", "2001:db8::1", id="IPv6"),
        pytest.param("[2001:db8::1]:4711", "2001:db8::1", id="IPv6 with a port"),
        pytest.param("[2001:db8::1]", "2001:db8::1", id="IPv6 in brackets"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", id="IPv4 within IPv6"),
        pytest.param("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1", id="a proxy within IPv6"),
        pytest.param("192.0.2.1, fd00::7", "192.0.2.1", id="a proxy of IPv6"),
        pytest.param("", PEER, id="empty"),
        pytest.param("unknown", PEER, id="unknown"),
        pytest.param("192.0.2.1, unknown", PEER, id="unknown ends the reading"),
        pytest.param("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2", id="after a known one"),
        pytest.param("192.0.2.01", PEER, id="a leading zero"),
        pytest.param("192.0.2.1 ", "192.0.2.1", id="blanks"),
        pytest.param("fe80::1%eth0", PEER, id="a scope"),
        pytest.param("192.0.2.1; DROP", PEER, id="other characters"),
        pytest.param('192.0.2.1"', PEER, id="a quote"),
        pytest.param("192.0.2.1\xe9", PEER, id="not ASCII"),
        pytest.param("1" * 5000, PEER, id="a long hop"),
        pytest.param("198.51.100.1," * 5000 + "192.0.2.1", "192.0.2.1", id="a long list"),
        pytest.param("192.0.2.1" + ",10.0.0.2" * MAX_HOPS, "10.0.0.2", id="too many hops"),
    ],
)
def test_a_trusted_proxy_says_whom_it_asks_for(value, expected):
    """The right-most address that is no trusted proxy's counts."""
    assert client(x_forwarded_for=value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("for=192.0.2.1", "192.0.2.1", id="one element"),
        pytest.param("For=192.0.2.1;proto=http;by=10.0.0.1", "192.0.2.1", id="beside others"),
        pytest.param("for=198.51.100.1, for=192.0.2.1", "192.0.2.1", id="the last"),
        pytest.param("for=192.0.2.1, for=10.0.0.2", "192.0.2.1", id="through trusted ones"),
        pytest.param('for="192.0.2.1:47011"', "192.0.2.1", id="a port"),
        pytest.param('for="[2001:db8::1]:_port"', "2001:db8::1", id="a hidden port"),
        pytest.param('for="[2001:db8:cafe::17]"', "2001:db8:cafe::17", id="IPv6"),
        pytest.param(r'for="\192.0.2.1"', "192.0.2.1", id="an escape"),
        pytest.param('host="a, for=192.0.2.9";for=192.0.2.1', "192.0.2.1", id="a quoted comma"),
        pytest.param("for=192.0.2.1,,", "192.0.2.1", id="empty elements"),
        pytest.param("for=_hidden", PEER, id="hidden"),
        pytest.param("for=unknown", PEER, id="unknown"),
        pytest.param("for=192.0.2.1, for=_a, for=10.0.0.2", "10.0.0.2", id="hidden in between"),
        pytest.param("for=192.0.2.1, proto=http", PEER, id="a hop without an address"),
        pytest.param("for=192.0.2.1:80", PEER, id="a colon without quotes"),
        pytest.param('for="192.0.2.1', PEER, id="no closing quote"),
        pytest.param("for=192.0.2.9;for=192.0.2.1", PEER, id="twice"),
        pytest.param("for = 192.0.2.1", PEER, id="blanks around the sign"),
        pytest.param("192.0.2.1", PEER, id="no pair"),
        pytest.param("", PEER, id="nothing"),
        pytest.param("for=192.0.2.1" + "," * MAX_FORWARDED, PEER, id="too long"),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(value, expected):
    """A header that breaks its rules is ignored as a whole."""
    assert client(forwarded=value) == expected


def test_two_headers_have_to_agree():
    """A proxy sets one of them, and the client may have sent the other."""
    assert client(forwarded="for=192.0.2.1", x_forwarded_for="192.0.2.1") == "192.0.2.1"
    assert client(forwarded="for=192.0.2.1", x_forwarded_for="192.0.2.2") == PEER
    assert client(forwarded="for=unknown", x_forwarded_for="192.0.2.2") == PEER


@pytest.mark.parametrize("peer", ["192.0.2.7", "fe80::1", "::1", ""])
def test_nobody_else_is_believed(peer):
    """A client that sends the headers itself is logged by its own address."""
    assert client(peer, x_forwarded_for="198.51.100.1", forwarded="for=198.51.100.1") == peer
    assert Proxies(()).client(PEER, {b"x-forwarded-for": b"192.0.2.1"}) == PEER


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param(("192.0.2.1", 80), "192.0.2.1", id="IPv4"),
        pytest.param(("::ffff:192.0.2.1", 80, 0, 0), "192.0.2.1", id="IPv4 within IPv6"),
        pytest.param(("fe80::1%eth0", 80, 0, 2), "fe80::1", id="a scope"),
        pytest.param("", "", id="a Unix socket"),
        pytest.param("/run/x.sock", "", id="a Unix socket with a name"),
        pytest.param(None, "", id="a closed socket"),
        pytest.param((), "", id="no address"),
        pytest.param(("x", 1), "", id="another family"),
    ],
)
def test_a_peer_has_an_address_or_none(peer, expected):
    """An IPv4 address is written as such on a socket of IPv6."""
    assert address(peer) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", (), id="none"),
        pytest.param("10.0.0.1", ("10.0.0.1/32",), id="an address"),
        pytest.param("10.0.0.0/8,fd00::/8", ("10.0.0.0/8", "fd00::/8"), id="networks"),
        pytest.param("10.0.0.1 10.0.0.2", ("10.0.0.1/32", "10.0.0.2/32"), id="blanks"),
        pytest.param("::ffff:10.0.0.0/104", ("10.0.0.0/8",), id="IPv4 within IPv6"),
    ],
)
def test_networks_are_listed(text, expected):
    """Commas or blanks are between them."""
    assert tuple(map(str, forwarded.parse(text))) == expected


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "10.0.0.0/33", "*", "10.0.0.1:80"])
def test_other_lists_are_refused(text):
    """The message has the item."""
    with pytest.raises(ValueError, match=r"expected addresses or networks such as .*received '"):
        forwarded.parse(text)


ADDRESSES = st.ip_addresses().map(str)
TRUSTED = st.ip_addresses(network="10.0.0.0/8").map(str)
PIECES = st.sampled_from(
    ["for=", "by=", ";", ",", " ", '"', "\\", "[", "]", ":", "unknown", "_x", "10.0.0.2", "%", "="]
)
VALUES = st.lists(PIECES | ADDRESSES | st.text("\x00\x7f\xe9a1", max_size=3), max_size=30).map(
    "".join
)


@given(VALUES, VALUES)
def test_no_header_makes_anything_but_an_address(one, other):
    """Whatever is sent, the result is an address as `ipaddress` writes it."""
    for headers in (
        {"forwarded": one},
        {"x_forwarded_for": one},
        {"forwarded": one} | {"x_forwarded_for": other},
    ):
        found = client(**headers)

        assert str(ip_address(found)) == found
        assert client("192.0.2.7", **headers) == "192.0.2.7"


@given(
    VALUES,
    st.ip_addresses().filter(lambda a: not getattr(a, "ipv4_mapped", None)),
    st.lists(TRUSTED, max_size=5),
)
def test_what_a_client_sends_never_counts(sent, reached_from, proxies):
    """Each proxy adds the address that it was reached from to whatever came."""
    if any(
        reached_from in ip_network(n)
        for n in ("10.0.0.0/8", "fd00::/8")
        if ip_network(n).version == reached_from.version
    ):
        return
    hops = [str(reached_from), *proxies]

    assert client(x_forwarded_for=",".join([sent, *hops])) == str(reached_from)
