"""Windows in both directions (RFC 9113 sections 5.2 and 6.9). The client checks that none is exceeded."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW_BYTES,
    PROTOCOL_ERROR,
    WINDOW_BYTES,
    data_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import body, read_body, receive, respond, start

# What the server sends.


def test_an_answer_stops_at_the_streams_window() -> None:
    client = HTTP2Client()
    client.send(window_frame(0, 2**20))
    stream_id, exchange = client.ask()
    respond(exchange, bytes(100_000))
    assert len(client.answer(stream_id).body) == WINDOW_BYTES
    assert not client.connection.has_output
    client.send(window_frame(stream_id, 10_000))
    assert len(client.answer(stream_id).body) == WINDOW_BYTES + 10_000
    client.send(window_frame(stream_id, 100_000))
    assert (len(client.answer(stream_id).body), client.answer(stream_id).has_ended) == (100_000, True)


def test_answers_stop_at_the_connections_window() -> None:
    client = HTTP2Client()
    streams = [client.ask() for _ in range(3)]
    for _, exchange in streams:
        respond(exchange, bytes(50_000))
    client.take()
    assert client.window_bytes == 0
    assert not client.connection.has_output
    client.send(window_frame(0, 100_000))
    assert all(client.answer(stream_id).has_ended for stream_id, _ in streams)


@pytest.mark.parametrize("increment", [1, 2, 1000])
def test_a_window_may_grow_bit_by_bit(increment: int) -> None:
    client = HTTP2Client()
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 0)))
    stream_id, exchange = client.ask()
    data = bytes(range(256)) * 4
    respond(exchange, data)
    client.take()
    while not client.answer(stream_id).has_ended:
        client.send(window_frame(stream_id, increment))
    assert client.answer(stream_id).body == data


def test_the_end_of_an_answer_needs_no_window() -> None:
    client = HTTP2Client()
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 0)))
    stream_id, exchange = client.ask()
    respond(exchange)
    assert client.answer(stream_id).has_ended


def test_an_end_that_comes_later_needs_no_window() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(WINDOW_BYTES), more=True))
    client.take()
    exchange.write(body())
    assert client.answer(stream_id).has_ended


def test_a_new_initial_window_changes_those_of_open_streams() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, bytes(5000))
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 1000)))  # before anything was taken
    assert len(client.answer(stream_id).body) == 1000
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 3000)))
    assert len(client.answer(stream_id).body) == 3000
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 70_000)))
    assert client.answer(stream_id).has_ended


def test_a_window_may_become_negative() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, bytes(70_000))
    client.send(window_frame(0, 70_000))
    assert len(client.answer(stream_id).body) == WINDOW_BYTES
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 0)))
    assert client.windows[stream_id] == -WINDOW_BYTES  # section 6.9.2
    client.send(window_frame(stream_id, WINDOW_BYTES))
    assert len(client.answer(stream_id).body) == WINDOW_BYTES
    client.send(window_frame(stream_id, 1))
    assert len(client.answer(stream_id).body) == WINDOW_BYTES + 1
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 10_000)))
    assert client.answer(stream_id).has_ended


def test_a_stream_that_waits_for_its_turn_stops_when_its_window_is_taken_away() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, b"later")
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 0)))
    assert client.answer(stream_id).body == b""
    assert not client.connection.has_output
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 5)))
    assert client.answer(stream_id).body == b"later"


def test_windows_may_be_as_large_as_can_be() -> None:
    client = HTTP2Client()
    client.send(settings_frame((INITIAL_WINDOW_SIZE, LARGEST_WINDOW_BYTES)))
    client.send(window_frame(0, LARGEST_WINDOW_BYTES - WINDOW_BYTES))
    stream_id, exchange = client.ask()
    respond(exchange, bytes(300_000))
    assert client.answer(stream_id).has_ended


def test_a_stream_window_beyond_the_largest_resets_the_stream() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    client.send(window_frame(stream_id, LARGEST_WINDOW_BYTES - WINDOW_BYTES))
    assert client.answer(stream_id).reset_code is None
    client.send(window_frame(stream_id, 1))
    assert client.answer(stream_id).reset_code == FLOW_CONTROL_ERROR  # section 6.9.1
    assert exchange.is_client_gone
    assert client.goaway_code() is None


def test_a_connection_window_beyond_the_largest_ends_the_connection() -> None:
    client = HTTP2Client()
    client.send(window_frame(0, LARGEST_WINDOW_BYTES - WINDOW_BYTES))
    assert client.goaway_code() is None
    client.send(window_frame(0, 1))
    assert client.goaway_code() == FLOW_CONTROL_ERROR


def test_a_stream_window_that_settings_make_too_large_ends_the_connection() -> None:
    client = HTTP2Client()
    stream_id, _ = client.ask()
    client.send(window_frame(stream_id, 1))
    client.send(settings_frame((INITIAL_WINDOW_SIZE, LARGEST_WINDOW_BYTES)))
    assert client.goaway_code() == FLOW_CONTROL_ERROR  # section 6.9.2


def test_an_increment_of_0_resets_the_stream() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    client.send(window_frame(stream_id, 0))
    assert client.answer(stream_id).reset_code == PROTOCOL_ERROR  # section 6.9
    assert exchange.is_client_gone
    assert client.goaway_code() is None


# What the server takes.


def test_a_body_stays_in_the_window_until_the_application_takes_it() -> None:
    client = HTTP2Client(stream_window_bytes=100_000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    assert client.rooms[stream_id] == 100_000
    client.send(*[data_frame(stream_id, bytes(10_000))] * 10)
    client.take()
    assert client.rooms[stream_id] == 0
    assert 100_000 <= client.host.account.buffered_bytes <= 110_000  # with what its messages cost
    assert len(read_body(exchange)) == 100_000
    assert client.connection.has_output
    client.take()
    assert client.rooms[stream_id] > 75_000
    assert client.host.account.buffered_bytes == 0


def test_credit_is_not_returned_for_every_little_piece() -> None:
    client = HTTP2Client(stream_window_bytes=100_000, connection_window_bytes=100_000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    before = client.host.wakes
    for _ in range(24):
        client.send(data_frame(stream_id, bytes(1000)))
        read_body(exchange)
    assert client.take() == []
    assert client.host.wakes == before
    client.send(data_frame(stream_id, bytes(1000)))
    read_body(exchange)
    assert [(one.stream_id, one.number) for one in client.take()] == [(0, 25_000), (stream_id, 25_000)]


def test_a_stream_that_has_ended_gets_no_credit() -> None:
    client = HTTP2Client(stream_window_bytes=100_000, connection_window_bytes=100_000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(*[data_frame(stream_id, bytes(10_000))] * 9, data_frame(stream_id, bytes(10_000), end=True))
    read_body(exchange)
    assert {one.stream_id for one in client.take()} == {0}
    assert client.room_bytes > 75_000


def test_more_than_the_streams_window_resets_the_stream() -> None:
    client = HTTP2Client(stream_window_bytes=65_535)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(*[data_frame(stream_id, bytes(FRAME_BYTES))] * 3, data_frame(stream_id, bytes(FRAME_BYTES - 1)))
    assert client.answer(stream_id).reset_code is None
    client.send(data_frame(stream_id, b"x"))
    assert client.answer(stream_id).reset_code == FLOW_CONTROL_ERROR
    assert exchange.is_client_gone
    assert client.goaway_code() is None
    assert client.host.account.buffered_bytes == 0


def test_more_than_the_connections_window_ends_the_connection() -> None:
    client = HTTP2Client(connection_window_bytes=65_535)
    streams = [client.ask(method=b"POST", end=False)[0] for _ in range(4)]
    client.send(*[data_frame(stream_id, bytes(FRAME_BYTES)) for stream_id in streams[:3]])
    client.send(data_frame(streams[3], bytes(FRAME_BYTES - 1)))
    assert client.goaway_code() is None
    client.send(data_frame(streams[0], b"x"))
    assert client.goaway_code() == FLOW_CONTROL_ERROR
    assert client.host.account.buffered_bytes == 0


def test_padding_is_credited_at_once() -> None:
    client = HTTP2Client(stream_window_bytes=65_535, connection_window_bytes=65_535)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    for _ in range(600):
        client.send(data_frame(stream_id, b"x", pad=255))
        client.take()
    assert client.goaway_code() is None
    assert read_body(exchange) == b"x" * 600


def test_a_reset_streams_unread_body_is_credited_to_the_connection() -> None:
    client = HTTP2Client(connection_window_bytes=100_000)
    stream_id, _ = client.ask(method=b"POST", end=False)
    client.send(*[data_frame(stream_id, bytes(10_000))] * 10)
    client.send(reset_frame(stream_id))
    client.take()
    assert client.room_bytes == 100_000
    assert client.host.account.buffered_bytes == 0


@pytest.mark.parametrize("padding", [None, 100])
def test_data_for_streams_that_are_gone_is_credited_to_the_connection(padding: int | None) -> None:
    client = HTTP2Client(connection_window_bytes=100_000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.connection.end(exchange)
    for _ in range(50):
        client.send(data_frame(stream_id, bytes(10_000), pad=padding))
        client.take()
    assert client.room_bytes > 75_000
    assert client.goaway_code() is None


def test_a_body_the_answer_did_not_wait_for_is_credited_to_the_connection() -> None:
    client = HTTP2Client(connection_window_bytes=100_000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(*[data_frame(stream_id, bytes(10_000))] * 5)
    respond(exchange, b"early")
    client.take()
    assert client.room_bytes == 100_000
    assert client.host.account.buffered_bytes == 0
    assert receive(exchange) == {"type": "http.disconnect"}
    client.take()


def test_no_credit_is_returned_twice() -> None:
    client = HTTP2Client(connection_window_bytes=65_535)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(*[data_frame(stream_id, bytes(10_000))] * 4)
    respond(exchange, b"early")
    exchange.consume(40_000)
    client.send(data_frame(stream_id, b"", end=True))
    client.take()
    assert client.room_bytes == 65_535
    assert client.host.account.buffered_bytes == 0
