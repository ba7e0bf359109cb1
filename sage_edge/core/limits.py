"""The bounds of a connection and of what one client may take, as the protocols use them."""

from __future__ import annotations

from dataclasses import dataclass

MAX_FIELDS = 100
"""Of a request, cookies that HTTP/2 has in several taken for one: each costs far more than its bytes."""
STALL_PROGRESS_BYTES = 4096
"""Less than this, in the stall limit, is no progress: a client that takes a byte at a time."""

RUNNING_FACTOR = 2
"""So many times the streams that an HTTP/2 connection may have open, its applications may run: a stream that is reset
makes room for the next at once, and its application has its grace period to end."""


@dataclass(frozen=True)
class Limits:
    """Every wait's limit and every buffer's bound. There is none on a stream's total time.

    Attributes:
        max_connections: open at once.
        max_connections_per_client: the same from one address.
        max_streams: open at once on an HTTP/2 connection.
        max_header_bytes: of a request's header list (RFC 9113 section 6.5.2) or head (RFC 9112).
        max_body_bytes: of a request.
        max_message_bytes: of a WebSocket message, inflated.
        max_buffered_bytes: heads, bodies and answers that wait, of all connections from one address; what bounds its
            requests, too.
        stream_window_bytes: what a client may send on a stream before it is read.
        connection_window_bytes: the same on all streams of a connection.
        handshake_seconds: for TLS.
        header_seconds: for a request's head, from its first byte, and HTTP/2's preface.
        body_seconds: for the next piece of a request's body, until its answer begins.
        idle_seconds: without a request.
        stall_seconds: without progress of what a client is sent.
        cancel_grace_seconds: how long a request may go on after its client left.
        budget_seconds: how long a budget below, used up, takes to fill again.
        max_resets: streams reset by the client, or by its faults.
        max_pings: PING frames.
        max_settings: SETTINGS frames.
        max_priorities: PRIORITY frames.
        max_empty_frames: DATA frames that carry nothing.
        max_window_updates: WINDOW_UPDATE frames beyond two for each DATA frame sent.
    """

    max_connections: int
    max_connections_per_client: int
    max_streams: int
    max_header_bytes: int
    max_body_bytes: int
    max_message_bytes: int
    max_buffered_bytes: int
    stream_window_bytes: int
    connection_window_bytes: int
    handshake_seconds: float
    header_seconds: float
    body_seconds: float
    idle_seconds: float
    stall_seconds: float
    cancel_grace_seconds: float
    budget_seconds: float
    max_resets: int
    max_pings: int
    max_settings: int
    max_priorities: int
    max_empty_frames: int
    max_window_updates: int
