"""A gateway in the edge's own loop that ignores its cancellation: the edge ends beneath it, and says so."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sage_edge.app.bridge import ABANDON_SECONDS
from tests.kit.edge import Edge, running_edge

GATEWAY = ("--gateway", "tests.e2e.faults.native_gateway:app", "--gateway-loop", "trio")
DRAIN_SECONDS = 0.5
ALLOWANCE_SECONDS = 10
"""For a busy machine."""


@contextmanager
def request_in_flight(edge: Edge) -> Iterator[None]:
    """A request that the gateway does not end."""
    with edge.client() as client, client.stream("GET", "/") as response:
        assert next(response.iter_raw()) == b"begun"
        yield


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "a worker"])
def test_requests_that_shield_themselves_are_left_behind_after_the_drain_and_counted(workers: tuple[str, ...]) -> None:
    with running_edge(*GATEWAY, "--drain-seconds", str(DRAIN_SECONDS), *workers) as edge:
        with request_in_flight(edge):
            pass  # the client leaves
        with request_in_flight(edge):
            started = time.monotonic()
            assert edge.stop() == 0
            assert time.monotonic() - started < DRAIN_SECONDS + ABANDON_SECONDS + ALLOWANCE_SECONDS
        assert "the gateway ignores its cancellation and is left behind" in edge.log.text
        assert "requests=2" in edge.log.text
        assert sorted(re.findall(r"ending='?(\w+)", edge.log.text)) == ["client", "drained"], "each has its line"
        assert "shut down" in edge.log.text, "what it shields are its requests alone"
        assert "worker is killed" not in edge.log.text


def test_requests_that_shield_themselves_are_left_behind_after_a_second_signal(tmp_path: Path) -> None:
    path = tmp_path / "status"
    with running_edge(*GATEWAY, "--admin-bind", f"unix:{path}") as edge:
        with request_in_flight(edge):
            started = time.monotonic()
            assert edge.end_at_once() == 0
            assert time.monotonic() - started < ABANDON_SECONDS + ALLOWANCE_SECONDS
        assert "requests=1" in edge.log.text
        assert "shut down" not in edge.log.text, "there is no time for it"
        assert not path.exists(), "what else runs ends as ever"
