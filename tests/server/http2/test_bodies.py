"""Bodies that are too long, and answers that do not wait for them (RFC 9113 section 8.1)."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FRAME_BYTES,
    NO_ERROR,
    PROTOCOL_ERROR,
    data_frame,
    headers_frame,
    reset_frame,
    window_frame,
)
from tests.kit.protocol_host import body, read_body, receive, respond, start


def fill(client: HTTP2Client, stream_id: int) -> None:
    """Send as much as the stream's window takes."""
    while size := min(client.rooms[stream_id], FRAME_BYTES):
        client.send(data_frame(stream_id, bytes(size)))


def test_a_body_comes_in_order_and_ends_once() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(data_frame(stream_id, b"ab"), data_frame(stream_id, b"cd"), data_frame(stream_id, b"", end=True))
    assert read_body(exchange) == b"abcd"
    assert receive(exchange) is None
    assert exchange.received_bytes == 4


def test_a_request_without_a_body_says_so_at_once() -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    assert receive(exchange) == {"type": "http.request", "body": b"", "more_body": False}


def test_a_body_over_the_limit_is_not_let_begin() -> None:
    client = HTTP2Client(max_body_bytes=1000)
    stream_id = client.request((b"content-length", b"1001"), method=b"POST", end=False)
    assert not client.host.exchanges
    assert client.answer(stream_id).status == 413
    assert client.answer(stream_id).has_ended
    client.send(*[data_frame(stream_id, bytes(1001), end=True)])
    assert client.connection.is_idle
    assert client.answer(stream_id).reset_code is None


@pytest.mark.parametrize("how", ["RST_STREAM", "too much", "the connection's end"])
def test_a_refused_body_may_end_in_any_way(how: str) -> None:
    client = HTTP2Client(max_body_bytes=1000)
    stream_id = client.request((b"content-length", b"1001"), method=b"POST", end=False)
    assert client.answer(stream_id).status == 413
    match how:
        case "RST_STREAM":
            client.send(reset_frame(stream_id))
        case "too much":
            client.send(data_frame(stream_id, bytes(1002)))
            assert client.answer(stream_id).reset_code == PROTOCOL_ERROR
        case _:
            client.connection.lose()
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


def test_a_body_up_to_the_limit_is_taken() -> None:
    client = HTTP2Client(max_body_bytes=1000)
    _, exchange = client.ask((b"content-length", b"1000"), body=bytes(1000))
    assert len(read_body(exchange)) == 1000


def test_a_body_that_grows_over_the_limit_is_answered_with_413() -> None:
    client = HTTP2Client(max_body_bytes=1000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(data_frame(stream_id, bytes(1000)))
    assert client.answer(stream_id).status == 0
    client.send(data_frame(stream_id, b"x"))
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended, answer.reset_code) == (413, True, None)
    assert repr(exchange.status) == "413"  # as the log writes it
    assert exchange.is_client_gone
    assert receive(exchange) == {"type": "http.disconnect"}
    exchange.write(start())  # too late
    client.send(data_frame(stream_id, b"x", end=True))
    client.connection.end(exchange)
    assert client.take() == []
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


def test_a_413_to_the_last_frame_closes_the_stream() -> None:
    client = HTTP2Client(max_body_bytes=10)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(data_frame(stream_id, bytes(20), end=True))
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended, answer.reset_code) == (413, True, None)
    assert client.connection.is_idle


def test_a_body_over_the_limit_that_is_being_answered_is_reset() -> None:
    client = HTTP2Client(max_body_bytes=1000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    exchange.write(start())
    client.send(data_frame(stream_id, bytes(1001)))
    assert client.answer(stream_id).reset_code == CANCEL
    assert exchange.is_abandoned
    assert client.connection.is_idle


def test_a_body_whose_answer_came_early_is_let_in_up_to_its_window() -> None:
    client = HTTP2Client(stream_window_bytes=100_000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(data_frame(stream_id, bytes(10_000)))
    respond(exchange, b"early")
    assert client.answer(stream_id).has_ended
    client.send(data_frame(stream_id, bytes(10_000)))
    assert client.answer(stream_id).reset_code is None
    fill(client, stream_id)
    assert client.answer(stream_id).reset_code == NO_ERROR  # section 8.1
    assert client.connection.is_idle
    client.send(data_frame(stream_id, b"on its way", end=True))
    assert client.goaway_code() is None
    assert client.host.account.buffered_bytes == 0


def test_a_body_that_ends_at_its_window_is_not_reset() -> None:
    client = HTTP2Client(stream_window_bytes=65_535)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    respond(exchange, b"early")
    client.send(
        *[data_frame(stream_id, bytes(FRAME_BYTES))] * 3, data_frame(stream_id, bytes(FRAME_BYTES - 1), end=True)
    )
    assert client.answer(stream_id).reset_code is None
    assert client.connection.is_idle


def test_a_body_that_had_filled_its_window_before_its_answer_came_is_reset_after_it() -> None:
    client = HTTP2Client(stream_window_bytes=65_535)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    fill(client, stream_id)
    respond(exchange, b"late")
    answer = client.answer(stream_id)
    assert (bytes(answer.body), answer.has_ended, answer.reset_code) == (b"late", True, NO_ERROR)
    assert client.connection.is_idle


@pytest.mark.parametrize("is_last", [False, True])
def test_a_body_that_fills_its_window_does_not_cut_the_answer_that_is_still_queued(is_last: bool) -> None:
    client = HTTP2Client(stream_window_bytes=100_000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    respond(exchange, bytes(200_000))
    client.take()
    fill(client, stream_id)
    if is_last:
        client.send(headers_frame(stream_id, b"\x00\x01a\x01b"))
    client.send(window_frame(stream_id, 200_000), window_frame(0, 200_000))
    answer = client.answer(stream_id)
    assert (len(answer.body), answer.has_ended) == (200_000, True)
    assert answer.reset_code in (None, NO_ERROR)
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


def test_an_application_may_read_on_while_it_answers() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(method=b"POST", end=False)
    exchange.write(start())
    for number in range(5):
        client.send(data_frame(stream_id, b"%d" % number))
        exchange.write(body(read_body(exchange), more=True))
    client.send(data_frame(stream_id, b"5", end=True))
    exchange.write(body(read_body(exchange)))
    assert (client.answer(stream_id).body, client.answer(stream_id).has_ended) == (b"012345", True)
    assert client.connection.is_idle


def test_an_address_that_has_used_its_memory_gets_no_new_streams() -> None:
    client = HTTP2Client(max_buffered_bytes=2**20)
    client.host.account.buffered_bytes = 2**20
    stream_id = client.request()
    assert client.answer(stream_id).reset_code == 7
    client.host.account.buffered_bytes -= 1
    client.ask()


def test_an_address_that_has_used_its_memory_has_its_uploads_reset() -> None:
    client = HTTP2Client(max_buffered_bytes=2**20, stream_window_bytes=2**22)
    streams = [client.ask(method=b"POST", end=False) for _ in range(2)]
    for _ in range(80):
        client.send(data_frame(streams[0][0], bytes(FRAME_BYTES)))
        if client.answer(streams[0][0]).reset_code is not None:
            break
    assert client.answer(streams[0][0]).reset_code == ENHANCE_YOUR_CALM
    assert client.host.account.buffered_bytes == 0
    client.send(data_frame(streams[1][0], b"fine", end=True))
    assert read_body(streams[1][1]) == b"fine"


def test_the_memory_of_an_address_is_that_of_all_its_connections() -> None:
    first = HTTP2Client(max_buffered_bytes=2**20)
    second = HTTP2Client(account=first.host.account)
    _, exchange = first.ask()
    respond(exchange, bytes(2**20 + 65_535))
    first.take()
    assert second.answer(second.request()).reset_code == 7
    first.connection.lose()
    second.ask()
