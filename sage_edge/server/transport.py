"""Bytes of a connection on their way: plaintext as it is, or through TLS. No sockets here, and no waiting."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

from sage_edge.server.tls_extension import ShownCertificate, describe_tls

READ_BYTES = 64 * 1024
UNSENT_LIMIT_BYTES = 64 * 1024
"""With so much of answers that nobody takes, no more is read."""
RECORD_BYTES = 16 * 1024
"""The largest of TLS (RFC 8446 section 5.1)."""


class Transport(Protocol):
    """What is between a socket and its protocol."""

    @property
    def answer_bytes(self) -> int:
        """How much what was received has it say by itself, which the next `send` says too."""

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        """Plaintext from what the socket gave, and whether the client has ended its side."""

    def receive_pending(self) -> tuple[bytes, bool]:
        """The same of what the socket gave before."""

    def send(self, data: bytes) -> bytes:
        """What the socket takes for some plaintext."""

    def end(self) -> bytes:
        """What the socket takes last."""


class Plaintext:
    """No encryption."""

    answer_bytes = 0

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        """What the socket gave; nothing is the end."""
        return data, not data

    def receive_pending(self) -> tuple[bytes, bool]:
        """Nothing."""
        return b"", False

    def send(self, data: bytes) -> bytes:
        """The same."""
        return data

    def end(self) -> bytes:
        """Nothing: the socket's own end says it."""
        return b""


class TLSTransport:
    """TLS in memory: one record and one copy for what is written in one turn.

    Args:
        context: the server's.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def alpn_protocol(self) -> str | None:
        """The protocol agreed on, once the handshake is made."""
        return self._object.selected_alpn_protocol()

    @property
    def answer_bytes(self) -> int:
        """Of what OpenSSL has for the client: alerts, such as that it does not renegotiate, and updates of keys."""
        return self._outgoing.pending

    def describe(self, shown: ShownCertificate) -> Mapping[str, Any]:
        """What the ASGI TLS extension says of the connection, once the handshake is made.

        Args:
            shown: what the client was shown.
        """
        return describe_tls(self._object, shown)

    def advance_handshake(self, data: bytes) -> tuple[bool, bytes]:
        """Take what the socket gave; whether the handshake is made, and what the socket takes.

        Raises:
            ssl.SSLError: it has failed; `take_alert` has what the client should be told.
        """
        self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False, self._outgoing.read()
        return True, self._outgoing.read()

    def take_alert(self) -> bytes:
        """What OpenSSL wants to tell the client of a failure."""
        return self._outgoing.read()

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        """Decrypt.

        Raises:
            ssl.SSLError: the records are wrong.
        """
        if not data:
            return b"", True
        self._incoming.write(data)
        return self.receive_pending()

    def receive_pending(self) -> tuple[bytes, bool]:
        """The same of what has come already, behind the handshake's end."""
        parts = []
        try:
            while part := self._object.read(READ_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            return parts[0] if len(parts) == 1 else b"".join(parts), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(parts), True

    def send(self, data: bytes) -> bytes:
        """Encrypt, a record at a time: OpenSSL's buffer never shrinks."""
        if len(data) <= RECORD_BYTES:
            if data:
                self._object.write(data)
            return self._outgoing.read()
        view = memoryview(data)
        records = []
        for start in range(0, len(view), RECORD_BYTES):
            self._object.write(view[start : start + RECORD_BYTES])
            records.append(self._outgoing.read())
        return b"".join(records)

    def end(self) -> bytes:
        """A close_notify alert (RFC 8446 section 6.1)."""
        with contextlib.suppress(ssl.SSLError):  # it asks for the client's, which comes or not
            self._object.unwrap()
        return self._outgoing.read()
