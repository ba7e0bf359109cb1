"""What a WebSocket's client does wrong is counted, and is why it ended, over either protocol."""

from __future__ import annotations

import pytest

from sage_edge.app.exchange import Exchange
from sage_edge.core.exchange import Cause
from sage_edge.server.http1.connection import HTTP1Connection
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import data_frame
from tests.kit.protocol_host import FakeHost, default_limits, receive

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MASK = bytes(4)
LONGEST_BYTES = 10

FAULTS = {
    "not masked": (b"\x82\x05hello", "protocol_error", Cause.PROTOCOL_ERROR),
    "reserved bits": (b"\xc2\x85" + MASK + b"hello", "protocol_error", Cause.PROTOCOL_ERROR),
    "no UTF-8": (b"\x81\x82" + MASK + b"\xff\xff", "invalid_frame_payload_data", Cause.PROTOCOL_ERROR),
    "too big": (b"\x82\x8b" + MASK + bytes(LONGEST_BYTES + 1), "message_too_big", Cause.REFUSED),
}


def say(protocol: str, data: bytes) -> tuple[FakeHost, Exchange]:
    """Open a WebSocket and send something on it."""
    limits = {"max_message_bytes": LONGEST_BYTES}
    if protocol == "2":
        client = HTTP2Client(**limits)
        stream_id, exchange = client.ask(method=b"CONNECT", protocol=b"websocket", path=b"/chat", end=False)
        exchange.write({"type": "websocket.accept"})
        client.send(data_frame(stream_id, data))
        return client.host, exchange
    host = FakeHost(default_limits(**limits))
    connection = HTTP1Connection(host)
    connection.receive(HANDSHAKE)
    (exchange,) = host.exchanges
    exchange.write({"type": "websocket.accept"})
    connection.receive(data)
    return host, exchange


def counted(host: FakeHost) -> dict[tuple[str, ...], int]:
    return {tuple(labels): number for labels, number in host.metrics.snapshot()["sage_edge_protocol_errors"] if number}


@pytest.mark.parametrize("protocol", ["1.1", "2"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_client_is_counted_and_is_the_cause(protocol: str, fault: str) -> None:
    data, kind, cause = FAULTS[fault]
    host, exchange = say(protocol, data)
    assert receive(exchange) == {"type": "websocket.connect"}
    assert (receive(exchange) or {})["type"] == "websocket.disconnect"
    exchange.end()
    assert exchange.cause is cause
    assert exchange.ending == cause.value
    assert counted(host) == {("websocket", kind): 1}


@pytest.mark.parametrize("protocol", ["1.1", "2"])
@pytest.mark.parametrize("code", [1000, 1002, 1009])
def test_a_client_that_closes_does_nothing_wrong_whatever_it_says(protocol: str, code: int) -> None:
    host, exchange = say(protocol, b"\x88\x82" + MASK + code.to_bytes(2, "big"))
    exchange.end()
    assert exchange.ending == "complete"
    assert counted(host) == {}
