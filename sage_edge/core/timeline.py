"""When what happened to one request's answer: plain times of a clock that is passed in.

Bookkeeping for the access log and the metrics; it decides nothing. An event is a piece of an event stream as the
application sent it, in one message: bodies are not parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sage_edge.core.metrics import Histogram


@dataclass(frozen=True, slots=True)
class EventMeter:
    """Where the events of all streams of a kind are counted, as they are sent.

    Attributes:
        first_seconds: from a request to its first event, or for how long that was waited for in vain.
        gap_seconds: from one event to the next, without the time in which the client had no room for it.
    """

    first_seconds: Histogram
    gap_seconds: Histogram


class Timeline:
    """The times of one request.

    Args:
        clock: seconds of a monotonic clock.

    Attributes:
        began_at: its head was read.
        received_at: the last of it had come; its head, where it has no body, or was answered before all of that came.
        is_received: all of it has come.
        unread_since: no more of the request can come before its application takes some of what waits for it, or asks
            for a body that is withheld until then; None where more may.
        first_byte_at: the head of the answer was sent; None before.
        first_event_at: the same of the first event of an event stream.
        waited_since: as much as may wait for the client to take what was sent; None where there is room for more.
        lost_at: the client left, or the request was ended for another cause; None before.
        events: so many were sent.
        is_event_stream: the answer is one.
        meter: where set, counts the events too.
    """

    __slots__ = (
        "_gap_began_at",
        "began_at",
        "clock",
        "events",
        "first_byte_at",
        "first_event_at",
        "is_event_stream",
        "is_received",
        "lost_at",
        "meter",
        "received_at",
        "unread_since",
        "waited_since",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.began_at = self.received_at = clock()
        self.unread_since: float | None = None
        self.first_byte_at: float | None = None
        self.first_event_at: float | None = None
        self._gap_began_at = 0.0
        self.waited_since: float | None = None
        self.lost_at: float | None = None
        self.events = 0
        self.is_received = False
        self.is_event_stream = False
        self.meter: EventMeter | None = None

    def note_received(self) -> None:
        """The request has come whole: what it takes from now on is not its client's doing."""
        self.is_received = True
        if self.first_byte_at is None:
            self.received_at = self.clock()

    def note_unread(self) -> None:
        """No more of the request can come before its application takes, or asks for, some. May be told again."""
        if self.unread_since is None:
            self.unread_since = self.clock()

    def note_start(self, *, is_event_stream: bool = False) -> None:
        """The head of the answer is sent."""
        self.first_byte_at = self.clock()
        self.is_event_stream = is_event_stream

    def note_event(self) -> None:
        """An event is sent."""
        now = self.clock()
        meter = self.meter
        if not self.events:
            self.first_event_at = now
            if meter is not None:
                meter.first_seconds.observe(now - self.received_at)
        elif meter is not None:
            meter.gap_seconds.observe(now - self._gap_began_at)
        self.events += 1
        self._gap_began_at = now

    @property
    def awaited(self) -> Literal["head", "first_event"] | None:
        """What of the answer its application is to send; None where that was sent, or the request is to come first."""
        if self.first_byte_at is None:
            return "head" if self.is_received or self.unread_since is not None else None
        return "first_event" if self.is_event_stream and not self.events else None

    @property
    def awaited_since(self) -> float:
        """Since when that is."""
        if self.unread_since is None or self.is_received or self.first_byte_at is not None:
            return self.received_at
        return self.unread_since

    def note_full(self) -> None:
        """The client has to take some of what waits for it, before more is sent."""
        if self.waited_since is None:
            self.waited_since = self.clock()

    def note_room(self, since: float) -> float:
        """There is room again, or nobody is left to make any: the application could send from now on.

        Args:
            since: when the wait began.

        Returns:
            Its seconds.
        """
        self._gap_began_at = now = self.clock()
        self.waited_since = None
        return now - since

    def note_lost(self) -> None:
        """Nobody is left to be answered, from now on."""
        if self.lost_at is None:
            self.lost_at = self.clock()
