"""One request over HTTP/1.1 and its answer: the carrier of its exchange, for as long as it has its turn."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sage_edge.app.exchange import HIGH_WATER_BYTES, Exchange
from sage_edge.core.exchange import MESSAGE_COST_BYTES, Cause
from sage_edge.server.carrier import Fields, Host
from sage_edge.server.http1.errors import BadRequestError
from sage_edge.server.http1.head import Request
from sage_edge.server.http1.response import ResponseFraming, encode_head
from sage_edge.server.websocket import WebSocketExchange

if TYPE_CHECKING:
    from sage_edge.server.http1.connection import HTTP1Connection

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
UNREAD_COST_BYTES = HIGH_WATER_BYTES + MESSAGE_COST_BYTES
"""How much may wait for an application in any case: one read, however large, or many small ones."""


class Turn:
    """One request and its answer; the carrier of its exchange.

    Args:
        connection: it has its turn on.
        host: the connection's shell.
        request: its head.
    """

    def __init__(self, connection: HTTP1Connection, host: Host, request: Request) -> None:
        self._connection = connection
        self._host = host
        self._request = request
        self._framing: ResponseFraming | None = None
        self._waiting_bytes = 0
        self._is_over = False
        self.exchange: Exchange | None = None
        self.has_started = False
        self.is_request_over = False
        self.is_tunnel = False
        self.unread_bytes = 0  # received, and not yet taken by the application
        self.unread_cost_bytes = 0  # the same with what its messages take in memory
        self.last_received_at = host.clock()

    @property
    def is_body_awaited(self) -> bool:
        """Whether the next piece of the body is the client's to send, and nothing can be said before it has come."""
        is_asked = self.exchange is None or self.exchange.want is None  # a client may wait for 100 Continue
        return is_asked and not (self.is_request_over or self.has_started or self.unread_bytes)

    @property
    def is_full(self) -> bool:
        """Whether as much waits for the application as may.

        That is as much as over HTTP/2, if its address has room for it: the end of a connection comes behind all that
        was sent before, and a client's leaving is seen only where that was read.
        """
        host, cost_bytes = self._host, self.unread_cost_bytes
        if cost_bytes <= UNREAD_COST_BYTES:
            return False
        return cost_bytes > host.limits.stream_window_bytes or not host.account.may_read_ahead

    @property
    def is_behind(self) -> bool:
        """Whether its WebSocket's application is still at what came."""
        exchange = self.exchange
        return self.is_tunnel and isinstance(exchange, WebSocketExchange) and not exchange.has_stopped

    # The client's side.

    def take_body(self, data: bytes, *, is_last: bool) -> None:
        """Pass on a piece of the body, or of what follows an upgrade."""
        exchange = self.exchange
        self.is_request_over = is_last
        if exchange is None or self._is_over or (is_last and isinstance(exchange, WebSocketExchange)):
            return
        if size_bytes := len(data):
            cost_bytes = size_bytes + MESSAGE_COST_BYTES
            self.unread_bytes += size_bytes
            self.unread_cost_bytes += cost_bytes
            self._host.account.buffered_bytes += cost_bytes
        if not self.is_tunnel:
            exchange.received_bytes += size_bytes
            if exchange.received_bytes > self._host.limits.max_body_bytes:
                raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request's body is too large.")
        exchange.deliver_body(data, is_last=is_last)

    def end_tunnel(self) -> None:
        """The client has ended its side of what followed an upgrade."""
        if self.exchange is not None and not self._is_over:
            self.exchange.deliver_body(b"", is_last=True)

    def note_written(self, size_bytes: int, *, is_all: bool) -> None:
        """So much of the connection's bytes is on its way."""
        size_bytes = self._waiting_bytes if is_all else min(size_bytes, self._waiting_bytes)
        self._waiting_bytes -= size_bytes
        if size_bytes and self.exchange is not None:
            self.exchange.note_written(size_bytes)

    def lose(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The connection ends."""
        self._is_over = True
        self.forget_unread()
        if self.exchange is not None:
            self.exchange.lose_client(cause)

    def close(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The same, once all that waits is written."""
        self.note_written(0, is_all=True)
        self.lose(cause)

    def forget_unread(self) -> None:
        """Nobody will read what has come."""
        self._host.account.buffered_bytes -= self.unread_cost_bytes
        self.unread_bytes = self.unread_cost_bytes = 0

    def send_continue(self) -> None:
        """Ask for the body (RFC 9110 section 10.1.1)."""
        if not self.has_started and not self._is_over and not self.is_request_over:
            self.last_received_at = self._host.clock()  # the client could not send
            self._connection.write(CONTINUE)

    # The application's side: `Carrier`.

    def start(self, status: int, fields: Fields, *, is_last: bool) -> None:
        """Send the head of an answer."""
        if self._is_over:
            return
        if self.has_started:  # a second one would be read as a part of the body
            self.abort()
            raise RuntimeError("the answer has a head already")
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._connection.write(encode_head(status, fields))
            self.has_started = self.is_tunnel = True
            self._connection.discards_body = False
            if rest := self._connection.take_tunnelled():
                self.take_body(rest, is_last=False)
            return
        # With the body still on its way the connection cannot be used again, and its client must know
        # before it sends the next request (RFC 9112 section 9.6).
        request = self._request
        keeps_alive = request.keeps_alive and self.is_request_over and not self._connection.is_draining
        framing = ResponseFraming(
            request.method, request.version, keeps_alive=keeps_alive, takes_trailers=request.takes_trailers
        )
        self._connection.write(framing.start(status, fields))
        self._framing = framing
        self.has_started = True
        if is_last:
            self._end()

    def write(self, data: bytes, *, is_last: bool) -> None:
        """Send a piece of the body."""
        if self._is_over:
            return
        size_bytes = len(data)
        self._waiting_bytes += size_bytes
        if self.exchange is not None:
            self.exchange.note_waiting(size_bytes)
        if self.is_tunnel:
            self._connection.write(data)
            if is_last:
                self._is_over = True
                self._connection.cut()
            return
        if self._framing is None:
            raise RuntimeError("the answer has no head")
        for part in self._framing.encode_body(data, is_last=is_last):
            self._connection.write(part)
        if is_last:
            self._end()

    def trail(self, fields: Fields) -> None:
        """Send trailers, the last of the answer."""
        if not self._is_over and self._framing is not None:
            self._connection.write(self._framing.encode_trailers(fields))
            self._end()

    def credit(self, size_bytes: int) -> None:
        """The application has taken so much of the request."""
        size_bytes = min(size_bytes, self.unread_bytes)
        if not size_bytes:
            return
        was_full = (
            self.unread_cost_bytes > UNREAD_COST_BYTES
        )  # at some time, maybe: it goes by others of its address, too
        cost_bytes = self.unread_cost_bytes * size_bytes // self.unread_bytes
        self.unread_bytes -= size_bytes
        self.unread_cost_bytes -= cost_bytes
        self._host.account.buffered_bytes -= cost_bytes
        self.last_received_at = self._host.clock()
        if was_full and not self.is_full:
            self._connection.resume()

    def abort(self) -> None:
        """End the connection: the answer will not be completed."""
        if not self._is_over:
            self._connection.cut()

    def _end(self) -> None:
        self._is_over = True
        self._connection.end_turn(keeps_alive=self._framing is not None and self._framing.keeps_alive)
