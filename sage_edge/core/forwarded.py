"""Who a request came from, by what proxies say of it, as far as they are trusted.

Reads `forwarded` (RFC 7239) and the `x-forwarded-*` headers. Which requests come from a proxy is known by the
address of the connection; here are the rules, and no scope or socket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
Field = tuple[bytes, bytes]

FORWARDED = b"forwarded"
X_FORWARDED = b"x-forwarded-"
UNREAD = frozenset({b"x-real-ip", b"true-client-ip", b"x-original-forwarded-for"})
"""Others in which proxies tell the client's address. Not read here, but gateways may."""
FORWARDING_STARTS = (
    *(FORWARDED, b"x-forwarded", b"x_forwarded"),
    *(b"x-real", b"x_real", b"x-original", b"x_original", b"true"),
)
"""With underscores, too: to an application that reads headers as CGI has them, they are the same."""
UNIX = "unix"
LARGEST_PORT = 65_535

# Never a second way to match (possessive repeats): what comes may be anyone's, whom a trusted proxy passes on.
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110 section 5.6.2
_QUOTED = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
_PAIR = re.compile(rf'[ \t]*+(?:({_WORD})=(?:({_WORD})|"({_QUOTED})"))?[ \t]*+(;|,|$)')
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?")  # RFC 7239 section 6
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""By what proxies say: some name a WebSocket's own, which is the same of a connection."""


@dataclass(frozen=True)
class Hop:
    """What one proxy says of what it received.

    Attributes:
        client: the other side's address; None where it is hidden or malformed.
        port: 0 where it is not said.
        scheme: "http" or "https"; "" where it is not said.
        host: as in the Host header; "" where it is not said.
    """

    client: Address | None
    port: int = 0
    scheme: str = ""
    host: str = ""


class TrustedProxies:
    """The proxies whose word is taken.

    Args:
        entries: addresses, networks such as 10.0.0.0/8, and "unix" for all Unix sockets.

    Raises:
        ValueError: one is none of these.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        entries = list(entries)
        self._is_unix_trusted = UNIX in entries
        self._networks = [ip_network(entry) for entry in entries if entry != UNIX]

    def trusts(self, address: str | None) -> bool:
        """Whether a peer is one of them.

        Args:
            address: None for a Unix socket.
        """
        if address is None:
            return self._is_unix_trusted
        parsed = parse_address(address)
        return parsed is not None and self.trusts_address(parsed)

    def trusts_address(self, address: Address) -> bool:
        """The same of an address that has been read."""
        return any(address in network for network in self._networks if network.version == address.version)

    def find_client(self, hops: Iterable[Hop]) -> Hop | None:
        """The first hop whose address is not trusted; None where nothing can be said.

        What is behind it was said by someone who is not trusted. Where all are, it is the farthest. So it is with one
        whose address is hidden: its scheme and host were said by a proxy that is trusted, and its client is the last
        that is known.

        Args:
            hops: the nearest first.
        """
        found = None
        for hop in hops:
            if hop.client is None:
                if found is None:
                    return hop
                return replace(found, scheme=hop.scheme or found.scheme, host=hop.host or found.host)
            found = hop
            if not self.trusts_address(hop.client):
                return found
        return found


def parse_address(text: str) -> Address | None:
    """An IP address; IPv4 in IPv6 is IPv4. None where it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_forwarding_field(name: bytes) -> bool:
    """Whether a header is a proxy's to set."""
    name = name.replace(b"_", b"-")
    return name == FORWARDED or name in UNREAD or name.startswith(X_FORWARDED)


def read_hops(headers: Sequence[Field]) -> Iterator[Hop]:
    """What the proxies say, the nearest first. Nothing where `forwarded` and what it replaces are both there.

    A proxy sets one of them and passes the other on, which the client may have made up; nobody can tell which. What
    is behind the first that is not trusted is its own, and need not be read: there may be thousands.
    """
    forwarded = _join(headers, FORWARDED)
    listed, scheme, host = (_join(headers, X_FORWARDED + name) for name in (b"for", b"proto", b"host"))
    has_older = any(text is not None for text in (listed, scheme, host))
    if forwarded is not None:
        return iter(()) if has_older else _read_forwarded(forwarded)
    if not has_older:
        return iter(())
    nodes = (listed or "").split(",")
    told = zip(nodes, _spread(scheme, len(nodes)), _spread(host, len(nodes)), strict=True)
    return (_hop(node.strip(), scheme, host) for node, scheme, host in reversed(list(told)))


def _read_forwarded(text: str) -> Iterator[Hop]:
    """RFC 7239 section 4. What is malformed ends at the next comma, and hides what is to its left."""
    elements: list[dict[str, str]] = []
    pairs: dict[str, str] = {}
    text = text.strip(" \t")
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:
            elements, pairs = [{}], {}
            comma = text.find(",", position)
            if comma < 0:
                break
            position = comma + 1
            continue
        name, token, quoted, end = match.groups()
        if name is not None:  # a pair, and a whole element, may be empty
            pairs[name.lower()] = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
        if pairs and (end != ";" or position == len(text)):
            elements.append(pairs)
            pairs = {}
    for element in reversed(elements):
        yield _hop(element.get("for", ""), element.get("proto", ""), element.get("host", ""))


def _hop(node: str, scheme: str, host: str) -> Hop:
    client, port = _read_node(node)
    return Hop(client, port, _SCHEMES.get(scheme.lower(), ""), host)


def _read_node(text: str) -> tuple[Address | None, int]:
    if match := _NODE.fullmatch(text):
        address, port = parse_address(match[1] or match[2]), int(match[3] or 0)
        return (address, port) if port <= LARGEST_PORT else (None, 0)
    return parse_address(text), 0  # IPv6 without brackets, as in x-forwarded-for


def _join(headers: Sequence[Field], name: bytes) -> str | None:
    """All values of a header as one list (RFC 9110 section 5.3)."""
    values = [value.decode("latin-1") for key, value in headers if key == name]
    return ",".join(values) if values else None


def _spread(text: str | None, count: int) -> list[str]:
    """A list beside another: value by value where they are of one length, otherwise the last for all."""
    values = [part.strip() for part in (text or "").split(",")]
    return values if len(values) == count else [values[-1]] * count
