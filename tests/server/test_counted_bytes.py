"""What is counted of an answer as sent, while it is on its way and once it is cut, over either protocol."""

from __future__ import annotations

from typing import Any

from sage_edge.app.metrics import MetricsLayer
from sage_edge.core.metric_families import Metrics
from tests.kit.both_protocols import ask_for_websocket, both_protocols

MESSAGES = 1000
MESSAGE_BYTES = 1
FRAME_BYTES = 3


async def no_application(scope: Any, receive: Any, send: Any) -> None:
    """Does nothing: what it would send is written by the test."""


def counted_bytes(metrics: Metrics) -> float:
    return sum(number for _, number in metrics.snapshot()["sage_edge_response_body_bytes"])


@both_protocols
def test_what_is_counted_of_a_websocket_is_not_taken_back_when_it_is_cut(protocol: str) -> None:
    metrics = Metrics()
    asked = ask_for_websocket(protocol)
    exchange = asked.exchange
    MetricsLayer(no_application, metrics)(exchange.scope, exchange.receive, exchange.send).close()  # type: ignore[attr-defined]
    exchange.write({"type": "websocket.accept"})
    message = {"type": "websocket.send", "bytes": bytes(MESSAGE_BYTES)}
    for _ in range(MESSAGES):
        exchange.write(message)
    assert counted_bytes(metrics) == 0
    asked.take()
    assert counted_bytes(metrics) == MESSAGES * FRAME_BYTES
    for _ in range(MESSAGES):
        exchange.write(message)
    assert counted_bytes(metrics) == MESSAGES * FRAME_BYTES
    exchange.lose_client()
    asked.end()
    assert counted_bytes(metrics) == exchange.passed_on_bytes == MESSAGES * FRAME_BYTES
