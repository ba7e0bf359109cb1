"""Figures, their snapshots, and the sum of several processes' snapshots."""

from __future__ import annotations

import json
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.metric_families import Metrics
from sage_edge.core.metrics import Histogram
from tests.kit.metrics import METRICS_PAGE, metrics_table

BOUNDS = (1.0, 2.0, 5.0)


def filled(requests: int, seconds: list[float], expiry: float) -> Metrics:
    metrics = Metrics()
    metrics.requests.add("/", "2", "GET", "200", amount=requests)
    for value in seconds:
        metrics.duration_seconds.of("/", "2").observe(value)
    metrics.connections_open.of().number = requests
    metrics.certificate_expiry_seconds.of().number = expiry
    metrics.gateway_lag_seconds.of("/").number = expiry
    return metrics


@pytest.mark.parametrize(("value", "bucket"), [(0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (5.0, 2), (5.1, 3)])
def test_a_value_is_counted_below_the_first_bound_that_is_not_less(value: float, bucket: int) -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe(value)
    assert histogram.counts == [int(number == bucket) for number in range(4)]
    assert histogram.total == value


@given(st.lists(st.floats(0, 10)))
def test_buckets_hold_what_is_at_or_below_their_bound(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    assert list(accumulate(histogram.counts)) == [
        *(sum(value <= bound for value in values) for bound in BOUNDS),
        len(values),
    ]


def test_the_same_labels_are_the_same_figure() -> None:
    metrics = Metrics()
    assert metrics.requests.of("/", "2", "GET", "200") is metrics.requests.of("/", "2", "GET", "200")
    assert metrics.duration_seconds.of("/", "2") is metrics.duration_seconds.of("/", "2")


def test_a_snapshot_is_plain_and_does_not_change_with_its_source() -> None:
    metrics = filled(1, [0.1], 9)
    snapshot = metrics.snapshot()
    text = json.dumps(snapshot)
    metrics.duration_seconds.of("/", "2").observe(1)
    assert json.loads(text) == snapshot == json.loads(json.dumps(snapshot))
    assert set(snapshot) == {family.name for family in metrics.families}


def test_gauges_are_refreshed_before_each_snapshot() -> None:
    metrics = Metrics()
    values = iter([1, 2])
    metrics.refresh_with(lambda: setattr(metrics.connections_open.of(), "number", next(values)))
    assert [metrics.snapshot()["sage_edge_connections_open"] for _ in range(2)] == [[[[], 1]], [[[], 2]]]


def test_merged_snapshots_add_up() -> None:
    one, other = filled(3, [0.1, 7], 100), filled(4, [0.1], 50)
    other.requests.add("/llm", "1.1", "POST", "500")
    merged = Metrics().merge(json.loads(json.dumps([one.snapshot(), other.snapshot()])))
    assert sorted(merged["sage_edge_requests"]) == [
        [["/", "2", "GET", "200"], 7],
        [["/llm", "1.1", "POST", "500"], 1],
    ]
    expected = filled(7, [0.1, 7, 0.1], 50).snapshot()["sage_edge_request_duration_seconds"][0]
    assert merged["sage_edge_request_duration_seconds"][0][1] == expected[1]
    assert merged["sage_edge_request_duration_seconds"][0][2] == pytest.approx(expected[2])
    assert merged["sage_edge_connections_open"] == [[[], 7]]
    assert merged["sage_edge_certificate_expiry_timestamp_seconds"] == [[[], 50]], "the first to expire"
    assert merged["sage_edge_gateway_loop_lag_seconds"] == [[["/"], 100]], "the worst"


def test_counters_without_labels_are_there_before_anything_is_counted() -> None:
    assert Metrics().snapshot()["sage_edge_worker_failures"] == [[[], 0]]


def test_merging_changes_none_of_the_snapshots() -> None:
    snapshots = [filled(1, [0.1], 1).snapshot(), filled(2, [0.2], 2).snapshot()]
    before = json.dumps(snapshots)
    Metrics().merge(snapshots)
    assert json.dumps(snapshots) == before


def test_one_snapshot_merged_is_itself_and_unknown_families_are_left_out() -> None:
    snapshot = filled(1, [0.1], 9).snapshot()
    assert Metrics().merge([snapshot]) == snapshot
    assert Metrics().merge([{**snapshot, "of_another_version": [[[], 1]]}]) == snapshot
    assert not any(Metrics().merge([]).values())


def test_the_documentation_has_them_all() -> None:
    assert metrics_table() in METRICS_PAGE.read_text()


def test_names_follow_the_conventions() -> None:
    for family in Metrics().families:
        assert family.name.startswith("sage_edge_")
        assert not family.name.endswith("_total")
        assert family.meaning.endswith(".")
        assert list(family.bounds) == sorted(set(family.bounds))
        if family.kind == "histogram":
            assert family.name.endswith("_seconds")
            assert family.merging == "sum"
