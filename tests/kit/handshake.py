"""A TLS handshake in memory: real OpenSSL on both sides, no sockets."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Handshake:
    """Both ends of a connection that has been set up."""

    client: ssl.SSLObject
    server: ssl.SSLObject


def client_context(ca: Path, *, alpn: tuple[str, ...] = ("h2", "http/1.1")) -> ssl.SSLContext:
    """A client that trusts `ca` and is as strict as Python 3.13 and later are by default."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost", session: ssl.SSLSession | None = None
) -> Handshake:
    """Set up a connection.

    Args:
        server: of the server's end.
        client: of the client's.
        host: the name that the client asks for and verifies.
        session: that the client tries to resume.

    Raises:
        ssl.SSLError: from the end that refused first.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    hands = Handshake(
        client.wrap_bio(to_client, to_server, server_hostname=host, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = [hands.client, hands.server]
    for _ in range(10):
        waiting = [end for end in waiting if not _has_finished(end)]
        if not waiting:
            return hands
    raise AssertionError("the handshake does not come to an end")


def _has_finished(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
