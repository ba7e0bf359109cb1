"""The page that Prometheus reads, read by prometheus-client's own parsers."""

from __future__ import annotations

import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sage_edge.app.asgi import Scope
from sage_edge.app.metrics_page import MetricsPage
from sage_edge.core.metric_families import Metrics
from tests.kit.asgi_calls import Server, http_scope, websocket_scope
from tests.kit.metrics import filled_metrics
from tests.kit.promtool import needs_promtool, run_promtool

OPENMETRICS = b"application/openmetrics-text; version=1.0.0"


@pytest.fixture
def metrics() -> Metrics:
    """Every family with values."""
    return filled_metrics()


async def ask(metrics: Metrics, scope: Scope) -> Server:
    server = Server()
    await MetricsPage(metrics.families, metrics.snapshot)(scope, server.receive, server.send)
    return server


@pytest.mark.parametrize("accept", [b"", b"text/plain", OPENMETRICS, b"*/*"], ids=repr)
async def test_every_family_is_read_as_it_was_meant(accept: bytes, metrics: Metrics) -> None:
    server = await ask(metrics, http_scope("/metrics", headers=[(b"accept", accept)] if accept else []))
    is_openmetrics = accept == OPENMETRICS
    expected = "application/openmetrics-text" if is_openmetrics else "text/plain"
    assert server.headers["content-type"].startswith(expected)
    text = server.body.decode()
    found = {family.name: family for family in (parse_openmetrics if is_openmetrics else parse_text)(text)}
    for family in metrics.families:
        read = found[family.name]
        assert (read.type, read.documentation) == (family.kind, family.meaning)
        assert all(set(family.labels) <= set(sample.labels) for sample in read.samples)


@pytest.mark.parametrize("kind", [b"application/openmetrics-text", b"text/plain"])
@pytest.mark.parametrize("version", [b"abc", b".", b"", b"1.x.0"])
async def test_a_version_that_is_none_is_answered_in_text(kind: bytes, version: bytes, metrics: Metrics) -> None:
    server = await ask(metrics, http_scope("/metrics", headers=[(b"accept", kind + b"; version=" + version)]))
    assert server.status == 200
    assert server.body


@needs_promtool
async def test_promtool_finds_nothing_to_say_about_any_family(metrics: Metrics) -> None:
    checked = run_promtool("check", "metrics", text=(await ask(metrics, http_scope("/metrics"))).body.decode())
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_values_are_those_of_the_figures() -> None:
    metrics = Metrics()
    metrics.requests.add("/", "2", "GET", "200", amount=7)
    for seconds in (0.004, 0.03, 0.03, 1000):
        metrics.duration_seconds.of("/", "2").observe(seconds)
    text = (await ask(metrics, http_scope("/metrics"))).body.decode()
    samples = {
        (sample.name, sample.labels.get("le")): sample.value for family in parse_text(text) for sample in family.samples
    }
    name = "sage_edge_request_duration_seconds"
    assert samples["sage_edge_requests_total", None] == 7
    assert [samples[f"{name}_bucket", bound] for bound in ("0.005", "0.025", "0.05", "600.0", "+Inf")] == [
        1,
        1,
        3,
        3,
        4,
    ]
    assert samples[f"{name}_count", None] == 4
    assert math.isclose(samples[f"{name}_sum", None], 1000.064)


async def test_a_process_is_shown_by_the_edges_own_figures_alone() -> None:
    # With workers, those of whoever writes the page would be the supervisor's.
    text = (await ask(Metrics(), http_scope("/metrics"))).body
    assert b"\nsage_edge_process_cpu_seconds_total" in text
    assert b"\nprocess_" not in text


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (http_scope("/metrics", method="HEAD"), 200),
        (http_scope("/metrics", method="POST"), 405),
        (http_scope("/"), 404),
        (http_scope("/metrics/"), 404),
    ],
    ids=["HEAD", "POST", "elsewhere", "below"],
)
async def test_nothing_else_is_served(scope: Scope, status: int) -> None:
    assert (await ask(Metrics(), scope)).status == status


async def test_a_websocket_is_refused() -> None:
    assert (await ask(Metrics(), websocket_scope("/metrics"))).types == ["websocket.close"]
