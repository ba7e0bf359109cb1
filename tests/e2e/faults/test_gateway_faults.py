"""Whatever a gateway does to its loop and its thread, the edge goes on, says so, and ends within its limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.e2e.faults.gateway import numbers
from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

GATEWAY = ("--gateway", "tests.e2e.faults.gateway:app")
DRAIN_SECONDS = 1
END_SECONDS = DRAIN_SECONDS + 16 + 4
"""The drain; request, lifespan and thread are waited for beside it for 16 at most; and a busy machine's allowance."""


def ask_status(client: httpx2.Client, wanted: str) -> None:
    """Ask for readiness until it is so."""
    assert eventually(lambda: client.get("/readyz").json()["status"] == wanted, WAIT_SECONDS), wanted


def commit(edge: Edge, fault: str) -> None:
    """Have the gateway do it; the answer to that request alone may fail."""
    try:
        with edge.client() as client:
            client.get(f"/{fault}")
    except httpx2.TransportError:
        return


@contextmanager
def request_in_flight(edge: Edge, fault: str) -> Iterator[None]:
    """A request that the gateway does not end."""
    with edge.client() as client, client.stream("GET", f"/{fault}") as response:
        assert response.status_code == 200
        yield


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge(*GATEWAY) as running:
        yield running
        assert running.stop() == 0


@pytest.mark.parametrize(
    "fault", ["exit", "interrupt", "exit-in-callback", "exit-in-task", "stop-loop", "close-loop", "leak"]
)
def test_a_gateway_that_would_end_its_thread_or_its_loop_costs_no_other_stream_a_byte(edge: Edge, fault: str) -> None:
    with edge.client() as client, client.stream("GET", "/count/40") as response:
        rest = response.iter_raw()
        read = next(rest)
        commit(edge, fault)
        assert read + b"".join(rest) == numbers(40)
        ask_status(client, "ready")
        assert client.get("/count/3").content == numbers(3)


def test_a_thousand_leaked_tasks_do_not_hold_up_the_end() -> None:
    with running_edge(*GATEWAY) as edge:
        commit(edge, "leak")
        started = time.monotonic()
        assert edge.stop() == 0
        assert time.monotonic() - started < 5
        assert "Traceback" not in edge.log.text


def test_a_request_that_ignores_its_cancellation_is_left_behind_at_the_end() -> None:
    with running_edge(*GATEWAY, "--drain-seconds", str(DRAIN_SECONDS), "--cancel-grace-seconds", "0.1") as edge:
        with request_in_flight(edge, "ignore-cancellation"):
            pass  # the client leaves
        with edge.client() as client:
            assert client.get("/count/3").content == numbers(3)
            ask_status(client, "ready")
        with request_in_flight(edge, "ignore-cancellation"):
            started = time.monotonic()
            assert edge.stop() == 0
            assert time.monotonic() - started < END_SECONDS
        assert "ignored their cancellation" in edge.log.text


def test_a_gateway_that_blocks_for_ever_leaves_health_and_the_end_to_the_edge() -> None:
    with (
        running_edge(*GATEWAY, "--drain-seconds", str(DRAIN_SECONDS)) as edge,
        edge.client() as client,
        request_in_flight(edge, "block"),
    ):
        ask_status(client, "degraded")
        for _ in range(20):
            asked = time.monotonic()
            assert client.get("/healthz").status_code == 200
            assert time.monotonic() - asked < 1
        started = time.monotonic()
        assert edge.stop() == 0
        assert time.monotonic() - started < END_SECONDS
        assert "the gateway blocks its thread and is left behind" in edge.log.text
