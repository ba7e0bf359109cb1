"""What the files of docs/deploy may speak of."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from sage_edge.app.metrics_page import MetricsPage
from tests.kit.asgi_calls import Server, http_scope
from tests.kit.metrics import filled_metrics

Series = Mapping[str, frozenset[str]]


@pytest.fixture(scope="session")
def page() -> str:
    """The page that Prometheus reads, once every metric has a value."""
    metrics, server = filled_metrics(), Server()
    page = MetricsPage(metrics.families, metrics.snapshot)
    trio.run(page, http_scope("/metrics"), server.receive, server.send)
    return server.body.decode()


@pytest.fixture(scope="session")
def series(page: str) -> Series:
    """The names of all series on that page, and of those that Prometheus adds, with their labels."""
    found: dict[str, frozenset[str]] = {"up": frozenset(), "ALERTS": frozenset({"alertname", "alertstate"})}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, frozenset()) | sample.labels.keys()
    return {name: labels | {"job", "instance"} for name, labels in found.items()}
