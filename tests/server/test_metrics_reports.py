"""Several workers' figures as one, while workers come and go."""

from __future__ import annotations

from sage_edge.core.metric_families import Metrics
from sage_edge.server.metrics_reports import WorkersMetrics


def report(*, started: int, requests: int) -> Metrics:
    """What a worker reports."""
    metrics = Metrics()
    metrics.readiness_check.of("started").number = started
    metrics.phase.of("ready" if started else "starting").number = 1
    metrics.requests.add("/", "2", "GET", "200", amount=requests)
    return metrics


def numbers(workers: WorkersMetrics, name: str) -> dict[str, float]:
    """A family's values by their last label."""
    return {row[0][-1]: row[1] for row in workers.snapshot()[name]}


def test_how_the_edge_is_those_say_who_hold_a_place_and_all_count() -> None:
    holders = {1}
    workers = WorkersMetrics(holders.__contains__)
    workers.note(1, report(started=1, requests=10).snapshot())
    workers.note(2, report(started=0, requests=5).snapshot())
    assert numbers(workers, "sage_edge_readiness_check") == {"started": 1}
    assert numbers(workers, "sage_edge_phase") == {"ready": 1}
    assert numbers(workers, "sage_edge_requests") == {"200": 15}
    holders.add(2)
    assert numbers(workers, "sage_edge_readiness_check") == {"started": 0}
    workers.retire(2)
    assert numbers(workers, "sage_edge_readiness_check") == {"started": 1}
    assert numbers(workers, "sage_edge_requests") == {"200": 15}
