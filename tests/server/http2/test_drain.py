"""The end of a connection: the server's, the client's, the idle one's (RFC 9113 section 6.8)."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    DATA,
    GOAWAY,
    LARGEST_WINDOW_BYTES,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    data_frame,
    frame,
    goaway_frame,
    ping_frame,
    reset_frame,
    settings_frame,
)
from tests.kit.protocol_host import body, respond, start


def acknowledge(client: HTTP2Client) -> None:
    """Answer the server's PING."""
    client.send(ping_frame(client.pings[-1].payload, is_ack=True))


def test_a_drain_is_announced_and_completed_a_round_trip_later() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    client.connection.drain()
    assert sorted(one.kind for one in client.take()) == [PING, GOAWAY]
    assert client.goaways == [(LARGEST_WINDOW_BYTES, NO_ERROR)]
    late, late_exchange = client.ask()  # it was on its way
    acknowledge(client)
    client.take()
    assert client.goaways[1:] == [(late, NO_ERROR)]
    refused = client.request()
    assert client.answer(refused).reset_code == REFUSED_STREAM
    assert not client.connection.wants_close
    respond(exchange, b"one")
    client.connection.end(exchange)
    assert client.answer(stream_id).body == b"one"
    assert not client.connection.wants_close
    respond(late_exchange, b"two")
    assert client.answer(late).body == b"two"
    assert client.connection.wants_close
    assert len(client.goaways) == 2


def test_a_client_that_does_not_answer_the_ping_is_not_waited_for() -> None:
    client = HTTP2Client()
    client.ask()
    client.connection.drain()
    client.wait(0.9)
    client.take()
    assert len(client.goaways) == 1
    client.ask()
    client.wait(0.2)
    client.take()
    assert client.goaways[1:] == [(3, NO_ERROR)]
    assert not client.connection.wants_close


def test_an_idle_connection_ends_after_the_round_trip() -> None:
    client = HTTP2Client()
    client.connection.drain()
    client.take()
    assert not client.connection.wants_close
    acknowledge(client)
    assert client.connection.wants_close
    client.take()
    assert client.goaways == [(LARGEST_WINDOW_BYTES, NO_ERROR), (0, NO_ERROR)]


def test_a_client_that_has_said_nothing_yet_is_waited_for_as_long() -> None:
    client = HTTP2Client(is_open=False)
    client.connection.drain()
    assert client.take()[0].kind == SETTINGS
    client.wait(0.9)
    assert not client.connection.wants_close
    client.wait(0.2)
    assert client.connection.wants_close
    client.take()
    assert client.goaways == [(LARGEST_WINDOW_BYTES, NO_ERROR), (0, NO_ERROR)]


def test_the_first_requests_of_a_connection_that_is_just_opened_are_served() -> None:
    client = HTTP2Client(is_open=False)
    client.connection.drain()
    client.send(PREFACE, settings_frame())
    stream_id, exchange = client.ask()
    respond(exchange)
    client.take()
    acknowledge(client)
    client.take()
    assert client.goaways[-1] == (stream_id, NO_ERROR)
    assert client.answer(stream_id).status == 200


def test_a_drain_is_announced_once() -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    for _ in range(2):
        client.connection.drain()
    client.take()
    acknowledge(client)
    client.connection.drain()
    client.take()
    assert len(client.goaways) == 2
    respond(exchange)
    client.take()
    client.connection.drain()
    assert client.take() == []


def test_the_answer_to_another_ping_ends_the_round_trip_no_earlier_than_goaway_was_sent() -> None:
    client = HTTP2Client()
    client.ask()
    client.send(ping_frame(b"whatever", is_ack=True))
    client.connection.drain()
    client.take()
    assert len(client.goaways) == 1


def test_uploads_go_on_during_a_drain() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.connection.drain()
    client.take()
    acknowledge(client)
    for _ in range(100):
        client.send(data_frame(stream_id, bytes(10_000)))
        exchange.consume(10_000)
        client.take()
    client.send(data_frame(stream_id, b"", end=True))
    respond(exchange, b"done")
    assert client.answer(stream_id).body == b"done"
    assert client.connection.wants_close


def test_an_answer_that_waits_for_its_window_is_finished_during_a_drain() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, bytes(100_000))
    client.connection.end(exchange)
    client.connection.drain()
    client.take()
    acknowledge(client)
    client.take()
    assert not client.connection.wants_close
    client.credit(stream_id, 100_000)
    assert client.answer(stream_id).has_ended
    assert client.connection.wants_close


def test_a_drain_ends_with_the_last_stream_however_that_ends() -> None:
    client = HTTP2Client()
    first, _ = client.ask()
    _, second = client.ask()
    client.connection.drain()
    client.take()
    acknowledge(client)
    client.send(reset_frame(first))
    client.connection.end(second)
    client.take()
    assert client.connection.wants_close


def test_a_later_goaway_never_names_a_later_stream() -> None:
    client = HTTP2Client()
    client.ask()
    client.connection.drain()
    client.take()
    acknowledge(client)
    client.take()
    client.request()
    client.send(frame(DATA, 0, 0))
    assert client.goaway_code() == PROTOCOL_ERROR
    assert client.goaways[-1][0] == 1


def test_refused_streams_are_not_served_however_much_they_send() -> None:
    client = HTTP2Client()
    client.ask()
    client.connection.drain()
    client.take()
    acknowledge(client)
    late = client.request(body=b"x" * 1000, end=False)
    client.send(data_frame(late, b"more", end=True))
    assert client.answer(late).reset_code == REFUSED_STREAM
    assert len(client.host.exchanges) == 1
    assert client.goaway_code() is None


@pytest.mark.parametrize("code", [NO_ERROR, PROTOCOL_ERROR])
def test_a_client_that_leaves_gets_the_answers_it_waits_for(code: int) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start())
    client.send(goaway_frame(code))
    assert not exchange.is_client_gone
    assert not client.connection.wants_close
    exchange.write(body(b"complete"))
    assert (client.answer(stream_id).body, client.answer(stream_id).has_ended) == (b"complete", True)
    assert client.connection.wants_close


def test_a_client_that_leaves_in_the_breath_of_its_request_is_served() -> None:
    client = HTTP2Client()
    block = client.block([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a.test")])
    client.send(frame(1, 0x05, 1, block), goaway_frame())
    assert not client.connection.wants_close
    respond(client.host.exchanges[0], b"fine")
    assert client.answer(1).body == b"fine"
    assert client.connection.wants_close


@pytest.mark.parametrize("is_announced", [False, True])
def test_a_drain_does_not_wait_for_a_body_whose_request_is_answered(is_announced: bool) -> None:
    client = HTTP2Client(body_seconds=60)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.connection.drain()
    client.take()
    if is_announced:
        acknowledge(client)
        client.take()
    respond(exchange, b"no such path", status=404)
    client.connection.end(exchange)
    assert client.answer(stream_id).has_ended
    if not is_announced:
        assert not client.connection.wants_close
        acknowledge(client)
    assert client.connection.wants_close


def test_a_client_that_leaves_idle_is_let_go() -> None:
    client = HTTP2Client()
    before = client.host.wakes
    client.send(goaway_frame())
    assert client.connection.wants_close
    assert client.host.wakes > before


def test_a_client_that_leaves_may_still_reset_and_credit() -> None:
    client = HTTP2Client()
    first, cut = client.ask()
    second, exchange = client.ask()
    client.send(goaway_frame())
    respond(exchange, bytes(100_000))
    client.take()
    client.send(reset_frame(first))
    assert cut.is_client_gone
    client.credit(second, 100_000)
    assert client.answer(second).has_ended
    assert client.connection.wants_close
