"""Whatever a WebSocket's client sends, and however its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import RsvBits

from sage_edge.server.websocket_handshake import WebSocketOffer
from tests.kit.websocket_session import (
    BINARY,
    CONTINUATION,
    DEFLATED,
    FIRST_TEXT,
    MORE,
    OFFERS,
    RSV1,
    TEXT,
    binary,
    deflated,
    disconnect,
    frame,
    new_session,
    text,
)


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
