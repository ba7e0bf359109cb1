"""One HTTP/2 connection: what each frame means, and what the connection's shell asks of it (RFC 9113 section 6).

Its `streams` know their states, and how they end; requests become exchanges in `exchanges`; what an application
sends goes through its `stream`; what is to be written waits in `outbound`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sage_edge.app.asgi import name_client
from sage_edge.app.exchange import Exchange
from sage_edge.core.budgets import HEAD_COST_FACTOR
from sage_edge.core.exchange import Cause
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.carrier import Host
from sage_edge.server.http2 import frames
from sage_edge.server.http2.budgets import BudgetFault, FrameBudgets, Kind
from sage_edge.server.http2.codec import Codec
from sage_edge.server.http2.exchanges import Exchanges
from sage_edge.server.http2.farewell import Farewell
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode, Setting
from sage_edge.server.http2.hpack import TABLE_BYTES, Field
from sage_edge.server.http2.outbound import Outbound
from sage_edge.server.http2.streams import Streams
from sage_edge.server.http2.waits import Waits
from sage_edge.server.http2.windows import ReceiveWindow

log = EdgeLogger(__name__)

DECODED_FACTOR = 4
"""A header list over the limit is answered with 431; over so many times that, the connection ends."""
UNSENT_LIMIT_BYTES = 16 * 1024
"""With so much to answer to frames that nobody takes, no more frames are gone through, and none are read."""


class HTTP2Connection:
    """The protocol of one connection. Calls its host back; never waits.

    Args:
        host: the connection's shell.

    Attributes:
        discards_body: never, since a client is told of each stream's end by itself.
    """

    discards_body = False

    def __init__(self, host: Host) -> None:
        limits = host.limits
        self._host = host
        self._now = now = host.clock()
        max_list_bytes = DECODED_FACTOR * limits.max_header_bytes
        self._codec = Codec(self, max_list_bytes=max_list_bytes, has_time=self._has_time)
        self._out = Outbound()
        self._budgets = FrameBudgets(limits, now)
        self._streams = Streams(host, self._out, self._budgets)
        self._waits = Waits(limits, now)
        self._farewell = Farewell(self._out)
        self._held_bytes = 0  # of what is not whole, in its client's account
        self._has_more = False  # of what was read is kept for later
        self._is_closing = False
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
        self._exchanges = Exchanges(host, self._streams, self._out, self._window, self._budgets)

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

    def _has_time(self) -> bool:
        """Whether the next frame is for now. What one read holds may be answered with many times its bytes."""
        return self.may_read and self._host.has_time()

    @property
    def is_behind(self) -> bool:
        """Whether anything has to wait with the end of the connection. Streams have ends of their own."""
        return False

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
            self._has_more = not self._codec.feed(data)
            self._charge_held()
        except ConnectionFault as fault:
            self._has_more = False
            self._fail(fault)
        if not self._has_more:
            self._exchanges.run_new()
        else:
            self._exchanges.drop_unbegun()
            self._go_on_later()
        self._close_if_over()
        if self._out.is_ready or self._is_closing:
            self._host.wake()

    def _go_on_later(self) -> None:
        if self._has_more and self.may_read:  # otherwise once its client has taken what there is
            self._host.go_on_later(self._go_on)

    def _go_on(self) -> None:
        self.receive(b"")

    def _charge_held(self) -> None:
        """Account for what has come and is not whole: a client may begin header blocks on any number of connections.

        Raises:
            BudgetFault: too much waits for the client's address already.
        """
        if self._is_closing:
            return
        account, held_bytes = self._host.account, HEAD_COST_FACTOR * self._codec.held_bytes
        account.buffered_bytes += held_bytes - self._held_bytes
        self._held_bytes = held_bytes
        # With streams open, those are not to suffer: a block's size and time are bounded anyway.
        if self._codec.is_in_block and account.is_exhausted and not self._streams:
            raise BudgetFault(Kind.BUFFERED_BYTES)

    def take_output(self, limit_bytes: int) -> bytes:
        """What is to be written now."""
        data = self._out.take(limit_bytes)
        self._budgets.note_data_sent(self._out.data_frames)
        self._out.data_frames = 0
        self._go_on_later()
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
        if self._waits.is_greeting_over(now):
            self._streams.is_limit_known = True  # or will never be
        self._streams.check_time(now)
        self._waits.check(now, self._codec, idle_since=None if self._streams else self._streams.idle_since)

    def prepare_drain(self) -> None:
        """GOAWAY is for later: from then on its clients open streams elsewhere alone."""

    def drain(self, *, keeps_idle: bool = False) -> None:
        """Announce the end, let a round trip pass for streams under way, and finish those."""
        if self._is_closing or self._farewell.has_begun:
            return
        self._farewell.begin(self._host.clock())
        self._host.wake()

    def go_away(self) -> None:
        """The time to drain is up."""
        for stream in self._streams:
            if stream.exchange is not None:
                stream.exchange.go_away()

    def end_input(self) -> None:
        """The client has ended its side, which no HTTP/2 client does that is still there."""
        self.lose()

    def lose(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The connection is gone."""
        self._out.clear()
        self._end_streams(cause)
        self._exchanges.run_new()  # none of which begins any more

    def _end_streams(self, cause: Cause) -> None:
        self._is_closing = True
        self._has_more = False
        self._host.account.buffered_bytes -= self._held_bytes
        self._held_bytes = 0
        self._streams.lose(cause)

    def end(self, exchange: Exchange) -> None:
        """The application has ended."""
        exchange.end()

    def let_go(self) -> None:
        """Nothing more is asked of it: its codec, which calls it back, is left to itself."""
        self._codec.let_go()
        del self._codec

    # What the client says: `FrameHandler`.

    def on_headers(self, stream_id: int, fields: list[Field], *, is_last: bool, depends_on: int) -> None:
        """A request, or the trailers of one."""
        stream = self._streams.find(stream_id)
        if stream is not None:
            self._exchanges.take_trailers(stream, fields, is_last=is_last)
        elif not self._streams.claim(stream_id):
            return
        elif self._farewell.refuses(stream_id):
            self._exchanges.refuse_late(stream_id, fields)
        elif depends_on == stream_id:
            self._exchanges.refuse_malformed(stream_id, fields, "a stream depends on itself")  # RFC 7540 section 5.3.1
        else:
            self._exchanges.open(stream_id, fields, is_last=is_last)

    def on_data(self, stream_id: int, data: bytes, flow_bytes: int, *, is_last: bool) -> None:
        """A piece of a body. What nobody will read is credited to the connection at once (section 6.9)."""
        self._window.take(flow_bytes)
        if not data and not is_last:
            self._budgets.spend(Kind.EMPTY, self._now)
        stream = self._streams.find(stream_id)
        if stream is None:
            self._window.credit(flow_bytes)
            self._streams.require_claimed(stream_id, "DATA")
            self._streams.refuse_frame(stream_id)
            return
        if stream.is_remote_closed:
            self._window.credit(flow_bytes)
            self._streams.reset(stream, ErrorCode.STREAM_CLOSED)
            return
        stream.receive_window_bytes -= flow_bytes
        if stream.receive_window_bytes < 0:
            self._window.credit(flow_bytes)
            self._streams.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if padding_bytes := flow_bytes - len(data):
            self._window.credit(padding_bytes)
            stream.credit_window(padding_bytes)
        stream.last_received_at = self._now
        self._exchanges.take_body(stream, data, is_last=is_last)

    def on_priority(self, stream_id: int, depends_on: int) -> None:
        """Ignored but for its number, and for what RFC 7540 section 5.3.1 asked of it."""
        self._budgets.spend(Kind.PRIORITY, self._now)
        if depends_on == stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")

    def on_reset(self, stream_id: int, code: int) -> None:
        """The client gives a stream up."""
        self._streams.require_claimed(stream_id, "RST_STREAM")
        if self._streams.note_late_reset(stream_id):
            return
        self._budgets.spend(Kind.RESET, self._now)
        stream = self._streams.find(stream_id)
        if stream is not None:
            self._streams.note_reset(stream)

    def on_settings(self, settings: Sequence[tuple[int, int]]) -> None:
        """Apply them, in order (section 6.5.3)."""
        self._waits.has_greeted = True
        self._budgets.spend(Kind.SETTINGS, self._now)
        window_bytes = self._streams.send_window_bytes
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
        self._streams.resize_send_windows(window_bytes)
        self._out.control(frames.SETTINGS_ACK)

    def on_settings_ack(self) -> None:
        """The server's settings are sent once."""
        if self._streams.is_limit_known:
            self._budgets.spend(Kind.SETTINGS, self._now)
        self._streams.is_limit_known = True

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
        self._budgets.spend_window_update(self._now)
        if not stream_id:
            if not increment_bytes:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
            self._out.window_bytes += increment_bytes
            if self._out.window_bytes > frames.LARGEST_WINDOW_BYTES:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
            return
        stream = self._streams.find(stream_id)
        if stream is None:
            self._streams.require_claimed(stream_id, "WINDOW_UPDATE")
            return
        if not increment_bytes:
            self._streams.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.send_window_bytes += increment_bytes
        if stream.send_window_bytes > frames.LARGEST_WINDOW_BYTES:
            self._streams.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        self._out.ready(stream)

    def on_frame_size_fault(self, stream_id: int) -> None:
        """End the stream, if there is one (section 4.2)."""
        stream = self._streams.find(stream_id)
        if stream is None:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame's size is wrong")
        self._streams.reset(stream, ErrorCode.FRAME_SIZE_ERROR)

    # The end.

    def _announce_end(self) -> None:
        self._farewell.announce(self._streams.latest_id)
        self._close_if_over()

    def _close_if_over(self) -> None:
        is_all_heard = not (self._has_more or self._exchanges.has_new)
        if self._farewell.is_announced and is_all_heard and self._streams.are_answered:
            self._end_streams(Cause.CLIENT_LEFT)  # what is left of them is their client's to say

    def _fail(self, fault: ConnectionFault) -> None:
        if fault.code is not ErrorCode.NO_ERROR:
            client = name_client(self._host.client)
            log.info(
                "connection ended for its client's fault", client=client, code=fault.code.name, reason=fault.reason
            )
        metrics, cause = self._host.metrics, Cause.PROTOCOL_ERROR
        if isinstance(fault, BudgetFault):
            cause = Cause.BUDGET
            metrics.limits_exceeded.add(fault.kind.name.lower())
        elif fault.code is not ErrorCode.NO_ERROR:
            metrics.protocol_errors.add("2", fault.code.name.lower())
        self._end_streams(cause)
        self._farewell.fail(self._streams.latest_id, fault.code, fault.reason)
