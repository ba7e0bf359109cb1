"""What is counted under labels of closed sets has no label beside them, and is there from the beginning."""

from __future__ import annotations

import pytest

from sage_edge.core.exchange import Cause
from sage_edge.core.metric_families import CONNECTION_REFUSALS, HANDSHAKE_FAILURES, LIMITS, Metrics
from sage_edge.server import metrics_handshake
from sage_edge.server.http2.budgets import Kind
from sage_edge.server.metrics_sources import observe_mount


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("connections_refused", CONNECTION_REFUSALS),
        ("tls_handshake_failures", HANDSHAKE_FAILURES),
        ("limits_exceeded", LIMITS),
        ("certificate_reloads", ("done", "refused")),
    ],
)
def test_each_is_there_before_anything_is_counted(name: str, labels: tuple[str, ...]) -> None:
    assert Metrics().snapshot()[f"sage_edge_{name}"] == [[[label], 0] for label in labels]


def test_every_budget_is_one_of_the_limits() -> None:
    assert {kind.name.lower() for kind in Kind} | {"streams", "buffered_bytes"} == set(LIMITS)


def test_every_reason_of_a_handshake_is_known() -> None:
    assert set(metrics_handshake._REASONS.values()) <= set(HANDSHAKE_FAILURES)


def test_a_mount_has_every_cause_before_its_first_request() -> None:
    metrics = Metrics()
    observe_mount(metrics, "/llm")
    assert metrics.snapshot()["sage_edge_cancellations"] == [[["/llm", cause.label], 0] for cause in Cause]
