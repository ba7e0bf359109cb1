"""From a request on a stream to the exchange that an application gets."""

from __future__ import annotations

from sage_edge.app.exchange import Exchange
from sage_edge.server.carrier import Host
from sage_edge.server.http2.request import RefusedError, Request
from sage_edge.server.http2.stream import Stream
from sage_edge.server.http_exchange import HTTPExchange
from sage_edge.server.scope import http_scope, websocket_scope
from sage_edge.server.websocket import WebSocketExchange
from sage_edge.server.websocket_handshake import HandshakeError, read_offer

HTTP_VERSION = "2"


def new_exchange(request: Request, stream: Stream, host: Host) -> Exchange:
    """The exchange.

    Raises:
        RefusedError: it is a WebSocket's handshake, and not a good one (RFC 8441 section 5).
    """
    if not request.protocol:
        scope = http_scope(host, HTTP_VERSION, request.method, request.target, request.fields)
        return HTTPExchange(scope, host.new_event, stream)
    try:
        offer = read_offer(request.fields, http_version=HTTP_VERSION)
    except HandshakeError as error:
        raise RefusedError(error.status, error.fields) from None
    stream.is_tunnel = True
    scope = websocket_scope(host, HTTP_VERSION, request.target, request.fields, list(offer.subprotocols))
    return WebSocketExchange(scope, host, stream, offer)
