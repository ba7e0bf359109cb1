"""WebSockets that are denied with an answer (ASGI, WebSocket Denial Response), held to the same rules as any other."""

from __future__ import annotations

from typing import Any

import pytest

from sage_edge.app.exchange import Exchange
from sage_edge.core.exchange import Message, UnexpectedMessageError
from tests.kit.both_protocols import ask_for_websocket, both_protocols
from tests.kit.http2_frames import Field
from tests.kit.protocol_host import receive

CLOSE: Message = {"type": "websocket.close"}


def begin(status: int = 401, *headers: Field) -> Message:
    return {"type": "websocket.http.response.start", "status": status, "headers": list(headers)}


def piece(data: Any = b"", *, more: bool = False) -> Message:
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


def deny(exchange: Exchange, status: int, data: bytes, *headers: Field) -> None:
    exchange.write(begin(status, *headers))
    exchange.write(piece(data))


@both_protocols
@pytest.mark.parametrize("status", [302, 401, 403, 426, 500, 599])
def test_a_denial_is_an_answer(protocol: str, status: int) -> None:
    asked = ask_for_websocket(protocol)
    deny(asked.exchange, status, b"denied", (b"content-length", b"6"), (b"x-a", b"1"))
    asked.end()
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (status, b"denied", True)
    assert {(b"content-length", b"6"), (b"x-a", b"1")} < set(outcome.fields)
    assert (asked.exchange.status, asked.exchange.sent_bytes, asked.exchange.ending) == (status, 6, "complete")


@both_protocols
@pytest.mark.parametrize("status", [0, 100, 101, 199, 200, 204, 299, 600, 999, 1000])
def test_a_status_that_would_not_deny_cannot_be_sent(protocol: str, status: int) -> None:
    asked = ask_for_websocket(protocol)
    with pytest.raises(ValueError, match="not the status of a final response"):
        asked.exchange.write(begin(status))
    assert not asked.exchange.progress.has_started
    deny(asked.exchange, 500, b"sorry")
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (500, b"sorry", True)


@both_protocols
@pytest.mark.parametrize(
    "field", [(b"a b", b""), (b"a", b"b\r\nc: d"), (b"content-length", b"x"), (b":status", b"200")], ids=repr
)
def test_a_head_that_cannot_be_sent_may_be_followed_by_another(protocol: str, field: Field) -> None:
    asked = ask_for_websocket(protocol)
    with pytest.raises(ValueError, match=r"header|content-length"):
        asked.exchange.write(begin(401, field))
    assert (asked.exchange.progress.has_started, asked.exchange.status) == (False, 0)
    deny(asked.exchange, 500, b"sorry")
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (500, b"sorry", True)


@both_protocols
def test_a_denial_without_a_body_has_none(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    deny(asked.exchange, 304, b"body")
    asked.end()
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (304, b"", True)


@both_protocols
@pytest.mark.parametrize("data", [b"abc", b""])
def test_a_denial_shorter_than_announced_is_cut(protocol: str, data: bytes) -> None:
    asked = ask_for_websocket(protocol)
    deny(asked.exchange, 401, data, (b"content-length", b"10"))
    asked.end()
    outcome = asked.take()
    assert (outcome.is_whole, outcome.is_cut) == (False, True)
    assert asked.exchange.ending == "error"


@both_protocols
def test_a_denial_longer_than_announced_is_cut(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write(begin(401, (b"content-length", b"2")))
    with pytest.raises(ValueError, match="longer"):
        asked.exchange.write(piece(b"abc"))
    asked.end()
    outcome = asked.take()
    assert (outcome.body, outcome.is_whole, outcome.is_cut) == (b"", False, True)


@both_protocols
def test_a_denial_that_has_begun_is_not_closed_as_a_websocket(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write(begin())
    asked.exchange.write(piece(b"partial", more=True))
    asked.take()
    with pytest.raises(
        UnexpectedMessageError, match=r"websocket\.close was sent, but the WebSocket is closed or denied"
    ):
        asked.exchange.write(CLOSE)
    asked.end()
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole, outcome.is_cut) == (401, b"partial", False, True)
    assert asked.exchange.ending == "error"


@both_protocols
def test_a_denial_that_has_begun_goes_on_after_a_close_that_was_refused(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write(begin())
    with pytest.raises(UnexpectedMessageError):
        asked.exchange.write(CLOSE)
    asked.exchange.write(piece(b"denied"))
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (401, b"denied", True)


@both_protocols
@pytest.mark.parametrize("second", [CLOSE, begin(), piece(b"x"), {"type": "websocket.accept"}], ids=lambda m: m["type"])
def test_nothing_follows_a_close_before_the_handshake_was_answered(protocol: str, second: Message) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write(CLOSE)
    with pytest.raises(UnexpectedMessageError):
        asked.exchange.write(second)
    asked.end()
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole, outcome.is_cut) == (403, b"", True, False)


@both_protocols
def test_an_open_websocket_is_closed_once(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write({"type": "websocket.accept"})
    asked.exchange.write(CLOSE)
    with pytest.raises(UnexpectedMessageError):
        asked.exchange.write(CLOSE)
    asked.end()
    assert asked.exchange.ending == "complete"


@both_protocols
@pytest.mark.parametrize("wrong", [{"code": 5000}, {"code": "x"}, {"reason": 5}])
def test_a_close_that_cannot_be_sent_closes_nothing(protocol: str, wrong: dict[str, Any]) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write({"type": "websocket.accept"})
    with pytest.raises((ValueError, TypeError)):
        asked.exchange.write({**CLOSE, **wrong})
    assert not asked.exchange.progress.is_complete
    asked.exchange.write({"type": "websocket.send", "text": "still here"})
    asked.end()
    assert asked.exchange.ending == "error"


@both_protocols
def test_a_denial_that_nobody_ends_is_cut(protocol: str) -> None:
    asked = ask_for_websocket(protocol)
    asked.exchange.write(begin())
    asked.end()
    assert asked.take().is_cut
    assert asked.exchange.ending == "error"


@both_protocols
@pytest.mark.parametrize("is_closed", [False, True])
def test_who_has_denied_a_websocket_hears_of_its_end(protocol: str, is_closed: bool) -> None:
    asked = ask_for_websocket(protocol)
    if is_closed:
        asked.exchange.write(CLOSE)
    else:
        deny(asked.exchange, 401, b"denied")
    message = receive(asked.exchange)
    assert message is not None
    assert message["type"] == "websocket.disconnect"
