"""Bytes that cost more than their address's share of a turn: the rest waits, in its order, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sage_edge.app.exchange import HIGH_WATER_BYTES, Exchange
from sage_edge.core.budgets import ClientAccount
from sage_edge.core.exchange import Cause
from sage_edge.server.fairness import SHARE_SECONDS, Fairness, Share
from sage_edge.server.http1.chunked import MOST_CHUNKS
from sage_edge.server.http1.connection import HTTP1Connection
from sage_edge.server.postponed_work import PostponedWork
from sage_edge.server.websocket import DECODED_BYTES, LAST_MESSAGES_BYTES, PATIENCE_SECONDS
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    data_frame,
    reset_frame,
    window_frame,
)
from tests.kit.protocol_host import FakeHost, default_limits, read_body, receive, respond
from tests.kit.websocket_session import frame

PING, PONG, EMPTY_FRAGMENT = frame(0x89), frame(0x8A), frame(0x00)
CLOSE = frame(0x88, (1000).to_bytes(2, "big"))
MANY = 4 * DECODED_BYTES // len(PING)


# In turns.


class Clock:
    """What work takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_share_is_over_once_the_address_has_had_it_on_whichever_connection() -> None:
    clock, fairness, account = Clock(), Fairness(), ClientAccount(1)
    first, second = (Share(fairness, account, clock) for _ in range(2))
    other = Share(fairness, ClientAccount(1), clock)
    assert not first.has_time(), "it is not its turn"
    await first.begin()
    assert first.has_time()
    clock.now += SHARE_SECONDS / 2
    first.end()
    assert not first.has_time()
    await second.begin()
    clock.now += SHARE_SECONDS / 4
    assert second.has_time()
    clock.now += SHARE_SECONDS / 2
    assert not second.has_time()
    second.end()
    await other.begin()
    assert other.has_time()


async def test_between_two_steps_others_have_their_turn() -> None:
    clock, fairness, account = Clock(), Fairness(), ClientAccount(1)
    work = PostponedWork(Share(fairness, account, clock))
    other = Share(fairness, ClientAccount(1), clock)
    done: list[str] = []

    def step() -> None:
        clock.now += 2 * SHARE_SECONDS
        done.append("step")
        if done.count("step") < 5:
            assert not work.add(step), "it is run already"

    async def serve_another() -> None:
        while done.count("step") < 5:
            await other.begin()
            done.append("other")
            other.end()
            await trio.lowlevel.checkpoint()

    assert work.add(step)
    assert not work.add(step)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fairness.run)
        nursery.start_soon(work.run)
        nursery.start_soon(serve_another)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert work.is_empty
    assert done.count("step") == 5, "each once"
    assert "step step" not in " ".join(done)
    assert work.add(step), "it is to be run again"


# Over HTTP/1.1.


def test_chunks_of_a_byte_wait() -> None:
    host = FakeHost(default_limits())
    connection = HTTP1Connection(host)
    connection.receive(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    (exchange,) = host.exchanges
    host.is_out_of_time = True
    connection.receive(b"1\r\nx\r\n" * (3 * MOST_CHUNKS) + b"0\r\n\r\n")
    assert exchange.received_bytes == MOST_CHUNKS
    while host.go_on():
        pass
    assert read_body(exchange) == b"x" * (3 * MOST_CHUNKS)
    respond(exchange)
    assert connection.take_output(65_536).startswith(b"HTTP/1.1 200 ")
    assert connection.is_idle


@pytest.mark.parametrize(
    "body", ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_requests_that_are_here_whole_are_all_answered_though_nobody_has_read_their_bodies(body: str) -> None:
    host = FakeHost(default_limits())
    host.is_out_of_time = True  # as it is outside of turns, where an answer makes room for the next request
    connection = HTTP1Connection(host)
    connection.receive(f"POST / HTTP/1.1\r\nhost: a\r\n{body}".encode() * 3)
    answers = b""
    for number in range(3):
        respond(host.exchanges[number])
        answers += connection.take_output(65_536)
    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert b"connection: close" not in answers
    assert not connection.wants_close


# Of a WebSocket, over either.

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Opened:
    """A WebSocket that is open, and whose time is up."""

    def __init__(self, protocol: str) -> None:
        self.send: Callable[[bytes], None]
        if protocol == "2":
            client = HTTP2Client()
            stream_id, exchange = client.ask(method=b"CONNECT", protocol=b"websocket", path=b"/chat", end=False)
            client.send(window_frame(0, 2**20), window_frame(stream_id, 2**20))
            self.host, self.connection = client.host, client.connection
            self.send = lambda data: self.connection.receive(
                b"".join(data_frame(stream_id, data[start : start + 16_384]) for start in range(0, len(data), 16_384))
            )
            self.end = lambda: self.connection.receive(data_frame(stream_id, end=True))
            self.reset = lambda: self.connection.receive(reset_frame(stream_id))
        else:
            self.host = FakeHost(default_limits())
            self.connection = HTTP1Connection(self.host)
            self.connection.receive(HANDSHAKE)
            (exchange,) = self.host.exchanges
            self.send = self.connection.receive
            self.end = self.reset = self.connection.end_input
        self.exchange: Exchange = exchange
        assert receive(exchange) == {"type": "websocket.connect"}
        exchange.write({"type": "websocket.accept"})
        self.host.is_out_of_time = True

    def wait(self, seconds: float) -> None:
        self.host.now += seconds
        self.connection.check_time(self.host.now)

    def go_on_to_the_end(self) -> None:
        self.host.is_out_of_time = False
        while self.host.go_on():
            pass

    def messages(self) -> list[object]:
        """What the application gets, as far as it has come; of a disconnect its code."""
        got: list[object] = []
        while (message := receive(self.exchange)) is not None:
            got.append(message.get("text") or message.get("code"))
            if message["type"] == "websocket.disconnect":
                break
        return got


def said(*texts: bytes) -> bytes:
    return b"".join(frame(0x81, text) for text in texts)


@pytest.fixture(params=["1.1", "2"])
def opened(request: pytest.FixtureRequest) -> Opened:
    return Opened(request.param)


@pytest.mark.parametrize("nothing", [PING, PONG, frame(0x01) + EMPTY_FRAGMENT * MANY + frame(0x80)])
def test_frames_that_say_nothing_wait_and_what_is_behind_them_comes(opened: Opened, nothing: bytes) -> None:
    opened.send(nothing * (MANY if len(nothing) < 10 else 1) + said(b"one", b"two"))
    assert opened.messages() == []
    opened.go_on_to_the_end()
    assert [text for text in opened.messages() if text] == ["one", "two"]


def test_a_client_that_closes_behind_what_waits_has_said_all(opened: Opened) -> None:
    opened.send(PING * MANY + said(b"one") + CLOSE)
    assert not opened.exchange.is_client_gone
    opened.go_on_to_the_end()
    assert opened.messages() == ["one", 1000]
    assert opened.exchange.is_client_gone


def test_who_ends_its_side_behind_what_waits_has_said_all(opened: Opened) -> None:
    opened.send(said(b"one"))
    opened.end()
    assert not opened.exchange.is_client_gone
    while opened.host.go_on() and not opened.exchange.is_client_gone:
        opened.host.is_out_of_time = False
    assert opened.messages() == ["one", 1006]
    opened.end()  # it is seen again and again
    assert opened.messages() == [1006]


def test_all_that_was_said_before_the_end_comes_as_it_is_taken(opened: Opened) -> None:
    opened.host.is_out_of_time = False
    opened.send(said(*[b"x"] * 3000) + CLOSE)
    opened.end()
    opened.wait(1)
    assert opened.messages() == [*["x"] * 3000, 1000]


def test_an_application_that_takes_nothing_for_a_while_hears_of_the_end(opened: Opened) -> None:
    opened.host.is_out_of_time = False
    opened.send(said(*[b"x"] * 3000) + CLOSE)
    opened.end()
    opened.wait(PATIENCE_SECONDS)
    assert not opened.exchange.is_client_gone
    assert receive(opened.exchange)
    opened.wait(PATIENCE_SECONDS)
    assert not opened.exchange.is_client_gone
    opened.wait(1)
    assert opened.exchange.is_client_gone
    taken = opened.messages()
    assert LAST_MESSAGES_BYTES // 300 < len(taken) < 3000
    assert taken[-1] == 1006
    opened.exchange.end()
    opened.connection.lose()
    assert opened.host.account.buffered_bytes == 0


def test_who_leaves_at_once_takes_no_time(opened: Opened) -> None:
    opened.send(said(b"one"))
    while len(opened.host.postponed) > 1:  # the stream's own frames first
        opened.host.go_on()
    opened.connection.lose()
    assert opened.messages() == [1006]
    opened.exchange.end()
    opened.go_on_to_the_end()
    assert opened.host.account.buffered_bytes == 0
    assert opened.exchange.cause is Cause.CLIENT_LEFT


def test_an_application_that_catches_up_has_the_rest_in_a_later_turn(opened: Opened) -> None:
    piece = frame(0x82, bytes(125)) * 10
    opened.host.is_out_of_time = False
    while opened.exchange._untaken_bytes <= HIGH_WATER_BYTES:  # type: ignore[attr-defined]  # it is what this is about
        opened.send(piece)
    opened.send(said(b"last"))
    opened.host.is_out_of_time = True
    assert len(opened.messages()) > 100
    assert opened.host.postponed
    opened.go_on_to_the_end()
    assert opened.messages()[-1] == "last"


def test_a_ping_that_comes_while_its_client_is_behind_is_answered_once_there_is_room(opened: Opened) -> None:
    opened.host.is_out_of_time = False
    opened.exchange.write({"type": "websocket.send", "bytes": bytes(2 * HIGH_WATER_BYTES)})
    opened.send(frame(0x89, b"are you there"))
    taken = b""
    while data := opened.connection.take_output(16_384):
        taken += data
    assert b"are you there" in taken


def test_an_application_that_has_ended_gets_and_costs_nothing_more(opened: Opened) -> None:
    opened.send(said(b"one"))
    opened.exchange.write({"type": "websocket.close"})
    opened.exchange.end()
    opened.go_on_to_the_end()
    opened.connection.lose()
    assert opened.host.account.buffered_bytes == 0


def test_nothing_is_kept_for_an_application_that_has_ended(opened: Opened) -> None:
    opened.host.is_out_of_time = False
    opened.send(said(b"one"))
    opened.exchange.end()
    assert "one" not in opened.messages()
