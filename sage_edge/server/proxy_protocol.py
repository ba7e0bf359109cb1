"""The PROXY protocol's header, versions 1 and 2, from bytes: who a connection comes from, as a balancer says.

Without I/O. HAProxy's specification, "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2. Whose header is
believed is the caller's: whoever is not trusted must not be read here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_START = b"PROXY "
V1_LONGEST_BYTES = 107
"""With its line end (section 2.1)."""
V2_LONGEST_BYTES = 4096
"""More than any balancer sends in extensions; the protocol allows 64 KiB."""

_V2_HEAD_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_LARGEST_FAMILY, _LARGEST_TRANSPORT = 3, 2
_LARGEST_PORT = 65_535

LOCAL_HEADER = SIGNATURE + struct.pack("!BBH", _LOCAL, 0, 0)
"""What a balancer begins a connection of its own with, which is for nobody else."""

Endpoint = tuple[str, int]


class ProxyProtocolError(Exception):
    """What came is not a header of the protocol."""


@dataclass(frozen=True)
class ProxyHeader:
    """What a header says.

    Attributes:
        client: address and port; `UNKNOWN` where the balancer does not say whose connection it passes on; None where
            it speaks for itself.
        server: the same of what the client connected to; None where it does not say.
    """

    client: Endpoint | None
    server: Endpoint | None


UNKNOWN: Endpoint = ("unknown", 0)
"""Somebody, who is not the balancer and is not to be believed as it is."""


class ProxyHeaderReader:
    """Reads one header, and nothing that comes after it.

    Attributes:
        header: once it is complete; None before.
    """

    def __init__(self) -> None:
        self._data = b""
        self.header: ProxyHeader | None = None

    def feed(self, data: bytes) -> int:
        """Look at what follows what was taken so far.

        Returns:
            How many of the bytes belong to the header. All of them, where it is not complete yet.

        Raises:
            ProxyProtocolError: they are no header.
        """
        before = len(self._data)
        seen = self._data + data
        size = _find_v2_end(seen) if seen[:1] == SIGNATURE[:1] else _find_v1_end(seen)
        if size is None or size > len(seen):
            self._data = seen
            return len(data)
        complete = seen[:size]
        self.header = _read_v2(complete) if complete.startswith(SIGNATURE) else _read_v1(complete)
        return size - before


def _find_v1_end(data: bytes) -> int | None:
    if not data.startswith(V1_START[: len(data)]):
        raise ProxyProtocolError("it does not begin as a header does")
    end = data.find(b"\r\n", 0, V1_LONGEST_BYTES)
    if end >= 0:
        return end + 2
    if len(data) >= V1_LONGEST_BYTES:
        raise ProxyProtocolError("its line does not end")
    return None


def _find_v2_end(data: bytes) -> int | None:
    if not data.startswith(SIGNATURE[: len(data)]):
        raise ProxyProtocolError("it does not begin as a header does")
    if len(data) < _V2_HEAD_BYTES:
        return None
    size: int = _V2_HEAD_BYTES + struct.unpack_from("!H", data, 14)[0]
    if size > V2_LONGEST_BYTES:
        raise ProxyProtocolError("it is too long")
    return size


def _read_v1(line: bytes) -> ProxyHeader:
    words = line[:-2].split(b" ")
    if words[1] == b"UNKNOWN":  # whatever follows is to be ignored
        return ProxyHeader(UNKNOWN, None)
    if len(words) != 6 or words[1] not in {b"TCP4", b"TCP6"}:
        raise ProxyProtocolError("it has not six words of TCP4 or TCP6")
    family = IPv4Address if words[1] == b"TCP4" else IPv6Address
    try:
        source, destination = (_show(family(word.decode("ascii"))) for word in words[2:4])
    except (AddressValueError, UnicodeDecodeError):
        raise ProxyProtocolError("an address is malformed") from None
    return ProxyHeader((source, _read_port(words[4])), (destination, _read_port(words[5])))


def _read_port(word: bytes) -> int:
    # As the specification writes them: decimal, without leading zeros.
    if not word.isdigit() or len(word) > 5 or (word != b"0" and word.startswith(b"0")) or int(word) > _LARGEST_PORT:
        raise ProxyProtocolError("a port is malformed")
    return int(word)


def _read_v2(data: bytes) -> ProxyHeader:
    command, family = data[12], data[13]
    if command not in {_LOCAL, _PROXY}:
        raise ProxyProtocolError("its version or command is unknown")
    if command == _LOCAL:  # a health check; its family is to be ignored
        return ProxyHeader(None, None)
    if family >> 4 > _LARGEST_FAMILY or family & 0x0F > _LARGEST_TRANSPORT:
        raise ProxyProtocolError("its address family or transport is unknown")
    if family not in {_TCP4, _TCP6}:
        return ProxyHeader(UNKNOWN, None)
    layout, kind = ("!4s4sHH", IPv4Address) if family == _TCP4 else ("!16s16sHH", IPv6Address)
    if len(data) < _V2_HEAD_BYTES + struct.calcsize(layout):
        raise ProxyProtocolError("its addresses are cut short")
    source, destination, source_port, destination_port = struct.unpack_from(layout, data, _V2_HEAD_BYTES)
    return ProxyHeader((_show(kind(source)), source_port), (_show(kind(destination)), destination_port))


def _show(address: IPv4Address | IPv6Address) -> str:
    """As everything else has it: IPv4 within IPv6 is IPv4, and there are no zones, which are another machine's."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ProxyProtocolError("an address has a zone")
        return str(address.ipv4_mapped or address)
    return str(address)
