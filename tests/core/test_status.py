"""What the status page shows is what the metrics say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.metric_families import GENERATION_BOUNDS, Metrics
from sage_edge.core.status import (
    FAULTS,
    HISTORY_SECONDS,
    History,
    Totals,
    Traffic,
    arrange_mounts,
    quantile,
    read_overview,
    take_sample,
)


def counted() -> Metrics:
    """Metrics of an edge that has served a little."""
    metrics = Metrics()
    metrics.requests.add("/llm", "2", "POST", "200", amount=3)
    metrics.requests.add("/llm", "1.1", "POST", "502")
    metrics.requests.add("none", "1.1", "GET", "404")
    metrics.requests_in_flight.of("/llm", "2").number = 2
    metrics.events.add("/llm", "2", amount=40)
    metrics.sent_bytes.add("/llm", "2", amount=1000)
    metrics.cancellations.add("/llm", "client_left", amount=2)
    metrics.cancellations.add("none", "client_left")
    metrics.cancellations.add("/llm", "stalled", amount=4)
    metrics.connections_open.of().number = 5
    metrics.connections_refused.add("limit", amount=2)
    metrics.connections_refused.add("client_limit")
    metrics.dropped_log_lines.of().number = 6
    metrics.phase.of("starting").number = 0
    metrics.phase.of("ready").number = 1
    metrics.readiness_check.of("accepting").number = 1
    metrics.readiness_check.of("certificate").number = 0
    return metrics


def test_the_overview_adds_up_what_was_counted() -> None:
    overview = read_overview(counted().snapshot(), 0)
    assert overview.mounts == [Traffic("/llm", 2, 4, 1, 40, 1000), Traffic("none", 0, 1, 0, 0, 0)]
    assert overview.protocols == [Traffic("HTTP/1.1", 0, 2, 1, 0, 0), Traffic("HTTP/2", 2, 3, 0, 40, 1000)]
    assert (overview.in_flight, overview.requests, overview.events) == (2, 5, 40)
    assert list(overview.endings.items()) == [("stalled", 4), ("client left", 3)]
    assert overview.connections == 5
    assert [number for number in overview.faults.values() if number] == [3, 6]
    assert overview.phase == "ready"
    assert overview.checks == {"accepting": True, "certificate": False}


def test_the_faults_are_figures_that_there_are() -> None:
    assert set(FAULTS.values()) <= {family.name for family in Metrics().families}


def test_where_no_worker_answers_the_edge_is_silent() -> None:
    metrics = Metrics()
    metrics.workers_wanted.of().number = 1
    assert read_overview(metrics.snapshot(), 0).phase == "starting"
    metrics.connections_limit.of().number = 100
    assert read_overview(metrics.snapshot(), 0).phase == "silent"


def test_health_that_says_not_ready_has_not_failed() -> None:
    metrics = Metrics()
    metrics.requests.add("health", "2", "GET", "503")
    metrics.requests.add("health", "2", "GET", "500")
    assert read_overview(metrics.snapshot(), 0).mounts == [Traffic("health", requests=2, failed=1)]


def test_mounts_come_before_the_edge_s_own_and_stay_there() -> None:
    own = [Traffic("health", requests=1), Traffic("none", requests=2)]
    later = [own[0], Traffic("/b", requests=3), own[1]]
    assert arrange_mounts(own, ["/b", "/a"]) == [Traffic("/a"), Traffic("/b"), *own]
    assert arrange_mounts(later, ["/b", "/a"]) == [Traffic("/a"), later[1], *own]


def test_what_is_not_there_is_none() -> None:
    overview = read_overview(Metrics().snapshot(), 0)
    assert overview.phase == "starting"
    assert overview.edge_lag_seconds is overview.gateway_lag_seconds is None
    assert overview.longest_wait_seconds == (0, 0)
    assert overview.waits_given_up == overview.waiting_for_client == 0
    assert overview.certificate_days is None
    assert overview.workers is None
    assert overview.mounts == overview.protocols == []


def test_the_gauges_are_told() -> None:
    metrics = Metrics()
    metrics.gateway_lag_seconds.of("/a").number = 0.1
    metrics.gateway_lag_seconds.of("/b").number = 0.3
    metrics.loop_lag_seconds.of().number = 0.2
    metrics.longest_wait_seconds.of("/a", "head").number = 7
    metrics.longest_wait_seconds.of("/a", "first_event").number = 8
    metrics.longest_wait_seconds.of("/b", "first_event").number = 9
    metrics.waits_given_up.add("/a", "head", amount=2)
    metrics.waits_given_up.add("/b", "first_event", amount=3)
    metrics.answers_waiting_for_client.of("/a", "2").number = 4
    metrics.answers_waiting_for_client.of("/b", "1.1").number = 1
    metrics.certificate_expiry_seconds.of().number = 5 * 86_400
    metrics.workers_wanted.of().number = 4
    metrics.workers_ready.of().number = 3
    overview = read_overview(metrics.snapshot(), 2 * 86_400)
    assert (overview.edge_lag_seconds, overview.gateway_lag_seconds) == (0.2, 0.3)
    assert overview.longest_wait_seconds == (7, 9)
    assert (overview.waits_given_up, overview.waiting_for_client) == (5, 5)
    assert overview.certificate_days == 3
    assert overview.workers == (3, 4)


def test_the_history_has_rates_of_what_was_counted_in_between() -> None:
    metrics, history = counted(), History()
    history.add(take_sample(metrics.snapshot(), 10.0))
    assert history.recent_first_event_seconds(0.5) is None
    metrics.requests.add("/llm", "2", "POST", "200", amount=6)
    metrics.events.add("/llm", "2", amount=100)
    metrics.requests_in_flight.of("/llm", "2").number = 7
    metrics.first_event_seconds.of("/llm", "2").observe(0.02)
    history.add(take_sample(metrics.snapshot(), 12.0))
    history.add(take_sample(metrics.snapshot(), 13.0))
    assert history.in_flight == [7, 7]
    assert history.requests_per_second == [3, 0]
    assert history.events_per_second == [50, 0]
    first, second = history.first_event_seconds
    assert first is not None
    assert 0.01 <= first <= 0.025
    assert second is None
    assert history.recent_first_event_seconds(0.99) is not None


def test_a_worker_that_has_gone_makes_no_rate_negative() -> None:
    history = History()
    history.add(take_sample(counted().snapshot(), 1.0))
    history.add(take_sample(Metrics().snapshot(), 2.0))
    assert history.requests_per_second == history.events_per_second == [0]


def test_the_rates_of_workers_that_report_when_they_like_are_as_steady_as_those_workers() -> None:
    history = History()
    counted_per_second = {1: 100, 2: 300}
    for second in range(60):
        now = 1000 + second * 1.003  # the page's second drifts past those of the workers
        reported = {pid: float(int(now - pid / 3)) + pid / 3 for pid in counted_per_second}
        totals = {pid: Totals(at, requests=0, events=counted_per_second[pid] * at) for pid, at in reported.items()}
        history.add(take_sample({}, now, totals))
    assert history.events_per_second[1:] == [pytest.approx(400)] * 58


def test_a_worker_that_tells_nothing_any_more_counts_nothing() -> None:
    history = History()
    for second, told_at in enumerate([0, 1, 1, 1, 1, 1]):
        history.add(take_sample({}, second, {1: Totals(told_at, requests=10 * told_at, events=0)}))
    assert history.requests_per_second == [10, 10, 10, 10, 0]


def test_two_minutes_are_kept() -> None:
    history = History()
    for second in range(500):
        history.add(take_sample(Metrics().snapshot(), second))
    assert len(history.in_flight) == len(history.events_per_second) == HISTORY_SECONDS


BUCKETS = len(GENERATION_BOUNDS) + 1


@given(st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_that_has_it(counts: list[int], share: float) -> None:
    found = quantile(share, counts)
    if found is None:
        assert not sum(counts)
        return
    below = sum(count for bound, count in zip(GENERATION_BOUNDS, counts, strict=False) if bound < found)
    assert below <= share * sum(counts) + 1e-6
    assert 0 <= found <= GENERATION_BOUNDS[-1]


def test_what_lies_beyond_the_last_bound_is_as_long_as_that() -> None:
    assert quantile(0.5, [0] * (BUCKETS - 1) + [1]) == pytest.approx(600)


def test_endings_that_have_not_been_yet_are_not_told() -> None:
    metrics = Metrics()
    metrics.cancellations.of("/", "drained")
    metrics.cancellations.add("/", "error")
    assert read_overview(metrics.snapshot(), 0).endings == {"error": 1}
