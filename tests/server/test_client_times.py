"""What the times of a request owe to its client, over either protocol: its body, and its reading of the answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from sage_edge.app.exchange import HIGH_WATER_BYTES, LOW_WATER_BYTES, Exchange
from sage_edge.core.exchange import Cause
from sage_edge.core.metric_families import GAP_BOUNDS
from sage_edge.core.metrics import Histogram
from sage_edge.core.timeline import EventMeter
from tests.kit.http1_client import HTTP1Client
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import data_frame, reset_frame, settings_frame
from tests.kit.meter import RecordingMeter
from tests.kit.protocol_host import body, receive, start

EVENT_STREAM = (b"content-type", b"text/event-stream")
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
POST_TO_BE_ASKED_FOR = POST[:-2] + b"Expect: 100-continue\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
PIECE_BYTES = 16 * 1024
"""As a frame may have it; four of them are no less than the smallest window."""

Send = Callable[[bytes], None]


def begin(protocol: str) -> tuple[Exchange, Send]:
    """A request whose body has not come, and what sends a piece of its four bytes."""
    if protocol == "2":
        client = HTTP2Client()
        stream_id, exchange = client.ask((b"content-length", b"4"), method=b"POST", end=False)
        left = [4]

        def send(data: bytes) -> None:
            left[0] -= len(data)
            client.send(data_frame(stream_id, data, end=not left[0]))

        return exchange, send
    http1 = HTTP1Client()
    return http1.ask(POST), http1.send


@pytest.mark.parametrize("protocol", ["1.1", "2"])
class TestBody:
    def test_the_request_has_come_when_the_last_of_its_body_has(self, protocol: str) -> None:
        exchange, send = begin(protocol)
        timeline = exchange.timeline
        began_at = timeline.began_at
        assert timeline.received_at == began_at
        timeline.clock = lambda: began_at + 10
        send(b"abc")
        assert timeline.received_at == began_at
        timeline.clock = lambda: began_at + 20
        send(b"d")
        assert timeline.received_at == began_at + 20

    def test_an_answer_that_does_not_wait_for_it_is_measured_from_the_head(self, protocol: str) -> None:
        exchange, send = begin(protocol)
        timeline = exchange.timeline
        began_at = timeline.began_at
        timeline.clock = lambda: began_at + 10
        exchange.write(start())
        send(b"abcd")
        assert timeline.received_at == began_at


def withhold(client: HTTP1Client | HTTP2Client) -> tuple[Exchange, bytes]:
    """A request whose client waits until it is asked for its body, and half of that body."""
    if isinstance(client, HTTP2Client):
        stream_id, exchange = client.ask((b"expect", b"100-continue"), method=b"POST", end=False)
        return exchange, data_frame(stream_id, b"ab")
    return client.ask(POST_TO_BE_ASKED_FOR), b"ab"


@pytest.mark.parametrize("client_class", [HTTP1Client, HTTP2Client])
def test_a_body_that_its_client_withholds_is_due_from_when_it_was_asked_for(
    client_class: type[HTTP1Client | HTTP2Client],
) -> None:
    client = client_class(body_seconds=60)
    exchange, _ = withhold(client)
    client.wait(600)
    assert receive(exchange) is None
    client.wait(60)
    assert not exchange.is_client_gone
    client.wait(1)
    assert exchange.cause is Cause.STALLED


@pytest.mark.parametrize("client_class", [HTTP1Client, HTTP2Client])
def test_a_body_that_its_client_withholds_waits_for_the_application_to_ask_for_it(
    client_class: type[HTTP1Client | HTTP2Client],
) -> None:
    exchange, _ = withhold(client_class())
    timeline = exchange.timeline
    assert timeline.awaited == "head"
    assert timeline.awaited_since >= timeline.began_at
    receive(exchange)
    assert timeline.awaited is None, "now it is the client's to send"


@pytest.mark.parametrize("client_class", [HTTP1Client, HTTP2Client])
def test_a_client_that_does_not_wait_to_be_asked_owes_its_body_as_any_other(
    client_class: type[HTTP1Client | HTTP2Client],
) -> None:
    client = client_class(body_seconds=60)
    exchange, piece = withhold(client)
    client.send(piece)
    assert exchange.timeline.awaited is None
    receive(exchange)
    client.wait(61)
    assert exchange.cause is Cause.STALLED


@pytest.mark.parametrize("client_class", [HTTP1Client, HTTP2Client])
def test_a_request_waits_for_its_application_once_no_more_of_its_body_may_come(
    client_class: type[HTTP1Client | HTTP2Client],
) -> None:
    client = client_class(stream_window_bytes=4 * PIECE_BYTES)
    if isinstance(client, HTTP2Client):
        stream_id, exchange = client.ask(method=b"POST", end=False)
        piece = data_frame(stream_id, bytes(PIECE_BYTES))
    else:
        exchange, piece = client.ask(UPLOAD), bytes(PIECE_BYTES)
    for _ in range(4):
        client.wait(1)
        assert exchange.timeline.awaited is None
        client.send(piece)
    client.wait(1)
    assert exchange.timeline.awaited == "head"
    receive(exchange)
    client.wait(1)
    assert exchange.timeline.awaited is None


def test_a_stream_waits_for_its_application_once_its_connection_may_send_no_more() -> None:
    client = HTTP2Client(connection_window_bytes=4 * PIECE_BYTES)
    streams = [client.ask(method=b"POST", end=False) for _ in range(5)]
    for stream_id, _ in streams[:4]:
        client.send(data_frame(stream_id, bytes(PIECE_BYTES)))
    client.wait(1)
    awaited = [exchange.timeline.awaited for _, exchange in streams]
    assert awaited == ["head"] * 4 + [None], "of the last nothing has come"


def stream_events(client: HTTP2Client) -> tuple[int, Exchange, EventMeter]:
    """An event stream that has begun."""
    stream_id, exchange = client.ask()
    meter = EventMeter(Histogram(GAP_BOUNDS), Histogram(GAP_BOUNDS))
    exchange.meter = RecordingMeter(meter)
    exchange.write(start(200, EVENT_STREAM))
    return stream_id, exchange, meter


def test_the_gap_of_events_begins_when_the_client_has_room() -> None:
    client = HTTP2Client()
    client.send(settings_frame((4, 0)))
    stream_id, exchange, meter = stream_events(client)
    now = 0.0
    exchange.timeline.clock = lambda: now
    exchange.write(body(bytes(HIGH_WATER_BYTES + 1), more=True))
    now += 30
    client.credit(stream_id, HIGH_WATER_BYTES - LOW_WATER_BYTES)
    client.take()
    now += 30
    client.credit(stream_id, LOW_WATER_BYTES + 1)
    client.take()
    now += 2
    exchange.write(body(b"data: 2\n\n", more=True))
    assert meter.gap_seconds.total == 2


def test_what_the_client_of_a_stream_left_waiting_was_not_sent() -> None:
    client = HTTP2Client()
    client.send(settings_frame((4, 0)))
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(5000), more=True))
    client.credit(stream_id, 2000)
    client.take()
    client.send(reset_frame(stream_id))
    assert (exchange.sent_bytes, exchange.passed_on_bytes) == (5000, 2000)
    assert exchange.cause is Cause.CLIENT_LEFT


def test_what_waits_on_an_http1_connection_whose_application_fails_is_sent_still() -> None:
    client = HTTP1Client()
    exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(5000), more=True))
    client.connection.end(exchange)
    assert exchange.cause is Cause.ERROR
    assert exchange.passed_on_bytes == 5000
    assert bytes(5000) in client.take()


def test_what_waits_on_an_http1_connection_that_is_lost_was_not_sent() -> None:
    client = HTTP1Client()
    exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(5000), more=True))
    client.connection.lose()
    assert exchange.passed_on_bytes == 0


async def test_the_wait_ends_with_its_room_before_the_application_goes_on(nursery: trio.Nursery) -> None:
    # Over http/1.1 as over HTTP/2: what is counted is the connection's to say.
    client = HTTP1Client()
    client.host.new_event = trio.Event
    exchange = client.ask()
    exchange.meter = meter = RecordingMeter()
    waits = meter.waits
    await exchange.send(start())
    nursery.start_soon(exchange.send, body(bytes(2 * HIGH_WATER_BYTES), more=True))
    await trio.testing.wait_all_tasks_blocked()
    assert waits == []
    while client.connection.take_output(LOW_WATER_BYTES):
        pass
    assert len(waits) == 1
