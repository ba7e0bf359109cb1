"""What a client says before anything is agreed on: the name it asks for, and the protocols it offers.

By the name a context is chosen before OpenSSL sees the message. Python's ssl goes on without a protocol where
none is shared; RFC 7301 section 3.2 asks for an alert.
"""

from __future__ import annotations

from dataclasses import dataclass

HANDSHAKE_RECORD = 22
CLIENT_HELLO = 1
SERVER_NAME_EXTENSION = 0
ALPN_EXTENSION = 16
HOST_NAME = 0
"""The only kind of server name there is (RFC 6066 section 3)."""
LARGEST_HELLO_BYTES = 65_536
MOST_RECORDS = 16
"""Of one message. In records of a byte each, which are read again whenever one comes, it would cost seconds."""

NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
"""A fatal alert, in the clear: nothing is encrypted yet (RFC 8446 section 6)."""


class IncompleteError(Exception):
    """More bytes are needed."""


@dataclass(frozen=True)
class ClientHello:
    """What is understood of the message; nothing, where it is OpenSSL's to refuse.

    Attributes:
        server_name: the DNS name asked for, in lower case and without a dot at its end (RFC 6066 section 3).
        protocols: offered by ALPN, the best first; None where the client knows no ALPN.
    """

    server_name: str | None = None
    protocols: tuple[bytes, ...] | None = None


def read_client_hello(data: bytes) -> ClientHello:
    """Read the first message of a handshake.

    Args:
        data: what has come so far, from the first record on (RFC 8446 sections 4.1.2 and 5.1).

    Raises:
        IncompleteError: the message is not complete.
    """
    server_name, protocols = None, None
    try:
        reader = _Reader(_read_hello(data))
        reader.skip(2 + 32)  # version, random
        reader.take(1)  # session
        reader.take(2)  # cipher suites
        reader.take(1)  # compression
        extensions = _Reader(reader.take(2))
        while extensions.has_more:
            kind = extensions.integer(2)
            body = extensions.take(2)
            if kind == SERVER_NAME_EXTENSION:
                server_name = _read_server_name(body)
            elif kind == ALPN_EXTENSION:
                protocols = _read_protocols(body)
    except IndexError:
        pass  # it is OpenSSL's to refuse
    return ClientHello(server_name, protocols)


def _read_server_name(body: bytes) -> str | None:
    names = _Reader(_Reader(body).take(2))
    while names.has_more:
        kind, name = names.integer(1), names.take(2)
        if kind == HOST_NAME:
            return name.decode("ascii", "replace").lower().removesuffix(".") or None
    return None


def _read_protocols(body: bytes) -> tuple[bytes, ...]:
    names = _Reader(_Reader(body).take(2))
    offered = []
    while names.has_more:
        offered.append(names.take(1))
    return tuple(offered)


def _read_hello(data: bytes) -> bytes:
    """The message, put together from its records. Raises IndexError where it is none."""
    message = bytearray()
    position = 0
    for _ in range(MOST_RECORDS + 1):
        header = data[position : position + 5]
        if header[:1] and header[0] != HANDSHAKE_RECORD:
            raise IndexError(position)
        if len(message) >= 4:
            if message[0] != CLIENT_HELLO:
                raise IndexError(0)
            end = 4 + int.from_bytes(message[1:4])
            if end > LARGEST_HELLO_BYTES:
                raise IndexError(end)
            if len(message) >= end:
                return bytes(message[4:end])
        if len(header) < 5:
            raise IncompleteError
        length = int.from_bytes(header[3:5])
        record = data[position + 5 : position + 5 + length]
        if len(record) < length:
            raise IncompleteError
        if not length:
            raise IndexError(position)
        message += record
        position += 5 + length
    raise IndexError(position)


class _Reader:
    """Reads forward. Raises IndexError beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def has_more(self) -> bool:
        return self._position < len(self._data)

    def skip(self, size_bytes: int) -> bytes:
        """The next bytes."""
        end = self._position + size_bytes
        if end > len(self._data):
            raise IndexError(end)
        part = self._data[self._position : end]
        self._position = end
        return part

    def integer(self, size_bytes: int) -> int:
        """The next number."""
        return int.from_bytes(self.skip(size_bytes))

    def take(self, length_bytes: int) -> bytes:
        """The next vector, behind its length."""
        return self.skip(self.integer(length_bytes))
