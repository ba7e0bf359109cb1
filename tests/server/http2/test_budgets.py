"""What costs a client little and the server much is counted (RFC 9113 section 10.5).

Up to the budget everything is served; one more, and the connection ends.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sage_edge.server.http2.budgets import REFUSALS_FACTOR
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    ENHANCE_YOUR_CALM,
    PREFACE,
    REFUSED_STREAM,
    SETTINGS_ACK,
    data_frame,
    get_fields,
    goaway_frame,
    headers_frame,
    ping_frame,
    plain_block,
    priority_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import body, respond, start

BLOCK = plain_block(get_fields())
LIMIT = 20
Cost = Callable[[HTTP2Client, int], None]


def send_each(make: Callable[[int], bytes]) -> Cost:
    """Send a frame on stream 1."""
    return lambda client, _: client.send(make(1))


def reset_stream(client: HTTP2Client, _: int) -> None:
    """Rapid reset (CVE-2023-44487)."""
    stream_id, exchange = client.ask()
    client.send(reset_frame(stream_id))
    client.connection.end(exchange)


def reset_in_one_breath(client: HTTP2Client, _: int) -> None:
    stream_id, client.next_id = client.next_id, client.next_id + 2
    client.send(headers_frame(stream_id, BLOCK), reset_frame(stream_id))


def make_server_reset(provoke: Callable[[int], bytes]) -> Cost:
    """Have the server reset the stream (CVE-2025-8671, "made you reset")."""

    def cost(client: HTTP2Client, _: int) -> None:
        stream_id, exchange = client.ask()
        client.send(provoke(stream_id))
        client.connection.end(exchange)
        client.take()

    return cost


def malformed(client: HTTP2Client, _: int) -> None:
    client.request(path=None)


def depends_on_itself(client: HTTP2Client, _: int) -> None:
    stream_id, client.next_id = client.next_id, client.next_id + 2
    client.send(headers_frame(stream_id, BLOCK, depends_on=stream_id))


def too_many_streams(client: HTTP2Client, _: int) -> None:
    while len(client.host.exchanges) <= client.host.limits.max_streams:  # one has ended
        client.ask()
    client.request()


def data_after_reset(client: HTTP2Client, number: int) -> None:
    """Each reset of the client's counts too, so every other one is the server's."""
    if number % 2:
        client.send(data_frame(client.next_id - 2, b"x"))
        return
    stream_id, exchange = client.ask(method=b"POST", end=False)
    client.send(reset_frame(stream_id))
    client.connection.end(exchange)


def wrong_length(client: HTTP2Client, _: int) -> None:
    _, exchange = client.ask((b"content-length", b"1"), method=b"POST", body=b"", end=False)
    client.send(data_frame(client.next_id - 2, b"ab"))
    client.connection.end(exchange)


COSTS: dict[str, tuple[str, Cost]] = {
    "RST_STREAM": ("max_resets", reset_stream),
    "RST_STREAM with its request": ("max_resets", reset_in_one_breath),
    "RST_STREAM on one stream": ("max_resets", send_each(reset_frame)),
    "a WINDOW_UPDATE of 0": ("max_resets", make_server_reset(lambda stream_id: window_frame(stream_id, 0))),
    "too large a window": ("max_resets", make_server_reset(lambda stream_id: window_frame(stream_id, 2**31 - 1))),
    "DATA after the end": ("max_resets", make_server_reset(lambda stream_id: data_frame(stream_id, b"x"))),
    "HEADERS after the end": ("max_resets", make_server_reset(lambda stream_id: headers_frame(stream_id, BLOCK))),
    "DATA after a reset": ("max_resets", data_after_reset),
    "malformed requests": ("max_resets", malformed),
    "bodies of another length": ("max_resets", wrong_length),
    "requests that depend on themselves": ("max_resets", depends_on_itself),
    "refused streams": ("max_resets", too_many_streams),
    "PING": ("max_pings", send_each(lambda _: ping_frame())),
    "PING ACK": ("max_pings", send_each(lambda _: ping_frame(is_ack=True))),
    "GOAWAY": ("max_pings", send_each(lambda _: goaway_frame())),
    "PRIORITY": ("max_priorities", send_each(priority_frame)),
    "PRIORITY on other streams": ("max_priorities", lambda client, number: client.send(priority_frame(2 * number + 3))),
    "empty DATA": ("max_empty_frames", send_each(data_frame)),
    "DATA of nothing but padding": ("max_empty_frames", send_each(lambda _: data_frame(1, b"", pad=200))),
    "WINDOW_UPDATE": ("max_window_updates", send_each(lambda _: window_frame(1, 1))),
    "WINDOW_UPDATE on the connection": ("max_window_updates", send_each(lambda _: window_frame(0, 1))),
    "WINDOW_UPDATE on a closed stream": ("max_window_updates", send_each(lambda _: window_frame(3, 1))),
}


REFUSED: dict[str, Callable[[HTTP2Client], object]] = {
    "paths": lambda client: client.request(path=b"/a b"),
    "HEAD": lambda client: client.request(path=b"/a b", method=b"HEAD"),
    "CONNECT": lambda client: client.request(method=b"CONNECT", scheme=None, path=None),
    "large bodies": lambda client: client.request((b"content-length", b"1" * 15), method=b"POST"),
    "large heads": lambda client: client.request(*[(b"x", b"y")] * 101),
    "bad handshakes": lambda client: client.request(
        (b"sec-websocket-version", b"12"), method=b"CONNECT", protocol=b"websocket", end=False
    ),
    "bodies of a WebSocket that is not open": lambda client: client.send(
        data_frame(client.request(method=b"CONNECT", protocol=b"websocket", end=False), b"x")
    ),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_requests_that_are_refused_with_an_answer_have_a_larger_budget(
    refused: Callable[[HTTP2Client], object],
) -> None:
    client = HTTP2Client(max_resets=2, max_streams=1000)
    for _ in range(2 * REFUSALS_FACTOR):
        refused(client)
        assert client.goaway_code() is None
    refused(client)
    assert client.goaway_code() == ENHANCE_YOUR_CALM
    assert all(exchange.is_client_gone for exchange in client.host.exchanges)


def test_streams_beyond_a_limit_that_the_client_cannot_know_have_the_same() -> None:
    client = HTTP2Client(is_open=False, max_streams=1, max_resets=2)
    client.send(PREFACE, settings_frame())
    for _ in range(1 + 2 * REFUSALS_FACTOR):
        client.request()
    assert client.goaway_code() is None
    client.request()
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_what_an_application_answers_spends_nothing_whatever_it_says() -> None:
    client = HTTP2Client(max_resets=1)
    for _ in range(10 * REFUSALS_FACTOR):
        stream_id, exchange = client.ask()
        respond(exchange, b"no", status=404)
        assert client.answer(stream_id).status == 404
    assert client.goaway_code() is None


@pytest.mark.parametrize(("limit", "cost"), COSTS.values(), ids=COSTS)
def test_a_budget_may_be_used_up_and_not_exceeded(limit: str, cost: Cost) -> None:
    client = HTTP2Client(**{limit: LIMIT}, max_streams=LIMIT + 5)
    kept, exchange = client.ask(method=b"POST", end=False)
    _, other = client.ask()
    respond(other)
    client.connection.end(other)
    for number in range(LIMIT):
        cost(client, number)
        assert client.goaway_code() is None
    if not exchange.is_client_gone:
        exchange.write(start())
        assert client.answer(kept).status == 200
    cost(client, LIMIT)
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_reset_that_crosses_the_end_of_an_answer_is_free_once() -> None:
    client = HTTP2Client(max_resets=LIMIT)
    for _ in range(3 * LIMIT):
        stream_id, exchange = client.ask()
        respond(exchange)
        client.connection.end(exchange)
        client.send(reset_frame(stream_id))
    assert client.goaway_code() is None
    client.send(*[reset_frame(stream_id)] * LIMIT)
    assert client.goaway_code() is None
    client.send(reset_frame(stream_id))
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_settings_have_a_budget() -> None:
    client = HTTP2Client(max_settings=LIMIT)  # one was spent on the first
    client.send(*[settings_frame()] * (LIMIT - 1))
    assert client.goaway_code() is None
    assert client.acks == LIMIT
    client.send(settings_frame())
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_acknowledgements_of_settings_that_were_never_sent_have_a_budget() -> None:
    client = HTTP2Client(max_settings=LIMIT)
    client.send(*[SETTINGS_ACK] * (LIMIT - 1))
    assert client.goaway_code() is None
    client.send(SETTINGS_ACK)
    assert client.goaway_code() == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("seconds", [1, 5, 10])
def test_a_budget_fills_again(seconds: int) -> None:
    client = HTTP2Client(max_pings=LIMIT, budget_seconds=10)
    client.send(*[ping_frame()] * LIMIT)
    client.wait(seconds)
    client.send(*[ping_frame()] * (LIMIT * seconds // 10))
    assert client.goaway_code() is None
    client.send(ping_frame())
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_budget_never_holds_more_than_its_limit() -> None:
    client = HTTP2Client(max_pings=LIMIT, budget_seconds=10)
    client.wait(60)
    client.send(*[ping_frame()] * (LIMIT + 1))
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_client_that_credits_what_it_gets_spends_nothing() -> None:
    client = HTTP2Client(max_window_updates=LIMIT)
    stream_id, exchange = client.ask()
    respond(exchange, bytes(10_000_000))
    while not client.answer(stream_id).has_ended:
        for one in client.take(is_once=True) or [None]:
            if one is None or one.payload:
                client.credit(stream_id, 16_384)
    assert client.goaway_code() is None


def test_a_client_that_has_rested_credits_what_came_meanwhile_in_one_breath() -> None:
    client = HTTP2Client(max_window_updates=LIMIT)
    stream_id, exchange = client.ask()
    exchange.write(start())
    for _ in range(20 * LIMIT):
        exchange.write(body(b"x", more=True))
        client.take()
    client.send(*[window_frame(stream_id, 1), window_frame(0, 1)] * (20 * LIMIT))
    assert client.goaway_code() is None
    client.send(*[window_frame(0, 1)] * LIMIT)
    assert client.goaway_code() is None
    client.send(window_frame(0, 1))
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_the_end_of_a_body_is_no_empty_frame() -> None:
    client = HTTP2Client(max_empty_frames=2)
    for _ in range(10):
        stream_id, exchange = client.ask(body=b"x", end=False)
        client.send(data_frame(stream_id, b"", end=True))
        respond(exchange)
        client.take()
    assert client.goaway_code() is None


def test_ordinary_traffic_spends_nothing() -> None:
    names = ("resets", "pings", "settings", "priorities", "empty_frames", "window_updates")
    client = HTTP2Client(**{f"max_{name}": 1 for name in names})
    for _ in range(100):
        stream_id, exchange = client.ask((b"content-length", b"3"), body=b"abc")
        respond(exchange, b"fine")
        client.connection.end(exchange)
        assert client.answer(stream_id).body == b"fine"
    assert client.goaway_code() is None


def test_an_application_that_fails_spends_nothing_of_its_clients() -> None:
    client = HTTP2Client(max_resets=1)
    for _ in range(10):
        stream_id, exchange = client.ask()
        client.connection.end(exchange)
        assert client.answer(stream_id).reset_code is not None
    assert client.goaway_code() is None


def test_streams_refused_in_a_drain_have_a_budget() -> None:
    client = HTTP2Client(max_resets=LIMIT)
    client.ask()
    client.connection.drain()
    client.take()
    client.send(ping_frame(client.pings[-1].payload, is_ack=True))
    for _ in range(LIMIT):
        assert client.answer(client.request()).reset_code == REFUSED_STREAM
    client.request()
    assert client.goaway_code() in (ENHANCE_YOUR_CALM, None)
