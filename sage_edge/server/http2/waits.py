"""The waits of a connection as a whole, and their limits. Those of its streams are theirs."""

from __future__ import annotations

from sage_edge.core.limits import Limits
from sage_edge.server.http2.codec import Codec
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode


class Waits:
    """One connection's.

    Args:
        limits: of time.
        now: seconds of a monotonic clock.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._opened_at = now
        self._block = 0  # which header block is open
        self._block_since = now
        self.has_greeted = False

    def is_greeting_over(self, now: float) -> bool:
        """Whether the client has had its time for the preface and for the server's settings."""
        return now - self._opened_at > self._limits.header_seconds

    def check(self, now: float, codec: Codec, *, idle_since: float | None) -> None:
        """Look at them.

        Args:
            now: seconds of the same clock.
            codec: which may be within a header block.
            idle_since: when the last stream ended; None while one is open.

        Raises:
            ConnectionFault: one is over its limit.
        """
        limits = self._limits
        if not self.has_greeted and self.is_greeting_over(now):
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "the preface took too long")
        if not codec.is_in_block or codec.blocks != self._block:
            self._block = codec.blocks
            self._block_since = now
        elif now - self._block_since > limits.header_seconds:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block took too long")
        if idle_since is not None and now - idle_since > limits.idle_seconds:
            raise ConnectionFault(ErrorCode.NO_ERROR, "idle")
