"""What each process takes of the machine, alone and together."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from sage_edge.core.metric_families import Metrics
from sage_edge.server import process_figures
from sage_edge.server.metrics_reports import WorkersMetrics
from sage_edge.server.process_figures import observe_resources

NAMES = ("cpu_seconds", "resident_memory_bytes", "open_fds", "max_fds")


def figures(metrics: Metrics | WorkersMetrics) -> dict[str, float]:
    snapshot = metrics.snapshot()
    return {name: snapshot[f"sage_edge_process_{name}"][0][1] for name in NAMES}


def observed() -> Metrics:
    metrics = Metrics()
    observe_resources(metrics)
    return metrics


def test_a_process_tells_its_own() -> None:
    seen = figures(observed())
    assert seen["cpu_seconds"] > 0
    assert seen["resident_memory_bytes"] > 1_000_000
    assert seen["max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_descriptors_are_counted_as_they_are_opened() -> None:
    metrics = observed()
    before = figures(metrics)["open_fds"]
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    try:
        assert figures(metrics)["open_fds"] == before + 5
    finally:
        for each in opened:
            os.close(each)


def test_what_the_system_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process_figures, "DESCRIPTORS", tmp_path / "none")
    monkeypatch.setattr(process_figures, "resident_bytes", lambda pid: 0)
    snapshot = observed().snapshot()
    assert snapshot["sage_edge_process_open_fds"] == snapshot["sage_edge_process_resident_memory_bytes"] == []


def test_those_of_workers_and_their_supervisor_are_one() -> None:
    workers = WorkersMetrics(lambda pid: True)
    for pid in (1, 2):
        metrics = Metrics()
        metrics.process_cpu_seconds.of().number = 1000 * pid
        metrics.process_resident_bytes.of().number = 10**12 * pid
        metrics.process_open_fds.of().number = 10**6 * pid
        metrics.process_max_fds.of().number = pid
        workers.note(pid, metrics.snapshot(), 0)
    seen = figures(workers)
    assert 3000 < seen["cpu_seconds"] < 4000
    assert 3 * 10**12 < seen["resident_memory_bytes"] < 4 * 10**12
    assert (seen["open_fds"], seen["max_fds"]) == (2 * 10**6, 1)
    workers.retire(2)
    assert figures(workers)["cpu_seconds"] > 3000
    assert figures(workers)["resident_memory_bytes"] < 2 * 10**12
