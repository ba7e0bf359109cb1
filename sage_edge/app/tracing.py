"""The layer that makes a span of each request, and the gateway's spans its children.

The span begins where the request's head was read, and ends where its answer is complete or has ended. Nothing is done
while an answer streams: when its first event was sent is the timeline's to know. What a span is made with is behind
`Tracer`, so that nothing here needs OpenTelemetry to be installed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Protocol

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, find_header
from sage_edge.app.exchange import EXCHANGE, Exchange
from sage_edge.app.log_context import bind_log_fields
from sage_edge.core.authority import read_authority
from sage_edge.core.exchange import NO_MOUNT
from sage_edge.core.printable import shorten
from sage_edge.core.routing import HEALTH_PATHS
from sage_edge.core.tracing import FIRST_EVENT, Attributes, Outcome, describe_method, find_error, name_span

TRACE_FIELDS = frozenset({b"traceparent", b"tracestate"})
"""W3C Trace Context's."""

Headers = Sequence[tuple[bytes, bytes]]


class Span(Protocol):
    """One request's.

    Attributes:
        fields: `traceparent` and `tracestate`, for whoever works on the request next.
        trace_id: of the trace it belongs to, in hexadecimal.
        is_recorded: whether anything is kept of it.
    """

    fields: Headers
    trace_id: str
    is_recorded: bool

    def end(self, outcome: Outcome) -> None:
        """It is over."""


class Tracer(Protocol):
    """Begins spans."""

    def begin(self, headers: Headers, name: str, attributes: Attributes, *, seconds_ago: float) -> Span:
        """A span of a request with these headers, of which a trace's are the parent's. Must not wait."""


class TracingLayer:
    """An ASGI application that calls another with a span around each request but those for the edge's health.

    Args:
        application: the other.
        tracer: makes them.
    """

    def __init__(self, application: ASGIApplication, tracer: Tracer) -> None:
        self._application = application
        self._tracer = tracer

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request or WebSocket; a lifespan is passed through."""
        if scope["type"] != "lifespan" and scope["raw_path"] not in HEALTH_PATHS:
            self._begin(scope)
        return self._application(scope, receive, send)

    def _begin(self, scope: Scope) -> None:
        exchange: Exchange = scope[EXCHANGE]
        headers, timeline, method = scope["headers"], exchange.timeline, _method_of(scope)
        seconds_ago = timeline.clock() - timeline.began_at
        span = self._tracer.begin(
            headers, name_span(method, None), _describe_request(scope, method), seconds_ago=seconds_ago
        )
        scope["headers"] = [*(field for field in headers if field[0] not in TRACE_FIELDS), *span.fields]
        exchange.trace_id = span.trace_id
        # For the task of this request alone, whose context is its own.
        bind_log_fields(trace_id=span.trace_id)
        if span.is_recorded:
            exchange.when_done(partial(_end, span, method))


def _end(span: Span, method: str, exchange: Exchange) -> None:
    timeline = exchange.timeline
    attributes: dict[str, str | int | Sequence[str]] = {
        "http.request.body.size": exchange.received_bytes,
        "http.response.body.size": exchange.passed_on_bytes,
        "sage_edge.mount": exchange.mount,
        "sage_edge.ending": exchange.ending,
    }
    if exchange.status:
        attributes["http.response.status_code"] = exchange.status
    if timeline.is_event_stream:
        attributes["sage_edge.events"] = timeline.events
    first_event_at = timeline.first_event_at
    span.end(
        Outcome(
            name=name_span(method, None if exchange.mount == NO_MOUNT else exchange.mount),
            attributes=attributes,
            events={} if first_event_at is None else {FIRST_EVENT: first_event_at - timeline.began_at},
            error=find_error(exchange.status, exchange.cause, has_ended_well=exchange.has_ended_well),
            duration_seconds=timeline.clock() - timeline.began_at,
        )
    )


def _method_of(scope: Scope) -> str:
    """A WebSocket begins with a GET, and over HTTP/2 with a CONNECT (RFC 8441)."""
    method: str = scope.get("method") or ("CONNECT" if scope["http_version"] == "2" else "GET")
    return method


def _describe_request(scope: Scope, method: str) -> Attributes:
    attributes: dict[str, str | int | Sequence[str]] = {
        **describe_method(method),
        "url.scheme": scope["scheme"],
        "url.path": shorten(scope["raw_path"].decode("latin-1")),
        "network.protocol.version": scope["http_version"],
    }
    if client := scope.get("client"):
        attributes["client.address"] = client[0]
    if agent := find_header(scope, b"user-agent"):
        attributes["user_agent.original"] = shorten(agent.decode("latin-1"))
    if request_id := scope[EXCHANGE].request_id:
        attributes["http.request.header.x-request-id"] = (request_id,)
    if authority := read_authority(find_header(scope, b"host") or b""):
        host, port = authority
        attributes["server.address"] = shorten(host.decode("latin-1"))
        if port is not None:
            attributes["server.port"] = port
    return attributes
