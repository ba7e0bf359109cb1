"""One stream: what waits on it in either direction, and its windows (RFC 9113 sections 5.1 and 5.2)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sage_edge.app.exchange import Exchange
from sage_edge.server.carrier import Fields

if TYPE_CHECKING:
    from sage_edge.server.http2.connection import HTTP2Connection


class Stream:
    """A stream that is open or half closed; the carrier of its exchange.

    Args:
        connection: it belongs to.
        stream_id: its number.
        send_window_bytes: what the client takes at first.
        receive_window_bytes: what the client may send at first.
    """

    __slots__ = (
        "connection",
        "exchange",
        "has_ended",
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
        "written_bytes",
    )

    def __init__(
        self, connection: HTTP2Connection, stream_id: int, send_window_bytes: int, receive_window_bytes: int
    ) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.exchange: Exchange | None = None  # None: answered without an application
        self.send_window_bytes = send_window_bytes
        self.receive_window_bytes = receive_window_bytes
        self.is_remote_closed = False
        self.is_tunnel = False  # a WebSocket's: silence is no fault
        self.last_received_at = 0.0
        self.missing_bytes: int | None = None  # of the body, where its length was announced
        self.unread_bytes = 0  # received, and not yet taken by the application
        self.uncredited_bytes = 0  # taken, and not yet credited to the stream
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.has_ended = False  # nothing will follow what is queued
        self.is_aborted = False
        self.trailers: bytes | None = None
        self.is_ready = False  # it waits for its turn to write
        self.written_bytes = 0
        self.progress_mark: tuple[float, int] | None = None  # since when it waits, and what was written by then

    def start(self, status: int, fields: Fields, *, is_last: bool) -> None:
        """Send the head of an answer."""
        self.connection.send_head(self, status, fields, is_last=is_last)

    def write(self, data: bytes, *, is_last: bool) -> None:
        """Send a piece of the body, when its turn comes."""
        self.connection.send_body(self, data, is_last=is_last)

    def trail(self, fields: Fields) -> None:
        """Send trailers after what is queued."""
        self.connection.send_trailers(self, fields)

    def credit(self, size_bytes: int) -> None:
        """The application has taken so much of the body."""
        self.connection.credit(self, size_bytes)

    def abort(self) -> None:
        """Reset the stream: its answer will not be completed."""
        self.connection.abort(self)

    def take(self, size_bytes: int) -> list[bytes]:
        """Take so much from the queue, which holds at least that."""
        self.queued_bytes -= size_bytes
        queue = self.queue
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
