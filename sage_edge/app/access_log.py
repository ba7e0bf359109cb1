"""The layer that logs one line for each request, when its answer is complete or has ended.

Nothing of a header or a body is logged but the request's id, and the query only where it is asked for: keys and
prompts travel in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, name_client
from sage_edge.app.exchange import EXCHANGE, Exchange
from sage_edge.app.metrics import OTHER_METHOD, WEBSOCKET
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.printable import shorten

ACCESS_LOG = "sage_edge.access"
access_log = EdgeLogger(ACCESS_LOG)
"""What connections refuse themselves is told here, too (`server.refusal`)."""


class AccessLogLayer:
    """An ASGI application that calls another and logs how each request went.

    Args:
        application: the other.
        has_query: the path is logged with the query.
    """

    def __init__(self, application: ASGIApplication, *, has_query: bool = False) -> None:
        self._application = application
        self._has_query = has_query

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request or WebSocket; a lifespan is passed through."""
        if scope["type"] != "lifespan":
            exchange: Exchange = scope[EXCHANGE]
            exchange.when_done(self._write)
        return self._application(scope, receive, send)

    def _write(self, exchange: Exchange) -> None:
        scope, timeline = exchange.scope, exchange.timeline
        target: bytes = scope["raw_path"]
        if self._has_query and scope["query_string"]:
            target += b"?" + scope["query_string"]
        fields: dict[str, Any] = {
            "client": name_client(scope.get("client")),
            "protocol": f"HTTP/{scope['http_version']}",
            "method": show_method(scope.get("method")),
            "path": shorten(target.decode("latin-1")),
            "status": exchange.status or "-",
            **measure(exchange),
            "ending": exchange.ending,
            "mount": exchange.mount,
            "request_id": exchange.request_id,
            # Said here, for the line may be written by another task than the connection's.
            "connection": exchange.connection_id,
        }
        if exchange.trace_id:
            fields["trace_id"] = exchange.trace_id
        if timeline.first_byte_at is not None:
            fields["first_byte_ms"] = _milliseconds(timeline.first_byte_at - timeline.received_at)
        if timeline.first_event_at is not None:
            fields["first_event_ms"] = _milliseconds(timeline.first_event_at - timeline.received_at)
        if timeline.is_event_stream:
            fields["events"] = timeline.events
        if exchange.stream_id is not None:
            fields["stream"] = exchange.stream_id
        access_log.info("request", **fields)


def show_method(method: str | None) -> str:
    """A request's method as a line has it; None is a WebSocket's, and nothing that a client makes up looks like it."""
    if method is None:
        return WEBSOCKET
    return OTHER_METHOD if method == WEBSOCKET else shorten(method)


def measure(exchange: Exchange) -> Mapping[str, float]:
    """How much went to and fro so far, and how long it took."""
    timeline = exchange.timeline
    return {
        "received_bytes": exchange.received_bytes,
        "sent_bytes": exchange.passed_on_bytes,
        "duration_ms": _milliseconds(timeline.clock() - timeline.began_at),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
