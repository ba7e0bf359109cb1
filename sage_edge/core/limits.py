"""The bounds of a connection and of what one client may take, as the protocols use them."""

from __future__ import annotations

from dataclasses import dataclass

MAX_FIELDS = 100
"""Of a request, cookies that HTTP/2 has in several taken for one: each costs far more than its bytes."""
STALL_PROGRESS_BYTES = 4096
"""Less than this, in the stall limit, is no progress: a client that takes a byte at a time."""


@dataclass(frozen=True)
class Limits:
    """Every wait's limit and every buffer's bound. There is none on a stream's total time.

    Meanings are those of `core.setting_groups`.
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
