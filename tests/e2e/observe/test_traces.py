"""The spans of requests, as a collector gets them from a running edge."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.observe.gateway import ENDLESS, EVENT
from tests.e2e.observe.support import GATEWAY, access_lines
from tests.kit.collector import SERVER_KIND, Collector, running_collector
from tests.kit.edge import WAIT_SECONDS, running_edge

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "one=1,two=2"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
def test_the_span_is_the_clients_child_and_the_gateways_parent(
    http2: bool, certificates: Path, collector: Collector
) -> None:
    with running_edge(*GATEWAY, "--tracing", certificates=certificates, env=collector.environment) as edge:
        with edge.client(http2=http2) as client:
            answer = client.get("/scope", params={"key": "sk-secret"}, headers={**SAMPLED, "x-request-id": "mine"})
        (received,) = collector.wait_for(1)
        edge.log.wait_for(f"trace_id={TRACE_ID}")
        assert edge.stop() == 0
    seen = answer.json()["headers"]
    assert (received.trace_id, received.parent_id) == (TRACE_ID, PARENT_ID)
    assert seen["traceparent"] == f"00-{TRACE_ID}-{received.span_id}-01"
    assert seen["tracestate"] == received.span.trace_state == "one=1,two=2"
    assert (received.span.name, received.span.kind, received.is_error) == ("GET /", SERVER_KIND, False)
    assert received.attributes == {
        "http.request.method": "GET",
        "http.request.header.x-request-id": ["mine"],
        "http.request.body.size": 0,
        "http.response.body.size": len(answer.content),
        "http.response.status_code": 200,
        "url.scheme": "https",
        "url.path": "/scope",
        "network.protocol.version": "2" if http2 else "1.1",
        "server.address": "localhost",
        "server.port": edge.port,
        "client.address": "127.0.0.1",
        "user_agent.original": client.headers["user-agent"],
        "sage_edge.mount": "/",
        "sage_edge.ending": "complete",
    }
    assert received.resource["service.name"] == "sage-edge"
    assert [line["trace_id"] for line in access_lines(edge)] == [TRACE_ID]


def test_an_event_stream_is_one_span_that_knows_its_first_event(collector: Collector) -> None:
    with running_edge(*GATEWAY, "--tracing", env=collector.environment) as edge:
        with edge.client() as client:
            began = time.time_ns()
            client.get("/events/50")
            ended = time.time_ns()
            client.get("/healthz")
            client.get("/readyz")
        assert edge.stop() == 0
    (received,) = collector.spans
    (event,) = received.span.events
    assert event.name == "first event"
    span = received.span
    assert began <= span.start_time_unix_nano <= event.time_unix_nano <= span.end_time_unix_nano <= ended
    assert received.attributes["sage_edge.events"] == 50
    assert received.parent_id == ""


def test_a_trace_that_is_not_kept_is_passed_on_as_such(collector: Collector) -> None:
    unsampled = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"}
    with running_edge(*GATEWAY, "--tracing", env=collector.environment) as edge:
        with edge.client() as client:
            seen = client.get("/scope", headers=unsampled).json()["headers"]
            client.get("/scope")
        assert edge.stop() == 0
    assert re.fullmatch(f"00-{TRACE_ID}-[0-9a-f]{{16}}-00", seen["traceparent"])
    (received,) = collector.spans
    assert received.trace_id != TRACE_ID


def test_how_requests_ended_is_told_and_only_the_servers_faults_are_errors(collector: Collector) -> None:
    with running_edge(*GATEWAY, "--tracing", env=collector.environment) as edge, edge.client() as client:
        assert client.get("/fail").status_code == 500
        assert client.get("/%00").status_code == 400
        with edge.client() as leaver, leaver.stream("GET", f"/events/{ENDLESS}") as stream:
            next(stream.iter_raw())
        received = collector.wait_for(3)
    told = [
        (
            each.span.name,
            each.attributes["http.response.status_code"],
            each.attributes["sage_edge.ending"],
            each.attributes.get("error.type"),
            each.is_error,
        )
        for each in received
    ]
    assert told == [
        ("GET /", 500, "complete", "500", True),
        ("GET", 400, "complete", None, False),
        ("GET /", 200, "client left", None, False),
    ]


def test_a_drain_sends_the_spans_of_the_streams_it_waited_for(collector: Collector) -> None:
    environment = {**collector.environment, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    with running_edge(*GATEWAY, "--tracing", env=environment) as edge, edge.client(http2=False) as client:
        with client.stream("GET", "/events/200") as stream:
            edge.process.send_signal(signal.SIGTERM)
            edge.log.wait_for("draining")
            assert stream.read().count(EVENT) == 200
        assert edge.process.wait(WAIT_SECONDS) == 0
    (received,) = collector.spans
    assert (received.attributes["sage_edge.ending"], received.attributes["sage_edge.events"]) == ("complete", 200)


def test_a_gateway_that_traces_itself_is_one_tree_with_the_edge(collector: Collector) -> None:
    pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="it comes with the SAGE gateway")
    gateway = ("--gateway", "tests.e2e.observe.instrumented:app")
    with running_edge(*gateway, "--tracing", env=collector.environment) as edge, edge.client() as client:
        assert client.get("/generate", headers=SAMPLED).status_code == 200
        spans = {each.span.name: each for each in collector.wait_for(3)}
    at_edge, at_gateway, model = (spans[name] for name in ("GET /", "GET /generate", "model"))
    assert [each.parent_id for each in (at_edge, at_gateway, model)] == [PARENT_ID, at_edge.span_id, at_gateway.span_id]
    assert {each.trace_id for each in spans.values()} == {TRACE_ID}
    assert at_gateway.span.kind == SERVER_KIND, "its parent is elsewhere, as far as it knows"
    names = [each.resource["service.name"] for each in (at_edge, at_gateway)]
    assert names == ["sage-edge", "gateway"]
