"""The layer that counts requests, and how they went.

What is counted is `core.metric_families`'; when it happened is the exchange's timeline. Here: which figures belong
to which request, found once for each kind of request and kept, since looking labels up costs more than counting.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE, Exchange
from sage_edge.core.exchange import Cause
from sage_edge.core.metric_families import GENERATION_BOUNDS, Metrics
from sage_edge.core.metrics import Histogram
from sage_edge.core.timeline import EventMeter

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
OTHER_METHOD = "other"
WEBSOCKET = "WEBSOCKET"
"""Told in place of a WebSocket's method. A request's own method may be spelled so, and is another."""
NO_STATUS = "none"
COUNTED_AT_ONCE = 64
"""Requests that have ended, counted together where nobody has asked for the figures before."""

_Key = tuple[str, str, str | None, int]
"""Mount, protocol, method (None is a WebSocket's) and status."""
_Ended = tuple[_Key, int, int, float, float | None]
"""Its key, bytes received and sent, and seconds to its end and to its first byte, where there was one."""


def label_method(method: str | None) -> str:
    """A request's method as figures have it; None is a WebSocket's."""
    if method is None:
        return WEBSOCKET
    return method if method in METHODS else OTHER_METHOD


class MetricsLayer:
    """An ASGI application that calls another and counts its requests.

    Args:
        application: the other.
        metrics: where.
    """

    def __init__(self, application: ASGIApplication, metrics: Metrics) -> None:
        self._application = application
        self._metrics = metrics
        self._in_flight: dict[Exchange, int] = {}  # bytes that it has sent, as far as they are counted
        self._kinds: dict[_Key, _Kind] = {}
        self._meters: dict[tuple[str, str], EventMeter] = {}
        self._ended: list[_Ended] = []
        self._waits: dict[tuple[str, str], Histogram] = {}
        self._eventless: Counter[tuple[str, str]] = Counter()
        self._when_done = self._note  # bound once, not for each request
        metrics.refresh_with(self._count)
        metrics.refresh_with(self._look_at_those_in_flight)
        metrics.refresh_with(self._count_events)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request or WebSocket; a lifespan is passed through."""
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is not None:
            self._in_flight[exchange] = 0
            exchange.meter = self
            exchange.when_done(self._when_done)
        return self._application(scope, receive, send)

    def _note(self, exchange: Exchange) -> None:
        """Take down how a request went; it is counted with others, since one by one costs twice as much."""
        counted_bytes = self._in_flight.pop(exchange, 0)
        scope, timeline = exchange.scope, exchange.timeline
        now, first_byte_at = timeline.clock(), timeline.first_byte_at
        if exchange.cause is not None or not (exchange.progress.is_complete or exchange.has_ended_well):
            self._count_cancellation(exchange, now)
            if timeline.awaited is not None and exchange.cause not in {None, Cause.ERROR}:
                self._count_wait_given_up(exchange, timeline.awaited)
        self._ended.append(
            (
                (exchange.mount, scope["http_version"], scope.get("method"), exchange.status),
                exchange.received_bytes,
                exchange.passed_on_bytes - counted_bytes,
                now - timeline.began_at,
                None if first_byte_at is None else first_byte_at - timeline.received_at,
            )
        )
        if len(self._ended) >= COUNTED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        for key, received_bytes, sent_bytes, seconds, first_byte_seconds in self._ended:
            kind = self._kinds.get(key) or self._find_kind(*key)
            kind.requests.number += 1
            kind.received_bytes.number += received_bytes
            kind.sent_bytes.number += sent_bytes
            # As `Histogram.observe` does it, whose calls would be a sixth of what all this costs.
            duration = kind.duration_seconds
            duration.total += seconds
            duration.counts[bisect_left(GENERATION_BOUNDS, seconds)] += 1
            if first_byte_seconds is not None:
                first_byte = kind.first_byte_seconds
                first_byte.total += first_byte_seconds
                first_byte.counts[bisect_left(GENERATION_BOUNDS, first_byte_seconds)] += 1
        self._ended.clear()

    def _count_cancellation(self, exchange: Exchange, now: float) -> None:
        cause = (exchange.cause or Cause.ERROR).label
        self._metrics.cancellations.add(exchange.mount, cause)
        if exchange.timeline.lost_at is not None:
            seconds = self._metrics.cancellation_seconds.of(exchange.mount, cause)
            seconds.observe(now - exchange.timeline.lost_at)

    def _count_wait_given_up(self, exchange: Exchange, awaited: str) -> None:
        """Count among the others how long it was: of answers that came alone, a gateway that hangs would look fast."""
        timeline, key = exchange.timeline, (exchange.mount, exchange.scope["http_version"])
        self._metrics.waits_given_up.add(exchange.mount, awaited)
        if awaited == "head":
            histogram = self._metrics.first_byte_seconds.of(*key)
        else:
            histogram = self.find_events(exchange).first_seconds
            self._eventless[key] += 1
        until = timeline.clock() if timeline.lost_at is None else timeline.lost_at
        histogram.observe(until - timeline.awaited_since)

    def _find_kind(self, mount: str, protocol: str, method: str | None, status: int) -> _Kind:
        label = label_method(method)
        if label == OTHER_METHOD:  # a client could make up any number of methods
            return _Kind(self._metrics, mount, protocol, label, status)
        kind = self._kinds[mount, protocol, method, status] = _Kind(self._metrics, mount, protocol, label, status)
        return kind

    def find_events(self, exchange: Exchange) -> EventMeter:
        """Where an answer's events are counted."""
        key = (exchange.mount, exchange.scope["http_version"])
        meter = self._meters.get(key)
        if meter is None:
            metrics = self._metrics
            meter = self._meters[key] = EventMeter(
                metrics.first_event_seconds.of(*key), metrics.between_events_seconds.of(*key)
            )
        return meter

    def note_wait(self, exchange: Exchange, seconds: float) -> None:
        """Count how long an answer had to wait for its client."""
        key = (exchange.mount, exchange.scope["http_version"])
        waits = self._waits.get(key)
        if waits is None:
            waits = self._waits[key] = self._metrics.client_wait_seconds.of(*key)
        waits.observe(seconds)

    def _count_events(self) -> None:
        """Each is the first of its stream or comes after another: that is counted already, event by event."""
        for labels, meter in self._meters.items():
            first_events = meter.first_seconds.count - self._eventless[labels]
            self._metrics.events.of(*labels).number = first_events + meter.gap_seconds.count

    def _look_at_those_in_flight(self) -> None:
        metrics = self._metrics
        in_flight, waiting = metrics.requests_in_flight, metrics.answers_waiting_for_client
        longest = metrics.longest_wait_seconds
        for gauge in (in_flight, waiting, longest):
            gauge.zero()
        for exchange, counted_bytes in self._in_flight.items():
            timeline, key = exchange.timeline, (exchange.mount, exchange.scope["http_version"])
            in_flight.of(*key).number += 1
            waiting.of(*key).number += timeline.waited_since is not None
            # What waits still may be cut, and would be counted in vain.
            if (sent_bytes := exchange.sent_bytes - exchange.waiting_bytes) > counted_bytes:
                metrics.sent_bytes.of(*key).number += sent_bytes - counted_bytes
                self._in_flight[exchange] = sent_bytes
            if (awaited := timeline.awaited) is not None and timeline.lost_at is None:
                wait = longest.of(exchange.mount, awaited)
                wait.number = max(wait.number, timeline.clock() - timeline.awaited_since)


class _Kind:
    """The figures of requests that have all labels in common."""

    __slots__ = ("duration_seconds", "first_byte_seconds", "received_bytes", "requests", "sent_bytes")

    def __init__(self, metrics: Metrics, mount: str, protocol: str, method: str, status: int) -> None:
        self.requests = metrics.requests.of(mount, protocol, method, str(status) if status else NO_STATUS)
        self.received_bytes = metrics.received_bytes.of(mount, protocol)
        self.sent_bytes = metrics.sent_bytes.of(mount, protocol)
        self.first_byte_seconds = metrics.first_byte_seconds.of(mount, protocol)
        self.duration_seconds = metrics.duration_seconds.of(mount, protocol)
