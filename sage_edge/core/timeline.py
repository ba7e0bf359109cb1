"""When what happened to one request's answer: plain times of a clock that is passed in.

Bookkeeping for the access log and the metrics; it decides nothing. An event is a piece of an event stream as the
application sent it, in one message: bodies are not parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sage_edge.core.metrics import Histogram


@dataclass(frozen=True, slots=True)
class EventMeter:
    """Where the events of all streams of a kind are counted, as they are sent.

    Attributes:
        first_seconds: from a request's head to its first event.
        gap_seconds: from one event to the next.
    """

    first_seconds: Histogram
    gap_seconds: Histogram


class Timeline:
    """The times of one request.

    Args:
        clock: seconds of a monotonic clock.

    Attributes:
        began_at: its head was read.
        first_byte_at: the head of the answer was sent; None before.
        first_event_at: the same of the first event of an event stream.
        latest_event_at: the same of the latest.
        lost_at: the client left, or the request was ended for another cause; None before.
        events: so many were sent.
        is_event_stream: the answer is one.
        meter: where set, counts the events too.
    """

    __slots__ = (
        "began_at",
        "clock",
        "events",
        "first_byte_at",
        "first_event_at",
        "is_event_stream",
        "latest_event_at",
        "lost_at",
        "meter",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.began_at = clock()
        self.first_byte_at: float | None = None
        self.first_event_at: float | None = None
        self.latest_event_at = 0.0
        self.lost_at: float | None = None
        self.events = 0
        self.is_event_stream = False
        self.meter: EventMeter | None = None

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
                meter.first_seconds.observe(now - self.began_at)
        elif meter is not None:
            meter.gap_seconds.observe(now - self.latest_event_at)
        self.events += 1
        self.latest_event_at = now

    def note_lost(self) -> None:
        """Nobody is left to be answered, from now on."""
        if self.lost_at is None:
            self.lost_at = self.clock()
