"""Where a comment may go into a stream of server-sent events, and when (WHATWG HTML section 9.2).

Only the bytes' ends are looked at: whether the last of them end an event. What an event says is the gateway's. A byte
order mark, which a stream may begin with and need not, comes too late after a comment: such a stream must not be silent
before it.
"""

from __future__ import annotations

COMMENT = b": keep-alive\n\n"
"""A line that clients ignore; the empty line after it is for those who look for whole events alone."""

BETWEEN_EVENTS = (b"\n\n", b"\n\r\n", b"\r\r")
"""How an event can end: with an empty line, whose end is LF, CRLF or CR. Nothing has been sent: the first of them."""


class Silence:
    """How long nothing was sent on one event stream, and whether something may be.

    Args:
        now: seconds of a monotonic clock.

    Attributes:
        since: when something was sent last.
    """

    __slots__ = ("_tail", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        self._tail = BETWEEN_EVENTS[0]

    def interrupt(self, data: bytes, now: float) -> None:
        """Note a piece of the stream, of whatever size; it may be anything that is like bytes."""
        self.since = now
        self._tail = bytes(data[-3:]) if len(data) >= 3 else (self._tail + data)[-3:]

    def is_due(self, now: float, limit_seconds: float) -> bool:
        """Whether it has lasted so long, and no event is begun."""
        return now - self.since >= limit_seconds and self._tail.endswith(BETWEEN_EVENTS)
