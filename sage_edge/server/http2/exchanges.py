"""From a request on a stream to the exchange that an application gets."""

from __future__ import annotations

from http import HTTPStatus

from sage_edge.app.exchange import Exchange
from sage_edge.server.carrier import Host
from sage_edge.server.http2.hpack import FIELD_OVERHEAD_BYTES, Field
from sage_edge.server.http2.request import MalformedError, RefusedError, Request, read_request
from sage_edge.server.http2.stream import Stream
from sage_edge.server.http_exchange import HTTPExchange
from sage_edge.server.scope import http_scope, websocket_scope
from sage_edge.server.websocket import WebSocketExchange
from sage_edge.server.websocket_handshake import HandshakeError, read_offer

HTTP_VERSION = "2"


def open_exchange(stream: Stream, fields: list[Field], host: Host, *, is_last: bool) -> Exchange:
    """The exchange of a new stream.

    Args:
        stream: on which it came; learns what is to come on it.
        fields: the request's.
        host: the connection's shell.
        is_last: there is no body.

    Raises:
        MalformedError: the request breaks a rule of the protocol.
        RefusedError: it means something that is not served.
    """
    limits = host.limits
    request = read_request(fields)
    if sum([len(name) + len(value) + FIELD_OVERHEAD_BYTES for name, value in fields]) > limits.max_header_bytes:
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    stream.missing_bytes = length = request.content_length
    if length is not None and length > limits.max_body_bytes:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if is_last and length and not request.protocol:
        raise MalformedError("a body was announced and none came")
    if request.protocol:
        return _open_websocket(request, stream, host)
    scope = http_scope(host, HTTP_VERSION, request.method, request.target, request.fields)
    exchange = HTTPExchange(scope, host.new_event, stream)
    if not is_last and any(name == b"expect" and value.lower() == b"100-continue" for name, value in request.fields):
        exchange.want = stream.send_continue
    return exchange


def _open_websocket(request: Request, stream: Stream, host: Host) -> Exchange:
    """RFC 8441 section 5."""
    try:
        offer = read_offer(request.fields, http_version=HTTP_VERSION)
    except HandshakeError as error:
        raise RefusedError(error.status, error.fields) from None
    stream.is_tunnel = True
    scope = websocket_scope(host, HTTP_VERSION, request.target, request.fields, list(offer.subprotocols))
    return WebSocketExchange(scope, host, stream, offer)
