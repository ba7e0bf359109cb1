"""One HTTP/1.1 connection: requests one after the other, each with its answer (RFC 9112 section 9).

What bytes mean is `parser`'s, how an answer is delimited `response`'s. Here: whose turn it is, what
waits, limits of time, and the ways a connection ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus

from sage_edge.app.asgi import error_answer, name_client
from sage_edge.app.exchange import HIGH_WATER_BYTES, Exchange
from sage_edge.app.request_id import identify
from sage_edge.core.exchange import Cause
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.routing import HEALTH_PATHS
from sage_edge.server.carrier import Host
from sage_edge.server.http1.head import guess_request_line
from sage_edge.server.http1.parser import (
    BadRequestError,
    BodyPart,
    EndOfRequest,
    HTTP2Preface,
    Request,
    RequestParser,
)
from sage_edge.server.http1.response import encode_head
from sage_edge.server.http1.turn import Turn
from sage_edge.server.http_exchange import HTTPExchange, complete_fields
from sage_edge.server.refusal import UNKNOWN, Asked, Field, note_refusal
from sage_edge.server.scope import http_scope, websocket_scope
from sage_edge.server.websocket import WebSocketExchange
from sage_edge.server.websocket_handshake import HandshakeError, read_offer

log = EdgeLogger(__name__)

PIPELINED_BYTES = 64 * 1024
"""How much is read of the requests behind the one that is being answered."""
FAREWELL_SECONDS = 1.0
"""How long a connection without a whole request stays open while draining: one may be under way. Where another serves
in this one's place, it stays until its next answer, which says that it ends: who thinks for longer than that would lose
a request that no client may send twice."""


class HTTP1Connection:
    """The protocol of one connection. Calls its host back; never waits.

    Args:
        host: the connection's shell.

    Attributes:
        is_draining: it ends once its request is answered, and says so.
        discards_body: what comes after its end may be a body, whose client looks for its answer only behind it.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parser = RequestParser(max_head_bytes=host.limits.max_header_bytes)
        self._turn: Turn | None = None
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._held_bytes = 0  # of what was read, in its client's account
        self._is_turn_over = False
        self._is_closing = False
        self.is_draining = False
        self.discards_body = True  # until it is a WebSocket's
        self._drained_at = math.inf  # inf for as long as it may wait for a request
        self._since = host.clock()  # the last request's end, or the first byte of the next one's head
        self._has_begun = False  # the next one's head

    # The shell's side: `ConnectionProtocol`.

    @property
    def wants_close(self) -> bool:
        """Whether the connection can end once the output is taken."""
        return self._is_closing

    @property
    def has_output(self) -> bool:
        """Whether there is something to write."""
        return bool(self._queue)

    @property
    def may_read(self) -> bool:
        """False while as much waits as may: for an application, or behind the request being answered."""
        turn = self._turn
        return turn is None or not (turn.is_full or self._parser.buffered_bytes > PIPELINED_BYTES)

    @property
    def is_behind(self) -> bool:
        """Whether a WebSocket's application is still at what came: its client may have left with a word."""
        return self._turn is not None and self._turn.is_behind

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight."""
        return self._turn is None and not self._parser.has_begun

    @property
    def requests_in_flight(self) -> int:
        """One or none."""
        return int(self._turn is not None)

    def receive(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._is_closing:
            return
        turn = self._turn
        if turn is not None and turn.is_tunnel:
            turn.take_body(data, is_last=False)
            return
        self._parser.feed(data)
        if turn is not None:
            turn.last_received_at = self._host.clock()
        self.advance()

    def take_output(self, limit_bytes: int) -> bytes:
        """What is to be written now."""
        parts = []
        size = 0
        queue = self._queue
        while queue and size < limit_bytes:
            part = queue.popleft()
            if size + len(part) > limit_bytes:
                view = memoryview(part)
                queue.appendleft(view[limit_bytes - size :])  # type: ignore[arg-type]  # a view of bytes
                part = view[: limit_bytes - size]  # type: ignore[assignment]
            parts.append(part)
            size += len(part)
        self._queued_bytes -= size
        self._host.account.buffered_bytes -= size
        if self._turn is not None:
            self._turn.note_written(size, is_all=not queue)
            if self._is_turn_over:
                self._begin_next()
        return b"".join(parts)

    def check_time(self, now: float) -> None:
        """End what has waited for too long."""
        if self._is_closing:
            return
        limits = self._host.limits
        turn = self._turn
        if turn is not None:
            if turn.exchange is not None:
                turn.exchange.check_progress()
                if turn.is_full:
                    turn.exchange.timeline.note_unread()
            if turn.is_body_awaited and now - turn.last_received_at > limits.body_seconds:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request's body stopped coming.")
        elif self.is_draining and now - self._drained_at > FAREWELL_SECONDS:
            if self._parser.has_begun:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The server is shutting down.")
            else:
                self._close()
        elif self._parser.has_begun:
            if not self._has_begun:
                self._has_begun = True
                self._since = now
            elif now - self._since > limits.header_seconds:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request's head took too long.")
        elif now - self._since > limits.idle_seconds:
            self._close()

    def prepare_drain(self) -> None:
        """Have the next answer say that it is the last."""
        self.is_draining = True

    def drain(self, *, keeps_idle: bool = False) -> None:
        """Answer the request in flight, or one that is under way, and end."""
        self.is_draining = True
        if not keeps_idle:
            self._drained_at = min(self._drained_at, self._host.clock())

    def go_away(self) -> None:
        """The time to drain is up."""
        if self._turn is not None and self._turn.exchange is not None:
            self._turn.exchange.go_away()

    def end_input(self) -> None:
        """The client has ended its side: what was answered whole is still written, and nothing else is answered."""
        turn = self._turn
        if turn is not None and turn.is_tunnel:
            turn.end_tunnel()  # which ends the connection, once all that was said in it is gone through
        elif not self._is_closing:
            self._close()

    def lose(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The connection is gone."""
        self._is_closing = True
        self._charge(0)
        self._host.account.buffered_bytes -= self._queued_bytes
        self._queue.clear()
        self._queued_bytes = 0
        if self._turn is not None:
            turn, self._turn = self._turn, None
            turn.lose(cause)

    def end(self, exchange: Exchange) -> None:
        """The application has ended."""
        exchange.end()

    def let_go(self) -> None:
        """Nothing here holds on to it."""

    # What the current turn asks for.

    def advance(self) -> None:
        """Go through what has been read, as far as the current request lets it."""
        self._go_through()
        if not self._is_closing:
            self._charge(self._parser.buffered_bytes)

    def _charge(self, held_bytes: int) -> None:
        """Account for what was read and waits, half a head or requests behind the one that is being answered."""
        self._host.account.buffered_bytes += held_bytes - self._held_bytes
        self._held_bytes = held_bytes

    def _go_through(self) -> None:
        request = None
        try:
            while not self._is_closing and (event := self._parser.next_event()) is not None:
                match event:
                    case BodyPart():
                        self._current().take_body(event.data, is_last=False)
                        # Nothing else takes long. A request that is here whole is not to be answered as if it were not.
                        if event.is_dear and not self._host.has_time():
                            self._host.go_on_later(self.advance)
                            return
                    case EndOfRequest():
                        self._current().take_body(b"", is_last=True)
                    case Request():
                        request = event
                        self._begin(event)
                    case HTTP2Preface():
                        self._switch()
                        return
        except BadRequestError as error:
            if error.is_http:
                self._refuse(error.status, error.detail, error.fields, request)
            else:
                log.info("connection refused", client=name_client(self._host.client), reason="it does not speak HTTP")
                self._host.metrics.protocol_errors.add("1.1", "not_http")
                self._close()

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        if data:
            self._queue.append(data)
            self._queued_bytes += len(data)
            self._host.account.buffered_bytes += len(data)
            self._host.wake()

    def resume(self) -> None:
        """There may be room again to read into."""
        self._host.wake()

    def end_turn(self, *, keeps_alive: bool) -> None:
        """The answer is complete."""
        if not keeps_alive or self._is_leaving:
            self._close()
            return
        self._current().forget_unread()
        self._is_turn_over = True
        self._begin_next()

    def cut(self) -> None:
        """End the connection with its answer incomplete."""
        self._close()

    # Requests.

    def _begin_next(self) -> None:
        """Go on to the next request, once the client takes its answers (they would pile up otherwise)."""
        if self._queued_bytes > HIGH_WATER_BYTES:
            return
        self._current().note_written(0, is_all=True)  # what is left is bounded, and nobody else asks for this turn
        self._turn = None
        self._is_turn_over = False
        self._since = self._host.clock()
        self._has_begun = False
        self._parser.start_next()
        if self._is_leaving and self.is_idle:
            self._close()
            return
        self.advance()

    @property
    def _is_leaving(self) -> bool:
        """Whether it ends without a word where the client has not been told."""
        return self._drained_at < math.inf

    def _begin(self, request: Request) -> None:
        host = self._host
        limits = host.limits
        if request.content_length is not None and request.content_length > limits.max_body_bytes:
            raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request's body is too large.")
        if host.account.is_exhausted and request.target not in HEALTH_PATHS:
            raise BadRequestError(HTTPStatus.SERVICE_UNAVAILABLE, "Too much waits for this client already.")
        turn = self._turn = Turn(self, host, request)
        if "websocket" in request.upgrade:
            exchange = self._begin_websocket(turn, request)
        else:
            scope = http_scope(host, request.version, request.method, request.target, request.fields)
            exchange = HTTPExchange(scope, host.new_event, turn)
        exchange.head_bytes = request.head_bytes
        turn.exchange = exchange
        if request.expects_continue:
            exchange.want = turn.send_continue
            exchange.timeline.note_unread()
        host.run_exchange(exchange)

    def _begin_websocket(self, turn: Turn, request: Request) -> Exchange:
        if request.method != "GET" or request.is_chunked or request.content_length:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "A WebSocket's handshake is a GET without a body.")
        try:
            offer = read_offer(request.fields, http_version=request.version)
        except HandshakeError as error:
            raise BadRequestError(error.status, error.detail, error.fields) from None
        scope = websocket_scope(self._host, request.version, request.target, request.fields, list(offer.subprotocols))
        return WebSocketExchange(scope, self._host, turn, offer)

    def take_tunnelled(self) -> bytes:
        """What was read behind a handshake that is now complete."""
        self._charge(0)
        return self._parser.take_rest()

    def _switch(self) -> None:
        if self._host.is_tls:  # RFC 9113 section 3.3: over TLS it is ALPN's to choose
            raise BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/2 was not agreed on.")
        self._is_closing = True
        self._charge(0)
        self._host.become_http2(self._parser.take_rest())

    def _refuse(
        self, status: HTTPStatus, detail: str, fields: Sequence[Field] = (), request: Request | None = None
    ) -> None:
        """Answer what is no request, or no good one, and end.

        Args:
            status: of the answer.
            detail: one sentence for the client.
            fields: for the answer.
            request: what it was; None where it could not be read.
        """
        turn = self._turn
        exchange = turn.exchange if turn is not None else None
        answer, body = error_answer(status, detail, fields)
        asked = self._describe(request)
        if (exchange.scope.get("method") if exchange is not None else asked.method) == "HEAD":
            body = b""  # the head is as a GET's (RFC 9110 section 9.3.2)
        if exchange is None:
            measured = {"received_bytes": 0, "sent_bytes": len(body)}
            field = note_refusal(self._host, self._version_of(request), asked, status, detail, measured=measured)
            answer.append(field)
        else:  # the layers tell it or, where it has not begun, the shell does and counts it, too
            if exchange.has_begun:
                self._host.metrics.protocol_errors.add(exchange.scope["http_version"], status.name.lower())
            exchange.refusal = detail
            exchange.status = exchange.status or status.value
            answer += identify(exchange)
        if turn is None or not turn.has_started:
            if exchange is not None:
                exchange.sent_bytes = len(body)
            self.write(encode_head(status, complete_fields([*answer, (b"connection", b"close")])) + body)
        self._turn = None
        if turn is not None:
            turn.close(Cause.STALLED if status is HTTPStatus.REQUEST_TIMEOUT else Cause.REFUSED)
        self._close()

    def _describe(self, request: Request | None) -> Asked:
        if request is not None:
            return Asked(request.method, request.target, request.fields)
        guessed = guess_request_line(self._parser.begun_line)
        return Asked(*guessed) if guessed else UNKNOWN

    def _version_of(self, request: Request | None) -> str:
        if request is not None:
            return request.version
        return "1.0" if self._parser.begun_line.endswith(b" HTTP/1.0") else "1.1"

    def _current(self) -> Turn:
        if self._turn is None:
            raise RuntimeError("no request has its turn")
        return self._turn

    def _close(self) -> None:
        self._is_closing = True
        if self._turn is not None:
            turn, self._turn = self._turn, None
            turn.close()
        self._host.wake()
