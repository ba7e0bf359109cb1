"""What an HTTP/2 connection has to write: frames that are ready, and streams whose turn comes round.

Small pieces of a stream become one DATA frame, all that is ready becomes one write, and streams
take turns frame by frame, so that none waits for another's length (RFC 9113 section 5.2).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sage_edge.server.http2 import frames

if TYPE_CHECKING:
    from sage_edge.server.http2.stream import Stream

EMPTY_TABLE = b"\x20"
"""A dynamic table of size 0 (RFC 7541 section 6.3)."""
MAX_FRAME_BYTES = frames.DEFAULT_FRAME_BYTES
"""No larger, whatever a client takes: a frame is one turn, and one TLS record."""


class Outbound:
    """One connection's.

    Attributes:
        window_bytes: what the client takes on the connection.
        data_frames: how many DATA frames were made; whoever counts them sets it back.
    """

    def __init__(self) -> None:
        self._control: list[bytes] = []
        self._turns: deque[Stream] = deque()
        self._table_update = b""
        self.control_bytes = 0
        self.window_bytes = frames.DEFAULT_WINDOW_BYTES
        self.data_frames = 0

    @property
    def is_ready(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._control) or (self.window_bytes > 0 and bool(self._turns))

    def control(self, frame: bytes) -> None:
        """Add a frame that no window holds back, before all DATA."""
        self._control.append(frame)
        self.control_bytes += len(frame)

    def headers(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        """Add a header block."""
        self.control(self._headers(stream_id, block, is_last=is_last))

    def empty_table(self) -> None:
        """Let the next header block say that the encoder's table, which is not used, holds nothing (section 4.3.1)."""
        self._table_update = EMPTY_TABLE

    def ready(self, stream: Stream) -> None:
        """Let a stream take turns, if it has something to write and a window to write into."""
        if stream.queued_bytes and stream.send_window_bytes > 0 and not stream.is_ready:
            stream.is_ready = True
            self._turns.append(stream)

    def drop(self, stream: Stream) -> None:
        """A stream has ended: it takes no more turns."""
        if stream.is_ready:
            stream.is_ready = False
            self._turns.remove(stream)

    def clear(self) -> None:
        """Drop everything."""
        self._control.clear()
        self.control_bytes = 0
        for stream in self._turns:
            stream.is_ready = False
        self._turns.clear()

    def take(self, limit_bytes: int) -> bytes:
        """The frames to write now, about so many bytes of them."""
        parts = self._control
        size = self.control_bytes
        self._control = []
        self.control_bytes = 0
        turns = self._turns
        while turns and size < limit_bytes and self.window_bytes > 0:
            stream = turns.popleft()
            stream.is_ready = False
            length = min(stream.queued_bytes, stream.send_window_bytes, self.window_bytes, MAX_FRAME_BYTES)
            if length > 0:
                size += length + frames.FRAME_HEAD_BYTES
                self._add_data(parts, stream, length)
                if stream.queued_bytes:
                    self.ready(stream)
        if self._control:  # trailers and the like, made on the way
            parts += self._control
            self._control = []
            self.control_bytes = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _add_data(self, parts: list[bytes], stream: Stream, length: int) -> None:
        data = stream.take(length)
        stream.send_window_bytes -= length
        self.window_bytes -= length
        self.data_frames += 1
        is_over = stream.has_ended and not stream.queued_bytes
        flags = frames.END_STREAM if is_over and stream.trailers is None and not stream.is_aborted else 0
        parts.append(frames.frame_head(length, frames.DATA, flags, stream.stream_id))
        parts += data
        stream.note_written(length)
        if is_over:
            if stream.trailers is not None:
                parts.append(self._headers(stream.stream_id, stream.trailers, is_last=True))
            stream.note_all_written()

    def _headers(self, stream_id: int, block: bytes, *, is_last: bool) -> bytes:
        block = self._table_update + block
        self._table_update = b""
        return frames.headers_frames(stream_id, block, is_last=is_last, largest_bytes=MAX_FRAME_BYTES)
