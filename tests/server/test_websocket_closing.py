"""How a WebSocket ends, and what waits for that: CLOSE from either side, a lost transport, PINGs."""

from __future__ import annotations

from typing import Any

import pytest
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from sage_edge.server.websocket_deflate import BoundedDeflate, agree
from sage_edge.server.websocket_handshake import WebSocketOffer
from tests.kit.websocket_session import (
    CLOSE,
    DEFLATED,
    FIRST_TEXT,
    LIMIT_BYTES,
    MORE,
    PING,
    TEXT,
    Client,
    disconnect,
    frame,
    new_session,
    offers,
    text,
)


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
