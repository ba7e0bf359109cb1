"""What an exchange's meter is told."""

from __future__ import annotations

from sage_edge.app.exchange import Exchange
from sage_edge.core.metric_families import GAP_BOUNDS
from sage_edge.core.metrics import Histogram
from sage_edge.core.timeline import EventMeter


class RecordingMeter:
    """A meter.

    Args:
        events: where events are counted; its own unless given.

    Attributes:
        waits: seconds of each, in order.
    """

    def __init__(self, events: EventMeter | None = None) -> None:
        self.events = events or EventMeter(Histogram(GAP_BOUNDS), Histogram(GAP_BOUNDS))
        self.waits: list[float] = []

    def find_events(self, exchange: Exchange) -> EventMeter:
        return self.events

    def note_wait(self, exchange: Exchange, seconds: float) -> None:
        self.waits.append(seconds)
