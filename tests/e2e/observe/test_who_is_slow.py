"""A gateway that answers nothing any more, and a client that reads nothing: each is seen while it lasts."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

import httpx2
import pytest

from tests.e2e.observe.gateway import ENDLESS
from tests.e2e.observe.support import Figures, observed_edge, status_url, wait_for_figure, wait_for_text
from tests.kit.edge import Edge
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2

STREAMS = 10
WAITED_SECONDS = 2.5
LARGE_BODY = bytes(20_000_000)
"""Far more than is read ahead, and than sockets hold."""


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


def test_a_client_that_does_not_read_is_seen_at_once_and_is_not_the_gateways_slowness() -> None:
    with observed_edge("--admin-bind", "127.0.0.1:0") as (edge, url), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", edge.port))
        client.sendall(b"GET /events/%d HTTP/1.1\r\nhost: a\r\nx-request-id: stalls\r\n\r\n" % ENDLESS)
        wait_for_text(status_url(edge), "1 of 1 answers wait until their client reads on")
        figures = Figures(url)
        assert figures.sum("answers_waiting_for_client", mount="/", protocol="1.1") == 1
        assert figures.sum("longest_wait_seconds") == figures.sum("client_wait_seconds_count") == 0
        client.close()
        figures = wait_for_figure(url, lambda figures: figures.sum("answers_waiting_for_client") == 0)
        assert figures.sum("client_wait_seconds_count") == 1


def test_a_gateway_that_hangs_before_it_asks_for_a_withheld_body_is_seen() -> None:
    with observed_edge() as (edge, url):
        with raw_http1(edge) as sock:
            sock.sendall(
                b"POST /hang/head HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\nexpect: 100-continue\r\n\r\n"
            )
            wait_for_figure(url, lambda figures: figures.sum("longest_wait_seconds", mount="/", awaited="head") > 1)
        wait_for_figure(url, lambda figures: figures.sum("waits_given_up_total", awaited="head") == 1)


def test_a_gateway_that_hangs_before_it_reads_a_large_body_is_seen() -> None:
    with observed_edge() as (edge, url):
        with raw_http1(edge) as sock:
            sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                sock.sendall(b"POST /hang/head HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n" + LARGE_BODY)
            wait_for_figure(url, lambda figures: figures.sum("longest_wait_seconds", mount="/", awaited="head") > 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # at once
        wait_for_figure(url, lambda figures: figures.sum("waits_given_up_total", awaited="head") == 1)
        with raw_http2(edge) as connection:
            connection.sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.request(b"/hang/head", method=b"POST", body=LARGE_BODY)
            wait_for_figure(url, lambda figures: figures.sum("longest_wait_seconds", mount="/", awaited="head") > 1)
        wait_for_figure(url, lambda figures: figures.sum("waits_given_up_total", awaited="head") == 2)


def test_a_gateway_that_hangs_is_on_the_page() -> None:
    with observed_edge("--admin-bind", "127.0.0.1:0") as (edge, _):
        with edge.client() as client, client.stream("GET", "/hang/first_event"):
            wait_for_text(status_url(edge), r"longest wait now: [\d.]+ s for a first event , 0 ms for an answer")
        wait_for_text(status_url(edge), "; 1 given up so far")
