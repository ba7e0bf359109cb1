"""What an application does with a WebSocket that it should not, or too late; and a stream that ends at both sides."""

from __future__ import annotations

import pytest

from sage_edge.core.exchange import ClientDisconnectedError
from tests.kit.both_protocols import ask_for_websocket, both_protocols

ACCEPT = {"type": "websocket.accept"}
SEND = {"type": "websocket.send", "text": "late"}


@both_protocols
def test_an_accept_that_cannot_be_sent_may_be_followed_by_another(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    with pytest.raises(ValueError, match="header"):
        asked.exchange.write({**ACCEPT, "headers": [(b"a b", b"")]})
    assert (asked.exchange.progress.has_started, asked.exchange.status) == (False, 0)
    asked.exchange.write(ACCEPT)
    assert asked.exchange.status == 101


@both_protocols
def test_a_message_of_another_kind_is_an_error(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    with pytest.raises(ValueError, match="is not a message of a WebSocket"):
        asked.exchange.write({"type": "lifespan.startup.complete"})


@both_protocols
def test_a_message_for_a_client_that_has_gone_is_dropped(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write(ACCEPT)
    asked.exchange.lose_client()
    asked.exchange.write(SEND)
    assert asked.exchange.sent_bytes == 0


@both_protocols
def test_a_message_for_a_client_that_has_closed_is_an_error(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write(ACCEPT)
    asked.exchange.deliver_body(b"\x88\x80" + bytes(4), is_last=False)
    with pytest.raises(ClientDisconnectedError):
        asked.exchange.write(SEND)


@both_protocols
def test_what_comes_before_it_is_open_is_dropped(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.deliver_body(b"\x82\x81" + bytes(4) + b"a", is_last=False)
    assert asked.exchange.received_bytes == 0


def test_a_stream_that_its_client_ends_after_the_server_has_is_over() -> None:
    asked = ask_for_websocket("2")
    asked.exchange.write(ACCEPT)
    asked.exchange.write({"type": "websocket.close"})
    asked.exchange.deliver_body(b"", is_last=True)
    assert asked.exchange.is_client_gone
    assert asked.take().is_whole
