"""Frames that cost more than their address's share of a turn: the rest waits, in its order, and nothing is lost."""

from __future__ import annotations

from sage_edge.core.budgets import HEAD_COST_FACTOR, REQUEST_COST_BYTES, REQUESTS_FACTOR
from sage_edge.server.http2.connection import UNSENT_LIMIT_BYTES
from tests.kit.captured_logs import captured_logs
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    continuation_frame,
    data_frame,
    get_fields,
    goaway_frame,
    headers_frame,
    ping_frame,
    reset_frame,
    window_frame,
)
from tests.kit.protocol_host import read_body, respond


def late_client(**limits: int) -> HTTP2Client:
    """One whose bytes are dear: each frame takes all the time of a turn."""
    client = HTTP2Client(**limits)
    client.host.is_out_of_time = True
    return client


def test_a_frame_is_gone_through_in_each_turn_and_none_is_lost() -> None:
    client = late_client()
    stream_ids = [2 * number + 1 for number in range(5)]
    block = client.block(get_fields())  # the others are of the table, in their order
    blocks = [block, *(client.block(get_fields()) for _ in stream_ids[1:])]
    client.send(*(headers_frame(*each) for each in zip(stream_ids, blocks, strict=True)), ping_frame())
    for number in range(1, 6):
        assert client.connection.requests_in_flight == number
        assert client.host.go_on()
    assert not client.host.go_on()
    assert len(client.host.exchanges) == 5
    client.take()
    assert [ping.flags for ping in client.pings] == [1]
    for exchange in client.host.exchanges:
        respond(exchange)


def test_requests_begin_once_all_that_came_with_them_is_gone_through() -> None:
    client = late_client()
    whole, given_up = client.block(get_fields(method=b"POST")), client.block(get_fields())
    client.send(
        headers_frame(1, whole, end=False), headers_frame(3, given_up), data_frame(1, b"body", end=True), reset_frame(3)
    )
    assert not client.host.exchanges
    while client.host.go_on():
        pass
    (exchange,) = client.host.exchanges  # what was reset in the same breath need not begin
    assert read_body(exchange) == b"body"


def test_requests_of_a_connection_that_is_lost_before_they_begin_are_told_and_begin_never() -> None:
    client = late_client()
    client.send(headers_frame(1, client.block(get_fields())), ping_frame(), ping_frame())
    with captured_logs() as lines:
        client.connection.lose()
        while client.host.go_on():
            pass
    assert not client.host.exchanges
    assert [(line["event"], line["ending"], line["stream"]) for line in lines] == [("request", "client left", 1)]


def test_requests_that_are_yet_to_begin_count_as_those_that_have() -> None:
    client = late_client(max_buffered_bytes=REQUEST_COST_BYTES)
    stream_ids = [2 * number + 1 for number in range(REQUESTS_FACTOR + 1)]
    client.send(*(headers_frame(stream_id, client.block(get_fields())) for stream_id in stream_ids))
    client.host.go_on()
    assert client.host.account.requests == 2
    while client.host.go_on():
        pass
    assert client.answer(stream_ids[-1]).reset_code == REFUSED_STREAM
    assert len(client.host.exchanges) == REQUESTS_FACTOR
    assert client.host.account.requests == client.host.account.buffered_bytes == 0, "whoever runs them counts them"


def test_a_request_that_is_reset_before_it_begins_does_not_wait_for_the_others_to_be_told_of() -> None:
    client = late_client()
    with captured_logs() as lines:
        client.send(headers_frame(1, client.block(get_fields())), reset_frame(1), *[ping_frame()] * 3)
        assert client.host.account.requests == 1
        client.host.go_on()
    assert [(line["event"], line["stream"]) for line in lines] == [("request", 1)]
    assert client.host.account.requests == 0
    assert client.host.go_on()


def test_what_one_read_is_answered_with_waits_for_its_client_to_take_it() -> None:
    client = HTTP2Client(max_pings=10**6)
    client.take()
    client.connection.receive(ping_frame() * 10_000)
    assert not client.connection.may_read
    assert not client.host.postponed
    pieces = []
    while piece := client.connection.take_output(2**20):
        pieces.append(piece)
    assert max(map(len, pieces)) < UNSENT_LIMIT_BYTES + len(ping_frame())
    assert b"".join(pieces) == ping_frame(is_ack=True) * 10_000
    assert client.connection.may_read


def test_a_client_that_leaves_is_still_served_what_it_asked_for_in_the_same_breath() -> None:
    client = late_client()
    client.send(goaway_frame(), headers_frame(1, client.block(get_fields())), ping_frame())
    while client.host.go_on():
        client.take()
    (exchange,) = client.host.exchanges
    respond(exchange, b"ok")
    assert client.answer(1).body == b"ok"
    assert client.connection.wants_close


def test_what_comes_behind_what_waits_keeps_its_place() -> None:
    client = late_client()
    block = client.block(get_fields(method=b"POST"))
    whole = headers_frame(1, block, end=False) + data_frame(1, b"one ") + data_frame(1, b"two", end=True)
    for byte in whole:
        client.connection.receive(bytes([byte]))
    while client.host.go_on():
        pass
    (exchange,) = client.host.exchanges
    assert read_body(exchange) == b"one two"


def test_what_waits_is_accounted_for() -> None:
    client = late_client()
    client.send(ping_frame(), *[ping_frame()] * 10)
    account = client.host.account
    assert account.buffered_bytes == HEAD_COST_FACTOR * 10 * len(ping_frame())
    client.host.go_on()
    assert account.buffered_bytes == HEAD_COST_FACTOR * 9 * len(ping_frame())
    client.connection.lose()
    assert account.buffered_bytes == 0
    client.host.go_on()
    assert not client.host.go_on()


def test_a_header_block_waits_as_other_frames_do() -> None:
    client = late_client()
    block = client.block(get_fields((b"x", b"y" * 100)))
    client.send(
        headers_frame(1, block[:50], is_whole=False),
        continuation_frame(1, block[50:90], is_last=False),
        continuation_frame(1, block[90:]),
    )
    assert not client.host.exchanges
    client.host.go_on()
    client.host.go_on()
    assert len(client.host.exchanges) == 1
    assert not client.host.go_on()
    assert client.host.account.buffered_bytes == 0


def test_nothing_behind_a_fault_is_gone_through() -> None:
    client = late_client()
    client.connection.receive(ping_frame() + window_frame(0, 0) + ping_frame() * 5)
    while client.host.go_on():
        pass
    assert client.goaway_code() == PROTOCOL_ERROR
    assert len(client.pings) == 1
    assert client.host.account.buffered_bytes == 0


def test_a_drain_serves_what_waits() -> None:
    client = late_client()
    stream_ids = (1, 3)
    client.send(*(headers_frame(stream_id, client.block(get_fields())) for stream_id in stream_ids))
    client.connection.drain()
    client.take()
    client.send(ping_frame(b"draining", is_ack=True))
    while client.host.go_on():
        pass
    for exchange in client.host.exchanges:
        respond(exchange, b"ok")
        client.connection.end(exchange)
    assert [client.answer(stream_id).body for stream_id in stream_ids] == [b"ok", b"ok"]
    assert client.goaways[-1][0] == 3
    assert client.connection.wants_close
