"""From what a client sends on its streams to the exchanges that applications get (RFC 9113 section 8)."""

from __future__ import annotations

from http import HTTPStatus

from sage_edge.app.asgi import error_answer
from sage_edge.app.exchange import Exchange
from sage_edge.app.request_id import identify
from sage_edge.core.exchange import Cause
from sage_edge.core.limits import MAX_FIELDS
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.routing import HEALTH_PATHS
from sage_edge.server.carrier import Host
from sage_edge.server.http2.budgets import FrameBudgets, Kind
from sage_edge.server.http2.frames import ErrorCode
from sage_edge.server.http2.hpack import FIELD_OVERHEAD_BYTES, Field
from sage_edge.server.http2.outbound import Outbound
from sage_edge.server.http2.request import MalformedError, RefusedError, Request, check_fields, read_request
from sage_edge.server.http2.stream import Stream
from sage_edge.server.http2.streams import Streams
from sage_edge.server.http2.windows import ReceiveWindow
from sage_edge.server.http_exchange import HTTPExchange, complete_fields
from sage_edge.server.refusal import Asked, note_refusal, note_unbegun
from sage_edge.server.scope import http_scope, websocket_scope
from sage_edge.server.websocket import WebSocketExchange
from sage_edge.server.websocket_handshake import HandshakeError, read_offer

log = EdgeLogger(__name__)

HTTP_VERSION = "2"
BODY_TOO_LARGE = "The request's body is too large."


class Exchanges:
    """One connection's: those that are about to begin, and what comes for those that have.

    Args:
        host: the connection's shell.
        streams: of the connection.
        out: what it writes.
        window: its own, for what the client sends.
        budgets: which requests that are refused count against.
    """

    def __init__(
        self, host: Host, streams: Streams, out: Outbound, window: ReceiveWindow, budgets: FrameBudgets
    ) -> None:
        self._host = host
        self._streams = streams
        self._out = out
        self._window = window
        self._budgets = budgets
        self._new: list[Exchange] = []

    @property
    def has_new(self) -> bool:
        """Whether some are about to begin."""
        return bool(self._new)

    def run_new(self) -> None:
        """Begin those that came with the last bytes.

        Only once all of these are gone through, in however many turns: what was reset in the same breath need not
        begin; and a small body has come too.
        """
        self.drop_unbegun()
        new, self._new = self._new, []
        for exchange in new:
            self._uncount(exchange)  # whoever runs it counts it
            self._host.run_exchange(exchange)

    def drop_unbegun(self) -> None:
        """Tell of those that were reset already, as no layer will, and have them wait for the others no longer."""
        gone = [exchange for exchange in self._new if exchange.is_client_gone]
        if gone:
            self._new = [exchange for exchange in self._new if not exchange.is_client_gone]
        for exchange in gone:
            self._uncount(exchange)
            note_unbegun(self._host, exchange)

    def open(self, stream_id: int, fields: list[Field], *, is_last: bool) -> None:
        """A request on a new stream.

        Raises:
            BudgetFault: too many of them are none.
        """
        host, streams = self._host, self._streams
        if len(streams) >= host.limits.max_streams:
            host.metrics.limits_exceeded.add("streams")
            self._note_refusal(stream_id, fields, None, "too many streams")
            if streams.is_limit_known:
                streams.refuse(stream_id, ErrorCode.REFUSED_STREAM)  # section 5.1.2
            else:
                streams.refuse_kindly(stream_id, ErrorCode.REFUSED_STREAM)
                self._budgets.spend(Kind.REFUSAL, host.clock())
            return
        if host.account.is_exhausted and not _asks_for_health(fields):
            host.metrics.limits_exceeded.add("buffered_bytes")
            self._note_refusal(stream_id, fields, None, "too much waits for it")
            streams.refuse_kindly(stream_id, ErrorCode.REFUSED_STREAM)
            return
        stream = Stream(streams, host, self._out, self._window, stream_id)
        stream.is_remote_closed = is_last
        try:
            exchange = _open_exchange(stream, fields, host, is_last=is_last)
        except MalformedError as error:
            self.refuse_malformed(stream_id, fields, str(error))
            return
        except RefusedError as refused:
            answer, body = error_answer(refused.status, refused.detail, refused.fields)
            if (b":method", b"HEAD") in fields:
                body = b""  # the head is as a GET's (RFC 9110 section 9.3.2)
            field = self._note_refusal(stream_id, fields, refused.status, refused.detail, sent_bytes=len(body))
            streams.add(stream)
            self._answer(stream, refused.status, [*answer, field], body)
            return
        streams.add(stream)
        stream.exchange = exchange
        exchange.stream_id = stream_id
        if is_last:
            self._deliver(stream, exchange, b"", is_last=True)
        self._new.append(exchange)
        # Others of its address may begin before it does, which is not to let them be more than may.
        host.account.add_request(exchange.head_bytes, exchange.state_bytes)

    def _uncount(self, exchange: Exchange) -> None:
        self._host.account.remove_request(exchange.head_bytes, exchange.state_bytes)

    def refuse_malformed(self, stream_id: int, fields: list[Field], reason: str) -> None:
        """A request that breaks a rule of the protocol (section 8.1.1).

        Raises:
            BudgetFault: it is one too many.
        """
        self._note_refusal(stream_id, fields, None, reason)
        self._streams.refuse(stream_id, ErrorCode.PROTOCOL_ERROR)

    def refuse_late(self, stream_id: int, fields: list[Field]) -> None:
        """A request that comes behind the end that was announced; its client may ask another server (section 6.8)."""
        self._note_refusal(stream_id, fields, None, "the connection is draining")
        self._streams.refuse_kindly(stream_id, ErrorCode.REFUSED_STREAM)

    def take_trailers(self, stream: Stream, fields: list[Field], *, is_last: bool) -> None:
        """A second header section, which ends the body (section 8.1).

        Raises:
            BudgetFault: a stream was reset for it, one too many.
        """
        if stream.is_remote_closed:
            self._streams.reset(stream, ErrorCode.STREAM_CLOSED)
            return
        try:
            if stream.is_tunnel:
                raise MalformedError("fields within a tunnel")  # section 8.5
            if not is_last:
                raise MalformedError("a second header section that is no trailers")
            check_fields(fields)
        except MalformedError:
            self._streams.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        self.take_body(stream, b"", is_last=True)

    def take_body(self, stream: Stream, data: bytes, *, is_last: bool) -> None:
        """A piece of a body. What nobody will read is credited to the connection at once (section 6.9).

        Raises:
            BudgetFault: a stream was reset for it, one too many.
        """
        size_bytes = len(data)
        exchange = stream.exchange
        is_answered = exchange is None or stream.has_ended
        # Whoever has been answered need not send the rest.
        if not stream.count_announced(size_bytes, is_last=is_last and not is_answered):
            self._window.credit(size_bytes)
            self._streams.reset(stream, ErrorCode.PROTOCOL_ERROR)  # section 8.1.1
            return
        stream.is_remote_closed = is_last
        if exchange is None or stream.has_ended:
            # Answered before all of it had come. It is let in, up to the stream's window, since not every
            # client can read an answer whose stream was reset.
            self._window.credit(size_bytes)
            if not stream.queued_bytes:
                self._streams.finish(stream)
            return
        stream.note_unread(size_bytes)
        if not stream.is_tunnel:
            exchange.received_bytes += size_bytes
            if exchange.received_bytes > self._host.limits.max_body_bytes:
                self._refuse(stream, exchange, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, BODY_TOO_LARGE)
                return
        if self._host.account.is_exhausted:
            self._host.metrics.limits_exceeded.add("buffered_bytes")
            self._streams.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
        elif size_bytes or is_last:
            self._deliver(stream, exchange, data, is_last=is_last)

    def _deliver(self, stream: Stream, exchange: Exchange, data: bytes, *, is_last: bool) -> None:
        if stream.is_tunnel and not exchange.progress.has_started:
            # Its client's turn has not come (RFC 6455 section 4.1).
            what = "Bytes came" if data else "The stream ended"
            self._refuse(stream, exchange, HTTPStatus.BAD_REQUEST, f"{what} before the WebSocket was open.")
        else:
            exchange.deliver_body(data, is_last=is_last)

    def _refuse(self, stream: Stream, exchange: Exchange, status: HTTPStatus, detail: str) -> None:
        """End a request for what came after its head, with an answer if there was none."""
        if exchange.has_begun:  # otherwise it is told when it does not begin
            self._host.metrics.protocol_errors.add(HTTP_VERSION, status.name.lower())
        if exchange.progress.has_started:
            self._streams.reset(stream, ErrorCode.CANCEL, Cause.REFUSED)
            return
        exchange.refusal = detail
        exchange.status = status.value
        answer, body = error_answer(status, detail, identify(exchange))
        if exchange.scope.get("method") == "HEAD":
            body = b""
        exchange.sent_bytes = len(body)
        stream.exchange = None  # what follows is nobody's
        stream.drop_unread()
        exchange.lose_client(Cause.REFUSED)
        self._answer(stream, status, answer, body)

    def _answer(self, stream: Stream, status: HTTPStatus, fields: list[Field], body: bytes) -> None:
        """Answer without an application."""
        stream.start(status, complete_fields(fields), is_last=not body)
        if body:
            stream.write(body, is_last=True)
        self._budgets.spend(Kind.REFUSAL, self._host.clock())

    def _note_refusal(
        self, stream_id: int, fields: list[Field], status: HTTPStatus | None, reason: str, *, sent_bytes: int = 0
    ) -> Field:
        said = dict(fields)
        asked = Asked(said.get(b":method", b"-").decode("latin-1"), said.get(b":path", b"-"), fields)
        measured = {"received_bytes": 0, "sent_bytes": sent_bytes}
        return note_refusal(self._host, HTTP_VERSION, asked, status, reason, measured=measured, stream=stream_id)


def _asks_for_health(fields: list[Field]) -> bool:
    """Whether a balancer asks how the edge is, which its other clients do not change."""
    return any(name == b":path" and value in HEALTH_PATHS for name, value in fields)


def _open_exchange(stream: Stream, fields: list[Field], host: Host, *, is_last: bool) -> Exchange:
    """The exchange of a new stream.

    Args:
        stream: on which it came; learns what is to come on it.
        fields: the request's.
        host: the connection's shell.
        is_last: there is no body.

    Raises:
        MalformedError: the request breaks a rule of the protocol.
        RefusedError: it means something that is not served.
    """
    limits = host.limits
    request = read_request(fields)
    head_bytes = sum([len(name) + len(value) + FIELD_OVERHEAD_BYTES for name, value in fields])
    if head_bytes > limits.max_header_bytes or len(request.fields) > MAX_FIELDS:
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large.")
    stream.missing_bytes = length = request.content_length
    if length is not None and length > limits.max_body_bytes:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, BODY_TOO_LARGE)
    if is_last and length and not request.protocol:
        raise MalformedError("a body was announced and none came")
    if request.protocol:
        websocket = _open_websocket(request, stream, host)
        websocket.head_bytes = head_bytes
        return websocket
    scope = http_scope(host, HTTP_VERSION, request.method, request.target, request.fields)
    exchange = HTTPExchange(scope, host.new_event, stream)
    exchange.head_bytes = head_bytes
    if not is_last and any(name == b"expect" and value.lower() == b"100-continue" for name, value in request.fields):
        exchange.want = stream.send_continue
        exchange.timeline.note_unread()
    return exchange


def _open_websocket(request: Request, stream: Stream, host: Host) -> Exchange:
    """RFC 8441 section 5."""
    try:
        offer = read_offer(request.fields, http_version=HTTP_VERSION)
    except HandshakeError as error:
        raise RefusedError(error.status, error.detail, error.fields) from None
    stream.is_tunnel = True
    scope = websocket_scope(host, HTTP_VERSION, request.target, request.fields, list(offer.subprotocols))
    return WebSocketExchange(scope, host, stream, offer)
