"""The page that Prometheus reads: a snapshot of the figures, in its text format or in OpenMetrics.

Uses prometheus-client for the formats alone, when a page is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sage_edge.app.asgi import Receive, Scope, Send, find_header, send_error
from sage_edge.core.metrics import Family, Row, Snapshot

PATH = "/metrics"


class MetricsPage:
    """An ASGI application that answers `GET /metrics`, and 404 or 405 otherwise.

    Args:
        families: what the snapshots hold.
        take_snapshot: the figures now; of one process, or of several, merged.
    """

    def __init__(self, families: Sequence[Family], take_snapshot: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_SnapshotCollector(families, take_snapshot))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await send_error(scope, send, HTTPStatus.NOT_FOUND, f"The metrics are at {PATH}.")
            return
        if scope["method"] not in {"GET", "HEAD"}:
            await send_error(
                scope, send, HTTPStatus.METHOD_NOT_ALLOWED, "Metrics are read.", [(b"allow", b"GET, HEAD")]
            )
            return
        accept = (find_header(scope, b"accept") or b"").decode("latin-1")
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # of a version that is none
            encode, content_type = choose_encoder("")
        body = encode(self._registry)
        fields = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": fields})
        await send({"type": "http.response.body", "body": body})


class _SnapshotCollector(Collector):
    """Turns a snapshot into what prometheus-client writes."""

    def __init__(self, families: Sequence[Family], take_snapshot: Callable[[], Snapshot]) -> None:
        self._families = families
        self._take_snapshot = take_snapshot

    def collect(self) -> Iterator[Metric]:
        """The families that have a value, in order."""
        snapshot = self._take_snapshot()
        for family in self._families:
            if rows := snapshot[family.name]:
                yield _as_metric(family, rows)

    def describe(self) -> Iterator[Metric]:
        """No names beforehand: asked for, the values would be taken instead."""
        return iter(())


def _as_metric(family: Family, rows: list[Row]) -> Metric:
    if family.kind == "histogram":
        metric = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for labels, counts, total in rows:
            metric.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return metric
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    values = kind(family.name, family.meaning, labels=family.labels)
    for labels, number in rows:
        values.add_metric(labels, number)
    return values
