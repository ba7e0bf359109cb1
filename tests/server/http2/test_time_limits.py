"""Every wait has its limit, and no stream has one on its length."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    PREFACE,
    SETTINGS_TIMEOUT,
    continuation_frame,
    data_frame,
    get_fields,
    headers_frame,
    ping_frame,
    plain_block,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import body, read_body, respond, start

BLOCK = plain_block(get_fields())


def pass_time(client: HTTP2Client, seconds: int) -> None:
    """Let time pass as it does: a look each second."""
    for _ in range(seconds):
        client.wait(1)


# The preface and header blocks.


@pytest.mark.parametrize("begun", [b"", PREFACE[:10], PREFACE, PREFACE + settings_frame()[:5]])
def test_a_client_that_does_not_complete_its_preface_is_ended(begun: bytes) -> None:
    client = HTTP2Client(is_open=False, header_seconds=15)
    client.connection.receive(begun)
    pass_time(client, 15)
    assert client.goaway_code() is None
    client.wait(1)
    assert client.goaway_code() == SETTINGS_TIMEOUT


def test_a_preface_in_time_is_no_request_in_time() -> None:
    client = HTTP2Client(header_seconds=15, idle_seconds=75)
    pass_time(client, 16)
    assert client.goaway_code() is None


def test_a_header_block_that_does_not_end_ends_the_connection() -> None:
    client = HTTP2Client(header_seconds=15)
    _, exchange = client.ask()
    client.send(headers_frame(3, BLOCK[:3], is_whole=False))
    for _ in range(16):
        assert client.goaway_code() is None
        client.wait(1)
        client.connection.receive(continuation_frame(3, b"", is_last=False))
    client.wait(1)
    assert client.goaway_code() == ENHANCE_YOUR_CALM
    assert exchange.is_client_gone


def test_each_header_block_has_its_own_time() -> None:
    client = HTTP2Client(header_seconds=15)
    client.send(headers_frame(1, BLOCK, is_whole=False))
    pass_time(client, 10)
    client.send(continuation_frame(1), headers_frame(3, BLOCK, is_whole=False))
    pass_time(client, 10)
    assert client.goaway_code() is None
    client.send(continuation_frame(3))
    assert len(client.host.exchanges) == 2


# Idle connections.


def test_an_idle_connection_is_ended() -> None:
    client = HTTP2Client(idle_seconds=75)
    pass_time(client, 75)
    assert client.goaway_code() is None
    client.wait(1)
    assert client.goaway_code() == NO_ERROR
    assert client.goaways == [(0, NO_ERROR)]


def test_pings_do_not_keep_a_connection() -> None:
    client = HTTP2Client(idle_seconds=75)
    for _ in range(76):
        client.wait(1)
        client.send(ping_frame())
    assert client.goaway_code() == NO_ERROR


def test_a_connection_is_idle_since_its_last_stream_ended() -> None:
    client = HTTP2Client(idle_seconds=75)
    stream_id, exchange = client.ask()
    pass_time(client, 200)
    assert client.goaway_code() is None
    respond(exchange, b"slow")
    assert client.answer(stream_id).has_ended
    pass_time(client, 75)
    assert client.goaway_code() is None
    client.wait(1)
    assert client.goaway_code() == NO_ERROR


def test_the_shell_is_woken_when_time_ends_a_connection() -> None:
    client = HTTP2Client(idle_seconds=75)
    before = client.host.wakes
    client.wait(1)
    assert client.host.wakes == before
    client.wait(75)
    assert client.host.wakes == before + 1


# Bodies.


def test_a_body_that_does_not_come_is_given_up() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    other, other_exchange = client.ask()
    pass_time(client, 60)
    assert client.answer(stream_id).reset_code is None
    client.wait(1)
    assert client.answer(stream_id).reset_code == CANCEL
    assert exchange.is_abandoned
    respond(other_exchange, b"fine")
    assert client.answer(other).body == b"fine"


def test_a_body_may_come_slowly() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    for _ in range(10):
        pass_time(client, 59)
        client.send(data_frame(stream_id, b"x"))
        read_body(exchange)
    assert client.answer(stream_id).reset_code is None


def test_a_body_is_not_awaited_while_the_application_does_not_read() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = client.ask(body=b"unread", end=False)
    pass_time(client, 600)
    assert client.answer(stream_id).reset_code is None
    read_body(exchange)
    pass_time(client, 59)
    assert client.answer(stream_id).reset_code is None
    pass_time(client, 2)
    assert client.answer(stream_id).reset_code == CANCEL


def test_an_answer_that_has_begun_is_not_cut_for_a_body_that_does_not_come() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    exchange.write(start())
    for _ in range(10):
        exchange.write(body(b"data: token\n\n", more=True))
        client.take()
        pass_time(client, 59)
    assert (client.answer(stream_id).body.count(b"token"), client.answer(stream_id).reset_code) == (10, None)
    exchange.write(body())
    assert client.answer(stream_id).has_ended


def test_a_body_that_nobody_waits_for_any_more_is_given_up_without_reproach() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    respond(exchange, b"early")
    assert client.answer(stream_id).has_ended
    pass_time(client, 61)
    assert client.answer(stream_id).reset_code == NO_ERROR
    assert client.connection.is_idle


def test_a_late_answer_leaves_time_for_the_end_of_the_body() -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = client.ask(body=b"unread", end=False)
    pass_time(client, 600)
    respond(exchange, b"late")
    assert client.answer(stream_id).has_ended
    pass_time(client, 59)
    assert client.answer(stream_id).reset_code is None
    client.send(data_frame(stream_id, b"", end=True))
    assert client.answer(stream_id).reset_code is None
    assert client.connection.is_idle


def test_a_body_that_does_not_come_does_not_cut_the_answer_that_is_still_queued() -> None:
    client = HTTP2Client(body_seconds=60, stall_seconds=600)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    respond(exchange, bytes(200_000))
    for _ in range(20):
        pass_time(client, 10)
        client.credit(stream_id, 8000)
        client.take()
    assert (len(client.answer(stream_id).body), client.answer(stream_id).has_ended) == (200_000, True)


def test_more_streams_than_the_budget_of_resets_may_be_late_at_once() -> None:
    client = HTTP2Client(body_seconds=60, max_resets=5)
    exchanges = [client.ask(method=b"POST", end=False)[1] for _ in range(10)]
    client.wait(61)
    client.take()
    assert all(exchange.is_client_gone for exchange in exchanges)


# Clients that do not read.


def test_a_client_that_takes_nothing_has_its_stream_reset() -> None:
    client = HTTP2Client(stall_seconds=60)
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(100_000), more=True))
    client.take()
    pass_time(client, 61)
    assert client.answer(stream_id).reset_code is None
    client.wait(1)
    assert client.answer(stream_id).reset_code == CANCEL
    assert exchange.is_abandoned
    assert client.host.account.buffered_bytes == 0


def test_a_client_that_takes_a_byte_at_a_time_takes_nothing() -> None:
    client = HTTP2Client(stall_seconds=60)
    stream_id, exchange = client.ask()
    respond(exchange, bytes(100_000))
    client.take()
    for _ in range(62):
        client.wait(1)
        client.credit(stream_id, 1)
        client.take()
    assert client.answer(stream_id).reset_code == CANCEL


def test_a_client_that_takes_its_answer_slowly_has_it_all() -> None:
    client = HTTP2Client(stall_seconds=60)
    stream_id, exchange = client.ask()
    respond(exchange, bytes(200_000))
    client.take()
    while not client.answer(stream_id).has_ended:
        client.wait(1)
        client.credit(stream_id, 100)
        client.take()
    assert client.host.now > 1000 + 1000


def test_a_stream_of_events_may_last_as_long_as_it_likes() -> None:
    client = HTTP2Client(stall_seconds=60, idle_seconds=75, body_seconds=60)
    stream_id, exchange = client.ask()
    exchange.write(start())
    for _ in range(100):
        pass_time(client, 70)
        exchange.write(body(b"data: token\n\n", more=True))
        client.take()
        client.send(window_frame(stream_id, 13), window_frame(0, 13))
    exchange.write(body())
    assert client.answer(stream_id).has_ended
    assert len(client.answer(stream_id).body) == 1300


def test_an_application_may_take_its_time() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    pass_time(client, 3600)
    respond(exchange, b"42")
    assert client.answer(stream_id).body == b"42"
