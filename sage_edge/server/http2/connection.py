"""One HTTP/2 connection: what frames mean for its streams (RFC 9113 sections 5 to 8).

What is to be written waits in `outbound`; requests become exchanges in `exchanges`; what an application
sends goes through its `stream`.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import structlog

from sage_edge.app.exchange import Exchange
from sage_edge.core.exchange import Cause
from sage_edge.server.carrier import Fields, Host
from sage_edge.server.http2 import frames
from sage_edge.server.http2.budgets import BudgetFault, FrameBudgets, Kind
from sage_edge.server.http2.closed import ClosedStreams, Ending
from sage_edge.server.http2.codec import Codec
from sage_edge.server.http2.exchanges import open_exchange
from sage_edge.server.http2.farewell import Farewell
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode, Setting
from sage_edge.server.http2.hpack import TABLE_BYTES, Field
from sage_edge.server.http2.outbound import Outbound
from sage_edge.server.http2.request import MalformedError, RefusedError, check_fields
from sage_edge.server.http2.stream import Stream
from sage_edge.server.http2.waits import Waits
from sage_edge.server.http2.windows import ReceiveWindow
from sage_edge.server.refusal import note_refusal

log = structlog.get_logger(__name__)

DECODED_FACTOR = 4
"""A header list over the limit is answered with 431; over so many times that, the connection ends."""
UNSENT_LIMIT_BYTES = 64 * 1024
"""With so much to answer to frames that nobody takes, no more frames are read."""

_CAUSES = {
    ErrorCode.CANCEL: Cause.STALLED,
    ErrorCode.NO_ERROR: Cause.STALLED,
    ErrorCode.ENHANCE_YOUR_CALM: Cause.BUDGET,
}
"""Why a stream is reset by the server; for other codes, a fault of the protocol."""


class HTTP2Connection:
    """The protocol of one connection. Calls its host back; never waits.

    Args:
        host: the connection's shell.
    """

    def __init__(self, host: Host) -> None:
        limits = host.limits
        self._host = host
        self._limits = limits
        self._now = now = host.clock()
        self._codec = Codec(self, max_list_bytes=DECODED_FACTOR * limits.max_header_bytes)
        self._streams: dict[int, Stream] = {}
        self._running = 0
        self._out = Outbound(self.finish)
        self._last_stream_id = 0
        self._is_ack_due = True
        self._initial_send_window_bytes = frames.DEFAULT_WINDOW_BYTES
        self._new_exchanges: list[Exchange] = []
        self._closed = ClosedStreams()
        self._waits = Waits(limits, now)
        self._farewell = Farewell(self._out)
        self._is_closing = False
        self._budgets = FrameBudgets(limits, now)
        self._out.control(
            frames.settings_frame(
                [
                    (Setting.MAX_CONCURRENT_STREAMS, limits.max_streams),
                    (Setting.INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
                    (Setting.MAX_HEADER_LIST_SIZE, limits.max_header_bytes),
                    (Setting.ENABLE_CONNECT_PROTOCOL, 1),
                ]
            )
        )
        self._window = ReceiveWindow(self._out, limits.connection_window_bytes)

    # The shell's side: `ConnectionProtocol`.

    @property
    def wants_close(self) -> bool:
        """Whether the connection can end once the output is taken."""
        return self._is_closing

    @property
    def has_output(self) -> bool:
        """Whether there is something to write."""
        return self._out.is_ready

    @property
    def may_read(self) -> bool:
        """False while the client does not take what its frames are answered with."""
        return self._out.control_bytes < UNSENT_LIMIT_BYTES

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open."""
        return not self._streams

    @property
    def requests_in_flight(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def receive(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._is_closing:
            return
        self._now = self._host.clock()
        try:
            self._codec.feed(data)
        except ConnectionFault as fault:
            self._fail(fault)
        # Only now, for what was reset in the same breath need not begin, and a small body has come too.
        exchanges, self._new_exchanges = self._new_exchanges, []
        for exchange in exchanges:
            if not exchange.is_client_gone:
                self._running += 1
                self._host.run_exchange(exchange)
        self._close_if_over()
        if self._out.is_ready or self._is_closing:
            self._host.wake()

    def take_output(self, limit_bytes: int) -> bytes:
        """What is to be written now."""
        data = self._out.take(limit_bytes)
        self._budgets.refund(Kind.WINDOW_UPDATE, 2 * self._out.data_frames)
        self._out.data_frames = 0
        self._close_if_over()
        return data

    def check_time(self, now: float) -> None:
        """End what has waited for too long."""
        self._now = now
        if self._is_closing:
            return
        try:
            self._check_time(now)
        except ConnectionFault as fault:
            self._fail(fault)
        if self._out.is_ready or self._is_closing:
            self._host.wake()

    def _check_time(self, now: float) -> None:
        if self._farewell.is_due(now):
            self._announce_end()
        for stream in list(self._streams.values()):
            self._check_stream(stream, now)
        self._waits.check(now, self._codec, has_streams=bool(self._streams))

    def drain(self) -> None:
        """Announce the end, let a round trip pass for streams under way, and finish those."""
        if self._is_closing or self._farewell.has_begun:
            return
        self._farewell.begin(self._host.clock())
        self._host.wake()

    def lose(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The connection is gone."""
        self._out.clear()
        self._end_streams(cause)

    def _end_streams(self, cause: Cause) -> None:
        self._is_closing = True
        for stream in list(self._streams.values()):
            self.forget(stream, Ending.SERVER_RESET)
            if stream.exchange is not None:
                stream.exchange.lose_client(cause)

    def end(self, exchange: Exchange) -> None:
        """The application has ended."""
        self._running -= 1
        exchange.end()

    # What the client says: `FrameHandler`.

    def on_headers(self, stream_id: int, fields: list[Field], *, is_last: bool, depends_on: int) -> None:
        """A request, or the trailers of one."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._take_trailers(stream, fields, is_last=is_last)
            return
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the stream's number is even")  # section 5.1.1
        if stream_id <= self._last_stream_id:
            if self._closed.find(stream_id) is None:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the stream's number is not a new one")
            self._refuse_closed(stream_id)
            return
        self._last_stream_id = stream_id
        if self._farewell.refuses(stream_id):
            self._out.control(frames.rst_stream_frame(stream_id, ErrorCode.REFUSED_STREAM))
            self._closed.note(stream_id, Ending.SERVER_RESET)
            return
        if depends_on == stream_id:
            self._reset_unopened(stream_id, ErrorCode.PROTOCOL_ERROR)  # RFC 7540 section 5.3.1
            return
        limits = self._limits
        is_full = len(self._streams) >= limits.max_streams or self._running >= 2 * limits.max_streams
        if is_full or self._host.account.is_exhausted:
            self._host.metrics.limits_exceeded.add("streams" if is_full else "buffered_bytes")
            self._reset_unopened(stream_id, ErrorCode.REFUSED_STREAM)  # section 5.1.2
            return
        self._open(stream_id, fields, is_last=is_last)

    def on_data(self, stream_id: int, data: bytes, flow_bytes: int, *, is_last: bool) -> None:
        """A piece of a body. What nobody will read is credited to the connection at once (section 6.9)."""
        self._window.take(flow_bytes)
        if not data and not is_last:
            self._budgets.spend(Kind.EMPTY, self._now)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._window.credit(flow_bytes)
            self._require_opened(stream_id, "DATA")
            self._refuse_closed(stream_id)
            return
        if stream.is_remote_closed:
            self._window.credit(flow_bytes)
            self._reset(stream, ErrorCode.STREAM_CLOSED)
            return
        stream.receive_window_bytes -= flow_bytes
        if stream.receive_window_bytes < 0:
            self._window.credit(flow_bytes)
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        size = len(data)
        if padding := flow_bytes - size:
            self._window.credit(padding)
            stream.credit_window(padding)
        stream.last_received_at = self._now
        if stream.missing_bytes is not None:
            stream.missing_bytes -= size
            if stream.missing_bytes < 0 or (is_last and stream.missing_bytes):
                self._window.credit(size)
                self._reset(stream, ErrorCode.PROTOCOL_ERROR)  # section 8.1.1
                return
        self._take_body(stream, data, is_last=is_last)

    def on_priority(self, stream_id: int, depends_on: int) -> None:
        """Ignored but for its number, and for what RFC 7540 section 5.3.1 asked of it."""
        self._budgets.spend(Kind.PRIORITY, self._now)
        if depends_on == stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")

    def on_reset(self, stream_id: int, code: int) -> None:
        """The client gives a stream up."""
        self._require_opened(stream_id, "RST_STREAM")
        self._budgets.spend(Kind.RESET, self._now)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self.forget(stream, Ending.CLIENT_RESET)
            if stream.exchange is not None:
                stream.exchange.lose_client()

    def on_settings(self, settings: Sequence[tuple[int, int]]) -> None:
        """Apply them, in order (section 6.5.3)."""
        self._waits.has_greeted = True
        self._budgets.spend(Kind.SETTINGS, self._now)
        window_bytes = self._initial_send_window_bytes
        for number, value in settings:
            if number == Setting.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST_WINDOW_BYTES:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is out of range")
                window_bytes = value
            elif number == Setting.HEADER_TABLE_SIZE:
                if value < TABLE_BYTES:
                    self._out.empty_table()
            elif number == Setting.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_BYTES <= value <= frames.LARGEST_FRAME_BYTES:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
            elif number in (Setting.ENABLE_PUSH, Setting.ENABLE_CONNECT_PROTOCOL) and value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a setting is neither 0 nor 1")
        if window_bytes != self._initial_send_window_bytes:
            self._resize_send_windows(window_bytes)
        self._out.control(frames.SETTINGS_ACK)

    def on_settings_ack(self) -> None:
        """The server's settings are sent once."""
        if not self._is_ack_due:
            self._budgets.spend(Kind.SETTINGS, self._now)
        self._is_ack_due = False

    def on_ping(self, payload: bytes, *, is_ack: bool) -> None:
        """Answer it (section 6.7). The answer to the server's own ends the drain's first step."""
        if not is_ack:
            self._budgets.spend(Kind.PING, self._now)
            self._out.control(frames.ping_frame(payload, is_ack=True))
        elif self._farewell.is_waiting:
            self._announce_end()
        else:
            self._budgets.spend(Kind.PING, self._now)

    def on_goaway(self, code: int) -> None:
        """Finish the client's streams, of which no more will come."""
        self._budgets.spend(Kind.PING, self._now)
        self._farewell.is_client_leaving = True

    def on_window_update(self, stream_id: int, increment_bytes: int) -> None:
        """Credit for what is sent (section 6.9)."""
        self._budgets.spend(Kind.WINDOW_UPDATE, self._now)
        if not stream_id:
            if not increment_bytes:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
            self._out.window_bytes += increment_bytes
            if self._out.window_bytes > frames.LARGEST_WINDOW_BYTES:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._require_opened(stream_id, "WINDOW_UPDATE")
            return
        if not increment_bytes:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.send_window_bytes += increment_bytes
        if stream.send_window_bytes > frames.LARGEST_WINDOW_BYTES:
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        self._out.ready(stream)

    def on_frame_size_fault(self, stream_id: int) -> None:
        """End the stream, if there is one (section 4.2)."""
        stream = self._streams.get(stream_id)
        if stream is None:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame's size is wrong")
        self._reset(stream, ErrorCode.FRAME_SIZE_ERROR)

    # What streams ask of their connection.

    def finish(self, stream: Stream) -> None:
        """The whole answer is on its way."""
        stream.drop_unread()
        if stream.is_remote_closed:
            self.forget(stream, Ending.BOTH_ENDED)
        elif stream.receive_window_bytes <= 0:
            # The body that nobody reads has filled the window; not before, for not every client can read an
            # answer whose stream was reset (section 8.1).
            self.forget(stream, Ending.SERVER_RESET)
            self._out.control(frames.rst_stream_frame(stream.stream_id, ErrorCode.NO_ERROR))
        else:
            stream.last_received_at = self._host.clock()  # the client has this long to end its side

    def forget(self, stream: Stream, ending: Ending) -> None:
        """Drop what is kept of a stream."""
        if self._streams.pop(stream.stream_id, None) is None:
            return
        stream.clear()
        self._closed.note(stream.stream_id, ending)
        if not self._streams:
            self._waits.idle_since = self._host.clock()

    # Requests.

    def _open(self, stream_id: int, fields: list[Field], *, is_last: bool) -> None:
        stream = Stream(self, self._host, self._out, self._window, stream_id, self._initial_send_window_bytes)
        stream.is_remote_closed = is_last
        stream.last_received_at = self._now
        try:
            exchange = open_exchange(stream, fields, self._host, is_last=is_last)
        except MalformedError as error:
            log.debug("malformed request", stream=stream_id, reason=str(error))
            self._host.metrics.protocol_errors.add("2", "malformed_request")
            self._reset_unopened(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        except RefusedError as refused:
            note_refusal(self._host, "2", refused.status, refused.status.phrase.lower(), stream=stream_id)
            self._streams[stream_id] = stream
            self._answer(stream, refused.status, refused.fields)
            return
        self._streams[stream_id] = stream
        stream.exchange = exchange
        exchange.stream_id = stream_id
        if is_last:
            exchange.deliver_body(b"", is_last=True)
        self._new_exchanges.append(exchange)

    def _answer(self, stream: Stream, status: HTTPStatus, fields: Fields = ()) -> None:
        """Answer without an application."""
        stream.start(status, [(b"content-length", b"0"), *fields], is_last=True)

    def _take_trailers(self, stream: Stream, fields: list[Field], *, is_last: bool) -> None:
        if stream.is_remote_closed:
            self._reset(stream, ErrorCode.STREAM_CLOSED)
            return
        try:
            if stream.is_tunnel:
                raise MalformedError("fields within a tunnel")  # section 8.5
            if not is_last:
                raise MalformedError("a second header section that is no trailers")
            check_fields(fields)
        except MalformedError:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if stream.missing_bytes:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        self._take_body(stream, b"", is_last=True)

    def _take_body(self, stream: Stream, data: bytes, *, is_last: bool) -> None:
        exchange = stream.exchange
        size = len(data)
        stream.is_remote_closed = is_last
        if exchange is None or stream.has_ended:
            # Answered before all of it had come. It is let in, up to the stream's window, since not every
            # client can read an answer whose stream was reset.
            self._window.credit(size)
            if not stream.queued_bytes:
                self.finish(stream)
        else:
            stream.note_unread(size)
            if not stream.is_tunnel:
                exchange.received_bytes += size
            if exchange.received_bytes > self._limits.max_body_bytes and not stream.is_tunnel:
                self._refuse_body(stream, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            if self._host.account.is_exhausted:
                self._host.metrics.limits_exceeded.add("buffered_bytes")
                self._reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
                return
            if size or is_last:
                exchange.deliver_body(data, is_last=is_last)

    def _refuse_body(self, stream: Stream, status: HTTPStatus) -> None:
        """End a request whose body is too long, with an answer if there was none."""
        exchange = stream.exchange
        if exchange is None or exchange.progress.has_started:
            self._reset(stream, ErrorCode.CANCEL)
            return
        exchange.status = status.value
        self._answer(stream, status)
        if exchange in self._new_exchanges:  # which will not run
            note_refusal(self._host, "2", status, status.phrase.lower(), stream=stream.stream_id)
        exchange.lose_client(Cause.REFUSED)

    # Streams.

    def _require_opened(self, stream_id: int, what: str) -> None:
        if stream_id > self._last_stream_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on an idle stream")  # section 5.1

    def _refuse_closed(self, stream_id: int) -> None:
        """HEADERS or DATA on a stream that has ended (section 5.1)."""
        ending = self._closed.find(stream_id)
        if ending is Ending.BOTH_ENDED:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "a frame on a stream that has ended")
        if ending is Ending.CLIENT_RESET:
            self._reset_unopened(stream_id, ErrorCode.STREAM_CLOSED)

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        """Reset a stream for its client's fault, which counts as if the client had."""
        self.forget(stream, Ending.SERVER_RESET)
        if stream.exchange is not None:
            stream.exchange.lose_client(_CAUSES.get(code, Cause.PROTOCOL_ERROR))
        self._reset_unopened(stream.stream_id, code)  # which may be one too many

    def _reset_unopened(self, stream_id: int, code: ErrorCode) -> None:
        self._closed.note(stream_id, Ending.SERVER_RESET)
        self._out.control(frames.rst_stream_frame(stream_id, code))
        self._budgets.spend(Kind.RESET, self._now)

    def _check_stream(self, stream: Stream, now: float) -> None:
        if stream.is_body_late(now, self._limits.body_seconds):
            log.debug("request body stalled", stream=stream.stream_id)
            self._reset(stream, ErrorCode.NO_ERROR if stream.has_ended else ErrorCode.CANCEL)
        elif stream.is_stalled(now, self._limits.stall_seconds):
            log.debug("client does not read", stream=stream.stream_id)
            self._reset(stream, ErrorCode.CANCEL)

    def _resize_send_windows(self, value: int) -> None:
        """Section 6.9.2: every stream's window changes by the difference, even below zero."""
        difference = value - self._initial_send_window_bytes
        self._initial_send_window_bytes = value
        for stream in self._streams.values():
            stream.send_window_bytes += difference
            if stream.send_window_bytes > frames.LARGEST_WINDOW_BYTES:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
            self._out.ready(stream)

    # The end.

    def _announce_end(self) -> None:
        self._farewell.announce(self._last_stream_id)
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._farewell.is_announced and not self._streams and not self._new_exchanges:
            self._is_closing = True

    def _fail(self, fault: ConnectionFault) -> None:
        if fault.code is not ErrorCode.NO_ERROR:
            log.info("connection ended for its client's fault", code=fault.code.name, reason=fault.reason)
        metrics, cause = self._host.metrics, Cause.PROTOCOL_ERROR
        if isinstance(fault, BudgetFault):
            cause = Cause.BUDGET
            metrics.limits_exceeded.add(fault.kind.name.lower())
        elif fault.code is not ErrorCode.NO_ERROR:
            metrics.protocol_errors.add("2", fault.code.name.lower())
        self._end_streams(cause)
        self._farewell.fail(self._last_stream_id, fault.code, fault.reason)
