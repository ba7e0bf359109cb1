"""Headers of the PROXY protocol, byte by byte and as they should not be."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.forwarded import TrustedProxies
from sage_edge.server.proxy_protocol import (
    SIGNATURE,
    UNKNOWN,
    V1_LONGEST_BYTES,
    V2_LONGEST_BYTES,
    ProxyHeader,
    ProxyHeaderReader,
    ProxyProtocolError,
)

ITSELF = ProxyHeader(None, None)
SOMEBODY = ProxyHeader(UNKNOWN, None)


def read(data: bytes) -> tuple[ProxyHeader | None, int]:
    """The header, and how many bytes it took."""
    reader = ProxyHeaderReader()
    size = reader.feed(data)
    return reader.header, size


def version_2(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


ports = st.integers(0, 65535)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, ProxyHeader]:
    """A header as a balancer sends it, and what it says."""
    version = draw(st.sampled_from([4, 6]))
    source, destination = (draw(st.ip_addresses(v=version)) for _ in range(2))
    source_port, destination_port = draw(ports), draw(ports)
    shown = [str(getattr(address, "ipv4_mapped", None) or address) for address in (source, destination)]
    header = ProxyHeader((shown[0], source_port), (shown[1], destination_port))
    if draw(st.booleans()):
        line = f"PROXY TCP{version} {source} {destination} {source_port} {destination_port}\r\n"
        return line.encode(), header
    packed = source.packed + destination.packed + struct.pack("!HH", source_port, destination_port)
    extensions = draw(st.binary(max_size=200))
    return version_2(0x21, 0x11 if version == 4 else 0x21, packed + extensions), header


@given(headers(), st.binary(max_size=50), st.data())
def test_a_header_is_read_however_it_comes_and_what_follows_is_left(
    case: tuple[bytes, ProxyHeader], rest: bytes, data: st.DataObject
) -> None:
    encoded, header = case
    stream = encoded + rest
    reader = ProxyHeaderReader()
    taken = 0
    while reader.header is None:
        piece = stream[taken : taken + data.draw(st.integers(1, len(stream)))]
        taken += reader.feed(piece)
    assert reader.header == header
    assert taken == len(encoded)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        version_2(0x21, 0x00, b"whatever"),
        version_2(0x21, 0x31, bytes(216)),
        version_2(0x21, 0x12, bytes(12)),
    ],
    ids=["unknown", "unknown, more", "unspecified", "unix", "datagrams"],
)
def test_a_balancer_may_speak_for_somebody_it_does_not_name(data: bytes) -> None:
    assert read(data) == (SOMEBODY, len(data))
    assert not TrustedProxies(["0.0.0.0/0", "::/0", "unix"]).trusts(UNKNOWN[0])


@pytest.mark.parametrize(
    "data", [version_2(0x20, 0x00, b""), version_2(0x20, 0x11, bytes(12)), version_2(0x20, 0x4F, b"any")]
)
def test_a_balancer_may_speak_for_itself(data: bytes) -> None:
    assert read(data) == (ITSELF, len(data))


def test_ipv4_within_ipv6_is_ipv4_as_everywhere() -> None:
    header, _ = read(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n")
    assert header == ProxyHeader(("192.0.2.1", 1), ("192.0.2.2", 2))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.400 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3.\xe9 1.2.3.4 1 2\r\n",
        b"PROXY TCP6 fe80::1%evil ::1 1 2\r\n",
        version_2(0x21, 0x41, bytes(216)),
        version_2(0x21, 0x13, bytes(12)),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".ljust(V1_LONGEST_BYTES, b"x"),
        SIGNATURE[:-1] + b"x",
        version_2(0x11, 0x11, bytes(12)),
        version_2(0x22, 0x11, bytes(12)),
        version_2(0x21, 0x11, bytes(11)),
        version_2(0x21, 0x21, bytes(35)),
        SIGNATURE + b"\x21\x11" + struct.pack("!H", V2_LONGEST_BYTES),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        read(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_the_beginning_of_one_or_refused(data: bytes) -> None:
    for start in (b"", b"PROXY TCP4 ", SIGNATURE):
        try:
            header, size = read(start + data)
        except ProxyProtocolError:
            continue
        assert 0 <= size <= len(start + data)
        assert header is not None or size == len(start + data)


def test_a_reader_keeps_no_more_than_the_longest_header() -> None:
    reader = ProxyHeaderReader()
    for byte in b"PROXY TCP4 ".ljust(V1_LONGEST_BYTES - 1, b"x"):
        assert reader.feed(bytes([byte])) == 1
    with pytest.raises(ProxyProtocolError):
        reader.feed(b"x")
