"""What comes before a protocol on a connection: a balancer's PROXY header, and the TLS handshake."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from sage_edge.server.certificate_set import ContextChooser
from sage_edge.server.client_hello import NO_APPLICATION_PROTOCOL, IncompleteError, read_client_hello
from sage_edge.server.client_socket import ClientSocket
from sage_edge.server.fairness import Share
from sage_edge.server.proxy_protocol import V2_LONGEST_BYTES, ProxyHeader, ProxyHeaderReader
from sage_edge.server.tls import ALPN_PROTOCOLS
from sage_edge.server.transport import TLSTransport


async def read_proxy_header(client: ClientSocket) -> ProxyHeader:
    """Whom a balancer speaks for; what follows is left where it is.

    Raises:
        ProxyProtocolError: what comes is no header.
        OSError: the balancer left.
    """
    reader = ProxyHeaderReader()
    while reader.header is None:
        seen = await client.peek(V2_LONGEST_BYTES)
        if not seen:
            raise ConnectionResetError("the balancer left within its header")
        client.sock.recv(reader.feed(seen))
    return reader.header


async def shake_hands(
    client: ClientSocket, share: Share, choose: ContextChooser
) -> tuple[TLSTransport, Mapping[str, Any]]:
    """Make the TLS handshake.

    Args:
        client: has said nothing yet.
        share: of the loop's turn, which what is computed is charged to, also where it is in vain.
        choose: what the client is shown.

    Returns:
        The transport, and what the ASGI TLS extension says of it.

    Raises:
        ssl.SSLError: it failed; the client was told.
        OSError: the client left, or speaks no protocol of ours; it was told.
    """
    data, server_name = await _receive_hello(client, share)
    chosen = choose(server_name)
    transport = TLSTransport(chosen.context)
    while True:
        try:
            is_made, answer = transport.advance_handshake(data)
        except ssl.SSLError:
            share.end()
            await client.send_all(transport.take_alert())
            raise
        share.end()
        await client.send_all(answer)
        if is_made:
            return transport, transport.describe(chosen)
        data = await _receive_more(client)


async def _receive_hello(client: ClientSocket, share: Share) -> tuple[bytes, str | None]:
    """The client's first message, and the name it asks for.

    It must offer a protocol of ours if it offers any (RFC 7301 section 3.2).
    """
    data = await _receive_more(client)
    while True:
        try:
            hello = read_client_hello(data)
        except IncompleteError:
            share.end()
            data += await _receive_more(client)
            continue
        if hello.protocols is None or not {name.encode() for name in ALPN_PROTOCOLS}.isdisjoint(hello.protocols):
            return data, hello.server_name
        share.end()
        await client.send_all(NO_APPLICATION_PROTOCOL)
        raise ConnectionAbortedError("the client speaks neither HTTP/2 nor HTTP/1.1")


async def _receive_more(client: ClientSocket) -> bytes:
    data = await client.receive()
    if not data:
        raise ConnectionResetError("the client left within the handshake")
    return data
