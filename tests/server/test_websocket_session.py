"""A WebSocket's bytes and messages, with wsproto's client at the other end or frames made by hand."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from wsproto.events import BytesMessage, Event, Ping, Pong, TextMessage

from sage_edge.server.websocket_handshake import WebSocketOffer
from sage_edge.server.websocket_session import LARGE_BYTES
from tests.kit.websocket_session import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATED,
    FIRST_TEXT,
    LIMIT_BYTES,
    MORE,
    PING,
    RSV1,
    TEXT,
    Client,
    binary,
    closed_with,
    deflated,
    frame,
    new_session,
    offers,
    text,
)


@offers
def test_messages_arrive_as_they_were_sent(offer: WebSocketOffer) -> None:
    client = Client(new_session(offer))
    events: list[Event] = [
        TextMessage("caf\u00e9"),
        BytesMessage(b"\x00\xff"),
        TextMessage(""),
        BytesMessage(b""),
        TextMessage("a" * 9999),
    ]

    assert client.send(*events) == [text("caf\u00e9"), binary(b"\x00\xff"), text(""), binary(b""), text("a" * 9999)]


@offers
def test_messages_are_sent_as_the_application_says(offer: WebSocketOffer) -> None:
    session = new_session(offer)
    client = Client(session)
    session.send({"type": "websocket.send", "text": "caf\u00e9"})
    session.send({"type": "websocket.send", "text": None, "bytes": b"\x00\xff"})
    session.send({"type": "websocket.send", "text": "", "bytes": None})
    session.send({"type": "websocket.send", "text": ""})
    session.send({"type": "websocket.send", "bytes": bytearray(b"abc" * 30_000)})

    *events, end = client.receive()
    assert events == [TextMessage("caf\u00e9"), BytesMessage(b"\x00\xff"), TextMessage(""), TextMessage("")]
    assert end == BytesMessage(b"abc" * 30_000)


def test_compression_makes_repeated_messages_short() -> None:
    session = new_session(DEFLATED)
    Client(session)
    for _ in range(2):
        session.send({"type": "websocket.send", "text": "data: a token of an answer"})
        size = len(session.take_output())

    assert size < 10


@offers
def test_a_large_message_is_sent_as_it_is_between_others(offer: WebSocketOffer) -> None:
    session = new_session(offer)
    client = Client(session)
    large = b"abc" * LARGE_BYTES
    session.send({"type": "websocket.send", "text": "before"})
    session.send({"type": "websocket.send", "bytes": large})
    session.send({"type": "websocket.send", "text": large.decode()})
    session.send({"type": "websocket.send", "text": "before"})

    before, *parts, after = client.receive()
    assert before == after == TextMessage("before")
    assert b"".join(part.data for part in parts if isinstance(part, BytesMessage)) == large
    assert "".join(part.data for part in parts if isinstance(part, TextMessage)) == large.decode()


def test_a_large_message_is_copied_once() -> None:
    session = new_session(DEFLATED)
    large = bytes(2**22)
    tracemalloc.start()
    try:
        session.send({"type": "websocket.send", "bytes": large})
        assert len(session.take_output()) == len(large) + 10
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most_bytes < 1.5 * len(large)


@pytest.mark.parametrize("content", [{}, {"bytes": None, "text": None}, {"bytes": b"", "text": ""}, {"text": b""}])
def test_a_message_has_either_bytes_or_text(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either"):
        new_session().send({"type": "websocket.send", **content})


@pytest.mark.parametrize("content", [{"bytes": "text"}, {"bytes": 5}])
def test_bytes_that_are_none_are_an_error(content: dict[str, Any]) -> None:
    session = new_session()
    with pytest.raises(TypeError):
        session.send({"type": "websocket.send", **content})

    assert session.take_output() == b""


def test_a_text_that_is_no_unicode_leaves_the_session_usable() -> None:
    session = new_session()
    with pytest.raises(ValueError, match="surrogates"):
        session.send({"type": "websocket.send", "text": "\ud800"})
    with pytest.raises(ValueError, match="surrogates"):
        session.send({"type": "websocket.close", "reason": "\ud800"})
    session.send({"type": "websocket.send", "text": "still here"})

    assert Client(session).receive() == [TextMessage("still here")]


@offers
def test_fragments_are_joined_with_a_ping_between_them(offer: WebSocketOffer) -> None:
    client = Client(new_session(offer))
    events = [
        TextMessage("in several ", message_finished=False),
        Ping(b"now"),
        TextMessage("parts, caf\u00e9", message_finished=False),
        TextMessage("", message_finished=True),
        TextMessage("next"),
    ]

    assert client.send(*events) == [text("in several parts, caf\u00e9"), text("next")]
    assert client.receive() == [Pong(b"now")]


@offers
def test_a_message_may_have_just_the_limit(offer: WebSocketOffer) -> None:
    client = Client(new_session(offer, limit_bytes=8))

    assert client.send(TextMessage("\u00e9" * 4)) == [text("\u00e9" * 4)]
    assert client.send(BytesMessage(b"1234", message_finished=False), BytesMessage(b"5678")) == [binary(b"12345678")]


@offers
@pytest.mark.parametrize(
    "events",
    [
        [TextMessage("\u00e9" * 4 + "e")],
        [TextMessage("e" * 4 + "\u00e9" * 3)],
        [BytesMessage(b"123456789")],
        [BytesMessage(b"12345678", message_finished=False), BytesMessage(b"9", message_finished=False)],
    ],
)
def test_a_message_beyond_the_limit_closes(offer: WebSocketOffer, events: list[Event]) -> None:
    session = new_session(offer, limit_bytes=8)
    client = Client(session)

    (message,) = client.send(*events, BytesMessage(b""))

    assert (message["type"], message["code"]) == ("websocket.disconnect", 1009)
    assert session.is_closed
    assert session.has_sent_close
    assert closed_with(session) == 1009


def test_a_bomb_is_not_inflated() -> None:
    bomb = frame(BINARY | RSV1, deflated(bytes(100_000_000)))
    assert len(bomb) < 100_000
    session = new_session(DEFLATED)
    tracemalloc.start()
    try:
        (message,) = session.receive(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert message["code"] == 1009
    assert peak_bytes < 4 * len(bomb) + 4 * LIMIT_BYTES
    assert session.receive(bomb) == []


def test_a_message_in_many_small_fragments_takes_no_more_room_than_its_size() -> None:
    limit_bytes = LIMIT_BYTES // 4
    count = limit_bytes // 2 - 1
    data = frame(FIRST_TEXT, b"ab") + frame(MORE, b"ab") * count
    session = new_session(limit_bytes=limit_bytes)
    tracemalloc.start()
    try:
        assert session.receive(data) == []
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held_bytes < 3 * limit_bytes
    assert session.receive(frame(CONTINUATION)) == [text("ab" * (count + 1))]


def test_deflated_and_plain_messages_may_be_mixed() -> None:
    session = new_session(DEFLATED)
    data = frame(TEXT, b"plain") + frame(TEXT | RSV1, deflated(b"deflated")) + frame(PING) + frame(TEXT, b"plain")

    assert session.receive(data) == [text("plain"), text("deflated"), text("plain")]


def test_a_message_may_end_with_a_final_block() -> None:
    hello = bytes.fromhex("f348cdc9c9070000")  # RFC 7692 section 7.2.3.4
    session = new_session(DEFLATED)

    assert session.receive(frame(TEXT | RSV1, hello) * 2) == [text("Hello"), text("Hello")]


def test_a_message_may_have_final_blocks_within() -> None:
    session = new_session(DEFLATED)
    blocks = deflated(b"one, ", mode=zlib.Z_FINISH) * 5000 + deflated(b"two")

    assert session.receive(frame(TEXT | RSV1, blocks)) == [text("one, " * 5000 + "two")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT)[:1] + b"\x00", 1002),  # not masked
        (frame(0x83), 1002),
        (frame(TEXT | RSV1), 1002),
        (frame(CONTINUATION), 1002),
        (frame(FIRST_TEXT) + frame(TEXT), 1002),
        (frame(0x09), 1002),  # a PING in fragments
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, struct.pack("!H", 999)), 1002),
        (frame(CLOSE, struct.pack("!H", 1005)), 1002),
        (frame(CLOSE, struct.pack("!H", 2999)), 1002),
        (frame(CLOSE, struct.pack("!H", 5000)), 1002),
        (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(FIRST_TEXT, b"\xc3") + frame(CONTINUATION, b"a"), 1007),
    ],
)
def test_a_fault_of_the_client_closes(data: bytes, code: int) -> None:
    session = new_session()

    first, message = session.receive(frame(TEXT, b"first") + data + frame(TEXT, b"lost"))

    assert first == text("first")
    assert (message["type"], message["code"]) == ("websocket.disconnect", code)
    assert message["reason"]
    assert session.is_closed
    assert session.receive(frame(TEXT, b"more")) == session.end() == []
    assert closed_with(session) == code
    assert session.take_output() == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(CONTINUATION | RSV1), 1002),
        (frame(PING | RSV1), 1002),
        (frame(TEXT | RSV1, b"\xff\xff"), 1007),
        (frame(TEXT | RSV1, deflated(b"\xff")), 1007),
        (frame(TEXT | 0x20), 1002),
    ],
)
def test_a_fault_of_the_clients_compression_closes(data: bytes, code: int) -> None:
    session = new_session(DEFLATED)

    (message,) = session.receive(data)

    assert message["code"] == code
    assert closed_with(session) == code
