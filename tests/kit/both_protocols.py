"""One request over either protocol, without a socket: its exchange, and what its client makes of the answer.

For what an answer may be, which is the same in both. What only one of them has is `http1_client`'s or `http2_client`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import h11
import pytest

from sage_edge.app.exchange import Exchange
from tests.kit.http1_client import HTTP1Client
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import INTERNAL_ERROR, Field
from tests.kit.protocol_host import receive

ASKING_FOR_TRAILERS = b"%b / HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

both_protocols = pytest.mark.parametrize("protocol", ["1.1", "2"])


@dataclass
class Outcome:
    """What a client knows of an answer.

    Attributes:
        status: 0 where it has none.
        fields: of its head.
        body: as far as it came.
        trailers: in lower case.
        is_whole: it has its end.
        is_cut: it has not, and will not have it: the stream was reset for the server's fault, or the connection ends.
    """

    status: int
    fields: list[Field]
    body: bytes
    trailers: list[Field]
    is_whole: bool
    is_cut: bool


class Asked(ABC):
    """A request, or a WebSocket's handshake, that was sent.

    Attributes:
        exchange: its server's side.
    """

    exchange: Exchange

    @abstractmethod
    def end(self) -> None:
        """Let the application end."""

    @abstractmethod
    def take(self) -> Outcome:
        """The answer up to now."""


class AskedByHTTP1(Asked):
    """The same over http/1.1. It takes trailers."""

    def __init__(self, *, is_websocket: bool, method: str = "GET") -> None:
        self._client = HTTP1Client()
        self._h11 = h11.Connection(h11.CLIENT)
        headers = [("host", "x"), *([("connection", "upgrade"), ("upgrade", "websocket")] if is_websocket else [])]
        self._h11.send(h11.Request(method=method, target="/", headers=headers))
        self._h11.send(h11.EndOfMessage())
        self._outcome = Outcome(0, [], b"", [], is_whole=False, is_cut=False)
        self.exchange = self._client.ask(UPGRADE if is_websocket else ASKING_FOR_TRAILERS % method.encode())

    def end(self) -> None:
        self._client.connection.end(self.exchange)

    def take(self) -> Outcome:
        if data := self._client.take():
            self._h11.receive_data(data)
        outcome = self._outcome
        while (event := self._h11.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Response):
                outcome.status, outcome.fields = event.status_code, list(event.headers)
            elif isinstance(event, h11.Data):
                outcome.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                outcome.is_whole, outcome.trailers = True, list(event.headers)
                assert self._h11.trailing_data == (b"", False)
                break
        outcome.is_cut = not outcome.is_whole and self._client.connection.wants_close
        return outcome


class AskedByHTTP2(Asked):
    """The same over HTTP/2."""

    def __init__(self, *, is_websocket: bool, method: str = "GET") -> None:
        self._client = HTTP2Client()
        if is_websocket:
            self._stream_id, self.exchange = self._client.ask(method=b"CONNECT", protocol=b"websocket", end=False)
        else:
            self._stream_id, self.exchange = self._client.ask(method=method.encode())

    def end(self) -> None:
        self._client.connection.end(self.exchange)

    def take(self) -> Outcome:
        answer = self._client.answer(self._stream_id)
        assert answer.reset_code in (None, INTERNAL_ERROR)
        assert not self._client.goaways
        return Outcome(
            answer.status,
            [field for field in answer.fields if field[0] != b":status"],
            bytes(answer.body),
            answer.trailers or [],
            is_whole=answer.has_ended,
            is_cut=answer.reset_code is not None,
        )


def ask(protocol: str, *, method: str = "GET") -> Asked:
    """Send a request."""
    return (AskedByHTTP1 if protocol == "1.1" else AskedByHTTP2)(is_websocket=False, method=method)


def ask_for_websocket(protocol: str) -> Asked:
    """Send a WebSocket's handshake, of which the application knows."""
    asked = (AskedByHTTP1 if protocol == "1.1" else AskedByHTTP2)(is_websocket=True)
    assert receive(asked.exchange) == {"type": "websocket.connect"}
    return asked
