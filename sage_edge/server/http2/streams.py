"""The streams of one connection: open ones by their numbers, and what became of the others (RFC 9113 section 5.1)."""

from __future__ import annotations

from collections.abc import Iterator

from sage_edge.core.exchange import Cause
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.carrier import Host
from sage_edge.server.http2 import frames
from sage_edge.server.http2.budgets import FrameBudgets, Kind
from sage_edge.server.http2.closed import ClosedStreams, Ending
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode
from sage_edge.server.http2.outbound import Outbound
from sage_edge.server.http2.stream import Stream

log = EdgeLogger(__name__)

EXHAUSTED_STALL_SECONDS = 2.0
"""How long a client may take nothing of an answer while others of its address are refused for want of room."""

_CAUSES = {
    ErrorCode.CANCEL: Cause.STALLED,
    ErrorCode.NO_ERROR: Cause.STALLED,
    ErrorCode.ENHANCE_YOUR_CALM: Cause.BUDGET,
    ErrorCode.REFUSED_STREAM: Cause.REFUSED,
}
"""Why a stream is reset by the server; for other codes, a fault of the protocol."""


class Streams:
    """One connection's.

    Args:
        host: the connection's shell.
        out: what the connection writes.
        budgets: which streams that are reset count against.

    Attributes:
        latest_id: the highest number that the client has given a stream; 0 before the first.
        idle_since: when the last of them ended; seconds of the host's clock.
        is_limit_known: the client has the server's settings, and so knows how many it may open at once.
        send_window_bytes: what the client takes at first on a new one.
    """

    def __init__(self, host: Host, out: Outbound, budgets: FrameBudgets) -> None:
        self._host = host
        self._out = out
        self._budgets = budgets
        self._open: dict[int, Stream] = {}
        self._closed = ClosedStreams()
        self.latest_id = 0
        self.idle_since = host.clock()
        self.is_limit_known = False
        self.send_window_bytes = frames.DEFAULT_WINDOW_BYTES

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._open.values()))  # some may end on the way

    @property
    def are_answered(self) -> bool:
        """Whether none has anything to come but its client's end."""
        return all(stream.is_answered for stream in self._open.values())

    def find(self, stream_id: int) -> Stream | None:
        """The one of that number, where it is open."""
        return self._open.get(stream_id)

    # How they begin.

    def claim(self, stream_id: int) -> bool:
        """Whether the number is a new stream's; from here on it is not. False where the stream has been reset.

        Raises:
            ConnectionFault: it is no number for a stream (section 5.1.1), or that of one that has ended.
        """
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the stream's number is even")
        if stream_id > self.latest_id:
            self.latest_id = stream_id
            return True
        if self._closed.find(stream_id) is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the stream's number is not a new one")
        self.refuse_frame(stream_id)
        return False

    def add(self, stream: Stream) -> None:
        """It is open."""
        self._open[stream.stream_id] = stream

    # What comes for those that are not open.

    def require_claimed(self, stream_id: int, frame: str) -> None:
        """A frame that may come late, but not early.

        Raises:
            ConnectionFault: the stream is idle.
        """
        if stream_id > self.latest_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{frame} on an idle stream")

    def refuse_frame(self, stream_id: int) -> None:
        """HEADERS or DATA on a stream that has ended.

        Raises:
            ConnectionFault: its client has ended it, and knows that the server has.
        """
        ending = self._closed.find(stream_id)
        if ending is Ending.BOTH_ENDED:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "a frame on a stream that has ended")
        if ending is Ending.CLIENT_RESET:
            self.refuse(stream_id, ErrorCode.STREAM_CLOSED)

    def note_late_reset(self, stream_id: int) -> bool:
        """Whether a reset has crossed the end of an answer, and so gave nothing up. That is so once for each stream."""
        if self._closed.find(stream_id) is not Ending.BOTH_ENDED:
            return False
        self._closed.note(stream_id, Ending.CLIENT_RESET)
        return True

    # How they end.

    def finish(self, stream: Stream) -> None:
        """All of its answer that there is to be is on its way."""
        if stream.is_aborted:
            self._end_cut(stream)
            return
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
        """Drop what is kept of it."""
        if self._open.pop(stream.stream_id, None) is None:
            return
        stream.clear()
        self._closed.note(stream.stream_id, ending)
        if not self._open:
            self.idle_since = self._host.clock()

    def abort(self, stream: Stream) -> None:
        """Reset it, behind what was sent: the answer will not be completed, and its client must know (section 8.1)."""
        exchange = stream.cut()
        if not stream.queued_bytes:
            self._end_cut(stream)
        if exchange is not None:
            exchange.lose_client()

    def _end_cut(self, stream: Stream) -> None:
        self.forget(stream, Ending.SERVER_RESET)
        self._out.control(frames.rst_stream_frame(stream.stream_id, ErrorCode.INTERNAL_ERROR))

    def reset(self, stream: Stream, code: ErrorCode, cause: Cause | None = None) -> None:
        """Reset it for its client's fault, which counts as if the client had.

        Args:
            stream: the stream.
            code: what its client is told.
            cause: what others are; None for what the code says.

        Raises:
            BudgetFault: it is one too many.
        """
        self._drop(stream, Ending.SERVER_RESET, cause or _CAUSES.get(code, Cause.PROTOCOL_ERROR))
        self.refuse(stream.stream_id, code)

    def refuse(self, stream_id: int, code: ErrorCode) -> None:
        """Reset one that is not open, which counts too.

        Raises:
            BudgetFault: it is one too many.
        """
        if code not in _CAUSES:
            self._host.metrics.protocol_errors.add("2", code.name.lower())
        self.refuse_kindly(stream_id, code)
        self._budgets.spend(Kind.RESET, self._host.clock())

    def refuse_kindly(self, stream_id: int, code: ErrorCode) -> None:
        """The same through nobody's fault, which does not count."""
        self._closed.note(stream_id, Ending.SERVER_RESET)
        self._out.control(frames.rst_stream_frame(stream_id, code))

    def give_up(self, stream: Stream) -> None:
        """Reset one whose client has never taken anything of it, and whose address has no room for more."""
        self._host.metrics.limits_exceeded.add(Kind.BUFFERED_BYTES.name.lower())
        self._drop(stream, Ending.SERVER_RESET, Cause.STALLED)
        self.refuse_kindly(stream.stream_id, ErrorCode.CANCEL)
        self._host.wake()

    def note_reset(self, stream: Stream) -> None:
        """The client has given it up."""
        self._drop(stream, Ending.CLIENT_RESET)

    def lose(self, cause: Cause) -> None:
        """The connection ends, and they with it."""
        for stream in self:
            self._drop(stream, Ending.SERVER_RESET, cause)

    def _drop(self, stream: Stream, ending: Ending, cause: Cause = Cause.CLIENT_LEFT) -> None:
        self.forget(stream, ending)
        if stream.exchange is not None:
            stream.exchange.lose_client(cause)

    # Windows and time.

    def resize_send_windows(self, size_bytes: int) -> None:
        """Section 6.9.2: every stream's window changes by the difference, even below zero.

        Raises:
            ConnectionFault: one grows too large.
        """
        difference = size_bytes - self.send_window_bytes
        if not difference:
            return
        self.send_window_bytes = size_bytes
        for stream in self._open.values():
            stream.send_window_bytes += difference
            if stream.send_window_bytes > frames.LARGEST_WINDOW_BYTES:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
            self._out.ready(stream)

    def check_time(self, now: float) -> None:
        """End those that have waited for their client for too long.

        Raises:
            BudgetFault: too many of them have.
        """
        limits = self._host.limits
        stall_seconds = limits.stall_seconds
        if self._host.account.is_exhausted:
            stall_seconds = min(stall_seconds, EXHAUSTED_STALL_SECONDS)
        for stream in self:
            if stream.exchange is not None:
                stream.exchange.check_progress()
                if stream.is_full:
                    stream.exchange.timeline.note_unread()
            if stream.is_body_late(now, limits.body_seconds):
                log.debug("request body stalled", stream=stream.stream_id)
                self.reset(stream, ErrorCode.NO_ERROR if stream.has_ended else ErrorCode.CANCEL)
            elif stream.is_stalled(now, stall_seconds):
                log.debug("client does not read", stream=stream.stream_id)
                self.reset(stream, ErrorCode.CANCEL)
