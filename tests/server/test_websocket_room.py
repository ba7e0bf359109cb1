"""What a WebSocket's messages take of what may wait for its client's address, above all those that are deflated."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sage_edge.app.exchange import HIGH_WATER_BYTES, LOW_WATER_BYTES, Exchange
from sage_edge.core.budgets import ClientAccount
from sage_edge.core.exchange import MESSAGE_COST_BYTES, Cause
from sage_edge.server.websocket import SHORT_PATIENCE_SECONDS
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import data_frame
from tests.kit.protocol_host import receive
from tests.kit.websocket_session import BINARY, CLOSE, PING, RSV1, TEXT, deflated, frame

ROOM_BYTES = 2**20
LARGE_BYTES = 200_000
DEFLATE = (b"sec-websocket-extensions", b"permessage-deflate; client_no_context_takeover")
FACE = "\N{GRINNING FACE}"


class Opened:
    """An open WebSocket, on a stream, whose client's address has room for so much."""

    def __init__(self, *offered: tuple[bytes, bytes], account: ClientAccount | None = None) -> None:
        self.client = HTTP2Client(account=account, max_buffered_bytes=ROOM_BYTES)
        self.account = self.client.host.account
        self.stream_id, self.exchange = self.client.ask(
            *offered, method=b"CONNECT", protocol=b"websocket", path=b"/chat", end=False
        )
        assert receive(self.exchange) == {"type": "websocket.connect"}
        self.exchange.write({"type": "websocket.accept"})
        self.client.take()
        self.idle_bytes = self.account.buffered_bytes

    @property
    def taken_bytes(self) -> int:
        """Of the account, beside what it takes while nothing happens."""
        return self.account.buffered_bytes - self.idle_bytes

    def send(self, *frames: bytes) -> None:
        self.client.send(data_frame(self.stream_id, b"".join(frames)))

    def close_code(self) -> int | None:
        """Of the CLOSE frame that has come; None where none has."""
        body = self.client.answer(self.stream_id).body
        return int.from_bytes(body[2:4], "big") if body.startswith(b"\x88") else None


def message(size_bytes: int) -> bytes:
    return frame(BINARY | RSV1, deflated(bytes(size_bytes)))


def begun_message(size_bytes: int) -> bytes:
    return frame((BINARY | RSV1) & 0x7F, deflated(bytes(size_bytes)))


def size_of(exchange: Exchange) -> int:
    """Of the next message, which the application takes."""
    taken = receive(exchange)
    assert taken is not None
    return len(taken["bytes"])


@pytest.fixture
def opened() -> Opened:
    return Opened(DEFLATE)


def test_a_message_that_is_not_whole_is_accounted_for(opened: Opened) -> None:
    opened.send(begun_message(300_000))
    assert opened.taken_bytes == 300_000
    opened.client.connection.lose()
    assert opened.account.buffered_bytes == 0


def test_a_message_that_is_not_whole_is_refused_where_there_is_no_room(opened: Opened) -> None:
    opened.account.buffered_bytes = ROOM_BYTES - 500
    opened.send(begun_message(1000))
    assert opened.close_code() == 1013
    assert opened.account.buffered_bytes <= ROOM_BYTES - 500
    assert opened.exchange.cause is Cause.REFUSED


@pytest.mark.parametrize(("size_bytes", "code"), [(HIGH_WATER_BYTES, None), (2 * HIGH_WATER_BYTES, 1013)])
def test_a_large_one_that_is_deflated_is_refused_where_much_waits(
    opened: Opened, size_bytes: int, code: int | None
) -> None:
    opened.account.buffered_bytes = ROOM_BYTES // 2
    opened.send(begun_message(size_bytes))
    assert opened.close_code() == code


@pytest.mark.parametrize("offered", [[], [DEFLATE]], ids=["nor may be", "but others may be"])
def test_a_large_one_that_is_not_deflated_is_taken_as_long_as_there_is_room(offered: list[tuple[bytes, bytes]]) -> None:
    opened = Opened(*offered)
    opened.account.buffered_bytes = ROOM_BYTES // 2
    opened.send(frame(BINARY & 0x7F, bytes(2 * HIGH_WATER_BYTES)))
    assert opened.close_code() is None


def test_what_waits_for_its_own_client_is_no_reason_to_refuse_a_message(opened: Opened) -> None:
    opened.exchange.write({"type": "websocket.send", "bytes": bytes(ROOM_BYTES // 2)})
    opened.send(begun_message(LARGE_BYTES))
    assert opened.taken_bytes > ROOM_BYTES // 2 + LARGE_BYTES - 70_000, "it is not refused, but for what went at once"


def test_fewer_deflated_messages_wait_where_a_quarter_of_the_room_is_gone(opened: Opened) -> None:
    opened.account.buffered_bytes += ROOM_BYTES // 4
    before_bytes = opened.account.buffered_bytes
    opened.send(message(10_000) * 20)
    for _ in range(20):
        assert opened.account.buffered_bytes - before_bytes <= LOW_WATER_BYTES + 2 * 16 * 1024
        assert size_of(opened.exchange) == 10_000
    assert opened.account.buffered_bytes == before_bytes


def test_a_ping_is_answered_while_the_application_is_at_work_whatever_else_waits(opened: Opened) -> None:
    opened.account.buffered_bytes += ROOM_BYTES // 4
    opened.send(message(100_000))
    assert size_of(opened.exchange) == 100_000
    opened.send(frame(PING, b"are you there"))
    assert opened.client.answer(opened.stream_id).body == b"\x8a\x0dare you there"


def test_a_client_that_does_not_read_yet_is_heard_as_long_as_its_application_goes_on(opened: Opened) -> None:
    opened.account.buffered_bytes += ROOM_BYTES // 4
    opened.send(message(1000) * 2)
    opened.exchange.write({"type": "websocket.send", "bytes": b"said"})
    assert size_of(opened.exchange) == 1000
    assert size_of(opened.exchange) == 1000


def test_what_idle_websockets_take_leaves_room_for_messages(opened: Opened) -> None:
    opened.account.add_request(0, ROOM_BYTES // 2)
    opened.send(message(LARGE_BYTES) * 2)
    assert size_of(opened.exchange) == LARGE_BYTES
    assert size_of(opened.exchange) == LARGE_BYTES


def test_what_an_application_has_taken_counts_until_it_asks_for_more(opened: Opened) -> None:
    opened.send(message(LARGE_BYTES))
    assert size_of(opened.exchange) == LARGE_BYTES
    assert opened.taken_bytes == LARGE_BYTES + MESSAGE_COST_BYTES
    assert receive(opened.exchange) is None
    assert opened.taken_bytes == 0


def test_the_next_message_is_counted_in_the_place_of_the_last(opened: Opened) -> None:
    opened.send(message(LARGE_BYTES))
    assert size_of(opened.exchange) == LARGE_BYTES
    opened.send(message(10))
    assert size_of(opened.exchange) == 10
    assert opened.taken_bytes == 0


@pytest.mark.parametrize(
    "is_over", [lambda opened: opened.exchange.end(), lambda opened: opened.client.connection.lose()]
)
def test_nothing_counts_once_it_is_over(opened: Opened, is_over: Callable[[Opened], None]) -> None:
    opened.send(message(LARGE_BYTES))
    assert size_of(opened.exchange) == LARGE_BYTES
    opened.send(message(LARGE_BYTES))
    is_over(opened)
    opened.exchange.end()
    opened.client.connection.lose()
    assert opened.account.buffered_bytes == 0


def test_who_ends_its_side_where_there_is_little_room_has_said_all(opened: Opened) -> None:
    opened.account.buffered_bytes += ROOM_BYTES // 4
    opened.send(message(100) * 20, frame(CLOSE, (1000).to_bytes(2, "big")))
    opened.client.send(data_frame(opened.stream_id, end=True))
    for _ in range(20):
        assert size_of(opened.exchange) == 100
    assert receive(opened.exchange) == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    assert opened.client.answer(opened.stream_id).has_ended


def test_where_others_have_made_room_more_comes_at_the_next_look(opened: Opened) -> None:
    opened.account.buffered_bytes += ROOM_BYTES // 4
    opened.send(message(10_000) * 6)
    opened.account.buffered_bytes -= ROOM_BYTES // 4
    opened.client.wait(1)
    assert opened.taken_bytes == 6 * (10_000 + MESSAGE_COST_BYTES)


def test_an_application_that_takes_nothing_hears_sooner_of_the_end_where_much_waits(opened: Opened) -> None:
    opened.account.buffered_bytes += ROOM_BYTES // 4
    opened.send(message(10_000) * 20)
    opened.client.send(data_frame(opened.stream_id, end=True))
    opened.client.wait(SHORT_PATIENCE_SECONDS)
    assert not opened.exchange.is_client_gone
    opened.client.wait(0.5)
    assert opened.exchange.is_client_gone


@pytest.mark.parametrize(("letter", "letter_bytes"), [("a", 1), (FACE, 4)])
def test_a_text_counts_as_what_it_takes_in_memory(letter: str, letter_bytes: int) -> None:
    opened = Opened()
    opened.send(frame(TEXT, (letter + 99 * "a").encode()))
    assert opened.taken_bytes == 100 * letter_bytes + MESSAGE_COST_BYTES
