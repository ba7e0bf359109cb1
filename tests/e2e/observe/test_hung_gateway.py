"""A gateway that answers nothing any more: seen while its clients wait, and after they have given up."""

from __future__ import annotations

from contextlib import ExitStack

import httpx2
import pytest

from tests.e2e.observe.support import observed_edge, wait_for_figure
from tests.kit.edge import Edge

STREAMS = 10
WAITED_SECONDS = 2.5


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_waits_are_seen_while_they_last_and_counted_once_they_are_given_up(workers: tuple[str, ...]) -> None:
    with observed_edge(*workers) as (edge, url), ExitStack() as waiting:
        assert ask(edge, "/events/1") == 1
        for number in range(STREAMS):
            client = waiting.enter_context(edge.client(http2=bool(number % 2)))
            waiting.enter_context(client.stream("GET", "/hang/first_event"))
        with edge.client() as client, pytest.raises(httpx2.TimeoutException):
            client.get("/hang/head", timeout=WAITED_SECONDS)
        figures = wait_for_figure(url, lambda figures: figures.sum("waits_given_up_total", awaited="head") == 1)
        assert WAITED_SECONDS <= figures.sum("longest_wait_seconds", mount="/", awaited="first_event") < 60
        assert figures.sum("time_to_first_event_seconds_count") == 1
        waiting.close()
        wait_for_figure(url, lambda figures: figures.sum("longest_wait_seconds") == 0)
        figures = wait_for_figure(url, lambda figures: figures.sum("requests_total", mount="/") == STREAMS + 2)
        assert figures.sum("waits_given_up_total", mount="/", awaited="first_event") == STREAMS
        assert figures.sum("time_to_first_event_seconds_count") == STREAMS + 1
        assert figures.sum("time_to_first_event_seconds_sum") > STREAMS * WAITED_SECONDS
        assert figures.sum("time_to_first_byte_seconds_sum", mount="/") >= WAITED_SECONDS
        assert figures.sum("events_total") == 1


def ask(edge: Edge, path: str) -> int:
    """How many events an answer has."""
    with edge.client() as client:
        return client.get(path, headers={"x-request-id": "asked"}).text.count("data: ")
