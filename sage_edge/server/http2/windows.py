"""What a client may send on a connection: its receive window (RFC 9113 section 5.2)."""

from __future__ import annotations

from sage_edge.server.http2 import frames
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode
from sage_edge.server.http2.outbound import Outbound

CREDIT_DIVISOR = 4
"""Credit is returned once it comes to this part of a window: each return is a frame."""


class ReceiveWindow:
    """The connection's. A stream's is its own.

    Args:
        out: where credit is announced.
        size_bytes: what may be under way or unread.
    """

    def __init__(self, out: Outbound, size_bytes: int) -> None:
        self._out = out
        self._size_bytes = size_bytes
        self._left_bytes = frames.DEFAULT_WINDOW_BYTES
        self._uncredited_bytes = 0
        if size_bytes > frames.DEFAULT_WINDOW_BYTES:
            self._grow(size_bytes - frames.DEFAULT_WINDOW_BYTES)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing may be sent before some is read."""
        return self._left_bytes <= 0

    def take(self, size_bytes: int) -> None:
        """So much has come.

        Raises:
            ConnectionFault: more than the window.
        """
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more than the connection's window")

    def credit(self, size_bytes: int) -> None:
        """So much was read, or dropped."""
        self._uncredited_bytes += size_bytes
        if self._uncredited_bytes >= self._size_bytes // CREDIT_DIVISOR:
            self._grow(self._uncredited_bytes)
            self._uncredited_bytes = 0

    def _grow(self, size_bytes: int) -> None:
        self._left_bytes += size_bytes
        self._out.control(frames.window_update_frame(0, size_bytes))
