"""A WebSocket's bytes and messages, with wsproto's client at the other end or frames made by hand."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import RsvBits

from sage_edge.server.websocket_deflate import BoundedDeflate, agree
from sage_edge.server.websocket_handshake import WebSocketOffer
from sage_edge.server.websocket_session import WebSocketSession

LIMIT_BYTES = 64 * 1024
DEFLATE = "permessage-deflate"
DEFLATES = (
    (),
    (("client_max_window_bits", ""),),
    (("client_max_window_bits", "9"), ("server_max_window_bits", "9")),
    (("client_no_context_takeover", ""), ("server_no_context_takeover", "")),
)
OFFERS = {
    "plain": WebSocketOffer(),
    **{f"deflate {number}": WebSocketOffer(extensions=((DEFLATE, each),)) for number, each in enumerate(DEFLATES)},
}
DEFLATED = OFFERS["deflate 0"]

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
CONTINUATION, FIRST_TEXT, MORE = 0x80, 0x01, 0x00
RSV1 = 0x40

offers = pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)


def new_session(offer: WebSocketOffer = OFFERS["plain"], limit_bytes: int = LIMIT_BYTES) -> WebSocketSession:
    return WebSocketSession(offer, max_message_bytes=limit_bytes)


class Client:
    """wsproto's, after a handshake with this session."""

    def __init__(self, session: WebSocketSession) -> None:
        extensions: list[Extension] = []
        for name, value in session.accept({"type": "websocket.accept"}):
            if name == b"sec-websocket-extensions":
                extension = PerMessageDeflate()
                extension.finalize(value.decode())
                extensions.append(extension)
        self._session = session
        self._connection = Connection(ConnectionType.CLIENT, extensions)

    def send(self, *events: Event) -> list[dict[str, Any]]:
        return self._session.receive(b"".join(map(self._connection.send, events)))

    def receive(self) -> list[Event]:
        self._connection.receive_data(self._session.take_output())
        return list(self._connection.events())


def frame(first_byte: int, payload: bytes = b"") -> bytes:
    """A frame from a client, whose mask is all zeros."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first_byte, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first_byte, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first_byte, 0x80 | 127, size)
    return head + bytes(4) + payload


def deflated(data: bytes, *, mode: int = zlib.Z_SYNC_FLUSH) -> bytes:
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(data) + compressor.flush(mode)).removesuffix(b"\x00\x00\xff\xff")


def text(text: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": None, "text": text}


def binary(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": data, "text": None}


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def closed_with(session: WebSocketSession) -> int:
    """The code of the CLOSE frame that ends the output."""
    *_, close = Client(session).receive()
    assert isinstance(close, CloseConnection)
    return close.code


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


@offers
@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "bye"), (3000, "caf\u00e9"), (4999, "x" * 123), (1012, "")]
)
def test_the_clients_close_is_passed_on_and_answered_with_the_same(
    offer: WebSocketOffer, code: int, reason: str
) -> None:
    session = new_session(offer)
    client = Client(session)

    messages = client.send(TextMessage("last"), Ping(), CloseConnection(code, reason))

    assert messages == [text("last"), disconnect(code, reason)]
    assert session.is_closed
    assert session.has_sent_close
    assert client.receive() == [CloseConnection(code, reason)]
    assert session.receive(frame(TEXT, b"more")) == session.end() == []


def test_a_close_without_a_code_is_answered_with_the_same() -> None:
    session = new_session()

    assert session.receive(frame(CLOSE)) == [disconnect(1005)]
    assert session.take_output() == b"\x88\x00"


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": None, "reason": None}, 1000, ""),
        ({"code": 1011}, 1011, ""),
        ({"code": 4001, "reason": "caf\u00e9"}, 4001, "caf\u00e9"),
        ({"reason": "x" * 200}, 1000, "x" * 123),
        ({"reason": "\u20ac" * 42}, 1000, "\u20ac" * 41),
        ({"reason": "a" + "\u20ac" * 41}, 1000, "a" + "\u20ac" * 40),
        *(({"code": code}, 1000, "") for code in [1005, 1006, 1015]),
    ],
)
def test_the_applications_close_is_sent(message: dict[str, Any], code: int, reason: str) -> None:
    session = new_session()
    client = Client(session)
    session.send({"type": "websocket.close", **message})

    assert session.has_sent_close
    assert not session.is_closed, "the client has to answer"
    assert client.receive() == [CloseConnection(code, reason)]


@pytest.mark.parametrize("code", [0, -1, 999, 1004, 1016, 2999, 5000, 65536])
def test_a_close_code_that_may_not_be_sent_is_an_error(code: int) -> None:
    session = new_session()
    with pytest.raises(ValueError, match="close code"):
        session.send({"type": "websocket.close", "code": code})

    assert not session.has_sent_close
    assert session.take_output() == b""


def test_after_the_applications_close_only_the_clients_matters() -> None:
    session = new_session()
    session.send({"type": "websocket.close", "code": 4001})
    closing = session.take_output()

    data = frame(TEXT, b"late") + frame(PING) + frame(FIRST_TEXT, b"x" * LIMIT_BYTES) + frame(MORE, b"beyond")
    assert session.receive(data) == []
    session.send({"type": "websocket.send", "text": "too late"})
    session.send({"type": "websocket.close"})
    assert session.receive(frame(CLOSE, closing[2:])) == [disconnect(4001)]

    assert session.is_closed
    assert session.take_output() == b""


def test_a_fault_after_the_applications_close_ends_without_another() -> None:
    session = new_session()
    session.send({"type": "websocket.close"})
    session.take_output()

    (message,) = session.receive(b"\xff\xff")

    assert message["code"] == 1002
    assert session.is_closed
    assert session.take_output() == b""


@pytest.mark.parametrize("data", [b"", frame(TEXT, b"message")[:-1], frame(FIRST_TEXT, b"fragment")])
def test_a_loss_of_the_transport_is_told_once(data: bytes) -> None:
    session = new_session()
    assert session.receive(data) == []

    assert session.end() == [disconnect(1006)]
    assert session.is_closed
    assert session.end() == session.receive(frame(TEXT)) == []
    session.send({"type": "websocket.send", "text": "lost"})
    session.send({"type": "websocket.close"})
    assert session.take_output() == b""


def test_a_loss_after_the_applications_close_is_a_loss() -> None:
    session = new_session()
    session.send({"type": "websocket.close"})

    assert session.end() == [disconnect(1006)]


def test_pings_that_wait_are_answered_by_one_pong() -> None:
    session = new_session()
    client = Client(session)
    client.send(*(Ping(bytes([number])) for number in range(100)), Pong(b"unasked"))

    assert client.receive() == [Pong(b"c")]
    assert client.receive() == []
    client.send(Ping(b"again"))
    session.send({"type": "websocket.send", "text": "message"})
    session.send({"type": "websocket.close"})
    assert client.receive() == [TextMessage("message"), Pong(b"again"), CloseConnection(1000, "")]


def test_a_ping_before_a_fault_is_answered_before_the_close() -> None:
    session = new_session()
    session.receive(frame(PING, b"ping") + frame(TEXT, b"\xff"))

    pong, close = Client(session).receive()
    assert pong == Pong(b"ping")
    assert isinstance(close, CloseConnection)


def test_a_refused_accept_may_be_tried_again() -> None:
    session = new_session(WebSocketOffer(subprotocols=("a",)))
    with pytest.raises(ValueError, match="did not offer"):
        session.accept({"type": "websocket.accept", "subprotocol": "b"})

    assert session.accept({"type": "websocket.accept", "subprotocol": "a"}) == [(b"sec-websocket-protocol", b"a")]


def test_the_extension_is_one_to_wsproto() -> None:
    agreement = agree(DEFLATED.extensions)
    assert agreement is not None
    extension = BoundedDeflate(agreement, LIMIT_BYTES)

    assert extension.enabled()
    assert extension.offer() is False


class DeclinedOnce(PerMessageDeflate):
    """A client that chooses for each message whether to compress it (RFC 7692 section 6)."""

    is_on = True

    def frame_outbound(self, proto: Any, opcode: Any, rsv: RsvBits, data: bytes, fin: bool) -> tuple[RsvBits, bytes]:
        return super().frame_outbound(proto, opcode, rsv, data, fin) if self.is_on else (rsv, data)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[WebSocketOffer, bytes, list[dict[str, Any]]]:
    """An offer, what its client sends, and the messages that this means."""
    offer = draw(st.sampled_from(list(OFFERS.values())))
    extensions = [DeclinedOnce()] if offer.extensions else []
    for name, value in new_session(offer).accept({"type": "websocket.accept"}):
        assert name == b"sec-websocket-extensions"
        extensions[0].finalize(value.decode())
    client = Connection(ConnectionType.CLIENT, [*extensions])
    data = bytearray()
    messages: list[dict[str, Any]] = []
    for content in draw(
        st.lists(st.one_of(st.text(), st.binary(), st.binary().map(lambda seed: seed * 200)), max_size=5)
    ):
        for extension in extensions:
            extension.is_on = draw(st.booleans())
        for event in fragments(content, draw(st.lists(st.integers(0, len(content)), max_size=3))):
            data += client.send(event)
            if draw(st.booleans()):
                data += client.send(draw(st.sampled_from([Ping(b"ping"), Pong()])))
        messages.append(text(content) if isinstance(content, str) else binary(content))
    if draw(st.booleans()):
        data += client.send(CloseConnection(4000, "bye"))
        messages.append(disconnect(4000, "bye"))
    return offer, bytes(data), messages


def fragments(content: str | bytes, cuts: list[int]) -> Iterator[Event]:
    starts = [0, *sorted(cuts)]
    for start, stop in zip(starts, [*starts[1:], len(content)], strict=True):
        is_last = stop == len(content) and start == starts[-1]
        if isinstance(content, str):
            yield TextMessage(content[start:stop], message_finished=is_last)
        else:
            yield BytesMessage(content[start:stop], message_finished=is_last)
        if is_last:
            break


@given(conversations(), st.data())
def test_messages_are_the_same_however_the_bytes_are_cut(
    conversation: tuple[WebSocketOffer, bytes, list[dict[str, Any]]], data: st.DataObject
) -> None:
    offer, sent, messages = conversation
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)))))
    session = new_session(offer)

    received = []
    for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        received += session.receive(sent[start:stop])

    assert received == messages
    by_byte = new_session(offer)
    assert [message for byte in sent for message in by_byte.receive(bytes([byte]))] == messages


FRAMES = st.builds(frame, st.integers(0, 255), st.binary(max_size=200))
DEFLATED_FRAMES = st.builds(
    lambda first_byte, data: frame(first_byte, deflated(data)),
    st.sampled_from([TEXT | RSV1, BINARY | RSV1, FIRST_TEXT | RSV1, CONTINUATION, MORE]),
    st.text().map(str.encode),
)


@given(st.lists(st.one_of(st.binary(), FRAMES, DEFLATED_FRAMES)), st.sampled_from(list(OFFERS.values())), st.booleans())
@example([b"\xc1\x80", bytes(4)], DEFLATED, False)
def test_nothing_a_client_sends_raises(pieces: list[bytes], offer: WebSocketOffer, is_closing: bool) -> None:
    session = new_session(offer, limit_bytes=50)
    if is_closing:
        session.send({"type": "websocket.close"})
    messages = []
    for piece in pieces:
        messages += session.receive(piece)
        session.take_output()
    messages += session.end()

    assert session.is_closed
    assert [message["type"] for message in messages].count("websocket.disconnect") == 1
    assert messages[-1]["type"] == "websocket.disconnect"
    assert all(len(message["bytes"] or (message["text"] or "").encode()) <= 50 for message in messages[:-1])
