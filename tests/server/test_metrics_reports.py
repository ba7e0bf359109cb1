"""Several workers' figures as one, while workers come and go."""

from __future__ import annotations

from sage_edge.core.metric_families import Metrics
from sage_edge.core.problems import Problem
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
    workers.note(1, report(started=1, requests=10).snapshot(), 0)
    workers.note(2, report(started=0, requests=5).snapshot(), 0)
    assert numbers(workers, "sage_edge_readiness_check") == {"started": 1}
    assert numbers(workers, "sage_edge_phase") == {"ready": 1}
    assert numbers(workers, "sage_edge_requests") == {"200": 15}
    holders.add(2)
    assert numbers(workers, "sage_edge_readiness_check") == {"started": 0}
    workers.retire(2)
    assert numbers(workers, "sage_edge_readiness_check") == {"started": 1}
    assert numbers(workers, "sage_edge_requests") == {"200": 15}


def test_what_a_worker_of_another_version_says_is_left_out_where_it_does_not_fit() -> None:
    workers = WorkersMetrics(lambda pid: True)
    ours, other = report(started=1, requests=10), report(started=1, requests=5)
    ours.duration_seconds.of("/", "2").observe(1.0)
    other.duration_seconds.of("/", "2").observe(1.0)
    snapshot = other.snapshot()
    snapshot["sage_edge_request_duration_seconds"][0][1].append(0)  # a bucket more
    snapshot["sage_edge_phase"][0][0].append("of something")  # a label more
    snapshot["sage_edge_news"] = [[[], 1]]
    for pid, said in enumerate([snapshot, ours.snapshot(), snapshot]):
        workers.note(pid, said, 0)
    assert numbers(workers, "sage_edge_requests") == {"200": 20}
    (duration,) = workers.snapshot()["sage_edge_request_duration_seconds"]
    assert sum(duration[1]) == 1
    assert numbers(workers, "sage_edge_phase") == {"ready": 1}


def test_a_problem_of_another_version_is_understood_as_far_as_it_goes() -> None:
    assert Problem.from_message({"at": 1.0, "level": "error", "text": "it broke", "colour": "red"}).text == "it broke"
