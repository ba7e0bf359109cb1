"""WebSockets over HTTP/2, as far as their stream is concerned (RFC 8441)."""

from __future__ import annotations

import pytest

from sage_edge.app.exchange import Exchange
from sage_edge.server.websocket import CLOSED_GRACE_SECONDS, LAST_MESSAGES_BYTES
from sage_edge.server.websocket_deflate import DEFLATE_BYTES
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import CANCEL, INTERNAL_ERROR, NO_ERROR, Field, data_frame, headers_frame, reset_frame
from tests.kit.protocol_host import receive

HELLO = b"\x82\x85\x00\x00\x00\x00hello"
PING, PONG = b"\x89\x80\x00\x00\x00\x00", b"\x8a\x00"
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


def connect(client: HTTP2Client, *extra: Field, is_accepted: bool = True) -> tuple[int, Exchange]:
    """Open a WebSocket."""
    stream_id, exchange = client.ask(*extra, method=b"CONNECT", protocol=b"websocket", path=b"/chat", end=False)
    assert receive(exchange) == {"type": "websocket.connect"}
    if is_accepted:
        exchange.write({"type": "websocket.accept"})
        assert client.answer(stream_id).status == 200
    return stream_id, exchange


def test_a_websocket_is_offered_and_carried() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client, (b"sec-websocket-protocol", b"a, b"), (b"sec-websocket-version", b"13"))
    assert exchange.scope["type"] == "websocket"
    assert exchange.scope["scheme"] == "wss"
    assert exchange.scope["subprotocols"] == ["a", "b"]
    client.send(data_frame(stream_id, HELLO))
    message = receive(exchange)
    assert message is not None
    assert message["bytes"] == b"hello"
    exchange.write({"type": "websocket.send", "text": "hi"})
    assert client.answer(stream_id).body == b"\x81\x02hi"


def test_its_bytes_are_those_of_its_frames() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client)
    client.send(data_frame(stream_id, HELLO), data_frame(stream_id, PING))
    exchange.write({"type": "websocket.send", "text": "hi"})
    assert exchange.received_bytes == len(HELLO + PING)
    assert exchange.sent_bytes == len(client.answer(stream_id).body) == len(PONG + b"\x81\x02hi")


def test_a_handshake_that_is_no_good_is_answered() -> None:
    client = HTTP2Client()
    stream_id = client.request((b"sec-websocket-version", b"8"), method=b"CONNECT", protocol=b"websocket", end=False)
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended) == (400, True)
    assert dict(answer.fields)[b"sec-websocket-version"] == b"13"
    assert not client.host.exchanges


def test_a_websocket_that_is_not_accepted_is_answered_with_403() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client, is_accepted=False)
    exchange.write({"type": "websocket.close"})
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended, answer.reset_code) == (403, True, None)


def test_bytes_before_the_websocket_is_open_are_answered_with_400() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client, is_accepted=False)
    client.send(data_frame(stream_id, HELLO))
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended, answer.reset_code) == (400, True, None)
    client.send(data_frame(stream_id, b"", end=True))
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


def test_a_websocket_without_a_way_back_is_not_run() -> None:
    client = HTTP2Client()
    stream_id = client.request(method=b"CONNECT", protocol=b"websocket")
    assert client.answer(stream_id).status == 400
    assert not client.host.exchanges
    assert client.connection.is_idle


def test_headers_on_a_tunnel_are_a_stream_error() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client)
    client.send(headers_frame(stream_id, b"\x00\x01a\x01b"))
    assert client.answer(stream_id).reset_code is not None  # section 8.5
    assert exchange.is_client_gone


def test_a_client_that_closes_is_answered_and_both_sides_end() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client)
    client.send(data_frame(stream_id, CLOSE, end=True))
    assert receive(exchange) == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    answer = client.answer(stream_id)
    assert (bytes(answer.body), answer.has_ended) == (b"\x88\x02\x03\xe8", True)
    assert client.connection.is_idle
    client.connection.end(exchange)
    assert client.host.account.buffered_bytes == 0


@pytest.mark.parametrize("how", [lambda stream_id: data_frame(stream_id, b"", end=True), reset_frame])
def test_a_client_that_leaves_without_a_word_is_disconnected(how: object) -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client)
    assert callable(how)
    client.send(how(stream_id))
    message = receive(exchange)
    assert message is not None
    assert (message["type"], message["code"]) == ("websocket.disconnect", 1006)
    client.connection.end(exchange)
    client.take()
    assert client.connection.is_idle


def test_an_application_that_ends_without_a_word_closes_with_1011() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client)
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (bytes(answer.body), answer.has_ended) == (b"\x88\x02\x03\xf3", True)


def test_an_application_that_never_answers_has_its_stream_reset() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client, is_accepted=False)
    client.connection.end(exchange)
    assert client.answer(stream_id).reset_code == INTERNAL_ERROR
    assert client.connection.is_idle


def test_a_denial_may_have_empty_pieces() -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client, is_accepted=False)
    exchange.write({"type": "websocket.http.response.start", "status": 401, "headers": []})
    for data, more in ((b"", True), (b"denied", True), (b"", False)):
        exchange.write({"type": "websocket.http.response.body", "body": data, "more_body": more})
    answer = client.answer(stream_id)
    assert (answer.status, answer.body, answer.has_ended) == (401, b"denied", True)


def test_a_handshake_whose_stream_has_ended_is_refused_and_counted() -> None:
    client = HTTP2Client()
    stream_id = client.request(method=b"CONNECT", protocol=b"websocket", path=b"/chat", end=True)
    assert client.answer(stream_id).status == 400
    assert not client.host.exchanges
    assert sum(row[-1] for row in client.host.metrics.snapshot()["sage_edge_requests"] if "400" in row[0]) == 1


def test_an_open_websocket_may_be_silent() -> None:
    client = HTTP2Client(body_seconds=60, idle_seconds=75)
    stream_id, exchange = connect(client)
    for _ in range(600):
        client.wait(1)
    assert client.goaway_code() is None
    client.send(data_frame(stream_id, HELLO))
    message = receive(exchange)
    assert message is not None
    assert message["bytes"] == b"hello"


def test_a_websocket_that_the_server_has_ended_does_not_wait_for_its_client_for_ever() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = connect(client)
    exchange.write({"type": "websocket.close"})
    client.connection.end(exchange)
    assert client.answer(stream_id).has_ended
    for _ in range(62):
        client.wait(1)
    assert client.answer(stream_id).reset_code in (NO_ERROR, CANCEL)
    assert client.connection.is_idle


def test_a_websocket_that_was_silent_for_long_has_time_to_answer_the_close() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = connect(client)
    for _ in range(100):
        client.wait(1)
    exchange.write({"type": "websocket.close"})
    client.connection.end(exchange)
    assert client.answer(stream_id).has_ended
    client.wait(1)
    assert client.answer(stream_id).reset_code is None
    client.send(data_frame(stream_id, CLOSE, end=True))
    assert client.answer(stream_id).reset_code is None
    assert client.connection.is_idle


@pytest.mark.parametrize("ending", ["end of the stream", "reset", "connection lost"])
def test_what_came_before_the_client_left_is_delivered_before_its_end(ending: str) -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client)
    message = b"\x82\xfe\x03\xe8\x00\x00\x00\x00" + bytes(1000)
    for _ in range(200):  # more than is read ahead of a slow application
        client.send(data_frame(stream_id, message))
    client.send(data_frame(stream_id, CLOSE, end=ending == "end of the stream"))
    if ending == "reset":
        client.send(reset_frame(stream_id))
    elif ending == "connection lost":
        client.connection.lose()
    for _ in range(200):
        taken = receive(exchange)
        assert taken is not None
        assert taken["bytes"] == bytes(1000)
    assert receive(exchange) == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    if ending == "end of the stream":
        assert client.answer(stream_id).body == b"\x88\x02\x03\xe8"
    assert client.host.account.buffered_bytes == 0


def test_not_more_than_a_bound_is_kept_of_what_a_client_said_before_it_left() -> None:
    client = HTTP2Client(max_buffered_bytes=300_000, stream_window_bytes=1_000_000, connection_window_bytes=2_000_000)
    _, exchange = connect(client)
    exchange.deliver_body((b"\x82\xfe\x03\xe8\x00\x00\x00\x00" + bytes(1000)) * 900, is_last=False)
    client.connection.lose()
    assert 200_000 < client.host.account.buffered_bytes <= LAST_MESSAGES_BYTES + 10_000


def test_messages_stay_in_the_window_until_they_are_taken() -> None:
    client = HTTP2Client(stream_window_bytes=200_000)
    stream_id, exchange = connect(client)
    frame = b"\x82\xfe\x27\x10\x00\x00\x00\x00" + bytes(10_000)
    for _ in range(15):
        client.send(data_frame(stream_id, frame))
    client.take()
    assert client.rooms[stream_id] < 200_000 - 64 * 1024
    for _ in range(15):
        message = receive(exchange)
        assert message is not None
        assert len(message["bytes"]) == 10_000
    client.take()
    assert client.rooms[stream_id] > 150_000
    client.send(reset_frame(stream_id))
    client.connection.end(exchange)
    assert client.host.account.buffered_bytes == 0


def test_a_websocket_has_no_largest_body() -> None:
    client = HTTP2Client(max_body_bytes=10)
    stream_id, exchange = connect(client)
    for _ in range(10):
        client.send(data_frame(stream_id, HELLO))
        assert receive(exchange) is not None
    assert client.answer(stream_id).reset_code is None


@pytest.mark.parametrize("how", ["frame", "frame and the end", "reset", "end of the stream", "lost"])
def test_an_application_has_more_time_to_end_where_its_client_has_closed_with_a_word(how: str) -> None:
    client = HTTP2Client()
    stream_id, exchange = connect(client)
    cancelled: list[str] = []
    exchange.cancel_later = lambda: cancelled.append(how)
    if how.startswith("frame"):
        client.send(data_frame(stream_id, CLOSE, end=how == "frame and the end"))
    elif how == "reset":
        client.send(reset_frame(stream_id))
    elif how == "end of the stream":
        client.send(data_frame(stream_id, b"", end=True))
    client.connection.lose()
    assert exchange.is_client_gone
    assert cancelled == [how]
    assert exchange.grace_seconds == (CLOSED_GRACE_SECONDS if how.startswith("frame") else 0)


def test_compression_is_declined_where_half_of_what_may_wait_is_used() -> None:
    client = HTTP2Client()
    offer = (b"sec-websocket-extensions", b"permessage-deflate")
    costs = []
    for buffered_bytes in (0, client.host.limits.max_buffered_bytes // 2):
        client.host.account.buffered_bytes = buffered_bytes
        stream_id, exchange = connect(client, offer, is_accepted=False)
        exchange.write({"type": "websocket.accept"})
        is_agreed = b"sec-websocket-extensions" in dict(client.answer(stream_id).fields)
        costs.append((is_agreed, exchange.state_bytes))
    assert costs == [(True, DEFLATE_BYTES), (False, 0)]
