"""How a connection comes to its end without a stream lost (RFC 9113 section 6.8).

First a GOAWAY that names no stream, so that the client opens no more; a round trip later, when those
that were under way have arrived, one with the last that will be served.
"""

from __future__ import annotations

from sage_edge.server.http2 import frames
from sage_edge.server.http2.frames import ErrorCode
from sage_edge.server.http2.outbound import Outbound

ROUND_TRIP_SECONDS = 1.0
"""How long the first GOAWAY's round trip is waited for."""


class Farewell:
    """One connection's, whether it has begun or not.

    Args:
        out: where GOAWAY is written.
    """

    def __init__(self, out: Outbound) -> None:
        self._out = out
        self._deadline: float | None = None
        self._last_stream_id: int | None = None
        self.is_client_leaving = False

    @property
    def has_begun(self) -> bool:
        """Whether the first GOAWAY was sent."""
        return self.is_waiting or self._last_stream_id is not None

    @property
    def is_waiting(self) -> bool:
        """Whether the round trip is awaited."""
        return self._deadline is not None

    @property
    def is_announced(self) -> bool:
        """Whether no more streams will be served than there are, for either side's sake."""
        return self._last_stream_id is not None or self.is_client_leaving

    def begin(self, now: float) -> None:
        """Send the first GOAWAY."""
        self._deadline = now + ROUND_TRIP_SECONDS
        # The PING first: not every client takes another frame after a GOAWAY.
        self._out.control(frames.ping_frame(b"draining", is_ack=False))
        self._out.control(frames.goaway_frame(frames.LAST_STREAM_ID, ErrorCode.NO_ERROR))

    def is_due(self, now: float) -> bool:
        """Whether the round trip has taken long enough."""
        return self._deadline is not None and now >= self._deadline

    def announce(self, last_stream_id: int) -> None:
        """Send the second GOAWAY: what has not arrived by now will not be served."""
        self._deadline = None
        self._last_stream_id = last_stream_id
        self._out.control(frames.goaway_frame(last_stream_id, ErrorCode.NO_ERROR))

    def refuses(self, stream_id: int) -> bool:
        """Whether a new stream is one that will not be served."""
        return self._last_stream_id is not None and stream_id > self._last_stream_id

    def fail(self, latest_stream_id: int, code: ErrorCode, reason: str) -> None:
        """Send the GOAWAY of a fault. It never names more than one before has."""
        last = latest_stream_id if self._last_stream_id is None else self._last_stream_id
        self._out.control(frames.goaway_frame(last, code, reason))
