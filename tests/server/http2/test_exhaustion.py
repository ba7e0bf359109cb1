"""A client whose address has as much waiting as may: what is refused, what given up, and what served all the same."""

from __future__ import annotations

import pytest

from sage_edge.core.budgets import HEAD_COST_FACTOR
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    REFUSED_STREAM,
    SETTINGS_ACK,
    continuation_frame,
    get_fields,
    headers_frame,
    settings_frame,
)
from tests.kit.protocol_host import body, respond, start

ROOM_BYTES = 2**20


def exhausted_client(**limits: int) -> HTTP2Client:
    """One of an address that others have used up."""
    client = HTTP2Client(max_buffered_bytes=ROOM_BYTES, **limits)
    client.host.account.buffered_bytes = ROOM_BYTES
    return client


def test_requests_are_refused_and_it_is_not_their_clients_fault() -> None:
    client = exhausted_client(max_resets=10)
    for _ in range(100):
        assert client.answer(client.request()).reset_code == REFUSED_STREAM
    assert client.goaway_code() is None
    client.host.account.buffered_bytes = 0
    client.ask()


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
def test_health_is_answered_all_the_same(path: bytes) -> None:
    client = exhausted_client()
    stream_id, exchange = client.ask(path=path)
    respond(exchange, b"ok")
    assert client.answer(stream_id).status == 200


def test_an_answer_of_which_nothing_was_ever_taken_is_given_up() -> None:
    client = HTTP2Client(max_buffered_bytes=ROOM_BYTES)
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 0)))
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(b"x" * 1000, more=True))
    assert client.answer(stream_id).reset_code is None
    client.host.account.buffered_bytes += ROOM_BYTES
    exchange.write(body(b"x" * 1000, more=True))
    assert client.answer(stream_id).reset_code == CANCEL
    assert exchange.is_client_gone
    assert exchange.ending == "stalled"
    assert exchange.passed_on_bytes == 0
    assert client.host.account.buffered_bytes == ROOM_BYTES


def test_an_answer_that_is_being_taken_goes_on() -> None:
    client = HTTP2Client(max_buffered_bytes=ROOM_BYTES)
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(b"x" * 70_000, more=True))
    assert len(client.answer(stream_id).body) == 65_535
    client.host.account.buffered_bytes += ROOM_BYTES
    exchange.write(body(b"x" * 1000))
    client.credit(stream_id, 100_000)
    answer = client.answer(stream_id)
    assert (len(answer.body), answer.has_ended) == (71_000, True)


def test_an_answer_is_waited_for_less_long() -> None:
    client = HTTP2Client(max_buffered_bytes=ROOM_BYTES)
    stream_id, exchange = client.ask()
    respond(exchange, b"x" * 70_000)
    client.take()
    for _ in range(10):
        client.wait(1)
    assert client.answer(stream_id).reset_code is None
    client.host.account.buffered_bytes += ROOM_BYTES
    for _ in range(3):
        client.wait(1)
    assert client.answer(stream_id).reset_code == CANCEL


def test_a_header_block_that_is_not_whole_is_accounted_for() -> None:
    client = HTTP2Client()
    block = client.block(get_fields((b"x", b"y" * 5000)))
    client.connection.receive(headers_frame(1, block[:1000], is_whole=False))
    assert client.host.account.buffered_bytes == HEAD_COST_FACTOR * 1000
    client.connection.receive(continuation_frame(1, block[1000:]))
    assert client.host.account.buffered_bytes == 0
    assert len(client.host.exchanges) == 1


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_header_block_that_is_not_whole_is_forgotten_with_its_connection(is_lost: bool) -> None:
    client = HTTP2Client()
    client.connection.receive(headers_frame(1, b"x" * 1000, is_whole=False) + continuation_frame(1, b"y" * 100)[:50])
    if is_lost:
        client.connection.lose()
    else:
        client.wait(1)
        client.wait(client.host.limits.header_seconds)
        client.wait(1)
        assert client.goaway_code() == ENHANCE_YOUR_CALM
    assert client.host.account.buffered_bytes == 0


def test_a_connection_with_a_header_block_that_is_not_whole_ends_where_there_is_no_room() -> None:
    client = HTTP2Client(max_buffered_bytes=ROOM_BYTES)
    client.host.account.buffered_bytes = ROOM_BYTES - 1000
    client.connection.receive(headers_frame(1, b"x" * 1000, is_whole=False))
    assert client.goaway_code() == ENHANCE_YOUR_CALM
    assert client.host.account.buffered_bytes == ROOM_BYTES - 1000


def test_a_header_block_that_is_not_whole_does_not_cost_the_streams_beside_it() -> None:
    client = HTTP2Client(max_buffered_bytes=ROOM_BYTES)
    stream_id, exchange = client.ask()
    client.host.account.buffered_bytes = ROOM_BYTES
    client.connection.receive(headers_frame(3, b"x" * 1000, is_whole=False))
    assert client.goaway_code() is None
    respond(exchange, b"fine")
    assert client.answer(stream_id).has_ended


def test_streams_beyond_the_limit_are_no_fault_of_a_client_that_does_not_know_it_yet() -> None:
    client = HTTP2Client(is_open=False, max_streams=10, max_resets=20)
    client.send(PREFACE, settings_frame())
    stream_ids = [client.request() for _ in range(100)]
    assert [client.answer(stream_id).reset_code for stream_id in stream_ids] == [None] * 10 + [REFUSED_STREAM] * 90
    assert client.goaway_code() is None
    assert len(client.host.exchanges) == 10
    client.send(SETTINGS_ACK)
    for _ in range(21):
        client.request()
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_client_has_not_for_ever_to_come_to_know_the_limit() -> None:
    client = HTTP2Client(is_open=False, max_streams=1, max_resets=20)
    client.send(PREFACE, settings_frame())
    client.ask()
    client.wait(client.host.limits.header_seconds + 1)
    for _ in range(21):
        client.request()
    assert client.goaway_code() == ENHANCE_YOUR_CALM
