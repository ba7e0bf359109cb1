"""Each request has a span between its client's and its gateway's, made by OpenTelemetry's SDK."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import structlog
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE
from sage_edge.app.tracing import TracingLayer
from sage_edge.core.exchange import Cause
from sage_edge.server.tracing import OpenTelemetryTracer
from tests.app.applications import answer
from tests.kit.asgi_calls import (
    Server,
    http_scope,
    lifespan_scope,
    request,
    response_body,
    response_start,
    websocket_scope,
)
from tests.kit.exchange import RecordingExchange

Headers = list[tuple[bytes, bytes]]
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = (b"traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01".encode())
UNSAMPLED = (b"traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00".encode())
SAMPLED_FLAGS = "0[13]"
"""Of a new trace; 2 says that its id is random (W3C Trace Context, level 2)."""
EVENT_STREAM = [(b"content-type", b"text/event-stream")]


class Traced:
    """A layer, and what comes of it.

    Attributes:
        seen: the headers of each request, as the application got them.
    """

    def __init__(self, application: ASGIApplication = answer) -> None:
        self._application = application
        self._exporter = InMemorySpanExporter()
        self.layer = TracingLayer(self._note, OpenTelemetryTracer(SimpleSpanProcessor(self._exporter)))
        self.seen: list[Headers] = []

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    async def call(self, scope: Scope, *, body: bytes = b"", mount: str = "/llm") -> RecordingExchange:
        exchange = RecordingExchange(request(body), scope=scope)
        exchange.mount = mount
        with structlog.contextvars.bound_contextvars():
            await exchange.run(self.layer)
            structlog.contextvars.clear_contextvars()
        return exchange

    async def _note(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope["headers"])
        await self._application(scope, receive, send)


def values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode() for key, value in headers if key == name]


async def test_a_request_without_a_trace_begins_one() -> None:
    traced = Traced()
    exchange = await traced.call(http_scope(headers=[(b"host", b"edge.test:8899"), (b"user-agent", b"test")]))
    (span,) = traced.spans
    assert span.context is not None
    trace_id, span_id = trace.format_trace_id(span.context.trace_id), trace.format_span_id(span.context.span_id)
    assert span.parent is None
    (passed_on,) = values(traced.seen[0], b"traceparent")
    assert re.fullmatch(f"00-{trace_id}-{span_id}-{SAMPLED_FLAGS}", passed_on)
    assert values(traced.seen[0], b"host") == ["edge.test:8899"]
    assert exchange.trace_id == trace_id
    assert span.attributes is not None
    assert (span.name, span.kind) == ("GET /llm", trace.SpanKind.SERVER)
    assert (span.attributes["server.address"], span.attributes["server.port"]) == ("edge.test", 8899)
    assert span.attributes["user_agent.original"] == "test"


async def test_the_clients_trace_goes_on_with_its_state() -> None:
    traced = Traced()
    await traced.call(http_scope(headers=[SAMPLED, (b"tracestate", b"one=1"), (b"tracestate", b"two=2")]))
    (span,) = traced.spans
    assert span.parent is not None
    assert span.context is not None
    assert trace.format_span_id(span.parent.span_id) == PARENT_ID
    span_id = trace.format_span_id(span.context.span_id)
    assert values(traced.seen[0], b"traceparent") == [f"00-{TRACE_ID}-{span_id}-01"]
    assert values(traced.seen[0], b"tracestate") == ["one=1,two=2"]


@pytest.mark.parametrize(
    "given",
    [
        [SAMPLED, SAMPLED],
        [(b"traceparent", b"00-1-2-01")],
        [(b"traceparent", b"")],
        [(b"traceparent", b"ff" + SAMPLED[1][2:])],
        [(b"traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")],
        [(b"traceparent", b"\xff" * 600)],
        [],
    ],
    ids=["two", "short", "empty", "version ff", "zeros", "not text", "none"],
)
async def test_what_is_no_trace_begins_a_new_one_and_its_state_is_dropped(given: Headers) -> None:
    traced = Traced()
    await traced.call(http_scope(headers=[*given, (b"tracestate", b"one=1")]))
    (span,) = traced.spans
    assert span.parent is None
    (passed_on,) = values(traced.seen[0], b"traceparent")
    assert re.fullmatch(f"00-[0-9a-f]{{32}}-[0-9a-f]{{16}}-{SAMPLED_FLAGS}", passed_on)
    assert TRACE_ID not in passed_on
    assert values(traced.seen[0], b"tracestate") == []


@pytest.mark.parametrize(
    "given",
    [
        [SAMPLED, (b"tracestate", b"not one")],
        [SAMPLED, (b"tracestate", b"a=" + b"b" * 20_000)],
        [(b"traceparent", SAMPLED[1] + b"-" + b"0" * 20_000)],
    ],
    ids=["malformed", "long state", "long parent"],
)
async def test_no_client_can_fill_the_log_with_its_trace(given: Headers, caplog: pytest.LogCaptureFixture) -> None:
    traced = Traced()
    await traced.call(http_scope(headers=given))
    assert len(traced.spans) == 1
    assert caplog.records == []


async def test_a_trace_that_the_client_does_not_keep_is_not_kept_here_either() -> None:
    traced = Traced()
    exchange = await traced.call(http_scope(headers=[UNSAMPLED, (b"tracestate", b"one=1")]))
    assert traced.spans == ()
    (passed_on,) = values(traced.seen[0], b"traceparent")
    assert re.fullmatch(f"00-{TRACE_ID}-(?!{PARENT_ID})[0-9a-f]{{16}}-00", passed_on)
    assert values(traced.seen[0], b"tracestate") == ["one=1"]
    assert exchange.trace_id == TRACE_ID


async def test_an_event_stream_has_one_event_whatever_its_length() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(headers=EVENT_STREAM))
        for number in range(5):
            await send(response_body(b"data: %d\n\n" % number, more_body=True))
            scope[EXCHANGE].timeline.note_event()  # as a server does
        await send(response_body(b""))

    traced = Traced(stream)
    exchange = RecordingExchange(scope=http_scope())
    exchange.timeline.is_event_stream = True
    await exchange.run(traced.layer)
    (span,) = traced.spans
    assert span.attributes is not None
    assert span.attributes["sage_edge.events"] == 5
    (event,) = span.events
    assert event.name == "first event"
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= event.timestamp <= span.end_time


async def test_bytes_are_those_of_the_bodies_and_the_query_is_nobodys() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(201))
        await send(response_body((await receive())["body"] * 2))

    traced = Traced(echo)
    await traced.call({**http_scope("/llm/v1", method="POST"), "query_string": b"key=sk-secret"}, body=b"four")
    (span,) = traced.spans
    assert span.attributes is not None
    assert (span.attributes["http.request.body.size"], span.attributes["http.response.body.size"]) == (4, 8)
    assert span.attributes["http.response.status_code"] == 201
    assert span.attributes["url.path"] == "/llm/v1"
    assert "sk-secret" not in span.to_json()


@pytest.mark.parametrize("cause", Cause)
async def test_an_ending_before_the_end_is_told_and_is_an_error_where_the_server_made_it(cause: Cause) -> None:
    async def lose(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        scope[EXCHANGE].lose_client(cause)

    traced = Traced(lose)
    await traced.call(http_scope())
    (span,) = traced.spans
    assert span.attributes is not None
    assert span.attributes["sage_edge.ending"] == cause.value
    is_error = cause in {Cause.ERROR, Cause.DRAINED}
    assert span.status.status_code is (trace.StatusCode.ERROR if is_error else trace.StatusCode.UNSET)
    assert span.attributes.get("error.type") == (cause.value if is_error else None)


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (404, False), (500, True), (503, True)])
async def test_a_complete_answer_is_an_error_by_its_status(status: int, is_error: bool) -> None:
    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(status))
        await send(response_body(b""))

    traced = Traced(respond)
    await traced.call(http_scope())
    (span,) = traced.spans
    assert (span.status.status_code is trace.StatusCode.ERROR) is is_error


@pytest.mark.parametrize(("version", "method"), [("1.1", "GET"), ("2", "CONNECT")])
async def test_a_websocket_is_one_span_by_the_method_it_begins_with(version: str, method: str) -> None:
    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    traced = Traced(accept)
    await traced.call({**websocket_scope(), "http_version": version})
    (span,) = traced.spans
    assert span.name == f"{method} /llm"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 101


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_the_edges_health_is_not_traced(path: str) -> None:
    traced = Traced()
    exchange = await traced.call(http_scope(path, headers=[SAMPLED]))
    assert traced.spans == ()
    assert traced.seen[0] == [SAMPLED]
    assert exchange.trace_id == ""


async def test_what_a_client_chooses_makes_no_span_large() -> None:
    traced = Traced()
    headers = [(b"host", b"h" * 20_000), (b"user-agent", b"u" * 20_000)]
    await traced.call(http_scope("/" + "p" * 20_000, method="M" * 20_000, headers=headers))
    attributes = traced.spans[0].attributes
    assert attributes is not None
    assert (attributes["url.path"], attributes["http.request.method"]) == ("/" + "p" * 1023 + "…", "_OTHER")
    for name in ("http.request.method_original", "server.address", "user_agent.original"):
        assert len(str(attributes[name])) == 1025


async def test_log_lines_of_the_request_have_its_trace() -> None:
    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        assert structlog.contextvars.get_contextvars()["trace_id"] == scope[EXCHANGE].trace_id == TRACE_ID
        await answer(scope, receive, send)

    await Traced(look).call(http_scope(headers=[SAMPLED]))


async def test_requests_at_once_have_spans_of_their_own() -> None:
    traced = Traced()
    async with trio.open_nursery() as calling:
        for _ in range(20):
            exchange = RecordingExchange(scope=http_scope(headers=[SAMPLED]))
            calling.start_soon(exchange.run, traced.layer)
    assert len({span.context.span_id for span in traced.spans if span.context}) == 20


async def test_a_span_that_the_task_happens_to_be_in_is_no_parent() -> None:
    traced = Traced()
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))):
        await traced.call(http_scope())
    (span,) = traced.spans
    assert span.parent is None


async def test_a_lifespan_has_none() -> None:
    traced, server = Traced(), Server()
    scope = {**lifespan_scope(), "headers": []}
    await traced.layer(scope, server.receive, server.send)
    assert traced.spans == ()
