"""One stream: what waits on it in either direction, and its windows (RFC 9113 sections 5.1 and 5.2)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sage_edge.app.exchange import Exchange
from sage_edge.core.exchange import MESSAGE_COST_BYTES
from sage_edge.core.limits import STALL_PROGRESS_BYTES
from sage_edge.server.carrier import Fields, Host
from sage_edge.server.http2 import frames
from sage_edge.server.http2.hpack import encode_fields, encode_status
from sage_edge.server.http2.outbound import Outbound
from sage_edge.server.http2.windows import CREDIT_DIVISOR, ReceiveWindow

if TYPE_CHECKING:
    from sage_edge.server.http2.streams import Streams


class Stream:
    """A stream that is open or half closed; the carrier of its exchange.

    Args:
        streams: of its connection.
        host: the connection's shell.
        out: what the connection writes.
        window: the connection's, for what the client sends.
        stream_id: its number.
    """

    __slots__ = (
        "_host",
        "_out",
        "_streams",
        "_window",
        "exchange",
        "has_ended",
        "has_head",
        "is_aborted",
        "is_ready",
        "is_remote_closed",
        "is_tunnel",
        "last_received_at",
        "missing_bytes",
        "progress_mark",
        "queue",
        "queued_bytes",
        "receive_window_bytes",
        "send_window_bytes",
        "stream_id",
        "trailers",
        "uncredited_bytes",
        "unread_bytes",
        "unread_cost_bytes",
        "written_bytes",
    )

    def __init__(
        self,
        streams: Streams,
        host: Host,
        out: Outbound,
        window: ReceiveWindow,
        stream_id: int,
    ) -> None:
        self._streams = streams
        self._host = host
        self._out = out
        self._window = window
        self.stream_id = stream_id
        self.send_window_bytes = streams.send_window_bytes
        self.receive_window_bytes = host.limits.stream_window_bytes
        self.exchange: Exchange | None = None  # None: answered without an application
        self.is_remote_closed = False
        self.is_tunnel = False  # a WebSocket's: silence is no fault
        self.last_received_at = host.clock()
        self.missing_bytes: int | None = None  # of the body, where its length was announced
        self.unread_bytes = 0  # received, and not yet taken by the application
        self.unread_cost_bytes = 0  # the same with what its messages take in memory
        self.uncredited_bytes = 0  # taken, and not yet credited to the stream
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.has_head = False  # of its answer; sent
        self.has_ended = False  # nothing will follow what is queued
        self.is_aborted = False  # what is queued, if anything, is not the whole answer
        self.trailers: bytes | None = None
        self.is_ready = False  # it waits for its turn to write
        self.written_bytes = 0
        self.progress_mark: tuple[float, int] | None = None  # since when it waits, and what was written by then

    # The application's side: `Carrier`.

    def start(self, status: int, fields: Fields, *, is_last: bool) -> None:
        """Send the head of an answer."""
        block = encode_status(status) + encode_fields(fields)
        if self.is_aborted:
            return
        if self.has_head:  # a second one would be taken for trailers, or for a fault of the connection
            self.abort()
            raise RuntimeError("the answer has a head already")
        self.has_head = True
        self._out.headers(self.stream_id, block, is_last=is_last)
        self._note_sent(is_last=is_last)

    def send_continue(self) -> None:
        """Ask for the body (RFC 9110 section 10.1.1)."""
        has_started = self.exchange is None or self.exchange.progress.has_started
        if not has_started and not self.is_aborted and not self.is_remote_closed:
            self.last_received_at = self._host.clock()  # the client could not send
            self._out.headers(self.stream_id, encode_status(100), is_last=False)
            self._host.wake()

    def write(self, data: bytes, *, is_last: bool) -> None:
        """Send a piece of the body, when its turn comes."""
        if self.is_aborted or self.has_ended:
            return
        if (
            self.send_window_bytes <= 0
            and self._host.account.is_exhausted
            and self.written_bytes < STALL_PROGRESS_BYTES
        ):
            self._streams.give_up(self)
            return
        if size := len(data):
            self.has_ended = is_last
            self.queue.append(data)
            self.queued_bytes += size
            self._host.account.buffered_bytes += size
            if self.exchange is not None:
                self.exchange.note_waiting(size)
            if not self.is_ready:
                self._out.ready(self)
            if is_last:
                self._host.wake()
            else:
                self._host.wake_later()
        elif is_last and self.queued_bytes:
            self.has_ended = True
        elif is_last:
            self._out.control(frames.frame_head(0, frames.DATA, frames.END_STREAM, self.stream_id))
            self._note_sent(is_last=True)

    def trail(self, fields: Fields) -> None:
        """Send trailers after what is queued."""
        trailers = encode_fields(fields)
        if self.is_aborted or self.has_ended:
            return
        if self.queued_bytes:
            self.has_ended = True
            self.trailers = trailers
        else:
            self._out.headers(self.stream_id, trailers, is_last=True)
            self._note_sent(is_last=True)

    def credit(self, size_bytes: int) -> None:
        """The application has taken so much of the body."""
        size_bytes = min(size_bytes, self.unread_bytes)  # what was dropped has been credited
        if not size_bytes:
            return
        cost_bytes = self.unread_cost_bytes * size_bytes // self.unread_bytes
        self.unread_bytes -= size_bytes
        self.unread_cost_bytes -= cost_bytes
        self._host.account.buffered_bytes -= cost_bytes
        self.last_received_at = self._host.clock()  # the client could not send, perhaps
        self._window.credit(size_bytes)
        self.credit_window(size_bytes)
        if self._out.is_ready:
            self._host.wake()

    def abort(self) -> None:
        """The answer will not be completed."""
        if not self.is_aborted:
            self._streams.abort(self)
            self._host.wake()

    # The connection's side.

    def credit_window(self, size_bytes: int) -> None:
        """Return credit to the stream's own window, while its client still sends."""
        if self.is_remote_closed:
            return
        self.uncredited_bytes += size_bytes
        if self.uncredited_bytes >= self._host.limits.stream_window_bytes // CREDIT_DIVISOR:
            self.receive_window_bytes += self.uncredited_bytes
            self._out.control(frames.window_update_frame(self.stream_id, self.uncredited_bytes))
            self.uncredited_bytes = 0

    def note_unread(self, size_bytes: int) -> None:
        """So much has come for the application, as one message."""
        if size_bytes:
            self.unread_bytes += size_bytes
            self.unread_cost_bytes += size_bytes + MESSAGE_COST_BYTES
            self._host.account.buffered_bytes += size_bytes + MESSAGE_COST_BYTES

    def drop_unread(self) -> None:
        """Nobody will read what has come."""
        if unread_bytes := self.unread_bytes:
            self.unread_bytes = 0
            self._host.account.buffered_bytes -= self.unread_cost_bytes
            self.unread_cost_bytes = 0
            self._window.credit(unread_bytes)

    def clear(self) -> None:
        """The stream is over: nothing waits on it any more."""
        self.drop_unread()
        self.has_ended = self.is_aborted = True
        self._host.account.buffered_bytes -= self.queued_bytes
        self.queue.clear()
        self.queued_bytes = 0
        self._out.drop(self)

    def cut(self) -> Exchange | None:
        """Nothing follows what is queued, which is not the whole answer; whose it is, who need not wait for that."""
        self.drop_unread()
        self.has_ended = self.is_aborted = True
        self.trailers = None
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.note_written(self.queued_bytes)
        return exchange

    def note_written(self, size_bytes: int) -> None:
        """So much of what was queued is on its way."""
        self.written_bytes += size_bytes
        self._host.account.buffered_bytes -= size_bytes
        if self.exchange is not None:
            self.exchange.note_written(size_bytes)

    @property
    def is_answered(self) -> bool:
        """Whether all of its answer is on its way, and only its client's end is missing."""
        return self.has_ended and not self.queued_bytes

    def note_all_written(self) -> None:
        """The last of the answer is on its way."""
        self._streams.finish(self)

    def count_announced(self, size_bytes: int, *, is_last: bool) -> bool:
        """Count a piece of the body; False where it is not as long as was announced."""
        if self.missing_bytes is None:
            return True
        self.missing_bytes -= size_bytes
        return self.missing_bytes >= 0 and not (is_last and self.missing_bytes)

    @property
    def is_full(self) -> bool:
        """Whether as much waits for the application as may."""
        return self.unread_bytes > 0 and (self.receive_window_bytes <= 0 or self._window.is_exhausted)

    def is_body_late(self, now: float, limit_seconds: float) -> bool:
        """Whether the next piece of the body is awaited for too long.

        Not while the application lags behind, nor while it answers: a client may keep its side open for that long.
        """
        return self._is_body_awaited and now - self.last_received_at > limit_seconds

    @property
    def _is_body_awaited(self) -> bool:
        if self.is_remote_closed or self.unread_bytes:
            return False
        exchange = self.exchange
        if self.has_ended or exchange is None:
            return not self.queued_bytes
        # A client may wait for 100 Continue.
        return not self.is_tunnel and exchange.want is None and not exchange.progress.has_started

    def is_stalled(self, now: float, limit_seconds: float) -> bool:
        """Whether the client has taken next to nothing of what is queued for too long. To be asked now and then."""
        if not self.queued_bytes:
            self.progress_mark = None
            return False
        mark = self.progress_mark
        if mark is None or self.written_bytes - mark[1] >= STALL_PROGRESS_BYTES:
            self.progress_mark = (now, self.written_bytes)
            return False
        return now - mark[0] > limit_seconds

    def take(self, size_bytes: int) -> list[bytes]:
        """Take so much from the queue, which holds at least that."""
        queue = self.queue
        if size_bytes == self.queued_bytes:
            self.queued_bytes = 0
            parts = list(queue)
            queue.clear()
            return parts
        self.queued_bytes -= size_bytes
        parts = []
        while size_bytes:
            part = queue.popleft()
            if len(part) > size_bytes:
                # A view, so that a large piece is not copied again for each of its frames.
                view = memoryview(part)
                queue.appendleft(view[size_bytes:])  # type: ignore[arg-type]  # a view of bytes
                part = view[:size_bytes]  # type: ignore[assignment]
            parts.append(part)
            size_bytes -= len(part)
        return parts

    def _note_sent(self, *, is_last: bool) -> None:
        """A frame that waits for no window was sent."""
        if is_last:
            self.has_ended = True
            self._streams.finish(self)
        self._host.wake()
