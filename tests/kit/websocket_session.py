"""WebSocket sessions in memory: offers, a client at the other end, frames made by hand, and what they come to."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event
from wsproto.extensions import Extension, PerMessageDeflate

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
