"""What is counted of each request, whatever its ending."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE
from sage_edge.app.metrics import METHODS, MetricsLayer
from sage_edge.core.exchange import Cause
from sage_edge.core.metric_families import Metrics
from sage_edge.core.metrics import Snapshot
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


async def count(application: ASGIApplication, *scopes: Scope, mount: str = "/", body: bytes = b"") -> Snapshot:
    metrics = Metrics()
    layer = MetricsLayer(application, metrics)
    for scope in scopes or [http_scope()]:
        exchange = RecordingExchange(request(body), scope=scope)
        exchange.mount = mount
        await exchange.run(layer)
    return metrics.snapshot()


def value(snapshot: Snapshot, name: str, *labels: str) -> Any:
    return {tuple(row[0]): row[1] for row in snapshot[name]}[labels]


async def test_a_request_is_counted_with_its_labels_and_bytes() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(201))
        await send(response_body((await receive())["body"] * 2))

    snapshot = await count(echo, http_scope(method="POST"), mount="/llm", body=b"four")
    assert snapshot["sage_edge_requests"] == [[["/llm", "2", "POST", "201"], 1]]
    assert value(snapshot, "sage_edge_request_body_bytes", "/llm", "2") == 4
    assert value(snapshot, "sage_edge_response_body_bytes", "/llm", "2") == 8
    assert sum(value(snapshot, "sage_edge_request_duration_seconds", "/llm", "2")) == 1
    assert snapshot["sage_edge_cancellations"] == []


async def test_the_first_byte_is_measured_from_the_end_of_a_request_and_the_duration_from_its_head() -> None:
    async def trickled(scope: Scope, receive: Receive, send: Send) -> None:
        timeline = scope[EXCHANGE].timeline
        timeline.began_at -= 600  # its body took that long
        timeline.note_start()
        await answer(scope, receive, send)

    snapshot = await count(trickled)
    ((_, _, first_byte_seconds),) = snapshot["sage_edge_time_to_first_byte_seconds"]
    ((_, _, duration_seconds),) = snapshot["sage_edge_request_duration_seconds"]
    assert first_byte_seconds < 600 <= duration_seconds


async def test_requests_of_a_kind_are_counted_together() -> None:
    snapshot = await count(answer, *(http_scope() for _ in range(5)))
    assert snapshot["sage_edge_requests"] == [[["/", "2", "GET", "200"], 5]]


async def test_methods_that_clients_make_up_are_one() -> None:
    snapshot = await count(answer, *(http_scope(method=f"M{number}") for number in range(50)), http_scope(method="PUT"))
    assert snapshot["sage_edge_requests"] == [[["/", "2", "other", "200"], 50], [["/", "2", "PUT", "200"], 1]]
    assert "other" not in METHODS


async def test_a_request_in_flight_is_shown_as_such(nursery: trio.Nursery) -> None:
    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        await trio.sleep_forever()

    metrics = Metrics()
    exchange = RecordingExchange()
    exchange.mount = "/"
    nursery.start_soon(exchange.run, MetricsLayer(wait, metrics))
    await exchange.wait_for(1)
    assert metrics.snapshot()["sage_edge_requests_in_flight"] == [[["/", "2"], 1]]
    nursery.cancel_scope.cancel()


async def test_what_was_in_flight_comes_down_to_none() -> None:
    metrics, exchange = Metrics(), RecordingExchange(request())
    layer = MetricsLayer(answer, metrics)
    exchange.mount = "/"
    task = layer(exchange.scope, exchange.receive, exchange.send)
    assert metrics.snapshot()["sage_edge_requests_in_flight"] == [[["/", "2"], 1]]
    await task
    exchange.end()
    assert metrics.snapshot()["sage_edge_requests_in_flight"] == [[["/", "2"], 0]]


@pytest.mark.parametrize("cause", Cause)
async def test_an_ending_before_the_end_is_counted_by_its_cause(cause: Cause) -> None:
    async def lose(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        scope[EXCHANGE].lose_client(cause)

    snapshot = await count(lose)
    label = cause.value.replace(" ", "_")
    assert snapshot["sage_edge_cancellations"] == [[["/", label], 1]]
    assert sum(value(snapshot, "sage_edge_cancellation_seconds", "/", label)) == 1


async def test_an_application_that_gives_no_answer_has_no_status() -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    snapshot = await count(nothing)
    assert snapshot["sage_edge_requests"] == [[["/", "2", "GET", "none"], 1]]
    assert snapshot["sage_edge_cancellations"] == [[["/", "error"], 1]]
    assert sum(value(snapshot, "sage_edge_time_to_first_byte_seconds", "/", "2")) == 0


async def test_a_client_that_leaves_after_its_answer_is_no_cancellation() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        scope[EXCHANGE].lose_client()

    assert (await count(application))["sage_edge_cancellations"] == []


async def test_a_websocket_is_counted_as_such() -> None:
    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    assert (await count(accept, websocket_scope()))["sage_edge_requests"] == [[["/", "2", "WEBSOCKET", "101"], 1]]


async def test_a_method_that_is_spelled_as_one_is_no_websocket() -> None:
    requests = (await count(answer, http_scope(method="WEBSOCKET")))["sage_edge_requests"]
    assert requests == [[["/", "2", "other", "200"], 1]]


async def test_a_lifespan_is_not_counted() -> None:
    async def start(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})

    metrics, server = Metrics(), Server()
    await MetricsLayer(start, metrics)(lifespan_scope(), server.receive, server.send)
    assert metrics.snapshot()["sage_edge_requests"] == []
